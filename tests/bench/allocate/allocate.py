#!/usr/bin/python3
"""What the device plugin costs: Allocate by a foreign gRPC client, memory, wake-ups, registration after a kubelet restart.
The client is deploy/standin/lib/kubelet/bench.py: a blocking socket and frames made once."""

import os
import statistics
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.realpath(__file__)), "../../functional/rpc"))
import driver  # noqa: E402
from driver import GPU, SWITCH, gpus, switches  # noqa: E402

CALLS, RUNS, RESTARTS, IDLE_S = 10000, 3, 20, 10


def allocate(kubelet, devices):
    runs = [kubelet.ctl("bench-allocate", GPU, str(CALLS), "--devices", str(devices)) for _ in range(RUNS)]
    return {key: statistics.median(run[key] for run in runs) for key in ("p50_us", "p99_us", "plugin_cpu_us_per_call")}


def registered_again(kubelet):
    """Milliseconds from the moment when kubelet's socket is there until the last Register has come."""
    took = []
    for i in range(RESTARTS):
        kubelet.ctl("restart", *(("--kill",) if i % 2 else ()))
        for resource in (GPU, SWITCH):
            kubelet.ctl("wait", resource, "--allocatable", "8" if resource == GPU else "4")
        log = kubelet.ctl("log")["log"]
        start = [e["time"] for e in log if e["what"] == "start"][-1]
        took.append(1000 * (max(e["time"] for e in log if e["what"] == "register") - start))
    return statistics.median(took), max(took)


def idle(plugin):
    time.sleep(3)                       # the second list after a registration is over
    before = plugin.wakeups()
    time.sleep(IDLE_S)
    return (plugin.wakeups() - before) / IDLE_S


def main():
    kubelet = driver.Kubelet()
    plugin = driver.Driver(kubelet.dir)
    plugin.offer(*gpus(), *switches())
    plugin.send("quiet")
    kubelet.ctl("wait", GPU, "--allocatable", "8")
    kubelet.ctl("wait", SWITCH, "--allocatable", "4")
    rows = [("memory at start, 12 devices (RSS)", f"{plugin.memory_kb() / 1024:.1f} MB", "")]
    for devices in (1, 8):
        r = allocate(kubelet, devices)
        rows.append((f"Allocate of {devices}: p50 / p99", f"{r['p50_us']:.0f} / {r['p99_us']:.0f} us", "<= 130 / <= 400 us"))
        rows.append((f"Allocate of {devices}: CPU of the plugin", f"{r['plugin_cpu_us_per_call']:.0f} us", "<= 40 us"))
    median, worst = registered_again(kubelet)
    rows.append(("kubelet restart to registered again, median / worst", f"{median:.1f} / {worst:.1f} ms", "<= 50 ms"))
    rows.append(("wake-ups per second, idle, all threads", f"{idle(plugin):.1f}", "<= 1"))
    rows.append(("memory at the end (RSS)", f"{plugin.memory_kb() / 1024:.1f} MB", "<= 20 MB for the whole agent"))
    if plugin.sanitized():
        print("built with AddressSanitizer: these are not the product's figures")
    for what, value, goal in rows:
        print(f"{what:52} {value:>18}   {goal}")
    plugin.stop()
    kubelet.stop()


if __name__ == "__main__":
    main()
