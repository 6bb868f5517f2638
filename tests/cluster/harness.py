"""A real single-node Kubernetes with a simulated GPU node in it, for the tests of this folder.

Everything runs in namespaces of its own (node/start): kubelet, containerd, API server, and here also ccnode-sim and the
agent as a process of the node. exit 77 with the reason where the cluster cannot be built or run.
"""
import json
import os
import re
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
BUILD = os.environ.get("CCNODE_BUILD", os.path.join(HERE, "../../build/dev"))
NODE = "node-1"


def skip(reason):
    print(f"SKIPPED: {reason}", flush=True)
    sys.exit(77)


def build():
    p = subprocess.run([os.path.join(HERE, "build")], stdout=subprocess.PIPE, text=True)
    if p.returncode == 77:
        skip("the cluster's programs cannot be built here, the reason is above")
    if p.returncode != 0:
        sys.exit("the cluster's programs did not build")
    out = p.stdout.strip()
    os.utime(out)  # another tree's build removes those that are not used any more
    return out


class Cluster:
    """with Cluster() as c: c.kubectl("get", "node")"""

    def __init__(self):
        if os.geteuid() != 0:
            skip("needs root")
        for program in ("/usr/sbin/runc", "/usr/lib/cni/bridge", "/usr/sbin/nft", "/usr/bin/lspci", "/usr/bin/jq"):
            if not os.path.exists(program):
                skip(f"{program} is missing: apt-get install runc containernetworking-plugins nftables pciutils jq")
        self.bin = build()
        # on a real file system (overlayfs needs one), short (socket paths), away from the tree
        self.dir = tempfile.mkdtemp(prefix="ccnode-cluster-", dir=os.environ.get("CCNODE_CLUSTER_TMP", "/var/tmp"))
        self.env = dict(os.environ, CLUSTER_DIR=os.path.join(self.dir, "c"), CLUSTER_BIN=self.bin,
                        CLUSTER_IMAGES=f"{self.bin}/pause.tar {self.bin}/testtool.tar")
        self.children = []
        self.alive = self.guard = None

    def __enter__(self):
        try:
            self.boot()
        except BaseException:
            self.__exit__()
            raise
        return self

    def boot(self):
        for line in self.starting():
            print(line, end="", flush=True)

    def starting(self):
        """What node/start says, line by line. The cluster is node/guard's: it ends with this process, however that ends."""
        end_seen, self.alive = os.pipe()  # no program that is started here gets the second
        said, says = os.pipe()
        self.guard = open(said, encoding="utf-8", errors="replace")
        try:
            subprocess.run(["setsid", "--fork", "bash", f"{HERE}/node/guard", self.dir], env=self.env, stdin=end_seen, stdout=says, check=True)
        finally:
            os.close(end_seen)
            os.close(says)
        status = None
        while status is None and (line := self.guard.readline()):
            if line.startswith("guard: started "):
                status = int(line.split()[2])
            else:
                yield line
        if status != 0:
            raise AssertionError("the cluster did not start; the last lines of its logs are above")

    def __exit__(self, *_):
        for child in self.children:
            child.kill()
            child.wait()
        if self.alive is not None:
            os.close(self.alive)
            self.guard.read()  # until it has cleaned up
        subprocess.run(["rm", "-rf", self.dir], check=False)

    # --- commands inside the node ---

    def command(self, *argv, env=None):
        """@env reaches only the command inside, not the programs that lead there."""
        inside = ["env", *(f"{k}={v}" for k, v in env.items())] if env else []
        return ["bash", f"{HERE}/node/in", *inside, *argv]

    def run(self, *argv, check=True, stdin=None, env=None):
        p = subprocess.run(self.command(*argv, env=env), env=self.env, input=stdin, text=True,
                           stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=900)
        if check and p.returncode != 0:
            raise AssertionError(f"{' '.join(argv)}: exit {p.returncode}: {p.stdout[-1500:]}{p.stderr[-1500:]}")
        return p.stdout if check else p

    def start(self, log, *argv, env=None):
        with open(log, "w", encoding="utf-8") as out:
            child = subprocess.Popen(self.command(*argv, env=env), env=self.env, stdin=subprocess.DEVNULL,
                                     stdout=out, stderr=subprocess.STDOUT)
        self.children.append(child)
        return child

    def kubectl(self, *argv, check=True, stdin=None):
        return self.run("kubectl", *argv, check=check, stdin=stdin)

    def get(self, *argv):
        return json.loads(self.kubectl("get", *argv, "-o", "json"))

    def apply(self, *objects):
        return self.kubectl("apply", "-f", "-", stdin="\n---\n".join(json.dumps(o) for o in objects))

    def node(self):
        return self.get("node", NODE)

    def label(self, key):
        return self.node()["metadata"]["labels"].get(key)

    def condition(self):
        """The agent's own, or None. It is written beside the labels, by another request: neither of them is always the first."""
        return next((c for c in self.node()["status"]["conditions"] if c["type"] == "ConfidentialGPUsReady"), None)

    def events(self):
        """(reason, note) of those about Nodes. They come behind the labels."""
        return [(e["reason"], e.get("note", "")) for e in self.get("events.v1.events.k8s.io", "-n", "default")["items"]]

    def offered(self, resource):
        """Ids of the healthy devices that kubelet itself could give to a pod now: the Node says so some seconds later."""
        answer = self.run("testtool", "podresources", check=False)  # fails while kubelet starts
        listed = json.loads(answer.stdout)["allocatable"].get("devices", []) if answer.returncode == 0 else []
        return {i for d in listed if d["resource_name"] == resource for i in d["device_ids"]}

    def held(self, pod):
        """Device ids that kubelet's PodResources names for the pod. (The tool's answer also has what is allocatable.)"""
        listed = json.loads(self.run("testtool", "podresources"))["list"].get("pod_resources", [])  # none while kubelet starts
        return [i for p in listed if p["name"] == pod for c in p.get("containers", []) for d in c.get("devices", [])
                for i in d["device_ids"]]

    def logs(self, name, lines=40):
        try:
            with open(os.path.join(self.env["CLUSTER_DIR"], "log", name), encoding="utf-8", errors="replace") as f:
                return "".join(f.readlines()[-lines:])
        except FileNotFoundError:
            return ""


