"""The chart, installed by real helm with the image just built, on the simulated node: by ordinary values only."""
import json
import os
import subprocess

from harness import HERE, NODE, SimulatedNode, until

SOURCE = os.path.realpath(os.path.join(HERE, "../.."))
CHART = os.path.join(SOURCE, "helm/ccnode")
IMAGE = "localhost/ccnode-agent"
NAMESPACE = "gpu-operator"  # the guide's


def build_image(cluster, tag="test"):
    """deploy/image into an archive, loaded into containerd. Return: what it printed."""
    out = os.path.join(cluster.dir, f"image-{tag}.tar")
    p = subprocess.run([os.path.join(SOURCE, "deploy/image"), "--out", out, "--name", f"{IMAGE}:{tag}"], check=True, text=True,
                       stdout=subprocess.PIPE)
    cluster.run("ctr", "-n", "k8s.io", "images", "import", out)
    return p.stdout


def values(sim, tag="test", **more):
    """What a site with its host tree elsewhere and an extra library in the agent's environment would write."""
    library = sim.env["LD_PRELOAD"].split(":")[0]
    environment = [{"name": k, "value": v} for k, v in sim.env.items() if k != "CCNODE_SIM_ROOT"]
    environment.append({"name": "CCNODE_SIM_ROOT", "value": "/host"})
    return {
        "image": {"repository": IMAGE, "tag": tag, "pullPolicy": "Never"},
        "hostPaths": {"root": sim.ROOT},
        "extraEnv": environment,
        "extraVolumes": [{"name": "trap", "hostPath": {"path": os.path.dirname(library), "type": "Directory"}},
                         {"name": "sim-state", "hostPath": {"path": sim.ROOT + "/.sim", "type": "Directory"}}],
        "extraVolumeMounts": [{"name": "trap", "mountPath": os.path.dirname(library), "readOnly": True},
                              {"name": "sim-state", "mountPath": sim.ROOT + "/.sim"}],
        **more,
    }


class Release:
    def __init__(self, cluster, sim):
        self.cluster, self.sim = cluster, sim
        self.name = None
        self.rounds = 0

    def file(self, content):
        path = os.path.join(self.cluster.dir, "values.json")
        with open(path, "w", encoding="utf-8") as f:
            json.dump(content, f)
        return path

    def install_command(self, *flags, **more):
        """The guide's row 9, literally, on our chart."""
        return ["helm", "install", "--wait", "--timeout", "300s", "--generate-name", "-n", NAMESPACE, "--create-namespace", CHART,
                "--set", "sandboxWorkloads.enabled=true", "--set", "kataManager.enabled=true", "--set", "ccManager.enabled=true",
                "--set", "nfd.nodefeaturerules=true", *flags, "-f", self.file(values(self.sim, **more))]

    def install(self, *flags, **more):
        out = self.cluster.run(*self.install_command(*flags, **more))
        self.name = json.loads(self.cluster.run("helm", "list", "-n", NAMESPACE, "-o", "json"))[0]["name"]
        return out

    def upgrade(self, *flags, **more):
        return self.cluster.run("helm", "upgrade", self.name, CHART, "-n", NAMESPACE, "--wait", "--timeout", "300s", "--reset-then-reuse-values",
                                *flags, "-f", self.file(values(self.sim, **more)))

    def reconfigure(self, *flags):
        """An upgrade that is in force when it returns. The ConfigMap alone reaches a running agent when kubelet looks at it again, and
        helm does not wait for the one pod of a DaemonSet that may be unavailable: so the pod is made anew, and waited for."""
        before = self.pod()
        self.rounds += 1
        self.upgrade(*flags, "--set", f"podAnnotations.round=r{self.rounds}")
        self.cluster.kubectl("-n", NAMESPACE, "rollout", "status", f"daemonset/{self.name}", "--timeout=300s")
        assert self.pod() != before, "the agent's pod is still the old one"

    def uninstall(self):
        self.cluster.run("helm", "uninstall", self.name, "-n", NAMESPACE, "--wait")
        until("the agent's pod is gone", lambda: not self.pods())

    def pods(self):
        return self.cluster.get("pods", "-n", NAMESPACE, "-l", "app.kubernetes.io/name=ccnode")["items"]

    def pod(self):
        """Name of the agent's running pod on the node."""
        def running():
            for p in self.pods():
                if p["spec"].get("nodeName") == NODE and not p["metadata"].get("deletionTimestamp") and p["status"]["phase"] == "Running":
                    return p["metadata"]["name"]
            return None
        return until("a running agent", running)

    def log(self, lines=60):
        p = self.cluster.kubectl("-n", NAMESPACE, "logs", "-l", "app.kubernetes.io/name=ccnode", f"--tail={lines}", check=False)
        return p.stdout + p.stderr


