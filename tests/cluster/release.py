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

    def file(self, content):
        path = os.path.join(self.cluster.dir, "values.json")
        with open(path, "w", encoding="utf-8") as f:
            json.dump(content, f)
        return path

    def install_command(self, *flags, **more):
        """The guide's row 9, literally, on our chart."""
        return ["helm", "install", "--wait", "--timeout", "90s", "--generate-name", "-n", NAMESPACE, "--create-namespace", CHART,
                "--set", "sandboxWorkloads.enabled=true", "--set", "kataManager.enabled=true", "--set", "ccManager.enabled=true",
                "--set", "nfd.nodefeaturerules=true", *flags, "-f", self.file(values(self.sim, **more))]

    def install(self, *flags, **more):
        out = self.cluster.run(*self.install_command(*flags, **more))
        self.name = json.loads(self.cluster.run("helm", "list", "-n", NAMESPACE, "-o", "json"))[0]["name"]
        return out

    def upgrade(self, *flags, **more):
        return self.cluster.run("helm", "upgrade", self.name, CHART, "-n", NAMESPACE, "--wait", "--timeout", "90s", "--reset-then-reuse-values",
                                *flags, "-f", self.file(values(self.sim, **more)))

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


def set_mode(cluster, mode, seconds=30):
    """The guide's row 15, and the wait for its end."""
    cluster.kubectl("label", "node", NODE, f"nvidia.com/cc.mode={mode}", "--overwrite")
    ready = {"on": "true", "ppcie": "true", "off": "false", "devtools": ""}[mode]
    until(f"cc.mode.state={mode}, cc.ready.state={ready!r}", lambda: agent_states(cluster) == (mode, ready), seconds)


def gpu_pod(name, resource, count=1, annotations=None, labels=None):
    """The guide's pod (row 17), with an image that is here."""
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "annotations": annotations or {}, "labels": labels or {}},
            "spec": {"restartPolicy": "Never", "runtimeClassName": "kata-qemu-nvidia-gpu-snp", "terminationGracePeriodSeconds": 1,
                     "containers": [{"name": "main", "image": "localhost/testtool:test",
                                     "command": ["/bin/sh", "-c", "ls /dev/vfio /dev; exec sleep 10000"],
                                     "resources": {"limits": {resource: str(count)}}}]}}


def start_sim(cluster, profile="hgx-h100"):
    sim = SimulatedNode(cluster, profile)
    # the Kata RuntimeClasses of -snp select these; kata-deploy's rules set them
    cluster.kubectl("label", "node", NODE, "amd.feature.node.kubernetes.io/snp=true", "--overwrite")
    return sim
