"""ccnode on a simulated node: with Host("hgx-h100") as h: h.run("set-mode", "on").

Delays are scaled down; nothing here measures time.
"""
import json
import os
import select
import subprocess
import sys
import time

SOURCE = os.environ.get("CCNODE_SOURCE") or os.path.realpath(os.path.join(os.path.dirname(__file__), "../../.."))
os.environ.setdefault("CCNODE_BUILD", os.path.join(SOURCE, "build/dev"))
sys.path.insert(0, os.path.join(SOURCE, "tests/functional/simulator"))
import node  # noqa: E402

BIN = os.path.join(os.environ["CCNODE_BUILD"], "bin")
OK, FAILED, USAGE, IN_USE, IMPOSSIBLE, NO_DEVICE = range(6)
same, until = node.same, node.until


class Answer:
    def __init__(self, p):
        self.code, self.out, self.err = p.returncode, p.stdout, p.stderr

    def json(self):
        return json.loads(self.out)


class Host(node.Node):
    def __init__(self, profile, *options, scale="0.02"):
        super().__init__(profile, "--scale", scale, *options)
        self.bdfs = []

    def __enter__(self):
        super().__enter__()
        env = subprocess.run([node.SIM, "env", "--root", self.root], stdout=subprocess.PIPE, text=True, check=True).stdout
        self.env = {**os.environ, **dict(line.split("=", 1) for line in env.splitlines())}
        return self

    def start(self, *args, **options):
        return subprocess.Popen([os.path.join(BIN, "ccnode"), "--host-root", self.root, *args], env=self.env, text=True,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)

    def run(self, *args, code=None):
        p = subprocess.run([os.path.join(BIN, "ccnode"), "--host-root", self.root, *args], env=self.env, text=True,
                           stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=120)
        assert "Sanitizer" not in p.stderr and "runtime error" not in p.stderr, p.stderr
        if code is not None and p.returncode != code:
            raise AssertionError(f"ccnode {' '.join(args)}: exit {p.returncode}, not {code}\n{p.stdout[-1500:]}{p.stderr[-1500:]}")
        return Answer(p)

    def list(self, *selector):
        return {d["bdf"]: d for d in self.run("list", *selector, "-o", "json", code=OK).json()}

    def set_mode(self, *args, code=OK):
        return {d["bdf"]: d for d in self.run("set-mode", *args, "-o", "json", code=code).json()}

    def modes(self):
        """What the hardware says, not what we say."""
        return dict((line.split()[0], line.split()[1].partition("=")[2]) for line in self.ctl("modes").splitlines())

    def counters(self):
        """Per device, everything the model counts."""
        result = {}
        for line in self.ctl("counters").splitlines():
            bdf, *pairs = line.split()
            result[bdf] = {k: int(v) for k, v in (pair.split("=") for pair in pairs)}
        return result

    def hold(self, bdf, *how):
        """A process that has the device open. Returns its pid."""
        return int(self.ctl("hold", bdf, *how).split()[0])

    def put(self, path, text):
        full = self.root + path
        os.makedirs(os.path.dirname(full), exist_ok=True)
        with open(full, "w") as f:
            f.write(text)


def say_until(stream, words, seconds=60):
    """Reads what a program says up to these words. Returns it."""
    said, end = "", time.monotonic() + seconds
    while words not in said:
        ready, _, _ = select.select([stream], [], [], max(0.5, end - time.monotonic()))
        data = os.read(stream.fileno(), 4096).decode() if ready else ""
        assert data, f"not said: {words}; but: {said}"
        said += data
    return said


def main(*tests):
    for program in ("ccnode", "ccnode-device", "ccnode-sim"):
        if not os.access(os.path.join(BIN, program), os.X_OK):
            print(f"SKIPPED: {program} is not built in {BIN}")
            sys.exit(77)
    node.run(tests)
