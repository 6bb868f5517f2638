#!/usr/bin/env python3
"""Programs that know of no simulator, under the trap: accesses, revocation, signals, VFIO, lockdown, kills."""
import errno
import os
import signal
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "simulator"))
from node import BUILD, SIM, Node, need_fuse, until  # noqa: E402

GPU, OTHER = "0000:18:00.0", "0000:2a:00.0"
PROFILE = f"""
description: trap test
tee: snp
cdev: true
devices:
  - {{ bdf: "{GPU}", model: h100-pcie }}
  - {{ bdf: "{OTHER}", model: h100-pcie, driver: vfio-pci, group: 30 }}
"""


class Trapped(Node):
    def env(self):
        out = subprocess.run([SIM, "env", "--root", self.root], stdout=subprocess.PIPE, text=True, check=True).stdout
        return dict(os.environ, **dict(line.split("=", 1) for line in out.splitlines()))

    def ctl(self, *args):
        return subprocess.run([SIM, "ctl", "--root", self.root, *args], stdout=subprocess.PIPE, text=True, check=True,
                              timeout=300).stdout.strip()

    def counter(self, bdf, name):
        return int(dict(w.split("=") for w in self.ctl("counters", bdf).split()[1:])[name])

    def users(self, bdf):
        """Descriptors of the device that are open. A close that a process's end brings is seen a little later."""
        return int(self.device(bdf)["users"])

    def resource(self, bdf=GPU):
        return self.path(f"{bdf}/resource0")


class Client:
    def __init__(self, flavour):
        self.program = os.path.join(BUILD, "bin", "sim_trap_client_" + flavour)

    def start(self, node, *args):
        return subprocess.Popen([self.program, *args], env=node.env(), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, text=True)

    def run(self, node, *args):
        p = self.start(node, *args)
        out, err = p.communicate(timeout=300)
        assert "ccnode-sim trap" not in err, err
        return p.returncode, out.strip(), err

    def good(self, node, *args):
        rc, out, err = self.run(node, *args)
        assert rc == 0, f"{args}: {rc}\n{err}"
        return out


