#!/usr/bin/python3
"""The stand-in kubelet against a plugin of our own: order of calls, lists, allocation, restart, PodResources."""

import asyncio
import json
import os
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
import harness  # noqa: E402

harness.need_h2()
from kubelet import grpc, pb  # noqa: E402
from plugin import Plugin  # noqa: E402

RESOURCE = "nvidia.com/GH100_H100_PCIE"
THREE = {"a": "Healthy", "b": "Healthy", "c": "Healthy"}


class Case(unittest.IsolatedAsyncioTestCase):
    options = ()

    async def asyncSetUp(self):
        self.kubelet = harness.Kubelet(*self.options)
        self.opened = []

    async def asyncTearDown(self):
        for plugin in self.opened:
            plugin.close()
        await self.threaded(self.kubelet.stop)

    async def threaded(self, function, *words, **options):
        """The plugin lives on this loop: whoever waits for it must not block the loop."""
        return await asyncio.to_thread(function, *words, **options)

    async def ctl(self, *words, **options):
        return await self.threaded(self.kubelet.ctl, *words, **options)

    async def wait(self, *words):
        return await self.ctl("wait", RESOURCE, "--timeout", "60", *words)

    async def plugin(self, name="p.sock", devices=None, **options):
        plugin = Plugin(self.kubelet.plugins, name, RESOURCE, devices or THREE, **options)
        self.opened.append(plugin)
        await plugin.serve()
        return plugin

    async def registered(self, **options):
        plugin = await self.plugin(**options)
        await plugin.register()
        await self.wait("--capacity", "3", "--allocatable", "3")
        return plugin


class Registration(Case):
    async def test_options_are_asked_before_register_is_answered(self):
        plugin = await self.registered()
        self.assertEqual(plugin.calls[:2], ["options-before-answer", "list"])

    async def test_bad_version_and_names_are_refused(self):
        plugin = await self.plugin()
        with self.assertRaisesRegex(grpc.GrpcError, "v1alpha"):
            await plugin.register(version="v1alpha")
        for name in ("gpu", "kubernetes.io/gpu", "a.kubernetes.io/gpu", "nvidia.com/" + "x" * 64, "nvidia.com/-x", "requests.x/y"):
            with self.assertRaisesRegex(grpc.GrpcError, "invalid", msg=name):
                await plugin.register(resource=name)
        self.assertEqual(plugin.calls, [])

    async def test_endpoint_that_nobody_serves(self):
        plugin = await self.plugin()
        with self.assertRaisesRegex(grpc.GrpcError, "failed to dial"):
            await plugin.register(endpoint="nobody.sock")

    async def test_unknown_method(self):
        client = await grpc.Client.dial(os.path.join(self.kubelet.plugins, "kubelet.sock"))
        with self.assertRaises(grpc.GrpcError) as e:
            await client.unary("/v1beta1.Registration/Nothing", b"", 60)
        self.assertEqual(e.exception.code, grpc.UNIMPLEMENTED)
        client.close()

    async def test_starting_deletes_sockets_and_keeps_the_checkpoint(self):
        plugin = await self.registered()
        checkpoint = os.path.join(self.kubelet.plugins, "kubelet_internal_checkpoint")
        self.assertTrue(os.path.exists(checkpoint))
        await self.ctl("restart", "--kill")
        self.assertFalse(os.path.exists(plugin.path))
        self.assertTrue(os.path.exists(checkpoint))
        self.assertTrue(os.path.exists(os.path.join(self.kubelet.plugins, "kubelet.sock")))


class Lists(Case):
    async def test_healthy_unhealthy_missing_empty(self):
        plugin = await self.registered()
        plugin.set(a="Healthy", b="Unhealthy", c="Healthy")
        await self.wait("--capacity", "3", "--allocatable", "2")
        plugin.set(a="Healthy", c="Healthy")
        await self.wait("--capacity", "2", "--allocatable", "2")
        plugin.set()
        await self.wait("--capacity", "0", "--allocatable", "0")

    async def test_end_of_stream_makes_all_unhealthy(self):
        plugin = await self.registered()
        plugin.end_stream()
        await self.wait("--capacity", "3", "--allocatable", "0")
        error = await self.ctl("allocate", RESOURCE, "1", fails=True)
        self.assertIn("unregistered", error)

    async def test_wait_reports_what_there_is(self):
        await self.registered()
        error = await self.ctl("wait", RESOURCE, "--capacity", "9", "--timeout", "0.1", fails=True)
        self.assertIn("capacity 3, allocatable 3", error)


