"""A device plugin of a few lines: the counterpart for tests of the stand-in kubelet."""

import asyncio
import os

from kubelet import grpc, pb

_SERVICE = "/v1beta1.DevicePlugin/"


class Plugin:
    def __init__(self, directory, name, resource, devices, preferred=True):
        self.directory, self.name, self.resource = directory, name, resource
        self.devices = dict(devices)    # id -> health
        self.preferred = preferred
        self.calls = []                 # method names in the order they came
        self.allocated = []
        self.reason = None              # Allocate fails with this
        self.news = asyncio.Event()
        self.server = None
        self.register_answered = False

    @property
    def path(self):
        return os.path.join(self.directory, self.name)

    async def serve(self):
        self.server = grpc.Server({
            _SERVICE + "GetDevicePluginOptions": self._options, _SERVICE + "ListAndWatch": self._list,
            _SERVICE + "GetPreferredAllocation": self._preferred, _SERVICE + "Allocate": self._allocate})
        await self.server.listen(self.path)

    async def register(self, version="v1beta1", resource=None, endpoint=None):
        client = await grpc.Client.dial(os.path.join(self.directory, "kubelet.sock"))
        try:
            await client.unary("/v1beta1.Registration/Register", pb.encode("RegisterRequest", {
                "version": version, "endpoint": endpoint or self.name, "resource_name": resource or self.resource}), 60)
            self.register_answered = True
        finally:
            client.close()

    async def _options(self, _message):
        self.calls.append("options-before-answer" if not self.register_answered else "options")
        return pb.encode("DevicePluginOptions", {"get_preferred_allocation_available": self.preferred})

    async def _list(self, _message):
        self.calls.append("list")
        while True:
            self.news.clear()
            yield pb.encode("ListAndWatchResponse", {"devices": [
                {"ID": i, "health": h, "topology": {"nodes": [{"ID": 1}]}} for i, h in self.devices.items()]})
            await self.news.wait()
            if self.devices is None:
                return

    async def _preferred(self, message):
        self.calls.append("preferred")
        request = pb.decode("PreferredAllocationRequest", message)["container_requests"][0]
        ids = sorted(request["available_deviceIDs"], reverse=True)[:request["allocation_size"]]
        return pb.encode("PreferredAllocationResponse", {"container_responses": [{"deviceIDs": ids}]})

    async def _allocate(self, message):
        self.calls.append("allocate")
        if self.reason:
            raise grpc.GrpcError(9, self.reason)
        ids = pb.decode("AllocateRequest", message)["container_requests"][0]["devices_ids"]
        unknown = [i for i in ids if i not in self.devices]
        if unknown:
            raise grpc.GrpcError(grpc.INVALID_ARGUMENT, f"unknown device {unknown[0]}")
        self.allocated.append(ids)
        return pb.encode("AllocateResponse", {"container_responses": [{"envs": {"DEVICES": ",".join(ids)}}]})

    def set(self, **devices):
        self.devices = devices
        self.news.set()

    def end_stream(self):
        self.devices = None
        self.news.set()

    def close(self):
        self.server.close()
        if os.path.exists(self.path):
            os.unlink(self.path)
