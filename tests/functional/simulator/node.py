"""A served simulated node, for tests: with Node("mixed") as n: n.read("0000:18:00.0/vendor")."""
import errno
import os
import subprocess
import sys
import tempfile
import time
import traceback

sys.path.insert(0, os.path.join(os.path.dirname(os.path.realpath(__file__)), "../../lib"))
from together import all_pass  # noqa: E402

BUILD = os.environ.get("CCNODE_BUILD", "build")
SIM = os.environ.get("CCNODE_SIM", os.path.join(BUILD, "bin", "ccnode-sim"))


def need_fuse():
    if os.geteuid() != 0:
        print("SKIPPED: needs root to mount")
        sys.exit(77)
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        print("SKIPPED: /dev/fuse is absent, the simulated node can't be mounted")
        sys.exit(77)


def until(what, condition, seconds=60):
    """Waits for a condition; a test never sleeps a fixed time and hopes. The time only bounds a failure."""
    end = time.monotonic() + seconds
    while True:
        late = time.monotonic() > end  # before the look: one that began in time counts, however long we were kept waiting
        if condition():
            return
        if late:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(0.005)


READ, WRITE = 0, 1  # x86-64's numbers, asm/unistd_64.h


def in_call(pid, number):
    """Whether the process is inside this system call, on a descriptor that it opened itself."""
    with open(f"/proc/{pid}/syscall", encoding="ascii") as f:
        words = f.read().split()  # "running" when it is in none
    return words[0] == str(number) and int(words[1], 16) > 2


class Node:
    def __init__(self, profile, *options):
        self.dir = tempfile.mkdtemp(prefix="ccnode-sim-")
        self.root = os.path.join(self.dir, "node")
        self.profile, self.options = profile, options

    def __enter__(self):
        try:
            out = subprocess.run([SIM, "--profile", self.profile, "--root", self.root, *self.options],
                                 stdout=subprocess.PIPE, text=True, check=True, timeout=300).stdout
        except BaseException:
            subprocess.run(["rm", "-rf", "--one-file-system", self.dir], check=True)
            raise
        assert out == f"ready root={self.root}\n", out
        return self

    def __exit__(self, *_):
        subprocess.run([SIM, "stop", "--root", self.root], check=True, timeout=300)
        with open("/proc/self/mountinfo") as f:
            assert self.root not in f.read(), "mounts are left"
        subprocess.run(["rm", "-rf", "--one-file-system", self.dir], check=True)

    def path(self, name):
        """'0000:18:00.0/x' is a device's file, '/sys/…' one of the root."""
        return self.root + name if name.startswith("/") else f"{self.root}/sys/bus/pci/devices/{name}"

    def read(self, name):
        with open(self.path(name)) as f:
            return f.read().rstrip("\n")

    def write(self, name, text):
        """One write(2). Returns 0 or the errno name, as a shell's echo would see it."""
        try:
            fd = os.open(self.path(name), os.O_WRONLY)
        except OSError as e:
            return errno.errorcode[e.errno]
        try:
            os.write(fd, text.encode())
            return 0
        except OSError as e:
            return errno.errorcode[e.errno]
        finally:
            os.close(fd)

    def exists(self, name):
        return os.path.lexists(self.path(name))

    def driver(self, bdf):
        try:
            return os.path.basename(os.readlink(self.path(f"{bdf}/driver")))
        except FileNotFoundError:
            return None

    def group(self, bdf):
        return os.path.basename(os.readlink(self.path(f"{bdf}/iommu_group")))

    def bind(self, bdf, driver="vfio-pci"):
        assert self.write(f"{bdf}/driver_override", driver + "\n") == 0
        return self.write("/sys/bus/pci/drivers_probe", bdf)

    def unbind(self, bdf):
        return self.write(f"/sys/bus/pci/drivers/{self.driver(bdf)}/unbind", bdf)

    def background(self, name, text):
        """A writer in a process of its own, for writes that block. Returns when it is in its write, or has ended."""
        code = ("import os,sys; fd = os.open(sys.argv[1], os.O_WRONLY); os.write(1, b'x'); "
                "os.write(fd, sys.argv[2].encode())")
        p = subprocess.Popen([sys.executable, "-S", "-c", code, self.path(name), text],
                             stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        same(p.stdout.read(1), b"x", "the writer started")
        until("the writer is in its write", lambda: p.poll() is not None or in_call(p.pid, WRITE))
        return p

    def device(self, bdf):
        """What `ctl devices` says of it: {name: text}."""
        line = next(line for line in self.ctl("devices").splitlines() if line.startswith(bdf))
        return dict(word.split("=") for word in line.split()[1:])

    def locked(self, bdf):
        """Whether somebody holds the device's lock: is in the middle of a reset, an unbind, …"""
        return self.device(bdf)["locked"] == "1"

    def ctl(self, *args, check=True):
        p = subprocess.run([SIM, "ctl", "--root", self.root, *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                           text=True, timeout=300)
        if check and p.returncode != 0:
            raise AssertionError(f"ctl {args}: {p.stderr}")
        return p.stdout if check else p


def same(got, want, what=""):
    assert got == want, f"{what}: {got!r}, not {want!r}"


def passes(test):
    try:
        test()
        print(f"ok   {test.__name__}", flush=True)
        return True
    except Exception as e:  # noqa: BLE001 - a report for people
        traceback.print_exc()
        print(f"FAIL {test.__name__}: {e}", flush=True)
        return False


def run(tests, at_once=1):
    """Every test function on its own; all are run, the exit status tells."""
    need_fuse()
    good = all_pass(tests, passes, at_once) if at_once > 1 else all([passes(t) for t in tests])
    sys.exit(0 if good else 1)