class Forgetting(Case):
    options = ("--grace", "0.5")

    async def test_resource_without_plugin_is_forgotten(self):
        plugin = await self.registered()
        plugin.end_stream()
        await self.wait("--gone")


class Takeover(Case):
    async def both(self, generation):
        await self.ctl("set", f"generation={generation}")
        old = await self.registered(name="old.sock")
        new = await self.plugin(name="new.sock")
        await new.register()
        await self.threaded(harness.eventually, lambda: len(self.kubelet.ctl("log", "--what", "list")["log"]) == 2, "kubelet has the newer plugin's list")
        await self.wait("--allocatable", "3")
        old.end_stream()
        await self.threaded(harness.eventually, lambda: self.kubelet.ctl("log", "--what", "stream-ended")["log"], "end of the old stream")

    async def test_guarded(self):
        await self.both("guarded")
        await self.wait("--allocatable", "3")
        await self.ctl("allocate", RESOURCE, "1")

    async def test_by_path(self):
        await self.both("by-path")
        await self.wait("--allocatable", "0")
        self.assertTrue((await self.ctl("list"))["resources"][RESOURCE]["connected"])

    async def test_by_name(self):
        await self.both("by-name")
        await self.wait("--allocatable", "0")
        self.assertFalse((await self.ctl("list"))["resources"][RESOURCE]["connected"])


class Allocation(Case):
    async def test_preference_is_honoured_and_devices_are_counted(self):
        plugin = await self.registered()
        first = await self.ctl("allocate", RESOURCE, "1", "--pod", "ns/p1")
        self.assertEqual(first["ids"], ["c"])
        self.assertEqual(first["response"]["envs"], {"DEVICES": "c"})
        await self.ctl("allocate", RESOURCE, "2", "--pod", "ns/p2")
        self.assertIn("unavailable", await self.ctl("allocate", RESOURCE, "1", "--pod", "ns/p3", fails=True))
        await self.ctl("release", "ns/p1")
        await self.ctl("allocate", RESOURCE, "1", "--pod", "ns/p3")
        self.assertEqual(plugin.allocated, [["c"], ["b", "a"], ["c"]])

    async def test_failure_of_the_plugin_reaches_the_pod(self):
        plugin = await self.registered()
        plugin.reason = "device is in use by qemu (pid 7)"
        self.assertIn("in use by qemu (pid 7)", await self.ctl("allocate", RESOURCE, "1", fails=True))

    async def test_calls_past_the_manager(self):
        await self.registered()
        answer = await self.ctl("call", RESOURCE, "Allocate", "--ids", "zz")
        self.assertEqual((answer["status"], answer["message"]), ("INVALID_ARGUMENT", "unknown device zz"))
        self.assertEqual((await self.ctl("call", RESOURCE, "Nothing"))["status"], "UNIMPLEMENTED")
        self.assertEqual((await self.ctl("call", RESOURCE, "Allocate", "--size", str(5 << 20)))["status"], "RESOURCE_EXHAUSTED")
        self.assertEqual((await self.ctl("garbage", RESOURCE, "--timeout", "60"))["connection"], "closed")
        self.assertEqual((await self.ctl("call", RESOURCE, "Allocate", "--ids", "a"))["status"], "OK")

    async def test_bench(self):
        await self.registered()
        result = await self.ctl("bench-allocate", RESOURCE, "50")
        self.assertEqual(result["calls"], 50)
        self.assertEqual(result["plugin_pid"], os.getpid())
        self.assertGreater(result["p99_us"], result["p50_us"] - 1)
        self.assertGreater(result["plugin_cpu_us_per_call"], 0)

    async def test_restart_keeps_allocations_and_has_no_devices(self):
        plugin = await self.registered()
        await self.ctl("allocate", RESOURCE, "1", "--pod", "ns/p1")
        await self.ctl("restart")
        self.assertEqual((await self.ctl("list"))["resources"][RESOURCE]["capacity"], 0)
        await plugin.serve()
        await plugin.register()
        await self.wait("--allocatable", "3")
        self.assertEqual((await self.ctl("allocate", RESOURCE, "2", "--pod", "ns/p2"))["ids"], ["b", "a"])


class OldKubelet(Case):
    options = ("--authority", "path")

    async def test_authority_is_the_path(self):
        plugin = await self.plugin()
        seen = []
        serve = plugin.server._serve
        plugin.server._serve = lambda peer, stream: (seen.append(stream.headers[":authority"]), serve(peer, stream))[1]
        await plugin.register()
        self.assertEqual(seen[0], plugin.path)