class SimulatedNode:
    """ccnode-sim inside the cluster's node: its tree with the real kubelet's folders in it, its VFIO nodes in /dev."""

    ROOT = "/run/sim"
    SHARED = ("/var/lib/kubelet", "/run/cdi", "/run/containerd")  # the node's own, seen below the root too
    BOOT_ID = "/proc/sys/kernel/random/boot_id"

    def __init__(self, cluster, profile):
        self.cluster = cluster
        self.programs = os.path.join(os.path.realpath(BUILD), "bin")
        self.env = {}
        self.start(profile)

    def start(self, profile):
        """@profile: a name, or a file"""
        c = self.cluster
        c.run("mkdir", "-p", self.ROOT)
        c.run(f"{self.programs}/ccnode-sim", "--profile", profile, "--root", self.ROOT, "--device-nodes")
        for path in self.SHARED:
            c.run("mkdir", "-p", path, self.ROOT + path)
            c.run("mount", "--rbind", path, self.ROOT + path)
        # the machine's /dev is seen in the node: an empty folder there becomes the simulated VFIO nodes
        c.run("bash", "-c", "mkdir -p /dev/vfio && mount --bind /run/sim/dev/vfio /dev/vfio")
        # the root's /proc is a mount of its own: what node/power-off laid over the node's is laid over it too
        c.run("bash", "-c", f"[ ! -e /run/cluster/boot_id ] || mount --bind /run/cluster/boot_id {self.ROOT}{self.BOOT_ID}")
        lines = c.run(f"{self.programs}/ccnode-sim", "env", "--root", self.ROOT).splitlines()
        self.env = dict(line.removeprefix("export ").split("=", 1) for line in lines if "=" in line)
        self.env = {k: v.strip("'\"") for k, v in self.env.items()}
        if "ASAN_OPTIONS" in os.environ:
            self.env["ASAN_OPTIONS"] = os.environ["ASAN_OPTIONS"]

    def stop(self):
        """Another server may be started in its place. For a time when no pod has a folder of it."""
        c = self.cluster
        c.run(f"{self.programs}/ccnode-sim", "stop", "--root", self.ROOT)
        for path in ("/dev/vfio", *(self.ROOT + path for path in self.SHARED)):
            # private first: the mounts that running pods have below kubelet's folder must not go with it
            c.run("bash", "-c", f"mount --make-rprivate {path} && umount -l {path}")
        c.run("rm", "-rf", "--one-file-system", self.ROOT)

    def vfio_nodes(self, devices):
        """{path: "major:minor", hexadecimal} of what a container that holds @devices needs, as the host has it: the node of each
        one's IOMMU group, and VFIO's own."""
        script = """cd "$0"; for d; do g=$(readlink sys/bus/pci/devices/$d/iommu_group); set -- "$@" ${g##*/}; shift; done
                    for n in vfio "$@"; do stat -c "/%n %t:%T" dev/vfio/$n; done"""
        return dict(line.split() for line in self.cluster.run("bash", "-c", script, self.ROOT, *devices).splitlines())

    def ccnode(self, *argv):
        return self.cluster.run(f"{self.programs}/ccnode", *argv, "--host-root", self.ROOT, env=self.env)

    def ctl(self, *argv):
        return self.cluster.run(f"{self.programs}/ccnode-sim", "ctl", "--root", self.ROOT, *argv)

    def resets(self):
        """Resets of every device so far."""
        return re.findall(r"(0000:\S+) resets=(\d+)", self.ctl("counters"))


def until(what, test, seconds=180, every=0.1):
    """Waits until test() is true (an AssertionError in it counts as not yet); returns what it returned. The time only bounds a failure."""
    end = time.monotonic() + seconds
    last = None
    while True:
        try:
            value = test()
            if value:
                return value
        except AssertionError as e:
            last = e
        if time.monotonic() > end:
            raise AssertionError(f"not within {seconds} s: {what}{f' ({last})' if last else ''}")
        time.sleep(every)


def report(checks):
    """Runs (sentence, function) pairs in order, says each; exit status 1 when one failed."""
    bad = 0
    for sentence, check in checks:
        begin = time.monotonic()
        try:
            check()
            print(f"ok      {sentence} ({time.monotonic() - begin:.1f} s)", flush=True)
        except Exception as e:  # noqa: BLE001 - a report for people
            print(f"FAILED  {sentence}: {e}", flush=True)
            bad += 1
    print(f"{len(checks) - bad} passed, {bad} failed", flush=True)
    return 1 if bad else 0
