"""The driver program (driver.c) as an object, and what the tests of this folder share."""

import os
import queue
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.realpath(__file__)), "../standin"))
import harness  # noqa: E402

harness.need_h2()
from kubelet import ctl  # noqa: E402

GPU = "nvidia.com/GH100_H100_PCIE"
SWITCH = "nvidia.com/GH100_H100_NVSWITCH"
DIRECTORY = "/var/lib/kubelet/device-plugins"
PROGRAM = os.environ.get("RPC_DRIVER") or os.path.join(os.environ.get("CCNODE_BUILD", "build/dev"), "bin/rpc_driver")


def gpus(count=8, **more):
    """Lines that describe one resource: legacy groups on two NUMA nodes."""
    lines = [f"resource {GPU}"]
    for i in range(count):
        fields = {"id": f"0000:{i + 16:x}:00.0", "bdfs": f"0000:{i + 16:x}:00.0", "node": f"/dev/vfio/{i + 60}", "numa": i // 4,
                  **{k: v(i) if callable(v) else v for k, v in more.items()}}
        lines.append("device " + " ".join(f"{k}={v}" for k, v in fields.items()))
    return lines


def switches(count=4):
    """cdev nodes, no NUMA node."""
    return [f"resource {SWITCH}"] + [
        f"device id=0000:{i + 80:x}:00.0 bdfs=0000:{i + 80:x}:00.0 node=/dev/vfio/devices/vfio{i} numa=-1" for i in range(count)]


class Driver:
    def __init__(self, root, directory=DIRECTORY, **popen):
        self.process = subprocess.Popen([PROGRAM, root, directory], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, text=True, **popen)
        self.pid = self.process.pid
        self.lines = queue.Queue()
        self.seen = []                  # since the last ask()
        self.every = []
        threading.Thread(target=self._read, daemon=True).start()
        self.expect("ready")

    def _read(self):
        for line in self.process.stdout:
            self.lines.put(line.rstrip("\n"))
        self.lines.put(None)

    def send(self, *lines):
        self.process.stdin.write("".join(line + "\n" for line in lines))
        self.process.stdin.flush()

    def expect(self, start, seconds=30):
        """The next line that starts so; those before it are in `seen`."""
        end = time.monotonic() + seconds
        while True:
            try:  # what came before we were kept waiting counts
                line = self.lines.get(timeout=max(0.5, end - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"no line {start!r} within {seconds} s; seen: {self.seen[-8:]}") from None
            if line is None:
                raise AssertionError(f"ended before {start!r}: {self.process.stderr.read()[-3000:]}")
            self.seen.append(line)
            self.every.append(line)
            if line.startswith(start):
                return line

    def ask(self, line, seconds=30):
        """The lines up to and with the answer."""
        self.seen.clear()
        self.send(line)
        self.expect("answer", seconds)
        return list(self.seen)

    def offer(self, *lines):
        """Returns when, by its own clock."""
        answer = self.ask("\n".join([*lines, "apply"]))
        assert answer[-1] == "answer 0 ", answer[-1]
        return float(next(line for line in answer if line.startswith("applied")).split()[1])

    def registered(self, *resources):
        """Until each is, in whatever order."""
        waiting = set(resources)
        while waiting:
            waiting.discard(self.expect("event registered").split()[2])

    def stop(self, how="keep"):
        """Returns how many seconds it took, by its own clock."""
        self.send(f"stop {how}")
        took = int(self.expect("stopped").split()[1]) / 1000
        self.end()
        return took

    def end(self):
        """Close its input: it must end clean (sanitizers have their say on stderr)."""
        self.process.stdin.close()
        status = self.process.wait(timeout=60)
        errors = self.process.stderr.read()
        self.process.stderr.close()
        self.process.stdout.close()
        assert status == 0 and errors == "", f"status {status}: {errors[-3000:]}"

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def quiet_descriptors(self):
        """Their number when no connection is being made or closed."""
        seen = []

        def same_again():
            time.sleep(0.05)
            seen.append(self.descriptors())
            return len(seen) >= 20 and len(set(seen[-20:])) == 1
        harness.eventually(same_again, "descriptors come to rest")
        return seen[-1]

    def _status_kb(self, key):
        with open(f"/proc/{self.pid}/status", encoding="ascii") as f:
            return int(next(line for line in f if line.startswith(key)).split()[1])

    def memory_kb(self):
        return self._status_kb("VmRSS:")

    def sanitized(self):
        """Built with AddressSanitizer: it reserves terabytes, and its memory says nothing."""
        return self._status_kb("VmSize:") > 1 << 32

    def wakeups(self):
        """Times that any of its threads was woken."""
        total = 0
        for task in os.listdir(f"/proc/{self.pid}/task"):
            with open(f"/proc/{self.pid}/task/{task}/status", encoding="ascii") as f:
                total += int(next(line for line in f if line.startswith("voluntary_ctxt")).split()[1])
        return total


class Kubelet(harness.Kubelet):
    """The stand-in, controlled from this process: a Python per order would take most of the time."""

    def ctl(self, *words, fails=False):
        a = ctl.parser().parse_args(["--socket", self.socket, *words])
        try:
            result = a.run(a)
        except SystemExit as e:
            if fails:
                return str(e)
            raise AssertionError(f"ctl {' '.join(words)}: {e}") from e
        assert not fails, f"ctl {' '.join(words)} succeeded: {result}"
        return result


class Cri(harness.Process):
    def __init__(self, *options):
        super().__init__("cri", *options)

    def options(self):
        return ("--root", self.dir)
