#!/usr/bin/python3
"""Crashes beside those of tests/functional/crash: a worker alone, an answer that is lost, a GPU that somebody holds."""
import os
import random
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
from rig import MODE, READY, STATE, Bench, run, same, until  # noqa: E402

ALL = os.environ.get("CCNODE_CRASH_ALL") == "1"
PICK = random.Random(int(os.environ.get("CCNODE_CRASH_SEED", "1")))
SECURE = ("on", "ppcie")


def pick(n, count):
    """Places to crash at, of 1..n."""
    return list(range(1, n + 1)) if ALL else sorted(PICK.sample(range(1, n + 1), min(n, count)))


class Crashes:
    """One node that crashes again and again on its way from mode to mode."""

    def __init__(self, b, modes):
        self.b, self.modes, self.at = b, modes, 0
        self.gpus = [d["bdf"] for d in b.ctl_json("state") if d["device"] != 0x22a3]

    def settle(self):
        self.b.start_agent()
        self.b.label(MODE, self.modes[0])
        self.b.wait_state(self.modes[0])
        self.b.kill_agent()

    def next_order(self):
        self.at += 1
        mode = self.modes[self.at % len(self.modes)]
        self.b.label(MODE, mode)
        self.resets = self.b.resets()
        return mode

    def check_truth(self, where):
        """What the Node says at this moment, against the hardware."""
        labels, modes = self.b.labels(), self.b.modes()
        if labels.get(READY) == "true":
            wrong = {d: m for d, m in modes.items() if d in self.gpus and m not in SECURE}
            assert not wrong, f"{where}: the label says ready, but {wrong}"
        if labels.get(STATE) in ("on", "off", "devtools", "ppcie"):
            wrong = {d: m for d, m in modes.items() if d in self.gpus and m != labels[STATE]}
            assert not wrong, f"{where}: the label says {labels[STATE]}, but {wrong}"

    def recover(self, mode, where):
        b = self.b
        b.kill_agent()
        self.check_truth(where)
        b.start_agent()
        b.wait_state(mode, ready={"on": "true", "ppcie": "true", "off": "false"}.get(mode, ""))
        same({b.modes()[d] for d in self.gpus}, {mode}, where)
        for device, n in b.resets().items():
            assert n - self.resets[device] <= 2, f"{where}: {n - self.resets[device]} resets of {device}"
        self.nothing_left(where)
        b.kill_agent()

    def nothing_left(self, where):
        b = self.b
        for directory in ("var/lib/ccnode", "var/run/cdi", "run/ccnode", "run/nvidia/validations"):
            path = os.path.join(b.root, directory)  # one that is just being written goes by itself
            until(lambda p=path: f"{where}: {p}: {os.listdir(p)}", lambda p=path: not [n for n in os.listdir(p) if n.endswith(".tmp")])
        until(f"{where}: status", lambda: b.status().get("pid") == b.agent.pid)
        sockets = [n for n in os.listdir(b.kubelet.plugins) if n.endswith(".sock") and n != "kubelet.sock"]
        until(f"{where}: sockets {sockets}", lambda: len([n for n in os.listdir(b.kubelet.plugins)
                                                         if n.endswith(".sock") and n != "kubelet.sock"]) == len(b.kubelet.devices()))


def a_worker_that_crashes_alone():
    """The agent lives: the device is tried again, the others are not held up."""
    with Bench("hgx-h100", scale="0.02") as b:
        b.start_agent()
        b.wait_state("off", ready="false")
        b.ctl("kill-at", "300")
        b.label(MODE, "on")
        b.wait_state("on", ready="true")
        until("told", lambda: "ended without an answer" in b.log())


def an_answer_that_never_comes():
    """The API server has done it, but the answer is lost; then the agent crashes."""
    with Bench("h100-pcie", scale="0.02") as b:
        crashes = Crashes(b, ("off", "on"))
        crashes.settle()
        for skip in (1, 2, 3, 4, 5) if ALL else (1, 3):
            b.api.ctl("fault", "stall", "--agent", "ccnode-agent*", "--verb", "patch", "--skip", str(skip), "--commit", "--times", "1")
            mode = crashes.next_order()
            b.start_agent(wait=False)
            time.sleep(0.7)
            b.api.ctl("clear")
            crashes.recover(mode, f"answer {skip} lost, to {mode}")


def a_held_gpu_is_never_touched_whatever_crashes():
    with Bench("hgx-h100", scale="0.02") as b:
        crashes = Crashes(b, ("off", "on"))
        crashes.settle()
        held = "0000:3a:00.0"
        b.ctl("hold", held)
        before = b.resets()[held]
        b.label(MODE, "on")
        for n in pick(600, 3):
            b.ctl("kill-at", str(n))
            b.start_agent(wait=False)
            until("crash or end", lambda: "ended without an answer" in b.log() or b.labels().get(STATE) == "waiting-busy")
            b.kill_agent()
            b.ctl("kill-at", "0")
            b.label(MODE, "off" if b.labels()[MODE] == "on" else "on")
        same(b.resets()[held], before, "the held one")
        b.ctl("release", "all")
        b.label(MODE, "on")
        b.start_agent()
        b.wait_state("on", ready="true")


if __name__ == "__main__":
    run(a_worker_that_crashes_alone, an_answer_that_never_comes,
        a_held_gpu_is_never_touched_whatever_crashes)
