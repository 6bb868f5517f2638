"""What container runtimes answer: containerd internal/cri/server/status.go and internal/cri/config/config.go,
cri-o server/runtime_status.go. Older ones lack fields; some do not answer at all."""

import asyncio
import json
import os

from kubelet import grpc, pb

from .messages import MESSAGES

pb.MESSAGES.update(MESSAGES)
_SERVICE = "/runtime.v1.RuntimeService/"
PLAYS = {
    "containerd": "2.2: handlers as a field, CDI on unless switched off",
    "containerd-1.7": "handlers only in the verbose configuration, CDI off unless switched on",
    "containerd-1.6": "knows nothing of CDI",
    "crio": "1.32: handlers as a field, a configuration of one key; CDI directories only in its files",
    "crio-1.26": "no handlers at all",
    "old": "serves runtime.v1alpha2 only",
    "error": "INTERNAL",
    "garbage": "bytes that are no message of this kind",
    "bad-json": "a verbose configuration that is no JSON",
    "huge": "a status of more than 16 MiB",
    "stall": "takes requests and never answers",
    "silent": "takes connections and says nothing",
    "not-grpc": "talks HTTP/1.1",
    "hang-up": "closes every connection",
}
_NAMES = {"crio": ("cri-o", "1.32.1"), "crio-1.26": ("cri-o", "1.26.4"), "containerd": ("containerd", "v2.2.9"),
          "containerd-1.7": ("containerd", "1.7.24"), "containerd-1.6": ("containerd", "1.6.20~ds1")}
_ROOTS = {"crio": "run/crio/crio.sock", "crio-1.26": "run/crio/crio.sock"}


def default_socket(play):
    return _ROOTS.get(play, "run/containerd/containerd.sock")


class Runtime:
    def __init__(self, options):
        self.o = options
        self.name, self.version = _NAMES.get(options.play, _NAMES["containerd"])
        self.server = None

    async def listen(self, path):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        if os.path.exists(path):
            os.unlink(path)
        if self.o.play in ("silent", "not-grpc", "hang-up"):
            with grpc.reachable(path) as short:
                self.server = await asyncio.start_unix_server(self._rude, short)
            return
        package = "/runtime.v1alpha2.RuntimeService/" if self.o.play == "old" else _SERVICE
        self.server = grpc.Server({package + "Version": self._version, package + "Status": self._status,
                                   package + "ListPodSandbox": self._list})
        await self.server.listen(path)

    async def _rude(self, reader, writer):
        if self.o.play == "not-grpc":
            writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
        elif self.o.play == "silent":
            await reader.read(-1)
        writer.close()

    async def _trouble(self):
        if self.o.play == "error":
            raise grpc.GrpcError(grpc.INTERNAL, "injected by the stand-in")
        if self.o.play == "stall":
            await asyncio.sleep(3600)
        return b"\x0a\xff\xff\xff\xff\x0f" + bytes(64) if self.o.play == "garbage" else None

    async def _version(self, _message):
        return await self._trouble() or pb.encode("VersionResponse", {
            "version": "0.1.0", "runtime_name": self.name, "runtime_version": self.version, "runtime_api_version": "v1"})

    def _config(self):
        """The text under `config` of a verbose status."""
        if self.o.play == "bad-json":
            return '{"enableCDI": true, "containerd": {'
        if self.name == "cri-o":
            return json.dumps({"sandboxImage": "registry.k8s.io/pause:3.10"})
        config = {"containerd": {"defaultRuntimeName": "runc", "runtimes": {
            h: {"runtimeType": "io.containerd.runc.v2" if h == "runc" else f"io.containerd.{h}.v2"} for h in self.o.handlers}},
            "maxContainerLogLineSize": 16384}
        if self.o.play == "huge":
            config["filler"] = "x" * (17 << 20)
        if self.o.play != "containerd-1.6":
            config["enableCDI"] = {"on": True, "off": False, "": None if self.o.play == "containerd" else False}[self.o.cdi]
            config["cdiSpecDirs"] = self.o.cdi_dirs
        return json.dumps(config)

    async def _status(self, message):
        trouble = await self._trouble()
        if trouble:
            return trouble
        ready = {"type": "RuntimeReady", "status": not self.o.not_ready}
        if self.o.not_ready:
            ready.update(reason="NotYet", message=self.o.not_ready)
        answer = {"status": {"conditions": [ready, {"type": "NetworkReady", "status": True}]}}
        if self.o.play in ("containerd", "crio", "huge", "bad-json"):
            answer["runtime_handlers"] = [{"name": h, "features": {"user_namespaces": True}} for h in ["", *self.o.handlers]]
        if pb.decode("StatusRequest", message)["verbose"]:
            answer["info"] = {"config": self._config(), "golang": '"go1.24"'}
        return pb.encode("StatusResponse", answer)

    async def _list(self, _message):
        trouble = await self._trouble()
        if trouble:
            return trouble
        return pb.encode("ListPodSandboxResponse", {"items": [
            {"id": s["id"], "metadata": {"name": s["pod"], "uid": s["uid"], "namespace": s["namespace"]},
             "state": 0 if s["ready"] else 1, "created_at": 1, "labels": {"io.kubernetes.pod.name": s["pod"]},
             "runtime_handler": s["handler"]} for s in self.o.sandboxes]})

    def close(self):
        self.server.close()
