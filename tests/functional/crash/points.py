"""Where a program is killed, and how many such places a change has.

A point is armed before the order is given; it strikes once, or not at all where the run happens to be shorter. disarm()
tells which: from then on nothing strikes any more.
"""
import mmap
import os
import struct

WRITES = "create,update,patch,delete"


class Register:
    """At the N-th access to a register, by a worker: it is killed there, or the agent that started it, or both."""
    name, victims = "register", ("agent", "worker", "both")
    who = {"agent": "parent", "worker": "self", "both": "both"}

    def arm(self, b, n, victim):
        b.ctl("kill-at", str(n), self.who[victim])

    def disarm(self, b):
        struck = b.ctl_json("kill-at")["left"] == 0
        b.ctl("kill-at", "0")
        return struck

    def count(self, b):
        return sum(d["reads"] + d["writes"] for d in b.ctl_json("counters"))


class SysfsWrite:
    """After the N-th write to sysfs (bind, unbind, driver_override, power/control, reset) took effect."""
    name, victims = "sysfs", Register.victims

    def arm(self, b, n, victim):
        b.ctl("kill-at-write", str(n), Register.who[victim])

    def disarm(self, b):
        struck = b.ctl_json("kill-at-write")["left"] == 0
        b.ctl("kill-at-write", "0")
        return struck

    def count(self, b):
        log = b.ctl_json("writes")
        return log[-1]["number"] if log else 0


class FileWrite:
    """Before or after the N-th operation of the agent that changes a file: journal, CDI, status, readiness, sockets."""
    name, victims = "file", ("before", "after")
    form = struct.Struct("QQQ")                 # crashpoint.c: struct shared

    def prepare(self, b, library):
        self.path = os.path.join(b.dir, "crashpoint")
        with open(self.path, "wb") as f:
            f.write(bytes(self.form.size))
        with open(self.path, "r+b") as f:
            self.memory = mmap.mmap(f.fileno(), self.form.size)
        b.extra_env = {"CCNODE_CRASH_FILE": self.path, "LD_PRELOAD": f"{b.env['LD_PRELOAD']}:{library}"}

    def arm(self, _, n, victim):
        self.memory[8:16] = struct.pack("Q", victim == "after")
        self.memory[0:8] = struct.pack("Q", n)

    def disarm(self, _):
        struck = self.memory[0:8] == bytes(8)
        self.memory[0:8] = bytes(8)
        return struck

    def count(self, _):
        return self.form.unpack(self.memory)[2]

    def last(self):
        """What the last operation was."""
        with open(self.path + ".log", encoding="utf-8", errors="replace") as f:
            return f.read().splitlines()[-1]


class ApiWrite:
    """At the agent's N-th write to the API server: before it has its effect, after it (unanswered), or before it while the
    server has let the agent wait for a while, in which it may have gone on."""
    name, victims = "api", ("before", "after", "late")

    def arm(self, b, n, victim):
        spec = {"kind": "kill", "pid": b.agent.pid, "agent": "ccnode*", "verb": WRITES, "skip": n - 1, "commit": victim == "after",
                "ms": 300 if victim == "late" else 0}
        code, answer = b.api.call("POST", "/_standin/faults", spec)
        assert code < 300, answer

    def disarm(self, b):
        rules = b.api.call("GET", "/_standin/faults")[1]["rules"]
        b.api.call("DELETE", "/_standin/faults")
        return any(r["hits"] for r in rules)

    def count(self, b):
        requests = b.api.call("GET", "/_standin/requests")[1]["requests"]
        return sum(r["agent"].startswith("ccnode") and r["verb"] in WRITES.split(",") for r in requests)


# ---- who uses a device meanwhile ----

class ProcessHolds:
    """A process has it open, as QEMU does. When it closes it Linux resets the device."""
    name, resets = "a process", 1

    def take(self, b, gpus, choice):
        bdf = choice.choice(gpus)
        b.ctl("hold", bdf)
        return bdf

    def give_back(self, b, bdf):
        b.ctl("release", bdf)


class PodHolds:
    """kubelet has given it to a pod that has not started anything yet: PodResources alone tells."""
    name, resets = "a pod", 0

    def take(self, b, gpus, _):
        def of_gpus():
            return [(r, sum(h == "Healthy" for h in d.values())) for r, d in b.kubelet.devices().items() if set(d) <= set(gpus)]
        resource, healthy = of_gpus()[0]
        b.kubelet.ask("wait", resource=resource, allocatable=healthy)
        return b.kubelet.ask("allocate", resource=resource, pod="ml/train")["ids"][0]

    def give_back(self, b, _):
        b.kubelet.ask("release", pod="ml/train")
