"""The table of figures: what ccnode takes on the simulated node, the goal, and the unmodified peers in the same run.

Delays of the simulated hardware: FLR 100 ms, boot 1.5 s off and 1.7 s on and ppcie, RPC 2 ms (estimates). Absolute times
depend on the machine and on what else runs; ratios carry further. The endurance row is ../growth."""

import os
import sys
import traceback

import measure
import peers

MISSED = []
IDLE_S = 125  # two looks at the users of the devices lie in it, which come every 60 s


def row(what, goal, ours, good, peer=""):
    verdict = "" if good is None else "met" if good else "MISSED"
    if verdict == "MISSED":
        MISSED.append(what)
    print(f"| {what} | {goal} | {ours} | {peer} | {verdict} |", flush=True)


def peer(figure, *arguments):
    """A peer's figure, or None with the reason printed."""
    try:
        return figure(*arguments)
    except peers.Absent as absent:
        print(f"| (peer: {absent}) | | | | |", flush=True)
        return None


def seconds(value):
    return "–" if value is None else f"{value:.2f} s"


def mode_on():
    ours, one = measure.switch_times("hgx-h100", "on", 3), measure.switch_times("h100-pcie", "on", 3)
    manager, tool = peer(peers.manager_seconds, "hgx-h100", "on"), peer(peers.tool_seconds, "hgx-h100")
    row("label → mode on verified, 8 GPUs", "≤ 2.0 s", seconds(ours), ours <= 2.0, f"cc-manager {seconds(manager)}, tool {seconds(tool)}")
    row("  against one GPU", "≤ 1.10 ×", f"{ours / one:.2f} × {one:.2f} s", ours <= 1.10 * one)
    if manager:
        row("  against cc-manager", "≤ 0.6 ×", f"{ours / manager:.2f} ×", ours <= 0.6 * manager)


def mode_ppcie():
    ours, manager = measure.switch_times("hgx-h100", "ppcie", 3), peer(peers.manager_seconds, "hgx-h100", "ppcie")
    row("off → ppcie, 8 GPUs + 4 switches", "≤ 2.0 s", seconds(ours), ours <= 2.0, f"cc-manager {seconds(manager)}")
    if manager:
        row("  against cc-manager", "≤ 0.45 ×", f"{ours / manager:.2f} ×", ours <= 0.45 * manager)


def cpu():
    ours, manager = measure.cpu_per_switch(10), peer(peers.manager_cpu, 5)
    row("CPU of one 8-GPU switch, no delays, all processes", "≤ 0.06 s", f"{ours:.3f} s", ours <= 0.06,
        "" if manager is None else f"cc-manager {manager:.2f} s")


def accesses():
    reads, writes = measure.accesses()
    theirs = peer(peers.tool_accesses)
    row("register accesses per GPU and switch, without polls", "≤ 120 R, ≤ 88 W", f"{reads} R, {writes} W",
        reads <= 120 and writes <= 88, "" if theirs is None else f"tool {theirs[0]} R, {theirs[1]} W")


def requests():
    total, writes = measure.requests_per_change()
    theirs = peer(peers.manager_requests)
    row("API requests per mode change", "≤ 6", f"{total} ({writes} writes)", total <= 6,
        "" if theirs is None else f"cc-manager {theirs[0]} ({theirs[1]} writes), without eviction")


def withdrawal():
    median, worst = measure.withdrawal(20)
    row("label → withdrawn at kubelet, median / worst of 20", "≤ 100 ms", f"{median:.0f} / {worst:.0f} ms", worst <= 100)


def start():
    took = measure.start_time(10)
    row("start → watch open and registered", "≤ 0.15 s", f"{took:.3f} s", took <= 0.15)


def idle_and_allocate():
    memory, wakeups, allocate = measure.idle_and_allocate(IDLE_S, 10000)
    row("idle, 12 devices: RSS of the agent", "≤ 20 MB", f"{memory * 1.048576:.1f} MB", memory * 1.048576 <= 20)
    row(f"idle: wake-ups per second over {IDLE_S} s, all threads", "≤ 1", f"{wakeups:.1f}", wakeups <= 1)
    row("Allocate, 10,000 calls by a foreign client: p50 / p99", "≤ 130 / ≤ 400 µs",
        f"{allocate['p50_us']:.0f} / {allocate['p99_us']:.0f} µs", allocate["p50_us"] <= 130 and allocate["p99_us"] <= 400)
    per_call = allocate["plugin_cpu_us_per_call"]
    row("  CPU of the agent per call", "≤ 40 µs", f"{per_call:.0f} µs", per_call <= 40)
    cpu, trip = measure.echo()
    row("  a call that does nothing, on this machine: CPU, round trip", "", f"{cpu:.0f} µs, {trip:.0f} µs", None)


def restart():
    took = measure.registered_again(20)
    row("kubelet restart → registered again, median of 20", "≤ 50 ms", f"{took:.0f} ms", took <= 50)


def main():
    figures = (mode_on, mode_ppcie, cpu, accesses, requests, withdrawal, start, idle_and_allocate, restart)
    chosen = [figure for figure in figures if not sys.argv[1:] or figure.__name__ in sys.argv[1:]]
    measure.rig.need()
    print(f"{os.cpu_count()} processors, load {os.getloadavg()[0]:.1f} at the start; programs in {measure.rig.BIN}\n")
    print("| what | goal | ccnode | peers | |\n|---|---|---|---|---|", flush=True)
    broken = []
    for figure in chosen:
        try:
            figure()
        except Exception:  # noqa: BLE001 - one broken figure must not hide the others
            traceback.print_exc()
            broken.append(figure.__name__)
    print(f"\n{len(MISSED)} goals missed" + (": " + "; ".join(MISSED) if MISSED else ""))
    if broken:
        print("not measured: " + ", ".join(broken))
    return bool(broken)


if __name__ == "__main__":
    sys.exit(main())
