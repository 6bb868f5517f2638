"""PodResources v1: which pod holds which device. Texts: kubernetes pkg/kubelet/apis/podresources/server_v1.go"""

import asyncio
import os

from . import grpc, pb

MODES = {
    "normal": "List, GetAllocatableResources and Get",
    "no-get": "Get is known but its feature gate is off",
    "old": "Get is not known (UNIMPLEMENTED)",
    "unimplemented": "nothing is known",
    "limited": "RESOURCE_EXHAUSTED, as when callers are too fast",
    "error": "INTERNAL",
    "huge": "List of almost 16 MiB",
    "oversize": "List of more than 16 MiB",
    "garbage": "bytes that are no message of this kind",
    "cut": "a length prefix that promises more than comes",
    "stall": "no answer",
    "starting": "List of no pod at all, as before the API server's pods have come",
}
_PREFIX = "/v1.PodResourcesLister/"


class PodResources:
    def __init__(self, path, manager, settings):
        self.path, self.manager, self.settings, self.server = path, manager, settings, None
        self.others = set   # function: (namespace, name) of the pods on the node; those without devices are listed too

    async def start(self):
        os.makedirs(os.path.dirname(self.path), mode=0o750, exist_ok=True)
        if os.path.exists(self.path):
            os.unlink(self.path)
        self.server = grpc.Server({
            _PREFIX + "List": lambda m: self._answer("List", m), _PREFIX + "Get": lambda m: self._answer("Get", m),
            _PREFIX + "GetAllocatableResources": lambda m: self._answer("GetAllocatableResources", m)})
        await self.server.listen(self.path)

    def stop(self):
        if self.server:
            self.server.close()
            self.server = None
            if os.path.exists(self.path):
                os.unlink(self.path)

    async def _answer(self, method, message):
        mode = self.settings["podresources"]
        if mode == "unimplemented" or (mode == "old" and method == "Get"):
            raise grpc.GrpcError(grpc.UNIMPLEMENTED, f"unknown method {method} for service v1.PodResourcesLister")
        if mode == "no-get" and method == "Get":
            raise grpc.GrpcError(grpc.UNKNOWN, "PodResources API Get method disabled")
        if mode == "limited":
            raise grpc.GrpcError(grpc.EXHAUSTED, "rejected by rate limit")
        if mode == "error":
            raise grpc.GrpcError(grpc.INTERNAL, "injected by the stand-in")
        if mode == "garbage":
            return b"\x0a\xff\xff\xff\xff\x0f" + os.urandom(64)
        if mode == "cut":
            return grpc.Raw(b"\0\0\1\0\0" + b"\x0a\x02ab")
        if mode == "stall":
            await asyncio.sleep(3600)
        if method == "List":
            return self._list(mode)
        if method == "Get":
            return self._get(message)
        return self._allocatable()

    def _pods(self):
        pods = {pod: {} for pod in sorted(self.others())}
        for a in self.manager.allocations:
            containers = pods.setdefault((a["namespace"], a["pod"]), {})
            devices = containers.setdefault(a["container"], [])
            known = self.manager.devices.get(a["resource"], {})
            for device in a["ids"]:     # one entry per device, as kubelet does
                devices.append({"resource_name": a["resource"], "device_ids": [device],
                                "topology": known.get(device, {}).get("topology")})
        return [{"name": pod, "namespace": namespace, "containers": [
            {"name": name, "devices": devices} for name, devices in containers.items()]}
            for (namespace, pod), containers in pods.items()]

    def _list(self, mode):
        pods = [] if mode == "starting" else self._pods()
        if mode in ("huge", "oversize"):
            size = (16 << 20) - (1 << 16) if mode == "huge" else (16 << 20) + (1 << 16)
            filler = [{"name": f"filler-{i}-" + "x" * 4000, "namespace": "default", "containers": []} for i in range(size // 4030)]
            pods = filler + pods
        return pb.encode("ListPodResourcesResponse", {"pod_resources": pods})

    def _get(self, message):
        try:
            r = pb.decode("GetPodResourcesRequest", message)
        except pb.DecodeError as e:
            raise grpc.GrpcError(grpc.INTERNAL, f"grpc: error unmarshalling request: {e}") from e
        for pod in self._pods():
            if (pod["namespace"], pod["name"]) == (r["pod_namespace"], r["pod_name"]):
                return pb.encode("GetPodResourcesResponse", {"pod_resources": pod})
        raise grpc.GrpcError(grpc.UNKNOWN, f"pod {r['pod_name']} in namespace {r['pod_namespace']} not found")

    def _allocatable(self):
        m = self.manager
        return pb.encode("AllocatableResourcesResponse", {"devices": [
            {"resource_name": r, "device_ids": [i], "topology": d["topology"]}
            for r, devices in sorted(m.devices.items()) for i, d in sorted(devices.items()) if i not in m.unhealthy[r]]})
