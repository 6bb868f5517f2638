#!/usr/bin/python3
"""Does the agent grow? Watch events, kubelet restarts and mode changes with scaled time (--scale 0), in ten rounds of all three;
after each round what its process has. A table; exit status 1 when it grew between the second round and the last.

CCNODE_GROWTH_EVENTS, _RESTARTS, _CHANGES: how many of each (10,000, 50, 100; with CCNODE_BENCH_FULL=1 100,000, 1,000, 1,000)
CCNODE_GROWTH_PROFILE: the simulated node (hgx-h100)"""
import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.realpath(__file__)), "../../functional/agent"))
import rig  # noqa: E402

FULL = os.environ.get("CCNODE_BENCH_FULL") == "1"
KINDS = {"EVENTS": 100_000 if FULL else 10_000, "RESTARTS": 1_000 if FULL else 50, "CHANGES": 1_000 if FULL else 100}
COUNTS = {kind: int(os.environ.get(f"CCNODE_GROWTH_{kind}") or count) for kind, count in KINDS.items()}
ROUNDS = 10
WARM = 2          # rounds until every cache and arena has its size
MIB_NONE = 1.0    # pages that malloc happens to hold come and go
SETTLED_S = 6     # the agent gives back what its start needed after five


class Sample:
    def __init__(self, pid):
        with open(f"/proc/{pid}/status", encoding="ascii") as file:
            status = dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)
        self.mib, self.threads = int(status["VmRSS"].split()[0]) / 1024, int(status["Threads"])
        self.fds = len(os.listdir(f"/proc/{pid}/fd"))
        with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
            self.children = len(file.read().split())


def send_events(bench, count):
    """Another writer patches the Node: each is an event of our watch."""
    def written():
        return bench.api.call("GET", "/_standin/writer")[1]["writes"]
    if count == 0:
        return
    target = written() + count
    bench.api.call("POST", "/_standin/writer", {"hz": 3000})
    rig.until("events", lambda: written() >= target, 3600, step=0.2)
    bench.api.call("POST", "/_standin/writer", {"hz": 0})


def restart_kubelet(bench, count, devices):
    for i in range(count):
        bench.kubelet.ask("restart", kill=i % 2 == 1)
        rig.until("all registered again", lambda: sum(map(len, bench.kubelet.devices().values())) == devices, 60)


def change_modes(bench, count):
    for i in range(count):
        mode = "off" if bench.labels()[rig.STATE] == "on" else "on"
        bench.label(rig.MODE, mode)
        bench.wait_state(mode, ready="true" if mode == "on" else "false", seconds=60)


def samples(events, restarts, changes, profile="hgx-h100"):
    """Yields (round, Sample); the counts are spread over the rounds."""
    with rig.Bench(profile, scale="0") as bench:
        with open(bench.config, "w", encoding="utf-8") as file:     # the defaults: the rig asks for a debug log
            file.write('http: { listen: "127.0.0.1:0" }\n')
        bench.start_agent()
        bench.wait_state("off", ready="false")
        devices = len(bench.modes())
        rig.until("kubelet has all devices", lambda: sum(map(len, bench.kubelet.devices().values())) == devices)

        time.sleep(SETTLED_S)

        def sample():
            time.sleep(1)
            rig.until("no worker runs", lambda: Sample(bench.agent.pid).children == 0)
            return Sample(bench.agent.pid)
        yield 0, sample()
        for n in range(1, ROUNDS + 1):
            def share(count):
                return count * n // ROUNDS - count * (n - 1) // ROUNDS
            send_events(bench, share(events))
            restart_kubelet(bench, share(restarts), devices)
            change_modes(bench, share(changes))
            yield n, sample()
        bench.stop_agent()


def growth(events, restarts, changes, profile="hgx-h100", each=lambda n, sample: None):
    """(MiB, descriptors, children, threads) more after all of it than after the first rounds."""
    seen = []
    for n, sample in samples(events, restarts, changes, profile):
        seen.append(sample)
        each(n, sample)
    a, b = seen[WARM], seen[-1]
    return b.mib - a.mib, b.fds - a.fds, b.children - a.children, b.threads - a.threads


def main():
    rig.need()
    events, restarts, changes = COUNTS.values()
    began = time.monotonic()
    print(f"{os.cpu_count()} processors, load {os.getloadavg()[0]:.1f} at the start; programs in {rig.BIN}\n")
    print(f"{events:,} watch events, {restarts:,} kubelet restarts, {changes:,} mode changes"
          + ("" if FULL else "; CCNODE_BENCH_FULL=1: 100,000, 1,000, 1,000") + "\n")
    print("| watch events | kubelet restarts | mode changes | MiB | descriptors | threads | children | after |\n"
          "|---|---|---|---|---|---|---|---|", flush=True)

    def each(n, sample):
        counts = " | ".join(f"{count * n // ROUNDS:,}" for count in (events, restarts, changes))
        print(f"| {counts} | {sample.mib:.1f} | {sample.fds} | {sample.threads} | {sample.children} | "
              f"{time.monotonic() - began:.0f} s |", flush=True)
    mib, fds, children, threads = growth(events, restarts, changes, os.environ.get("CCNODE_GROWTH_PROFILE") or "hgx-h100", each)
    grew = mib > MIB_NONE or fds > 0 or children > 0 or threads > 0
    print(f"\ngrowth since round {WARM}: {mib:+.1f} MiB, {fds:+d} descriptors, {threads:+d} threads, {children:+d} processes: "
          f"{'IT GROWS' if grew else 'none'}")
    return grew


if __name__ == "__main__":
    sys.exit(main())
