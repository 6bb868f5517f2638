"""Single figures, measured from outside: by the API server's history, kubelet's log, the simulated hardware's counters, /proc."""

import os
import re
import statistics
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.realpath(__file__)), "../../functional/agent"))
import rig  # noqa: E402

TICK = os.sysconf("SC_CLK_TCK")
GPU = "nvidia.com/GH100_H100_SXM5_80GB"


def node(profile, scale="1", **options):
    return rig.Bench(profile, scale=scale, **options)


def quiet_config(bench):
    """The product's defaults; the rig asks for a debug log, which is no user's case."""
    with open(bench.config, "w", encoding="utf-8") as file:
        file.write('http: { listen: "127.0.0.1:0" }\n')


def start(bench):
    quiet_config(bench)
    bench.start_agent()
    bench.wait_state("off", ready="false", seconds=30)
    rig.until("kubelet has all devices", lambda: bench.kubelet.devices() and
              all(set(d.values()) == {"Healthy"} for d in bench.kubelet.devices().values()), 30)


def switch(bench, mode):
    """Seconds from the version of the Node with the new label to the one that says verified; and the first moment."""
    ready = "true" if mode in ("on", "ppcie") else "false"
    bench.label(rig.MODE, mode)
    bench.wait_state(mode, ready=ready, seconds=90)
    return changed(bench.history(), mode)


def changed(history, mode):
    asked = min(at for at, labels in after_last_other(history, rig.MODE, mode))
    done = min(at for at, labels in history if at >= asked and labels.get(rig.STATE) == mode)
    return done - asked, asked


def after_last_other(history, key, value):
    """The versions since the label last had another value."""
    tail = []
    for at, labels in history:
        tail = [*tail, (at, labels)] if labels.get(key) == value else []
    return tail


def switch_times(profile, mode, runs):
    with node(profile) as bench:
        start(bench)
        times = []
        for _ in range(runs):
            times.append(switch(bench, mode)[0])
            switch(bench, "off")
        return statistics.median(times)


def cpu_seconds(pid):
    """Of a process and of its children that have ended."""
    with open(f"/proc/{pid}/stat", encoding="ascii") as file:
        fields = file.read().rpartition(")")[2].split()
    return sum(int(fields[i]) for i in (11, 12, 13, 14)) / TICK


def cpu_per_switch(runs):
    with node("hgx-h100", scale="0") as bench:
        start(bench)
        switch(bench, "on")
        switch(bench, "off")
        began = cpu_seconds(bench.agent.pid)
        for _ in range(runs):
            switch(bench, "on")
            switch(bench, "off")
        return (cpu_seconds(bench.agent.pid) - began) / (2 * runs)


BOOT_POLL = "0x200bc"  # the register that tells whether the firmware has booted


def count_accesses(bench, bdf, switch):
    """Of what @switch does: (reads without boot polls, writes), by the counters and the trace of the simulated hardware."""
    before = bench.ctl_json("counters")[0]
    bench.ctl("trace", "on")
    switch()
    trace, after = bench.ctl("trace", bdf), bench.ctl_json("counters")[0]
    polls = sum(1 for line in trace.splitlines() if re.search(r"\bR\b", line) and BOOT_POLL in line.lower().split())
    return after["reads"] - before["reads"] - polls, after["writes"] - before["writes"]


def unbind(bench, bdf):
    device = bench.root + f"/sys/bus/pci/devices/{bdf}"
    if os.path.exists(device + "/driver"):
        with open(device + "/driver/unbind", "w", encoding="ascii") as file:
            file.write(bdf)


def accesses():
    """Of one switch to `on` by the worker: the steps of a change (plan.c) but check-staged, which reads back what was staged."""
    with node("h100-pcie", scale="0", kubelet=False, api=False) as bench:
        bdf = next(iter(bench.modes()))
        unbind(bench, bdf)

        def switch():
            worker = subprocess.run([os.path.join(rig.BIN, "ccnode-device"), "--host-root", bench.root, "--lock-dir", bench.dir, bdf],
                                    input="wake\nstage on\nreset\nwait-boot\nverify on\nsleep\n", text=True,
                                    capture_output=True, env={**os.environ, **bench.env}, timeout=60)
            assert worker.stdout.count('"ok":true') == 6, worker.stdout + worker.stderr
        return count_accesses(bench, bdf, switch)


def requests_per_change():
    with node("hgx-h100", scale="0.2") as bench:
        start(bench)
        time.sleep(1.5)  # what belongs to the start is written
        began = time.time()
        switch(bench, "on")
        time.sleep(1.5)
        return count_requests(bench, began, "ccnode")


