"""`helm install` turns a node into a confidential-GPU node: the 2023 guide's Kubernetes chapter on the real components, on the
guide's server with one H100 PCIe; what goes beyond it on an HGX board."""
import json
import os
import re
import subprocess
import sys
import time

import fence
from harness import HERE, NODE, Cluster, report, until
from release import (LOOK, NAMESPACE, SOURCE, Release, agent_states, build_image, gpu_pod, has_its_devices, oci_spec, seen_vfio,
                     set_mode, start_sim, wait_ready)

MANIFESTS = os.path.join(SOURCE, "manifests")
MODE, STATE, READY = "nvidia.com/cc.mode", "nvidia.com/cc.mode.state", "nvidia.com/cc.ready.state"

# row 17, as in the guide but for the name of the image, which is docs/workload.md's
GUIDE_IMAGE = "registry.example.com/cuda-vectoradd:1"
GUIDE_POD = f"""apiVersion: v1
kind: Pod
metadata:
  name: cuda
  annotations:
    cdi.k8s.io/gpu: "nvidia.com/pgpu=0"
spec:
  runtimeClassName: kata-qemu-nvidia-gpu-snp
  restartPolicy: OnFailure
  containers:
    - name: cuda-vectoradd
      image: "{GUIDE_IMAGE}"
      resources:
        limits:
          "nvidia.com/GH100_H100_PCIE": 1
"""


def written_keys():
    """Labels and annotations that the agent writes, and its condition: from the agent's own table of names."""
    with open(os.path.join(SOURCE, "node-agent/intent.h"), encoding="utf-8") as f:
        names = dict(re.findall(r'#define ([A-Z_]+) "([^"]+)"', f.read()))
    with open(os.path.join(SOURCE, "node-agent/publisher.c"), encoding="utf-8") as f:
        table = re.search(r"key_names\[N_KEYS\] = \{(.*?)\};", f.read(), re.S).group(1)
    keys = [names[name] for name in re.findall(r"= (\w+)", table)]
    assert len(keys) >= 5, keys
    return keys, names["CONDITION_TYPE"]