class Static(Client):
    """A static program: only `ccnode-sim exec` reaches it, by a tracer."""

    def __init__(self):
        super().__init__("static")

    def start(self, node, *args):
        args = [a.replace(node.root, "", 1) for a in args]
        return subprocess.Popen([SIM, "exec", "--root", node.root, "--", self.program, *args], stdin=subprocess.PIPE,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def static(node):
    client = Static()
    client.good(node, "decoded", node.resource())
    assert node.counter(GPU, "unknown") == 0
    before = node.counter(GPU, "reads")
    client.good(node, "threads", node.resource())
    assert node.counter(GPU, "reads") - before == 5 * 1000
    client.good(node, "signals", node.resource())
    rc, _, _ = client.run(node, "crash", node.resource())
    assert rc == -signal.SIGSEGV, rc
    rc, _, err = client.run(node, "forms", node.resource())
    assert rc == -signal.SIGSEGV and "is not supported" in err, (rc, err)
    assert client.run(node, "no-such-command")[0] == 2
    refusals(node, client)
    revocation(node, client)
    kill(node, client, "decoded")
    print("static", client.good(node, "cost", node.resource()))


def accesses(node, client):
    client.good(node, "forms", node.resource())
    assert node.counter(GPU, "unknown") == 0
    # below exec the file has its real name, and an unmodified Python sees the registers
    script = ("import mmap,os; f=os.open('/sys/bus/pci/devices/%s/resource0',os.O_RDWR);"
              "m=mmap.mmap(f,4096*16); print(hex(memoryview(m).cast('I')[0]))" % GPU)
    out = subprocess.run([SIM, "exec", "--root", node.root, "--", "python3", "-c", script], stdout=subprocess.PIPE,
                         text=True, check=True, timeout=300).stdout
    assert out == "0x180000a1\n", out
    rc = subprocess.run([SIM, "exec", "--root", node.root, "--", client.program, "forms",
                         f"/sys/bus/pci/devices/{GPU}/resource0"], timeout=300).returncode
    assert rc == 0
    before = node.counter(GPU, "reads")
    client.good(node, "threads", node.resource())
    assert node.counter(GPU, "reads") - before == 5 * 1000


def refusals(node, client):
    assert client.good(node, "map", node.resource()) == "0"
    assert client.good(node, "read", node.resource()) == str(errno.EIO)
    node.ctl("lockdown", "integrity")
    assert client.good(node, "map", node.resource()) == str(errno.EPERM)
    node.ctl("lockdown", "none")
    node.ctl("fault", GPU, "map-denied")
    assert client.good(node, "map", node.resource()) == str(errno.EPERM)
    assert client.good(node, "map", node.resource(OTHER)) == "0"
    node.ctl("clear", GPU)
    assert client.good(node, "map", node.resource()) == "0"


def signals(node, client, sanitized):
    client.good(node, "signals", node.resource())
    rc, _, err = client.run(node, "crash", node.resource())
    if sanitized:
        assert rc == 1 and "AddressSanitizer: SEGV" in err, (rc, err)
    else:
        assert rc == -signal.SIGSEGV, (rc, err)


def revocation(node, client):
    node.write(f"{OTHER}/power/control", "on")
    p = client.start(node, "revoked", node.resource(OTHER))
    assert p.stdout.readline() == "mapped\n", p.stderr.read()
    node.ctl("hold", OTHER, "device")
    p.stdin.write("\n")
    p.stdin.flush()
    assert p.stdout.readline() == "revoked\n", p.stderr.read()
    node.ctl("release", OTHER)
    until("released", lambda: node.users(OTHER) == 0)
    p.stdin.write("\n")
    p.stdin.close()
    assert p.wait(300) == 0, p.stderr.read()
    node.write(f"{OTHER}/power/control", "auto")


def vfio(node, client):
    flr = node.counter(OTHER, "flr")
    client.good(node, "vfio", node.root, "30", OTHER)
    until("closed", lambda: node.users(OTHER) == 0)
    # open, reset, close; the second and third descriptors count for nothing
    assert node.counter(OTHER, "flr") - flr == 3, node.counter(OTHER, "flr") - flr
    assert node.counter(OTHER, "sbr") == 1
    assert node.read(f"{OTHER}/power_state") == "D3hot"
    cdev = os.listdir(node.path(f"{OTHER}/vfio-dev"))[0]
    client.good(node, "cdev", node.root, cdev)
    # a mapping alone holds the device, its end releases it
    p = client.start(node, "hold", node.root, "30", OTHER)
    assert p.stdout.readline() == "held\n", p.stderr.read()
    assert node.read(f"{OTHER}/power_state") == "D0"
    assert client.good(node, "map", node.resource(OTHER)) == str(errno.EINVAL)
    p.stdin.write("\n")
    p.stdin.flush()
    assert p.stdout.readline() == "released\n", p.stderr.read()
    until("released", lambda: node.users(OTHER) == 0)
    assert node.read(f"{OTHER}/power_state") == "D3hot"
    p.kill()
    p.wait()


def kill(node, client, command="forms"):
    node.ctl("kill-at", "3")
    before = node.counter(GPU, "reads") + node.counter(GPU, "writes")
    rc, _, _ = client.run(node, command, node.resource())
    assert rc == -signal.SIGKILL, rc
    assert node.counter(GPU, "reads") + node.counter(GPU, "writes") - before == 2


def without_a_node(client):
    env = dict(os.environ, LD_PRELOAD=os.path.join(BUILD, "lib", "libccnode-sim-trap.so"))
    assert subprocess.run(["true"], env=env, timeout=60).returncode == 0
    env["CCNODE_SIM_STATE"] = "/nonexistent"
    p = subprocess.run(["true"], env=env, stderr=subprocess.PIPE, text=True, timeout=60)
    assert p.returncode == 0 and "no simulated devices" in p.stderr, p.stderr


def main():
    need_fuse()
    profile = os.path.join(os.environ.get("TMPDIR", "/tmp"), f"ccnode-trap-{os.getpid()}.yaml")
    with open(profile, "w") as f:
        f.write(PROFILE)
    try:
        for flavour in ("plain", "flags"):
            client = Client(flavour)
            with open(client.program, "rb") as f:
                sanitized = b"AddressSanitizer" in f.read()
            with Trapped(profile, "--scale", "0.05") as node:
                accesses(node, client)
                refusals(node, client)
                signals(node, client, sanitized)
                vfio(node, client)
                revocation(node, client)
                kill(node, client)
                print(flavour, client.good(node, "cost", node.resource()))
            without_a_node(client)
        with Trapped(profile, "--scale", "0.05") as node:
            static(node)
    finally:
        os.unlink(profile)


main()
