"""`helm install` turns a node into a confidential-GPU node: the 2023 guide's Kubernetes chapter on the real components."""
import json
import os
import re
import sys
import time

import fence
from harness import NODE, Cluster, report, until
from release import NAMESPACE, SOURCE, Release, agent_states, build_image, gpu_pod, set_mode, start_sim

MANIFESTS = os.path.join(SOURCE, "manifests")


class Chapter:
    def __init__(self, cluster):
        self.cluster = cluster
        self.sim = start_sim(cluster)
        self.image = build_image(cluster)
        self.release = Release(cluster, self.sim)
        self.resource = None

    # --- guide rows, in their order ---

    def row_3_4(self):
        self.cluster.kubectl("taint", "nodes", "--all", "node-role.kubernetes.io/control-plane-", check=False)
        self.cluster.kubectl("label", "node", "--all", "node-role.kubernetes.io/worker=", "--overwrite")
        self.cluster.kubectl("label", "node", "--all", "node.kubernetes.io/worker=", "--overwrite")

    def row_6(self):
        self.cluster.kubectl("label", "node", NODE, "nvidia.com/gpu.workload.config=vm-passthrough")

    def row_9(self):
        begin = time.monotonic()
        out = self.release.install("--set", "clusterPolicy.createCRD=true")
        assert "nvidia-cc-manager" in out, out
        until("GPUs allocatable", lambda: self.allocatable("GH100"))
        print(f"        helm install to allocatable: {time.monotonic() - begin:.1f} s")

    def row_10(self):
        # helm calls a DaemonSet ready when no more pods are missing than maxUnavailable allows: one of one here
        self.release.pod()
        pods = self.cluster.kubectl("get", "pods", "-n", NAMESPACE)
        assert pods.count("ccnode") == 1, pods

    def row_8_11(self):
        classes = self.cluster.kubectl("get", "runtimeclass")
        for name in ("kata-qemu-nvidia-gpu ", "kata-qemu-nvidia-gpu-snp", "kata-qemu-nvidia-gpu-tdx"):
            assert name in classes, classes

    def row_12(self):
        """lspci -nnk -d 10de: -> vfio-pci"""
        devices = [d for d in json.loads(self.sim.ccnode("list", "-o", "json"))]
        assert len(devices) == 12 and all(d["driver"] == "vfio-pci" for d in devices), devices

    def row_13(self):
        assert "kata-qemu-nvidia-gpu-snp" in self.cluster.kubectl("get", "runtimeclass", "-o", "name")

    def row_14(self):
        self.cluster.apply({"apiVersion": "nvidia.com/v1", "kind": "ClusterPolicy", "metadata": {"name": "cluster-policy"}, "spec": {}})
        p = self.cluster.kubectl("patch", "clusterpolicy/cluster-policy", "-p", '{"spec":{"ccManager":{"defaultMode":"on"}}}', check=False)
        assert p.returncode != 0, "the guide's own form is answered 415 by every API server"
        self.cluster.kubectl("patch", "clusterpolicy/cluster-policy", "--type", "merge", "-p", '{"spec":{"ccManager":{"defaultMode":"on"}}}')
        until("the default mode of the ClusterPolicy is followed", lambda: agent_states(self.cluster) == ("on", "true"), 90)
        self.cluster.kubectl("delete", "clusterpolicy/cluster-policy")

    def row_15(self):
        set_mode(self.cluster, "off")
        begin = time.monotonic()
        set_mode(self.cluster, "on")
        print(f"        label to cc.mode.state=on: {time.monotonic() - begin:.2f} s, of which the simulated reset and boot 1.8 s")

    def row_16(self):
        def offered():
            nodes = self.cluster.kubectl("get", "nodes", "-l", "nvidia.com/gpu.present", "-o", "json")
            return {k: v for k, v in json.loads(nodes)["items"][0]["status"]["allocatable"].items()
                    if k.startswith("nvidia.com/") and v != "0"}
        found = until("8 GPUs and 4 switches (the kubelet tells the API server every second or so)",
                      lambda: sorted(offered().values()) == ["4", "8"] and offered())
        capacity = self.cluster.node()["status"]["capacity"]
        assert all(capacity[k] == v for k, v in found.items()), capacity
        self.resource = next(k for k, v in found.items() if v == "8")

    def row_17(self):
        self.cluster.apply(gpu_pod("cuda", self.resource, annotations={"cdi.k8s.io/gpu": "nvidia.com/pgpu=0"}))
        self.cluster.kubectl("wait", "--for=condition=Ready", "pod/cuda", "--timeout=60s")
        found = self.cluster.held("cuda")
        gpus = {d["bdf"] for d in json.loads(self.sim.ccnode("list", "gpus", "-o", "json"))}
        assert len(found) == 1 and found[0] in gpus, f"the pod holds {found} of {gpus}"

    def row_18(self):
        seen = until("the pod's log", lambda: self.cluster.kubectl("logs", "cuda"))
        assert "vfio" in seen, seen
        assert "kata-qemu-nvidia-gpu-snp" in self.cluster.kubectl("describe", "pod", "cuda")

    # --- beyond the rows ---

    def manifests(self):
        """The rendered form, for those without helm. Only tried: its agent would look at this machine's own /sys."""
        self.cluster.kubectl("create", "namespace", "ccnode")
        taken = self.cluster.kubectl("apply", "-k", MANIFESTS, "--dry-run=server")
        with open(os.path.join(MANIFESTS, "ccnode.yaml"), encoding="utf-8") as f:
            objects = len(re.findall("^kind:", f.read(), re.M)) + 1  # and the namespace
        assert len(taken.splitlines()) == objects and "daemonset.apps/ccnode created" in taken, taken
        self.cluster.kubectl("delete", "namespace", "ccnode", "--wait=false")

    def over_capacity(self):
        self.cluster.apply(gpu_pod("greedy", self.resource, 8))
        until("Pending for want of GPUs", lambda: "Insufficient" in self.cluster.kubectl("describe", "pod", "greedy"))
        self.cluster.kubectl("delete", "pod", "greedy", "--now")

    def waits_for_a_pod(self):
        before = self.sim.resets()
        device = self.cluster.held("cuda")
        self.cluster.kubectl("label", "node", NODE, "nvidia.com/cc.mode=ppcie", "--overwrite")
        until("cc.mode.state=waiting-busy", lambda: agent_states(self.cluster) == ("waiting-busy", "false"))
        condition = self.condition()
        assert "cuda" in condition["message"] and device[0] in condition["message"], condition
        assert "WaitingForPods" in self.events(), self.events()
        assert self.sim.resets() == before, "a GPU was reset while a pod of the node waits"
        assert self.cluster.held("cuda") == device, "the pod's device was taken"
        p = self.helm_test(check=False)
        said = self.cluster.kubectl("logs", "-n", NAMESPACE, f"{self.release.name}-test", "-c", "status", check=False)
        assert p.returncode != 0 and "not in order: WaitingForPods" in said.stdout, (p.stdout, said.stdout, said.stderr)
        self.cluster.kubectl("delete", "pod", "cuda", "--now")
        until("ppcie after the pod ended", lambda: agent_states(self.cluster) == ("ppcie", "true"), 60)

    def cdi_devices(self):
        self.release.upgrade("--set", "config.devicePlugin.cdiDevices=true")
        set_mode(self.cluster, "on")
        until("allocatable again", lambda: self.allocatable("GH100"))
        self.cluster.apply(gpu_pod("cdi", self.resource))
        self.cluster.kubectl("wait", "--for=condition=Ready", "pod/cdi", "--timeout=60s")
        seen = until("the pod's log", lambda: self.cluster.kubectl("logs", "cdi"))
        assert "vfio" in seen, seen
        self.cluster.kubectl("delete", "pod", "cdi", "--now")
        self.release.upgrade("--set", "config.devicePlugin.cdiDevices=false")

    def evicts(self):
        self.cluster.apply(gpu_pod("guarded", self.resource, labels={"app": "guarded"}),
                           {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "guarded"},
                            "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "guarded"}}}})
        self.cluster.kubectl("wait", "--for=condition=Ready", "pod/guarded", "--timeout=60s")
        self.release.upgrade("--set", "config.busy.policy=evict", "--set", "eviction.enabled=true")
        self.cluster.kubectl("label", "node", NODE, "nvidia.com/cc.mode=off", "--overwrite")
        time.sleep(4)
        assert self.cluster.get("pod", "guarded")["status"]["phase"] == "Running", "the budget was not respected"
        self.cluster.kubectl("delete", "pdb", "guarded")
        until("off after the eviction", lambda: agent_states(self.cluster) == ("off", "false"), 90)
        assert "guarded" not in self.cluster.kubectl("get", "pods"), "the pod was not evicted"
        self.release.upgrade("--set", "config.busy.policy=wait", "--set", "eviction.enabled=false")

    def fenced(self):
        set_mode(self.cluster, "on")  # the fence asks for a Node with orders; no change may be under way when it ends
        count = fence.check(self.cluster, NAMESPACE, self.release.name, self.release.pod())
        print(f"        {count} requests with the agent's own token")

    def helm_test(self, check=True):
        return self.cluster.run("helm", "test", self.release.name, "-n", NAMESPACE, "--timeout", "60s", check=check)

    def uninstalls(self):
        drivers = [d["driver"] for d in json.loads(self.sim.ccnode("list", "-o", "json"))]
        resets = self.sim.resets()
        self.release.uninstall()
        labels = self.cluster.node()["metadata"]["labels"]
        left = [k for k in labels if k.startswith("nvidia.com/cc.") and k != "nvidia.com/cc.mode"]
        assert not left, left
        conditions = [c for c in self.cluster.node()["status"]["conditions"] if c["type"] == "ConfidentialGPUsReady"]
        assert not conditions, conditions
        files = self.cluster.run("ls", "/run/cdi").split()
        assert not [f for f in files if "ccnode" in f], files
        assert self.sim.resets() == resets, f"uninstalling reset a device: {resets} before, now {self.sim.resets()}"
        after = [d["driver"] for d in json.loads(self.sim.ccnode("list", "-o", "json"))]
        assert drivers == after == ["vfio-pci"] * 12, f"{drivers} before, now {after}"

    # --- helpers ---

    def allocatable(self, part):
        return any(part in k and v != "0" for k, v in self.cluster.node()["status"]["allocatable"].items())

    def condition(self):
        return next(c for c in self.cluster.node()["status"]["conditions"] if c["type"] == "ConfidentialGPUsReady")

    def events(self):
        return self.cluster.kubectl("get", "events.events.k8s.io", "-n", "default", "-o", "custom-columns=R:.reason,N:.note")


def main():
    with Cluster() as cluster:
        chapter = Chapter(cluster)
        print(chapter.image)
        failed = report([
            ("row 3, 4: taint and worker labels", chapter.row_3_4),
            ("row 6: gpu.workload.config=vm-passthrough", chapter.row_6),
            ("row 9: helm install with the guide's values", chapter.row_9),
            ("kubectl apply -k manifests/: the API server takes every object", chapter.manifests),
            ("row 10: one agent instead of five operands", chapter.row_10),
            ("row 8, 11: RuntimeClasses", chapter.row_8_11),
            ("row 12: every GPU and switch is on vfio-pci", chapter.row_12),
            ("row 13: the class's handler", chapter.row_13),
            ("row 14: ClusterPolicy's default mode", chapter.row_14),
            ("row 15: cc.mode=on", chapter.row_15),
            ("row 16: allocatable and capacity", chapter.row_16),
            ("row 17: the guide's pod runs and holds a GPU", chapter.row_17),
            ("row 18: logs and describe", chapter.row_18),
            ("a pod over capacity stays Pending", chapter.over_capacity),
            ("helm test", chapter.helm_test),
            ("a mode change waits for the pod, touches nothing, then happens", chapter.waits_for_a_pod),
            ("cdiDevices: containerd injects the CDI device", chapter.cdi_devices),
            ("policy evict respects the PodDisruptionBudget", chapter.evicts),
            ("the fence", chapter.fenced),
            ("helm uninstall: devices untouched, labels, condition, CDI gone", chapter.uninstalls),
        ])
        if failed:
            print("--- agent\n" + chapter.release.log() + "--- kubelet\n" + cluster.logs("kubelet.log", 20))
        return failed


if __name__ == "__main__":
    sys.exit(main())