class Chapter:
    def __init__(self, cluster):
        self.cluster = cluster
        self.sim = start_sim(cluster, "h100-pcie")
        # of those who write to the Node besides kubelet and the agent this one comes last
        until("the controllers have written", lambda: "node.alpha.kubernetes.io/ttl" in cluster.node()["metadata"].get("annotations", {}))
        self.image = build_image(cluster)
        self.release = Release(cluster, self.sim)
        self.resource = None
        self.untouched = said(cluster.node())
        self.only_specs = None  # containerd's OCI spec of a pod whose devices came by DeviceSpecs alone

    # --- guide rows, in their order ---

    def row_1(self):
        """On a second containerd, since this machine's cgroups are not systemd's."""
        place = f"{self.sim.ROOT}/run/guide"
        self.cluster.run("bash", "-c", f"""mkdir -p {place} && cd {place} && containerd config default >config.toml &&
            sed -i 's/SystemdCgroup = false/SystemdCgroup = true/g' config.toml""")
        command = ["containerd", "--config", f"{place}/config.toml", "--root", f"{self.cluster.dir}/guide", "--state", f"{place}/state",
                   "--address", f"{place}/containerd.sock"]
        taken = self.cluster.run(*command, "config", "dump")
        assert "SystemdCgroup = true" in taken and "SystemdCgroup = false" not in taken and "enable_cdi = true" in taken, taken
        self.cluster.start(f"{self.cluster.dir}/guide.log", "bash", "-c", f'echo $$ >{place}/pid; exec "$@"', "guide", *command)
        version = self.cluster.run("ctr", "--version").split()[-1]
        with open(os.path.join(self.cluster.dir, "guide.yaml"), "w", encoding="utf-8") as f:
            f.write("cri: { socket: /run/guide/containerd.sock }\n")

        def found():
            p = self.cluster.run(f"{self.sim.programs}/ccnode", "preflight", "--host-root", self.sim.ROOT, "--config", f.name, check=False,
                                 env=self.sim.env)
            for part in (f"containerd {version} at /run/guide/containerd.sock", "CDI is on in containerd"):
                assert part in p.stdout, p.stdout
            return True
        until("preflight reads what this containerd says", found)
        self.cluster.run("bash", "-c", f"kill $(cat {place}/pid)")

    def row_3_4(self):
        self.cluster.kubectl("taint", "nodes", "--all", "node-role.kubernetes.io/control-plane-", check=False)
        self.cluster.kubectl("label", "node", "--all", "node-role.kubernetes.io/worker=", "--overwrite")
        self.cluster.kubectl("label", "node", "--all", "node.kubernetes.io/worker=", "--overwrite")
        self.untouched = said(self.cluster.node())

    def row_6(self):
        self.cluster.kubectl("label", "node", NODE, "nvidia.com/gpu.workload.config=vm-passthrough")
        self.untouched = said(self.cluster.node())

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
        """The literal command, in a mount namespace whose /sys is the simulated one; the profile leaves the GPU without a driver."""
        said_ = self.cluster.run(f"{self.sim.programs}/ccnode-sim", "exec", "--root", self.sim.ROOT, "--", "lspci", "-nnk", "-d", "10de:")
        assert "[10de:2331]" in said_ and "Kernel driver in use: vfio-pci" in said_, said_
        devices = json.loads(self.sim.ccnode("list", "-o", "json"))
        assert [d["driver"] for d in devices] == ["vfio-pci"], devices

    def row_13(self):
        assert "kata-qemu-nvidia-gpu-snp" in self.cluster.kubectl("get", "runtimeclass", "-o", "name")

    def row_14(self):
        self.cluster.apply({"apiVersion": "nvidia.com/v1", "kind": "ClusterPolicy", "metadata": {"name": "cluster-policy"}, "spec": {}})
        p = self.cluster.kubectl("patch", "clusterpolicy/cluster-policy", "-p", '{"spec":{"ccManager":{"defaultMode":"on"}}}', check=False)
        assert p.returncode != 0, "the guide's own form is answered 415 by every API server"
        self.cluster.kubectl("patch", "clusterpolicy/cluster-policy", "--type", "merge", "-p", '{"spec":{"ccManager":{"defaultMode":"on"}}}')
        until("the default mode of the ClusterPolicy is followed", lambda: agent_states(self.cluster) == ("on", "true"))
        self.cluster.kubectl("delete", "clusterpolicy/cluster-policy")

    def row_15(self):
        set_mode(self.cluster, "off")
        begin = time.monotonic()
        set_mode(self.cluster, "on")
        print(f"        label to cc.mode.state=on: {time.monotonic() - begin:.2f} s, of which the simulated reset and boot 1.8 s")

    def row_16(self):
        """The command of docs/operator.md, which is the guide's."""
        with open(os.path.join(SOURCE, "docs/operator.md"), encoding="utf-8") as f:
            command = re.search(r"^kubectl get nodes -l nvidia\.com/gpu\.present -o json \| jq .*$", f.read(), re.M).group(0)
        # the kubelet tells the API server every second or so
        until("the guide's answer", lambda: json.loads(self.cluster.run("bash", "-c", command)) == {"nvidia.com/GH100_H100_PCIE": "1"})
        assert self.cluster.node()["status"]["capacity"]["nvidia.com/GH100_H100_PCIE"] == "1", self.cluster.node()["status"]["capacity"]

    def guide_image(self):
        program, archive = (os.path.join(self.cluster.dir, name) for name in ("vectoradd", "vectoradd.tar"))
        with open(program, "w", encoding="utf-8") as f:
            f.write(f"#!/bin/sh\n{LOOK}\n")
        subprocess.run([sys.executable, f"{HERE}/images/mkimage.py", GUIDE_IMAGE, archive, "/bin/vectoradd", f"{program}=/bin/vectoradd",
                        "/bin/busybox=/bin/busybox", "/bin/busybox=/bin/sh"], check=True)
        self.cluster.run("ctr", "-n", "k8s.io", "images", "import", archive)

    def row_17(self):
        self.guide_image()
        self.cluster.kubectl("apply", "-f", "-", stdin=GUIDE_POD)
        wait_ready(self.cluster, "cuda")
        assert has_its_devices(self.cluster, self.sim, "cuda") == ["0000:18:00.0"]
        self.only_specs = oci_spec(self.cluster, "cuda")
        with open(os.path.join(SOURCE, "docs/workload.md"), encoding="utf-8") as f:
            today = re.search(r"```yaml\n(apiVersion: v1\nkind: Pod\n.*?)```", f.read(), re.S).group(1)
        taken = self.cluster.kubectl("apply", "--dry-run=server", "--validate=strict", "-f", "-", stdin=today)
        assert "created (server dry run)" in taken, taken

    def row_18(self):
        assert seen_vfio(self.cluster, "cuda")
        told = self.cluster.kubectl("describe", "pod", "cuda")
        assert "kata-qemu-nvidia-gpu-snp" in told and re.search(r"nvidia.com/GH100_H100_PCIE: +1", told), told
        self.cluster.kubectl("delete", "pod", "cuda", "--now")

    # --- beyond the rows ---

    def manifests(self):
        """The rendered form, for those without helm. Only tried: its agent would look at this machine's own /sys."""
        self.cluster.kubectl("create", "namespace", "ccnode")
        taken = self.cluster.kubectl("apply", "-k", MANIFESTS, "--dry-run=server")
        with open(os.path.join(MANIFESTS, "ccnode.yaml"), encoding="utf-8") as f:
            objects = len(re.findall("^kind:", f.read(), re.M)) + 1  # and the namespace
        assert len(taken.splitlines()) == objects and "daemonset.apps/ccnode created" in taken, taken
        self.cluster.kubectl("delete", "namespace", "ccnode", "--wait=false")

    def hgx_board(self):
        """Another server under the same Node: what the old one said is gone, then the chart is installed on the new one."""
        self.release.uninstall()
        self.is_forgotten()
        self.sim.stop()
        self.sim.start("hgx-h100")
        self.release.install()
        set_mode(self.cluster, "on")

        def offered():
            found = {k: v for k, v in self.cluster.node()["status"]["allocatable"].items() if k.startswith("nvidia.com/") and v != "0"}
            assert sorted(found.values()) == ["4", "8"], found
            return found
        found = until("8 GPUs and 4 switches", offered)
        capacity = self.cluster.node()["status"]["capacity"]
        assert all(capacity[k] == v for k, v in found.items()), capacity
        self.resource = next(k for k, v in found.items() if v == "8")
        devices = json.loads(self.sim.ccnode("list", "-o", "json"))
        assert [d["driver"] for d in devices] == ["vfio-pci"] * 12, devices

    def are_offered(self):
        """All GPUs, by kubelet's own word: what the Node says may be of before a change, and a pod that is too early fails."""
        until("kubelet has 8 GPUs to give", lambda: len(self.cluster.offered(self.resource)) == 8)

    def over_capacity(self):
        self.are_offered()
        self.cluster.apply(gpu_pod("cuda", self.resource))
        wait_ready(self.cluster, "cuda")
        has_its_devices(self.cluster, self.sim, "cuda")
        self.cluster.apply(gpu_pod("greedy", self.resource, 8))
        until("Pending for want of GPUs", lambda: "Insufficient" in self.cluster.kubectl("describe", "pod", "greedy"))
        self.cluster.kubectl("delete", "pod", "greedy", "--now")

    def waits_for_a_pod(self):
        before = self.sim.resets()
        device = self.cluster.held("cuda")
        self.cluster.kubectl("label", "node", NODE, f"{MODE}=ppcie", "--overwrite")
        until("cc.mode.state=waiting-busy", lambda: agent_states(self.cluster) == ("waiting-busy", "false"))

        def told():
            condition = self.cluster.condition()
            assert condition and "cuda" in condition["message"] and device[0] in condition["message"], condition
            return condition["reason"] == "WaitingForPods"
        until("the condition names the pod and its device", told)
        until("the Event", lambda: "WaitingForPods" in [reason for reason, _ in self.cluster.events()])
        assert self.sim.resets() == before, "a GPU was reset while a pod of the node waits"
        assert self.cluster.held("cuda") == device, "the pod's device was taken"
        p = self.helm_test(check=False)
        told = self.cluster.kubectl("logs", "-n", NAMESPACE, f"{self.release.name}-test", "-c", "status", check=False)
        assert p.returncode != 0 and "not in order: WaitingForPods" in told.stdout, (p.stdout, told.stdout, told.stderr)
        self.cluster.kubectl("delete", "pod", "cuda", "--now")
        until("ppcie after the pod ended", lambda: agent_states(self.cluster) == ("ppcie", "true"))

    def cdi_devices(self):
        """Allocate sends DeviceSpecs as well, so the node alone proves nothing. What containerd made of the CDI name is told by its
        OCI spec: entry and permission of the node are then those that the CDI project's own library makes of our file, to the
        letter; those of a DeviceSpec differ (owner; "mrw"), as the pod of row 17 shows."""
        self.release.reconfigure("--set", "config.devicePlugin.cdiDevices=true")
        set_mode(self.cluster, "on")
        until("allocatable again", lambda: self.allocatable("GH100"))
        self.are_offered()
        self.cluster.apply(gpu_pod("cdi", self.resource))
        wait_ready(self.cluster, "cdi")
        device = has_its_devices(self.cluster, self.sim, "cdi")[0]
        made = json.loads(self.cluster.run("cdi", "inject", f"{self.resource}={device}"))["linux"]
        (node,), (permission,) = made["devices"], made["resources"]["devices"]
        spec, control = oci_spec(self.cluster, "cdi")["linux"], self.only_specs["linux"]
        assert node in spec["devices"], f"{node} is not among {spec['devices']}"
        assert permission in spec["resources"]["devices"], f"{permission} is not among {spec['resources']['devices']}"
        assert permission not in control["resources"]["devices"] and all("uid" in d for d in control["devices"]), control
        self.cluster.kubectl("delete", "pod", "cdi", "--now")

    def refused_evictions(self):
        """Evictions that the API server has answered with 429, as it does for a PodDisruptionBudget."""
        text = self.cluster.kubectl("get", "--raw", "/metrics")
        return sum(float(v) for labels, v in re.findall(r"^apiserver_request_total\{([^}]*)\} (\S+)", text, re.M)
                   if 'subresource="eviction"' in labels and 'code="429"' in labels)

    def evicts(self):
        budget = {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "guarded"},
                  "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "guarded"}}}}
        self.are_offered()
        self.cluster.apply(gpu_pod("guarded", self.resource, labels={"app": "guarded"}), budget)
        wait_ready(self.cluster, "guarded")
        until("the budget counts the pod", lambda: self.cluster.get("pdb", "guarded")["status"].get("currentHealthy") == 1)
        device, before = self.cluster.held("guarded"), self.refused_evictions()
        self.release.reconfigure("--set", "config.devicePlugin.cdiDevices=false", "--set", "config.busy.policy=evict", "--set", "eviction.enabled=true")
        count = fence.check_evict(self.cluster, NAMESPACE, self.release.name, self.release.pod())
        print(f"        {count} requests with the token that may evict")
        resets = dict(self.sim.resets())
        self.cluster.kubectl("label", "node", NODE, f"{MODE}=off", "--overwrite")
        until("the API server refused an eviction for the budget", lambda: self.refused_evictions() > before)
        until("waiting", lambda: agent_states(self.cluster) == ("waiting-busy", "false"))
        pod = self.cluster.get("pod", "guarded")
        assert pod["status"]["phase"] == "Running" and "deletionTimestamp" not in pod["metadata"], pod
        assert self.cluster.held("guarded") == device and dict(self.sim.resets())[device[0]] == resets[device[0]], "the device was touched"
        budget["spec"]["minAvailable"] = 0
        self.cluster.apply(budget)
        until("off after the eviction", lambda: agent_states(self.cluster) == ("off", "false"))
        # its device is free when its container has ended, and kubelet takes the pod away later
        until("the pod is gone", lambda: "guarded" not in self.cluster.kubectl("get", "pods"))
        until("the Event", lambda: "PodEvicted" in [reason for reason, _ in self.cluster.events()])
        self.cluster.kubectl("delete", "pdb", "guarded")

    def one_at_a_time(self):
        """The semaphore's Leases, under the agent's own token."""
        self.release.reconfigure("--set", "config.busy.policy=wait", "--set", "eviction.enabled=false", "--set", "config.concurrency.max=1")
        set_mode(self.cluster, "on")
        lease = self.cluster.get("leases", "-n", NAMESPACE)["items"]
        assert [i["metadata"]["name"] for i in lease] == ["ccnode-mode-change-0"], lease
        until("the slot is given back", lambda: not self.cluster.get("leases", "-n", NAMESPACE)["items"][0]["spec"].get("holderIdentity"))

    def fenced(self):
        set_mode(self.cluster, "on")  # the fence asks for a Node with orders; no change may be under way when it ends
        count = fence.check(self.cluster, NAMESPACE, self.release.name, self.release.pod())
        print(f"        {count} requests with the agent's own token")

    def helm_test(self, check=True):
        return self.cluster.run("helm", "test", self.release.name, "-n", NAMESPACE, "--timeout", "300s", check=check)

    def uninstalls(self):
        drivers = [d["driver"] for d in json.loads(self.sim.ccnode("list", "-o", "json"))]
        resets = self.sim.resets()
        keys, condition = written_keys()

        def written():
            labels, annotations, conditions = said(self.cluster.node())
            return all(k in labels or k in annotations for k in keys) and condition in conditions
        until("the agent has written all that it writes, also what the fence's requests took away", written)
        self.release.uninstall()
        self.is_forgotten()
        assert self.sim.resets() == resets, f"uninstalling reset a device: {resets} before, now {self.sim.resets()}"
        after = [d["driver"] for d in json.loads(self.sim.ccnode("list", "-o", "json"))]
        assert drivers == after == ["vfio-pci"] * 12, f"{drivers} before, now {after}"

    def is_forgotten(self):
        """Nothing of the agent is left on the Node but nvidia.com/gpu.present, which it shares with the GPU Operator."""
        keys, condition = written_keys()
        labels, annotations, conditions = said(self.cluster.node())
        left = [k for k in keys if k in labels or k in annotations]
        assert left == ["nvidia.com/gpu.present"] and condition not in conditions, (left, conditions)
        # and nothing that the table does not name
        new = [after - before for after, before in zip((labels, annotations, conditions), self.untouched)]
        assert new == [{"nvidia.com/gpu.present", MODE}, set(), set()], new
        files = self.cluster.run("ls", "/run/cdi").split()
        assert not files, files

    # --- helpers ---

    def allocatable(self, part):
        return any(part in k and v != "0" for k, v in self.cluster.node()["status"]["allocatable"].items())


