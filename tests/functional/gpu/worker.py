"""ccnode-device on a simulated node: with Worker(node, "0000:18:00.0") as w: w.ok("stage on")."""
import json
import os
import select
import subprocess
import sys

SOURCE = os.environ.get("CCNODE_SOURCE") or os.path.realpath(os.path.join(os.path.dirname(__file__), "../../.."))
BUILD = os.environ.get("CCNODE_BUILD") or os.path.join(SOURCE, "build/dev")
os.environ["CCNODE_BUILD"] = BUILD
sys.path.insert(0, os.path.join(SOURCE, "tests/functional/simulator"))
from node import SIM, Node, run, same, until  # noqa: E402

__all__ = ["SIM", "SOURCE", "Node", "Worker", "counters", "has_lock", "json", "knob", "modes", "run", "same", "switch", "until"]

DEVICE = os.path.join(BUILD, "bin/ccnode-device")


def environment(node):
    """What `ccnode-sim env` prints, as a dictionary: the trap for register accesses."""
    out = subprocess.run([SIM, "env", "--root", node.root], stdout=subprocess.PIPE, text=True, check=True).stdout
    env = dict(os.environ)
    for line in out.splitlines():
        name, value = line.removeprefix("export ").split("=", 1)
        env[name] = value.strip("'\"")
    env["ASAN_OPTIONS"] = "allow_user_segv_handler=1:detect_leaks=0"
    return env


def has_lock(node, bdf, pid):
    """Whether that worker has begun: the number in its lock file"""
    try:
        return node.read(f"/run/ccnode/lock/{bdf}").strip() == str(pid)
    except FileNotFoundError:
        return False


class Worker:
    """Steps in, answers out; a limit of time on each answer, so a test ends."""

    def __init__(self, node, target, *options, through=()):
        self.args = [*through, DEVICE, "--host-root", node.root, *options, target]
        self.env = environment(node)

    def __enter__(self):
        self.p = subprocess.Popen(self.args, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=self.env, bufsize=0)
        self.buffer = b""
        return self

    def __exit__(self, kind, *_):
        self.p.stdin.close()
        try:
            code = self.p.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.p.kill()
            self.p.wait()
            raise
        finally:
            self.p.stdout.close()
        if kind is None:
            same(code, 0, "exit status of the worker")

    def send(self, step):
        self.p.stdin.write(step.encode() + b"\n")

    def receive(self, seconds=30):
        """One answer, or None when none comes."""
        while b"\n" not in self.buffer:
            if not select.select([self.p.stdout], [], [], seconds)[0]:
                return None
            data = self.p.stdout.read(65536)
            if not data:
                raise AssertionError("the worker died")
            self.buffer += data
        line, self.buffer = self.buffer.split(b"\n", 1)
        return json.loads(line)

    def step(self, step, seconds=30):
        self.send(step)
        answer = self.receive(seconds)
        assert answer is not None, f"no answer to '{step}' within {seconds} s"
        same(answer["step"], step.split()[0], "step of the answer")
        return answer

    def ok(self, *steps):
        """Steps that must succeed. Returns the last answer."""
        for step in steps:
            answer = self.step(step)
            assert answer["ok"], f"{step}: {answer}"
        return answer

    def fails(self, step, code, *parts):
        """A step that must fail so, saying all parts. Returns the answer."""
        answer = self.step(step)
        assert not answer["ok"], f"{step}: {answer}"
        same(answer["code"], code, f"{step}: {answer}")
        for part in parts:
            assert part in answer["error"], f"{step}: '{part}' is not in {answer}"
        return answer


def switch(w, mode):
    """The chain of a mode change, as node-agent/plan.c makes it."""
    w.ok("unbind", "wake", f"stage {mode}", f"check-staged {mode}", "reset", "wait-boot")
    same(w.ok(f"verify {mode}")["active"], mode, "verified mode")
    return w.ok("sleep", "bind auto")


def modes(node):
    """Active modes as the hardware has them."""
    return dict(line.split()[:2] for line in node.ctl("modes").replace("mode=", "").splitlines())


def knob(node, bdf, number):
    """One knob as the hardware has it."""
    return json.loads(node.ctl("--json", "knobs", bdf))["knobs"][str(number)]


def counters(node, bdf):
    line = next(x for x in node.ctl("counters").splitlines() if x.startswith(bdf))
    return {k: v for k, v in (x.split("=") for x in line.split()[1:])}