class PodResources(Case):
    async def call(self, method, message=b"", answer="ListPodResourcesResponse", limit=16 << 20):
        client = await grpc.Client.dial(self.kubelet.pod_resources)
        try:
            return pb.decode(answer, await client.unary(f"/v1.PodResourcesLister/{method}", message, 60, limit))
        finally:
            client.close()

    async def test_list_get_allocatable(self):
        plugin = await self.registered()
        await self.ctl("allocate", RESOURCE, "2", "--pod", "ns/p1", "--container", "gpu")
        pod = (await self.call("List"))["pod_resources"][0]
        self.assertEqual((pod["namespace"], pod["name"], pod["containers"][0]["name"]), ("ns", "p1", "gpu"))
        self.assertEqual(sorted(i for d in pod["containers"][0]["devices"] for i in d["device_ids"]), ["b", "c"])
        request = pb.encode("GetPodResourcesRequest", {"pod_name": "p1", "pod_namespace": "ns"})
        self.assertEqual((await self.call("Get", request, "GetPodResourcesResponse"))["pod_resources"], pod)
        with self.assertRaisesRegex(grpc.GrpcError, "not found"):
            await self.call("Get", pb.encode("GetPodResourcesRequest", {"pod_name": "x", "pod_namespace": "ns"}), "GetPodResourcesResponse")
        plugin.set(a="Healthy", b="Unhealthy", c="Healthy")
        await self.wait("--allocatable", "2")
        devices = (await self.call("GetAllocatableResources", b"", "AllocatableResourcesResponse"))["devices"]
        self.assertEqual(sorted(i for d in devices for i in d["device_ids"]), ["a", "c"])

    async def test_modes(self):
        for mode, method, code in (("old", "Get", grpc.UNIMPLEMENTED), ("no-get", "Get", grpc.UNKNOWN), ("limited", "List", grpc.EXHAUSTED),
                                   ("unimplemented", "List", grpc.UNIMPLEMENTED), ("error", "List", grpc.INTERNAL), ("cut", "List", grpc.INTERNAL)):
            await self.ctl("set", f"podresources={mode}")
            with self.assertRaises(grpc.GrpcError, msg=mode) as e:
                await self.call(method)
            self.assertEqual(e.exception.code, code, mode)
        await self.ctl("set", "podresources=garbage")
        with self.assertRaises(pb.DecodeError):
            await self.call("List")
        await self.ctl("set", "podresources=huge")
        self.assertGreater(len((await self.call("List"))["pod_resources"]), 4000)
        await self.ctl("set", "podresources=oversize")
        with self.assertRaisesRegex(grpc.GrpcError, "larger than max"):
            await self.call("List")


class Codec(unittest.TestCase):
    def test_round_trip_and_unknown_fields(self):
        values = {"envs": {"A": "1"}, "mounts": [], "devices": [{"container_path": "/c", "host_path": "/h", "permissions": "mrw"}],
                  "annotations": {}, "cdi_devices": [{"name": "v/c=d"}]}
        data = pb.encode("ContainerAllocateResponse", values)
        self.assertEqual(pb.decode("ContainerAllocateResponse", data + b"\xf8\x01\x05"), values)
        self.assertEqual(pb.encode("NUMANode", {"ID": -1}), b"\x08" + b"\xff" * 9 + b"\x01")
        self.assertEqual(pb.decode("NUMANode", b"\x08" + b"\xff" * 9 + b"\x01"), {"ID": -1})

    def test_malformed(self):
        for data in (b"\x0a\x05ab", b"\x0a", b"\x08\x01", b"\x0a\x01\xff", b"\x00\x01", b"\xff" * 11):
            with self.assertRaises(pb.DecodeError, msg=data):
                pb.decode("CDIDevice", data)


class LongPath(unittest.TestCase):
    def test_socket_path_longer_than_sun_path(self):
        kubelet = harness.Kubelet("--device-plugins", os.path.join(harness.tempfile.gettempdir(), f"standin-{os.getpid()}" + "x" * 120))
        directory = kubelet.ready.split()[1].rpartition("/")[0]
        self.assertIn("kubelet.sock", os.listdir(directory))
        self.assertEqual(json.loads(json.dumps(kubelet.ctl("list")))["running"], True)
        kubelet.stop()
        harness.shutil.rmtree(directory)


if __name__ == "__main__":
    unittest.main(verbosity=1)