def said(node):
    """What a Node carries: keys of labels, of annotations, types of conditions."""
    return set(node["metadata"]["labels"]), set(node["metadata"].get("annotations", {})), {c["type"] for c in node["status"]["conditions"]}


def main():
    with Cluster() as cluster:
        chapter = Chapter(cluster)
        print(chapter.image)
        failed = report([
            ("row 1: the default configuration with SystemdCgroup, read by preflight", chapter.row_1),
            ("row 3, 4: taint and worker labels", chapter.row_3_4),
            ("row 6: gpu.workload.config=vm-passthrough", chapter.row_6),
            ("row 9: helm install with the guide's values", chapter.row_9),
            ("kubectl apply -k manifests/: the API server takes every object", chapter.manifests),
            ("row 10: one agent instead of five operands", chapter.row_10),
            ("row 8, 11: RuntimeClasses", chapter.row_8_11),
            ("row 12: lspci says vfio-pci", chapter.row_12),
            ("row 13: the class's handler", chapter.row_13),
            ("row 14: ClusterPolicy's default mode", chapter.row_14),
            ("row 15: cc.mode=on", chapter.row_15),
            ("row 16: allocatable, by the guide's command with jq, and capacity", chapter.row_16),
            ("row 17: the guide's pod runs, holds the GPU and has its VFIO nodes", chapter.row_17),
            ("row 18: logs and describe", chapter.row_18),
            ("uninstalled, and installed on an HGX board: 8 GPUs and 4 switches", chapter.hgx_board),
            ("a pod over capacity stays Pending", chapter.over_capacity),
            ("helm test", chapter.helm_test),
            ("a mode change waits for the pod, touches nothing, then happens", chapter.waits_for_a_pod),
            ("cdiDevices: containerd injects the CDI device", chapter.cdi_devices),
            ("policy evict respects the PodDisruptionBudget", chapter.evicts),
            ("concurrency.max 1: the mode changes under the agent's own token", chapter.one_at_a_time),
            ("the fence", chapter.fenced),
            ("helm uninstall: devices untouched, labels, annotation, condition, CDI gone", chapter.uninstalls),
        ])
        if failed:
            print("--- agent\n" + chapter.release.log() + "--- kubelet\n" + cluster.logs("kubelet.log", 20))
        return failed


if __name__ == "__main__":
    sys.exit(main())
