"""The device manager: registrations, lists, allocations, checkpoint.

Order of calls and texts as in kubernetes pkg/kubelet/cm/devicemanager (manager.go, plugin/v1beta1/{server,handler,
client}.go). What happens when a stream ends while a newer plugin has taken over the resource changed over the years:
  by-name   one client per resource: the end of the old stream disconnects whoever holds the name now
  by-path   a list of clients: the old client goes, and the resource is marked unhealthy although a newer one lives
  guarded   only the endpoint that owns the resource can mark it"""

import asyncio
import json
import os
import re
import time

from . import grpc, pb

GENERATIONS = ("by-name", "by-path", "guarded")
CHECKPOINT = "kubelet_internal_checkpoint"
_SERVICE = "/v1beta1.DevicePlugin/"
_QUALIFIED = re.compile(r"^([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]$")
_SUBDOMAIN = re.compile(r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$")


def is_extended_resource_name(name):
    """kubernetes pkg/apis/core/v1/helper/helpers.go IsExtendedResourceName"""
    if "/" not in name or "kubernetes.io/" in name or name.startswith("requests."):
        return False
    prefix, _, rest = f"requests.{name}".partition("/")
    return (len(prefix) <= 253 and bool(_SUBDOMAIN.match(prefix)) and 0 < len(rest) <= 63 and bool(_QUALIFIED.match(rest)))


class AdmissionError(Exception):
    """The pod fails with UnexpectedAdmissionError and this text."""


class Plugin:
    """One registration: the connection back to the plugin."""

    def __init__(self, resource, path):
        self.resource, self.path = resource, path
        self.client = None
        self.options = {}
        self.stopped = None             # when its stream ended
        self.task = None


class DeviceManager:
    def __init__(self, directory, settings, log):
        self.directory, self.settings, self.log = directory, settings, log
        self.server = None
        self.changed = asyncio.Event()  # something a waiter may look at has changed
        self.tasks = set()
        self._reset()

    def _reset(self):
        self.plugins = {}               # resource -> Plugin (None: known from the checkpoint only)
        self.clients = []               # every Plugin that is connected
        self.devices = {}               # resource -> {id: Device message}
        self.unhealthy = {}             # resource -> set of ids
        self.absent_since = {}          # resource -> since when without a plugin
        self.allocations = []           # {"pod", "namespace", "uid", "container", "resource", "ids", "response"}

    # -- life

    @property
    def socket_path(self):
        return os.path.join(self.directory, "kubelet.sock")

    @property
    def checkpoint_path(self):
        return os.path.join(self.directory, CHECKPOINT)

    def _clean_directory(self):
        """Everything but the checkpoint and directories goes: plugins take it as the sign to register again."""
        for name in os.listdir(self.directory):
            path = os.path.join(self.directory, name)
            if name != CHECKPOINT and not os.path.isdir(path):
                os.unlink(path)

    async def start(self):
        os.makedirs(self.directory, mode=0o750, exist_ok=True)
        self._reset()
        self._read_checkpoint()
        self._clean_directory()
        self.server = grpc.Server({"/v1beta1.Registration/Register": self._register})
        await self.server.listen(self.socket_path)
        with open(os.path.join(self.directory, "DEPRECATION"), "w", encoding="utf-8"):
            pass
        self.log("start", directory=self.directory)
        self._notify()

    def stop(self, leave_socket=False):
        """End as the process would: orderly (the listener removes its socket) or killed (the file stays)."""
        if self.server is None:
            return
        self.server.close()
        self.server = None
        for plugin in list(self.clients):
            self._drop(plugin)
        if not leave_socket and os.path.exists(self.socket_path):
            os.unlink(self.socket_path)
        self.log("stop")
        self._notify()

    def _drop(self, plugin):
        if plugin in self.clients:
            self.clients.remove(plugin)
        if plugin.task:
            plugin.task.cancel()
        if plugin.client:
            plugin.client.close()

    def _notify(self):
        self.changed.set()
        self.changed = asyncio.Event()

    def _read_checkpoint(self):
        try:
            with open(self.checkpoint_path, encoding="utf-8") as f:
                data = json.load(f)["Data"]
        except FileNotFoundError:
            return
        except (ValueError, KeyError, TypeError) as e:
            self.log("checkpoint-unreadable", error=str(e))
            return
        for entry in data["PodDeviceEntries"]:
            self.allocations.append({
                "pod": entry["PodName"], "namespace": entry["PodNamespace"], "uid": entry["PodUID"],
                "container": entry["ContainerName"], "resource": entry["ResourceName"],
                "ids": [i for ids in entry["DeviceIDs"].values() for i in ids], "response": entry["AllocResp"]})
        for resource in data["RegisteredDevices"]:
            self.plugins[resource] = None
            self.devices[resource] = {}
            self.unhealthy[resource] = set()
            self.absent_since[resource] = time.monotonic()

    def write_checkpoint(self):
        entries = [{"PodUID": a["uid"], "PodName": a["pod"], "PodNamespace": a["namespace"], "ContainerName": a["container"],
                    "ResourceName": a["resource"], "DeviceIDs": {"-1": a["ids"]}, "AllocResp": a["response"]}
                   for a in self.allocations]
        healthy = {r: sorted(set(d) - self.unhealthy[r]) for r, d in self.devices.items()}
        with open(self.checkpoint_path + ".new", "w", encoding="utf-8") as f:
            json.dump({"Data": {"PodDeviceEntries": entries, "RegisteredDevices": healthy}}, f)
        os.replace(self.checkpoint_path + ".new", self.checkpoint_path)

    # -- registration

    async def _register(self, message):
        try:
            r = pb.decode("RegisterRequest", message)
        except pb.DecodeError as e:
            raise grpc.GrpcError(grpc.INTERNAL, f"grpc: error unmarshalling request: {e}") from e
        self.log("register", resource=r["resource_name"], endpoint=r["endpoint"], version=r["version"])
        if r["version"] != "v1beta1":
            raise grpc.GrpcError(grpc.UNKNOWN, f"requested API version {r['version']!r} is not supported by kubelet. "
                                               "Supported version is [v1beta1]")
        if not is_extended_resource_name(r["resource_name"]):
            raise grpc.GrpcError(grpc.UNKNOWN, f"the ResourceName {r['resource_name']!r} is invalid")
        await self._connect(r["resource_name"], os.path.join(self.directory, r["endpoint"]))
        return pb.encode("Empty", {})

    async def _connect(self, resource, path):
        """Dial back and ask for the options, all before Register is answered."""
        plugin = Plugin(resource, path)
        if self.settings["generation"] == "by-name":
            self.clients = [c for c in self.clients if c.resource != resource]
        self.clients.append(plugin)
        try:
            authority = path if self.settings["authority"] == "path" else "localhost"
            plugin.client = await grpc.Client.dial(path, authority)
            answer = await plugin.client.unary(_SERVICE + "GetDevicePluginOptions", b"")
            plugin.options = pb.decode("DevicePluginOptions", answer)
        except (grpc.GrpcError, pb.DecodeError) as e:
            self._drop(plugin)
            self.log("register-failed", resource=resource, error=str(e))
            raise grpc.GrpcError(grpc.UNKNOWN, f"failed to get device plugin options: {e}") from e
        self.log("options", resource=resource, **plugin.options)
        self.plugins[resource] = plugin
        self.absent_since.pop(resource, None)
        self.devices.setdefault(resource, {})
        self.unhealthy.setdefault(resource, set())
        plugin.task = asyncio.ensure_future(self._run(plugin))
        self.tasks.add(plugin.task)
        plugin.task.add_done_callback(self.tasks.discard)
        self._notify()

    async def _run(self, plugin):
        reason = "stream ended by the plugin"
        try:
            stream = await plugin.client.start(_SERVICE + "ListAndWatch", b"")
            async for message in plugin.client.messages(stream):
                self._list(plugin, pb.decode("ListAndWatchResponse", message)["devices"])
        except grpc.GrpcError as e:
            reason = f"{grpc.NAMES.get(e.code, e.code)}: {e}"
        except pb.DecodeError as e:
            reason = f"undecodable list: {e}"
        plugin.task = None
        self._ended(plugin, reason)

    def _list(self, plugin, devices):
        resource = plugin.resource
        self.devices[resource] = {d["ID"]: d for d in devices}
        self.unhealthy[resource] = {d["ID"] for d in devices if d["health"] != "Healthy"}
        duplicates = len(devices) - len(self.devices[resource])
        self.log("list", resource=resource, devices={d["ID"]: d["health"] for d in devices},
                 **({"duplicates": duplicates} if duplicates else {}))
        self.write_checkpoint()
        self._notify()

    def _ended(self, plugin, reason):
        resource, generation = plugin.resource, self.settings["generation"]
        plugin.stopped = time.monotonic()
        self.log("stream-ended", resource=resource, reason=reason, endpoint=os.path.basename(plugin.path))
        owner = self.plugins.get(resource) is plugin
        if generation == "by-name" and not owner:
            current = self.plugins.get(resource)
            if current:
                self._drop(current)
        self._drop(plugin)
        if owner or generation != "guarded":
            self.unhealthy[resource] = set(self.devices.get(resource, {}))
        if self.plugins.get(resource) not in self.clients:
            self.absent_since.setdefault(resource, time.monotonic())
        self._notify()

    # -- what the node has

    def capacity(self):
        """{resource: (capacity, allocatable)}; resources without a plugin for too long are forgotten."""
        grace = self.settings["grace"]
        for resource, since in list(self.absent_since.items()):
            if time.monotonic() - since > grace:
                for table in (self.plugins, self.devices, self.unhealthy, self.absent_since):
                    table.pop(resource, None)
                self.log("forgotten", resource=resource)
        return {r: (len(d), len(d) - len(self.unhealthy[r] & set(d))) for r, d in self.devices.items()}

    def in_use(self, resource):
        return {i for a in self.allocations if a["resource"] == resource for i in a["ids"]}

    def describe(self):
        capacity = self.capacity()
        resources = {}
        for name, (total, usable) in sorted(capacity.items()):
            plugin = self.plugins.get(name)
            resources[name] = {
                "capacity": total, "allocatable": usable, "connected": plugin in self.clients,
                "endpoint": os.path.basename(plugin.path) if plugin else None, "options": plugin.options if plugin else {},
                "devices": [{"id": i, "health": "Unhealthy" if i in self.unhealthy[name] else "Healthy",
                             "numa": [n["ID"] for n in (d["topology"] or {}).get("nodes", [])],
                             "pod": next((f"{a['namespace']}/{a['pod']}" for a in self.allocations
                                          if a["resource"] == name and i in a["ids"]), None)}
                            for i, d in sorted(self.devices[name].items())]}
        return {"running": self.server is not None, "resources": resources, "allocations": self.allocations}

    # -- allocation

    def plugin(self, resource):
        plugin = self.plugins.get(resource)
        if plugin is None or plugin not in self.clients:
            raise AdmissionError(f"cannot allocate unregistered device {resource}")
        return plugin

    async def _preferred(self, plugin, available, size):
        if not plugin.options.get("get_preferred_allocation_available"):
            return []
        request = pb.encode("PreferredAllocationRequest", {"container_requests": [{
            "available_deviceIDs": sorted(available), "must_include_deviceIDs": [], "allocation_size": size}]})
        try:
            answer = pb.decode("PreferredAllocationResponse",
                               await plugin.client.unary(_SERVICE + "GetPreferredAllocation", request))
        except (grpc.GrpcError, pb.DecodeError) as e:
            raise AdmissionError(f"device plugin GetPreferredAllocation rpc failed with err: {e}") from e
        self.log("preferred", resource=plugin.resource, answer=answer)
        responses = answer["container_responses"]
        return [i for i in (responses[0]["deviceIDs"] if responses else []) if i in available][:size]

    async def allocate(self, resource, count, namespace, pod, container, uid):
        """Pod admission for one container: pick devices, ask the plugin, remember."""
        plugin = self.plugin(resource)
        known = set(self.devices[resource])
        healthy = known - self.unhealthy[resource]
        if not healthy:
            raise AdmissionError(f"no healthy devices present; cannot allocate unhealthy devices {resource}")
        available = healthy - self.in_use(resource)
        if len(available) < count:
            raise AdmissionError(f"requested number of devices unavailable for {resource}. Requested: {count}, "
                                 f"Available: {len(available)}")
        ids = await self._preferred(plugin, available, count)
        ids += [i for i in sorted(available) if i not in ids][:count - len(ids)]
        started = time.perf_counter()
        try:
            answer = pb.decode("AllocateResponse", await plugin.client.unary(
                _SERVICE + "Allocate", pb.encode("AllocateRequest", {"container_requests": [{"devices_ids": ids}]})))
        except (grpc.GrpcError, pb.DecodeError) as e:
            raise AdmissionError(f"Allocate failed due to rpc error: {e}, which is unexpected") from e
        if not answer["container_responses"]:
            raise AdmissionError(f"no containers return in allocation response {answer}")
        entry = {"pod": pod, "namespace": namespace, "uid": uid, "container": container, "resource": resource, "ids": ids,
                 "response": answer["container_responses"][0]}
        self.allocations.append(entry)
        self.log("allocate", resource=resource, ids=ids, pod=f"{namespace}/{pod}",
                 us=round((time.perf_counter() - started) * 1e6))
        if plugin.options.get("pre_start_required"):
            await plugin.client.unary(_SERVICE + "PreStartContainer", pb.encode("PreStartContainerRequest", {"devices_ids": ids}), 30)
        self.write_checkpoint()
        self._notify()
        return entry

    def release(self, namespace, pod):
        """The pod is gone; kubelet tells the plugin nothing."""
        gone = [a for a in self.allocations if (a["namespace"], a["pod"]) == (namespace, pod)]
        if gone:
            self.allocations = [a for a in self.allocations if a not in gone]
            self.log("release", pod=f"{namespace}/{pod}")
            self.write_checkpoint()
            self._notify()
        return len(gone)
