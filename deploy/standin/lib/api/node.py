"""A Node as a kubelet would have registered it."""

from .store import now


def new_node(name, labels):
    """A two-socket server; figures are of that kind, not of the machine this runs on."""
    stamp = now()
    amounts = {"cpu": "128", "memory": "1056291344Ki", "pods": "110", "ephemeral-storage": "1843217020Ki",
               "hugepages-1Gi": "0", "hugepages-2Mi": "0"}

    def condition(kind, status, reason, message):
        return {"type": kind, "status": status, "lastHeartbeatTime": stamp, "lastTransitionTime": stamp,
                "reason": reason, "message": message}
    return {
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": name, "labels": {
            "kubernetes.io/hostname": name, "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64",
            "beta.kubernetes.io/os": "linux", "beta.kubernetes.io/arch": "amd64",
            "node-role.kubernetes.io/worker": "", **labels},
            "annotations": {"node.alpha.kubernetes.io/ttl": "0", "volumes.kubernetes.io/controller-managed-attach-detach": "true"}},
        "spec": {"podCIDR": "10.244.0.0/24", "podCIDRs": ["10.244.0.0/24"]},
        "status": {
            "capacity": amounts, "allocatable": {**amounts, "memory": "1056188944Ki", "ephemeral-storage": "1698708805Ki"},
            "conditions": [
                condition("MemoryPressure", "False", "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
                condition("DiskPressure", "False", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
                condition("PIDPressure", "False", "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
                condition("Ready", "True", "KubeletReady", "kubelet is posting ready status")],
            "addresses": [{"type": "InternalIP", "address": "192.0.2.10"}, {"type": "Hostname", "address": name}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": 10250}},
            "nodeInfo": {"machineID": "5d1e6a4f0c8b4c0ea1d0f3b2a7c6e598", "systemUUID": "00000000-0000-0000-0000-0cc47a000001",
                         "bootID": "7a0c2f8e-93d7-4a53-9d1d-5b6c1f0a2e44", "kernelVersion": "6.8.0-standin",
                         "osImage": "Debian GNU/Linux 12 (bookworm)", "containerRuntimeVersion": "containerd://2.0.5",
                         "kubeletVersion": "v1.34.1-standin", "kubeProxyVersion": "", "operatingSystem": "linux",
                         "architecture": "amd64"},
            "images": [{"names": [f"registry.k8s.io/standin/image-{i}:v1"], "sizeBytes": 10_000_000 + i} for i in range(40)]},
    }


def basics(store, registry):
    """Namespaces and RuntimeClasses that every cluster of the kind has."""
    spaces = registry.find("", "v1", "namespaces")
    for name in ("default", "kube-system", "kube-public", "kube-node-lease"):
        if ("", name) not in store.objects[spaces.storage]:
            store.create(spaces, {"apiVersion": "v1", "kind": "Namespace", "status": {"phase": "Active"}, "spec": {},
                                  "metadata": {"name": name, "labels": {"kubernetes.io/metadata.name": name}}})
    classes = registry.find("node.k8s.io", "v1", "runtimeclasses")
    # kata-containers tools/packaging/kata-deploy/helm-chart/kata-deploy: the classes for NVIDIA GPUs
    for name in ("kata-qemu-nvidia-gpu", "kata-qemu-nvidia-gpu-snp", "kata-qemu-nvidia-gpu-tdx"):
        if ("", name) not in store.objects[classes.storage]:
            selector = {} if name.endswith("gpu") else {"scheduling": {"nodeSelector": {"nvidia.com/cc.ready.state": "true"}}}
            store.create(classes, {"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "handler": name,
                                   "metadata": {"name": name}, **selector})