def count_requests(bench, since, agent):
    """(all, writes) of a client, watches apart"""
    lines = bench.api.call("GET", f"/_standin/requests?since={since}")[1]["requests"]
    own = [line for line in lines if agent in line["agent"].lower() and line["verb"] != "watch"]
    return len(own), sum(line["verb"] not in ("get", "list") for line in own)


def withdrawal(runs):
    """Milliseconds from the label to the list without healthy GPUs at kubelet: (median, worst)"""
    with node("hgx-h100", scale="0") as bench:
        start(bench)
        took = []
        for _ in range(runs):
            _, asked = switch(bench, "on")
            lists = bench.kubelet.ask("log", since=asked - 0.001, what="list")["log"]
            gone = min(e["time"] for e in lists if e["resource"] == GPU and "Healthy" not in e["devices"].values())
            took.append(1000 * (gone - asked))
            switch(bench, "off")
        return statistics.median(took), max(took)


def start_time(runs):
    """Seconds from exec to watch open and both resources registered."""
    with node("hgx-h100") as bench:
        start(bench)
        took = []
        for _ in range(runs):
            bench.stop_agent()
            began = time.time()
            bench.start_agent(wait=False)
            rig.until("registered", lambda: len([e for e in bench.kubelet.ask("log", since=began, what="register")["log"]]) >= 2, 20,
                      step=0.02)
            rig.until("watching", lambda: watch_opened(bench, began), 20, step=0.02)
            registered = max(e["time"] for e in bench.kubelet.ask("log", since=began, what="register")["log"])
            took.append(max(registered, watch_opened(bench, began)) - began)
            bench.wait_state("off", seconds=20)
        return statistics.median(took)


def watch_opened(bench, since):
    lines = bench.api.call("GET", f"/_standin/requests?since={since}&verb=watch")[1]["requests"]
    return min((line["time"] for line in lines), default=None)


def resident_mib(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmRSS")) / 1024


SLEEPS = re.compile(r"(?:epoll_p?wait|p?poll)\(.*\) +=|futex\(.*FUTEX_WAIT.*\) +=|<\.\.\. (?:epoll_p?wait|p?poll|futex) resumed>")
AT_ONCE = re.compile(r"epoll_p?wait\(.*, 0(?:, NULL, \d+)?\) +=")


def wakeups(bench, seconds):
    """How often a thread of the agent woke up, per second. Not its context switches: it also waits for every file of the
    simulated sysfs, which a process serves; the files of a kernel do not let anybody wait."""
    trace, threads = os.path.join(bench.dir, "strace"), set(os.listdir(f"/proc/{bench.agent.pid}/task"))
    strace = subprocess.Popen(["strace", "-f", "-q", "-e", "trace=epoll_wait,epoll_pwait,poll,ppoll,futex", "-e", "signal=none", "-o", trace,
                               "-p", str(bench.agent.pid)], stdin=subprocess.DEVNULL)
    time.sleep(seconds)
    strace.terminate()
    strace.wait()
    with open(trace, encoding="utf-8", errors="replace") as file:
        own = [line for line in file if line.split(" ", 1)[0] in threads]  # strace follows the workers too
    return sum(bool(SLEEPS.search(line)) and not AT_ONCE.search(line) for line in own) / seconds


def idle_and_allocate(seconds, calls):
    with node("hgx-h100") as bench:
        start(bench)
        switch(bench, "on")
        time.sleep(8)  # the agent gives back what only its start needed after five seconds
        # the users are looked at every 60 s: the time takes in two of these looks at least
        idle = wakeups(bench, seconds)
        memory = resident_mib(bench.agent.pid)
        allocate = bench.kubelet.ctl("bench-allocate", GPU, str(calls))
        return memory, idle, allocate


def echo():
    """(CPU, round trip) in microseconds of a bare unix socket: what no gRPC can fall below here."""
    answer = subprocess.run([os.path.join(rig.BIN, "node_echo")], stdout=subprocess.PIPE, text=True, check=True)
    return tuple(map(float, answer.stdout.split()))


def registered_again(runs):
    with node("hgx-h100") as bench:
        start(bench)
        took = []
        for _ in range(runs):
            began = time.time()
            bench.kubelet.ask("restart")
            rig.until("registered", lambda: len(bench.kubelet.ask("log", since=began, what="register")["log"]) >= 2, 20)
            log = bench.kubelet.ask("log", since=began)["log"]
            up = [e["time"] for e in log if e["what"] == "start"][-1]
            took.append(1000 * (max(e["time"] for e in log if e["what"] == "register") - up))
            rig.until("all healthy", lambda: sum(map(len, bench.kubelet.devices().values())) == 12, 20)
        return statistics.median(took)