def agent_states(cluster):
    labels = cluster.node()["metadata"]["labels"]
    return labels.get("nvidia.com/cc.mode.state"), labels.get("nvidia.com/cc.ready.state")


def set_mode(cluster, mode):
    """The guide's row 15, and the wait for its end."""
    cluster.kubectl("label", "node", NODE, f"nvidia.com/cc.mode={mode}", "--overwrite")
    ready = {"on": "true", "ppcie": "true", "off": "false", "devtools": ""}[mode]
    until(f"cc.mode.state={mode}, cc.ready.state={ready!r}", lambda: agent_states(cluster) == (mode, ready))


def wait_ready(cluster, pod):
    p = cluster.kubectl("wait", "--for=condition=Ready", f"pod/{pod}", "--timeout=300s", check=False)
    assert p.returncode == 0, p.stderr + cluster.kubectl("describe", "pod", pod)[-1500:]


# what the container has, one line for each VFIO device node, none where there is none; then it waits
LOOK = 'find /dev/vfio -type c | while read n; do stat -c "vfio %n %t:%T" $n; done; echo looked; exec sleep 10000'


def gpu_pod(name, resource, count=1, labels=None):
    """A pod as the guide's, with an image that is here."""
    return {"apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "labels": labels or {}, "annotations": {"cdi.k8s.io/gpu": "nvidia.com/pgpu=0"}},
            "spec": {"restartPolicy": "Never", "runtimeClassName": "kata-qemu-nvidia-gpu-snp", "terminationGracePeriodSeconds": 1,
                     "containers": [{"name": "main", "image": "localhost/testtool:test", "command": ["/bin/sh", "-c", LOOK],
                                     "resources": {"limits": {resource: str(count)}}}]}}


def seen_vfio(cluster, pod):
    """{path: "major:minor"} of the VFIO device nodes in the pod's container, by its own look (LOOK)."""
    def look():
        said = cluster.kubectl("logs", pod)
        return said if "looked" in said.split() else None
    said = until(f"{pod} has looked at its devices", look)
    return dict(line.split()[1:] for line in said.splitlines() if line.startswith("vfio "))


def has_its_devices(cluster, sim, pod, count=1):
    """The pod holds @count devices, and its container has their VFIO nodes and no others. Return: the devices."""
    held = cluster.held(pod)
    assert len(held) == count, f"{pod} holds {held}"
    seen, wanted = seen_vfio(cluster, pod), sim.vfio_nodes(held)
    assert len(wanted) > 1 and seen == wanted, f"the container of {pod} has {seen}, the host has {wanted} for {held}"
    return held


def oci_spec(cluster, pod):
    """What containerd told runc to make of the pod's container."""
    container = cluster.get("pod", pod)["status"]["containerStatuses"][0]["containerID"].removeprefix("containerd://")
    return json.loads(cluster.run("cat", f"/run/containerd/io.containerd.runtime.v2.task/k8s.io/{container}/config.json"))


def start_sim(cluster, profile="hgx-h100"):
    sim = SimulatedNode(cluster, profile)
    # the Kata RuntimeClasses of -snp select these; kata-deploy's rules set them
    cluster.kubectl("label", "node", NODE, "amd.feature.node.kubernetes.io/snp=true", "--overwrite")
    return sim
