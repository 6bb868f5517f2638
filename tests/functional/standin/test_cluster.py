#!/usr/bin/python3
"""Both stand-ins together: a plugin's devices on the Node, pods that get and return them."""

import asyncio
import os
import ssl
import sys
import unittest
import urllib.error
import urllib.request

sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
import harness  # noqa: E402

harness.need_h2()
from plugin import Plugin  # noqa: E402

RESOURCE = "nvidia.com/GH100_H100_PCIE"
PODS = "/api/v1/namespaces/default/pods"


def pod(name, **spec):
    return {"metadata": {"name": name}, "spec": {"containers": [{"name": "c", "image": "x", "resources": {"limits": {RESOURCE: "1"}}}],
                                                 "terminationGracePeriodSeconds": 1, **spec}}


class Cluster(unittest.IsolatedAsyncioTestCase):
    async def asyncSetUp(self):
        self.api = harness.ApiServer("--no-reap", "--token", "secret")
        self.kubelet = harness.Kubelet("--kubeconfig", self.api.kubeconfig, "--node", "n1", "--pods")
        self.plugin = Plugin(self.kubelet.plugins, "p.sock", RESOURCE, {"a": "Healthy"})
        await self.plugin.serve()

    async def asyncTearDown(self):
        self.plugin.close()
        await asyncio.to_thread(self.kubelet.stop)
        await asyncio.to_thread(self.api.stop)

    def raw(self, method, path, body=None):
        context = ssl.create_default_context(cafile=os.path.join(self.api.dir, "ca.crt"))
        request = urllib.request.Request(f"https://127.0.0.1:{self.api.port}{path}", None if body is None else harness.json.dumps(body).encode(),
                                         {"Authorization": "Bearer secret", "Content-Type": "application/json"}, method=method)
        try:
            with urllib.request.urlopen(request, context=context, timeout=60) as answer:
                return harness.json.loads(answer.read())
        except urllib.error.HTTPError as e:
            with e:
                return harness.json.loads(e.read())

    async def until(self, check, what):
        return await asyncio.to_thread(harness.eventually, check, what)

    async def call(self, *words):
        return await asyncio.to_thread(self.raw, *words)

    def allocatable(self):
        return self.raw("GET", "/api/v1/nodes/n1")["status"]["allocatable"].get(RESOURCE)

    def phase(self, name):
        status = self.raw("GET", f"{PODS}/{name}")["status"]
        return None if status == "Failure" else status["phase"]     # a Status: the pod is not there

    async def test_devices_appear_at_the_node_and_go(self):
        await self.plugin.register()
        await self.until(lambda: self.allocatable() == "1", "device at the node")
        self.plugin.set(a="Unhealthy")
        await self.until(lambda: self.allocatable() == "0", "device withdrawn")
        self.assertEqual((await self.call("GET", "/api/v1/nodes/n1"))["status"]["capacity"][RESOURCE], "1")

    async def test_pod_waits_runs_and_returns_the_device(self):
        await self.call("POST", PODS, pod("first"))
        await self.until(lambda: any(e["object"]["reason"] == "FailedScheduling" and RESOURCE in e["object"]["message"]
                                     for e in self.api.ctl("history", "events")["changes"]), "FailedScheduling")
        self.assertEqual(await asyncio.to_thread(self.phase, "first"), "Pending")
        await self.plugin.register()
        await self.until(lambda: self.phase("first") == "Running", "pod runs")
        self.assertEqual(self.plugin.allocated, [["a"]])
        await self.call("POST", PODS, pod("second"))
        await self.until(lambda: "Insufficient" in str(self.raw("GET", f"{PODS}/second")["status"].get("conditions")), "second waits")
        await self.call("DELETE", f"{PODS}/first")
        await self.until(lambda: self.phase("second") == "Running", "second runs")
        await self.until(lambda: self.phase("first") is None, "first is gone: its device is free a little earlier")
        self.assertEqual(self.plugin.allocated, [["a"], ["a"]])

    async def test_refused_allocation_fails_the_pod(self):
        await self.plugin.register()
        self.plugin.reason = "mode change is running"
        await self.call("POST", PODS, pod("refused"))
        await self.until(lambda: self.phase("refused") == "Failed", "pod fails")
        status = (await self.call("GET", f"{PODS}/refused"))["status"]
        self.assertEqual(status["reason"], "UnexpectedAdmissionError")
        self.assertIn("mode change is running", status["message"])

    async def test_runtime_class_selector(self):
        await self.plugin.register()
        await self.call("POST", PODS, pod("kata", runtimeClassName="kata-qemu-nvidia-gpu-snp"))
        await self.until(lambda: "selector" in str(self.raw("GET", f"{PODS}/kata")["status"].get("conditions")), "node is not ready for it")
        node = await self.call("GET", "/api/v1/nodes/n1")
        node["metadata"]["labels"]["nvidia.com/cc.ready.state"] = "true"
        del node["metadata"]["resourceVersion"]
        await self.call("PUT", "/api/v1/nodes/n1", node)
        await self.until(lambda: self.phase("kata") == "Running", "pod runs")

    async def test_api_server_away_and_back(self):
        await asyncio.to_thread(self.api.ctl, "down")
        await self.plugin.register()
        await asyncio.to_thread(self.kubelet.ctl, "wait", RESOURCE, "--timeout", "60", "--allocatable", "1")
        await asyncio.to_thread(self.api.ctl, "up")
        await self.until(lambda: self.allocatable() == "1", "what was missed is published without further news")
        await self.call("POST", PODS, pod("after"))
        await self.until(lambda: self.phase("after") == "Running", "pod runs")


if __name__ == "__main__":
    unittest.main()
