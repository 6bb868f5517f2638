"""What a cluster does around the device manager: node status, scheduling, admission, release."""

import asyncio
import datetime
import http.client
import threading

from .devices import AdmissionError
from .kubeapi import Answer, KubeApi

_STRATEGIC = "application/strategic-merge-patch+json"


def _now():
    return datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def _wanted(pod):
    """(container, resource, count) of the extended resources of a pod: kubelet looks at limits."""
    found = []
    for container in pod["spec"].get("containers", []):
        for name, count in (container.get("resources", {}).get("limits") or {}).items():
            if "/" in name and not name.startswith("kubernetes.io/"):
                found.append((container["name"], name, int(count)))
    return found


class Cluster:
    """Follows the API server; all decisions are taken on the event loop."""

    def __init__(self, manager, kubeconfig, node, play_pods, interval, log):
        self.manager, self.api, self.node, self.log = manager, KubeApi(kubeconfig), node, log
        self.play_pods, self.interval = play_pods, interval
        self.loop = asyncio.get_running_loop()
        self.pods, self.nodes, self.classes = {}, {}, {}
        self.busy = set()               # uids that are being worked on
        self.refused = {}               # uid -> text of the last FailedScheduling
        self.stop = threading.Event()
        self.published = {}
        self.wake = asyncio.Event()
        self.tasks = []

    def start(self):
        self.tasks = [asyncio.ensure_future(self._publish_forever())]
        if self.play_pods:
            for path, table in (("/api/v1/pods", self.pods), ("/api/v1/nodes", self.nodes),
                                ("/apis/node.k8s.io/v1/runtimeclasses", self.classes)):
                threading.Thread(target=self.api.watch, daemon=True, args=(
                    path, lambda kind, obj, t=table: self.loop.call_soon_threadsafe(self._seen, t, kind, obj), self.stop)).start()
            self.tasks.append(asyncio.ensure_future(self._work_forever()))

    def close(self):
        self.stop.set()
        for task in self.tasks:
            task.cancel()

    # -- node status

    async def _call(self, *words):
        return await asyncio.to_thread(self.api.call, *words)

    async def _publish_forever(self):
        """At once when something changed; again at every interval, as the Node may be a new one."""
        due = True
        while True:
            news = asyncio.ensure_future(self.manager.changed.wait())
            pause = self.interval
            try:
                await self._publish(due)
            except (OSError, ValueError, Answer, http.client.HTTPException):
                pause = min(0.5, self.interval)         # the API server is away, or the Node is not there yet
            done, _ = await asyncio.wait({news}, timeout=pause)
            due = not done
            news.cancel()
            self.wake.set()

    async def _publish(self, due):
        if self.manager.server is None:
            return
        now = {r: (str(c), str(a)) for r, (c, a) in self.manager.capacity().items()}
        gone = {r: None for r in self.published if r not in now}
        if not due and now == self.published:
            return
        await self._call("PATCH", f"/api/v1/nodes/{self.node}/status", {"status": {
            "capacity": {**{r: c for r, (c, _) in now.items()}, **gone},
            "allocatable": {**{r: a for r, (_, a) in now.items()}, **gone}}}, _STRATEGIC)
        self.published = now

    # -- pods

    def _seen(self, table, kind, obj):
        if kind == "SYNC":
            before, items = dict(table), {o["metadata"].get("uid", o["metadata"]["name"]): o for o in obj}
            table.clear()
            table.update(items)
            for uid, pod in before.items():
                if table is self.pods and uid not in items:
                    self._gone(pod)
        else:
            uid = obj["metadata"].get("uid", obj["metadata"]["name"])
            if kind == "DELETED":
                table.pop(uid, None)
                if table is self.pods:
                    self._gone(obj)
            else:
                table[uid] = obj
        self.wake.set()

    def here(self):
        """(namespace, name) of the pods that were given to this node."""
        return {(p["metadata"]["namespace"], p["metadata"]["name"]) for p in self.pods.values()
                if p["spec"].get("nodeName") == self.node}

    def _gone(self, pod):
        self.refused.pop(pod["metadata"]["uid"], None)
        self.manager.release(pod["metadata"]["namespace"], pod["metadata"]["name"])

    async def _work_forever(self):
        while True:
            await self.wake.wait()
            self.wake.clear()
            if self.manager.server is None:
                continue
            for uid, pod in list(self.pods.items()):
                if uid not in self.busy:
                    self.busy.add(uid)
                    try:
                        await self._step(pod)
                    except (OSError, ValueError, KeyError, Answer, http.client.HTTPException) as e:
                        self.log("pod-error", pod=pod["metadata"]["name"], error=str(e))
                        self.loop.call_later(0.5, self.wake.set)
                    finally:
                        self.busy.discard(uid)

    async def _step(self, pod):
        meta, spec, phase = pod["metadata"], pod["spec"], pod["status"].get("phase")
        mine = spec.get("nodeName") == self.node
        if meta.get("deletionTimestamp"):
            if mine:
                self._gone(pod)
                try:
                    await self._call("DELETE", f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}",
                                     {"gracePeriodSeconds": 0, "preconditions": {"uid": meta["uid"]}})
                except Answer as e:
                    if e.code not in (404, 409):
                        raise
        elif not spec.get("nodeName") and phase == "Pending":
            await self._schedule(pod)
        elif mine and phase == "Pending":
            await self._admit(pod)

    def _misfit(self, pod):
        """Why the pod does not fit this node, in the scheduler's words."""
        node = next((n for n in self.nodes.values() if n["metadata"]["name"] == self.node), None)
        if node is None:
            return "0/0 nodes are available"
        if node["spec"].get("unschedulable"):
            return "0/1 nodes are available: 1 node(s) were unschedulable."
        selector = dict(pod["spec"].get("nodeSelector") or {})
        name = pod["spec"].get("runtimeClassName")
        if name:
            found = next((c for c in self.classes.values() if c["metadata"]["name"] == name), None)
            if found is None:
                return f'pod rejected: RuntimeClass "{name}" not found'
            selector.update((found.get("scheduling") or {}).get("nodeSelector") or {})
        labels = node["metadata"].get("labels") or {}
        if any(labels.get(k) != v for k, v in selector.items()):
            return "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector."
        capacity, wanted = self.manager.capacity(), {}
        for _, resource, count in _wanted(pod):
            wanted[resource] = wanted.get(resource, 0) + count
        for resource, count in wanted.items():
            usable = capacity.get(resource, (0, 0))[1]
            taken = sum(n for p in self.pods.values() if p["spec"].get("nodeName") == self.node
                        and p["status"].get("phase") in ("Pending", "Running")
                        for _, r, n in _wanted(p) if r == resource)
            if usable - taken < count:
                return f"0/1 nodes are available: 1 Insufficient {resource}."
        return None

    async def _schedule(self, pod):
        meta = pod["metadata"]
        path = f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}"
        misfit = self._misfit(pod)
        if misfit:
            if self.refused.get(meta["uid"]) != misfit:
                self.refused[meta["uid"]] = misfit
                await self._call("PATCH", path + "/status", {"status": {"conditions": [
                    {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": misfit,
                     "lastTransitionTime": _now()}]}}, _STRATEGIC)
                await self._event(pod, "Warning", "FailedScheduling", misfit, "default-scheduler")
            return
        await self._call("POST", path + "/binding", {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": meta["name"]},
                                                     "target": {"apiVersion": "v1", "kind": "Node", "name": self.node}})
        # later pods of this round must see the place as taken, before the watch says so
        pod["spec"]["nodeName"] = self.node
        await self._event(pod, "Normal", "Scheduled", f"Successfully assigned {meta['namespace']}/{meta['name']} to {self.node}",
                          "default-scheduler")

    async def _admit(self, pod):
        meta = pod["metadata"]
        path = f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}/status"
        if any(a["uid"] == meta["uid"] for a in self.manager.allocations):
            return                      # admitted; the watch has not caught up
        try:
            for container, resource, count in _wanted(pod):
                await self.manager.allocate(resource, count, meta["namespace"], meta["name"], container, meta["uid"])
        except AdmissionError as e:
            self.manager.release(meta["namespace"], meta["name"])
            pod["status"]["phase"] = "Failed"
            await self._call("PATCH", path, {"status": {"phase": "Failed", "reason": "UnexpectedAdmissionError",
                                                        "message": f"Pod was rejected: {e}", "startTime": _now()}}, _STRATEGIC)
            await self._event(pod, "Warning", "UnexpectedAdmissionError", str(e), "kubelet")
            return
        stamp = _now()
        pod["status"]["phase"] = "Running"
        await self._call("PATCH", path, {"status": {
            "phase": "Running", "startTime": stamp, "hostIP": "192.0.2.10", "podIP": "10.244.0.2",
            "conditions": [{"type": t, "status": "True", "lastTransitionTime": stamp}
                           for t in ("Initialized", "Ready", "ContainersReady", "PodScheduled")],
            "containerStatuses": [{"name": c["name"], "image": c.get("image", ""), "imageID": "", "ready": True, "started": True,
                                   "restartCount": 0, "state": {"running": {"startedAt": stamp}}, "lastState": {}}
                                  for c in pod["spec"]["containers"]]}}, _STRATEGIC)
        await self._event(pod, "Normal", "Started", "Started container " + ", ".join(c["name"] for c in pod["spec"]["containers"]),
                          "kubelet")

    async def _event(self, pod, kind, reason, message, component):
        meta, stamp = pod["metadata"], _now()
        await self._call("POST", f"/api/v1/namespaces/{meta['namespace']}/events", {
            "apiVersion": "v1", "kind": "Event", "metadata": {"generateName": f"{meta['name']}."}, "type": kind,
            "reason": reason, "message": message, "source": {"component": component}, "count": 1,
            "firstTimestamp": stamp, "lastTimestamp": stamp,
            "involvedObject": {"kind": "Pod", "apiVersion": "v1", "namespace": meta["namespace"], "name": meta["name"], "uid": meta["uid"]}})
