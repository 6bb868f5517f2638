#!/usr/bin/python3
"""The device plugin against the kubelet stand-in: registration, restarts, lists, allocation, bad input, end."""

import os
import shutil
import signal
import socket
import tempfile
import time
import unittest

import driver
from driver import GPU, SWITCH, gpus, harness, switches



class Case(unittest.TestCase):
    options = ()

    @classmethod
    def setUpClass(cls):
        """One kubelet for all tests of a class: it sees plugins come and go, as a real one does."""
        cls.kubelet = driver.Kubelet(*cls.options)
        cls.addClassCleanup(cls.kubelet.stop)

    def setUp(self):
        self.plugin = driver.Driver(self.kubelet.dir)
        self.addCleanup(self.finish)

    def finish(self):
        if self.plugin.process.poll() is None:
            self.plugin.end()

    def both(self):
        self.plugin.offer(*gpus(), *switches())
        self.plugin.registered(GPU, SWITCH)
        self.wait()

    def wait(self, gpus_=8, switches_=4):
        self.kubelet.ctl("wait", GPU, "--capacity", "8", "--allocatable", str(gpus_), "--timeout", "30")
        if switches_:
            self.kubelet.ctl("wait", SWITCH, "--allocatable", str(switches_), "--timeout", "30")

    def lists(self, resource, since=0):
        return [e for e in self.kubelet.ctl("log", "--what", "list")["log"] if e["resource"] == resource and e["time"] >= since]

    def second_lists(self):
        """Until each has been sent once more, as after every registration."""
        registered = [e for e in self.kubelet.ctl("log", "--what", "register")["log"]]
        for resource in (GPU, SWITCH):
            at = max(e["time"] for e in registered if e["resource"] == resource)
            harness.eventually(lambda r=resource, a=at: len(self.lists(r, a)) >= 2, f"the second list of {resource}")

    def call(self, method, *words, resource=GPU):
        return self.kubelet.ctl("call", resource, method, *words)

    def sockets(self):
        return sorted(n for n in os.listdir(self.kubelet.plugins) if n.startswith("ccnode-") or n.startswith("."))


class Lists(Case):
    def test_two_resources_with_numa_and_options(self):
        self.both()
        found = self.kubelet.ctl("list")["resources"]
        self.assertEqual({d["id"]: d["numa"] for d in found[GPU]["devices"]},
                         {f"0000:{i + 16:x}:00.0": [i // 4] for i in range(8)})
        self.assertEqual([d["numa"] for d in found[SWITCH]["devices"]], [[]] * 4, "no NUMA node means no topology")
        self.assertEqual(found[GPU]["options"], {"pre_start_required": False, "get_preferred_allocation_available": True})
        self.assertEqual(found[GPU]["endpoint"], "ccnode-GH100_H100_PCIE.sock")
        mode = os.stat(os.path.join(self.kubelet.plugins, "ccnode-GH100_H100_PCIE.sock")).st_mode
        self.assertEqual(mode & 0o777, 0o600)
        self.assertEqual(self.plugin.ask(f"registered {GPU}")[-1], "answer 1")

    def test_health_changes_arrive_at_once(self):
        self.both()
        offered = self.plugin.offer(*gpus(healthy=lambda i: 0 if i == 3 else 1), *switches())
        self.wait(7)
        arrived = next(e["time"] for e in self.lists(GPU, offered) if "Unhealthy" in e["devices"].values())
        self.assertLess(arrived - offered, 2)
        self.plugin.offer(*gpus(), *switches())
        self.wait(8)

    def test_the_same_list_is_not_sent_again(self):
        self.both()
        self.second_lists()
        before = len(self.lists(GPU)), len(self.lists(SWITCH))
        self.plugin.offer(*gpus(reason="other"), *switches())
        self.plugin.offer(*gpus(), *switches())
        self.plugin.offer(*gpus(healthy=lambda i: 0 if i == 3 else 1), *switches())
        self.wait(7)  # the one that is sent comes after those that are not
        self.assertEqual((len(self.lists(GPU)), len(self.lists(SWITCH))), (before[0] + 1, before[1]))

    def test_a_resource_that_goes_says_so_first(self):
        self.both()
        self.plugin.offer(*gpus())
        self.kubelet.ctl("wait", SWITCH, "--capacity", "0")
        harness.eventually(lambda: self.sockets() == ["ccnode-GH100_H100_PCIE.sock"], "socket removed")
        self.plugin.offer(*gpus(), *switches())
        self.wait()

    def test_four_models_at_once_and_one_without_devices(self):
        names = [f"nvidia.com/MODEL_{i}" for i in range(4)]
        lines = [line for i, name in enumerate(names) for line in (f"resource {name}", f"device id=d{i} node=/dev/vfio/{i}")]
        self.plugin.offer(*lines, "resource nvidia.com/NONE")
        for name in names:
            self.kubelet.ctl("wait", name, "--allocatable", "1")
        self.kubelet.ctl("wait", "nvidia.com/NONE", "--capacity", "0")
        harness.eventually(lambda: self.plugin.ask("registered nvidia.com/NONE")[-1] == "answer 1", "its list is open, too")

    def test_wrong_offers_change_nothing(self):
        self.both()
        bad = {
            "device id 0000:10:00.0 is there twice": [*gpus(1), "device id=0000:10:00.0 node=/dev/vfio/1 numa=0"],
            "empty, longer than 63": [f"resource {GPU}", f"device id={'x' * 64} node=/dev/vfio/1"],
            "has no VFIO node": [f"resource {GPU}", "device id=a node=/dev/nvidia0"],
            "is not a name for an extended resource": ["resource nvidia.com/-x"],
            "would share a socket": [*gpus(1), "resource example.com/GH100_H100_PCIE"],
        }
        for text, lines in bad.items():
            with self.subTest(text):
                answer = self.plugin.ask("\n".join([*lines, "apply"]))[-1]
                self.assertRegex(answer, "answer -22 .*" + text)
        self.wait()


class Allocation(Case):
    def test_legacy_groups_get_the_container_node_once(self):
        self.both()
        answer = self.call("Allocate", "--ids", "0000:10:00.0,0000:11:00.0")["answer"]["container_responses"]
        self.assertEqual(len(answer), 1)
        self.assertEqual([(d["container_path"], d["host_path"], d["permissions"]) for d in answer[0]["devices"]],
                         [(p, p, "mrw") for p in ("/dev/vfio/vfio", "/dev/vfio/60", "/dev/vfio/61")])
        self.assertEqual(answer[0]["envs"], {"PCI_RESOURCE_NVIDIA_COM_GH100_H100_PCIE": "0000:10:00.0,0000:11:00.0"})
        self.assertEqual((answer[0]["mounts"], answer[0]["annotations"], answer[0]["cdi_devices"]), ([], {}, []))
        self.plugin.expect(f"event allocated {GPU}")

    def test_cdevs_get_exactly_one_node(self):
        self.both()
        answer = self.call("Allocate", "--ids", "0000:51:00.0", resource=SWITCH)["answer"]["container_responses"][0]
        self.assertEqual([d["host_path"] for d in answer["devices"]], ["/dev/vfio/devices/vfio1"])

    def test_cdi_names_only_when_offered(self):
        self.plugin.offer(*gpus(cdi=lambda i: f"{GPU}=0000:{i + 16:x}:00.0"))
        self.wait(8, 0)
        answer = self.call("Allocate", "--ids", "0000:12:00.0")["answer"]["container_responses"][0]
        self.assertEqual(answer["cdi_devices"], [{"name": f"{GPU}=0000:12:00.0"}])

    def test_as_kubelet_does_it(self):
        self.both()
        entry = self.kubelet.ctl("allocate", GPU, "4", "--pod", "default/p")
        self.assertEqual(sorted(entry["ids"]), [f"0000:{i:x}:00.0" for i in range(16, 20)], "one NUMA node")
        self.assertIn("requested number of devices unavailable", self.kubelet.ctl("allocate", GPU, "5", fails=True))

    def test_refusals_name_the_device_and_the_reason(self):
        self.plugin.offer(*gpus(healthy=lambda i: 0 if i == 3 else 1, reason="mode-is-off"))
        self.wait(7, 0)
        for ids, status, text in (
                ("0000:99:00.0", "INVALID_ARGUMENT", "unknown device 0000:99:00.0 of nvidia.com/GH100_H100_PCIE"),
                ("0000:10:00.0,0000:10:00.0", "INVALID_ARGUMENT", "asked for twice"),
                ("0000:13:00.0", "FAILED_PRECONDITION", "device 0000:13:00.0 .* cannot be given away: mode-is-off")):
            answer = self.call("Allocate", "--ids", ids)
            self.assertEqual(answer["status"], status)
            self.assertRegex(answer["message"], text)
            self.plugin.expect(f"event alloc-failed {GPU}")
        self.plugin.send("deny it has just been unbound")
        self.plugin.ask(f"registered {GPU}")  # it has been read
        answer = self.call("Allocate", "--ids", "0000:10:00.0")
        self.assertEqual(answer["status"], "FAILED_PRECONDITION")
        self.assertIn("it has just been unbound", answer["message"])
        self.plugin.send("allow")
        self.plugin.ask(f"registered {GPU}")
        self.assertEqual(self.call("Allocate", "--ids", "0000:10:00.0")["status"], "OK")

    def test_preferred_allocation_never_fails(self):
        self.both()
        for words, expected in (
                (("--ids", "0000:10:00.0,0000:14:00.0,0000:15:00.0", "--want", "2"), ["0000:14:00.0", "0000:15:00.0"]),
                (("--ids", "0000:10:00.0,0000:11:00.0,0000:14:00.0", "--must", "0000:14:00.0", "--want", "1"), ["0000:14:00.0"]),
                (("--ids", "0000:10:00.0", "--want", "9"), ["0000:10:00.0"]),
                (("--ids", "nonsense,0000:10:00.0", "--must", "nobody", "--want", "1"), ["0000:10:00.0"]),
                (("--ids", "0000:10:00.0", "--want", "-5"), []),
                (("--want", "3"), [])):
            answer = self.call("GetPreferredAllocation", *words)
            self.assertEqual(answer["answer"]["container_responses"], [{"deviceIDs": expected}], words)

    def test_bad_input(self):
        self.both()
        self.assertEqual(self.call("Allocate", "--requests", "0")["status"], "INVALID_ARGUMENT")
        self.assertEqual(self.call("Allocate")["status"], "INVALID_ARGUMENT", "a container without devices")
        self.assertEqual(self.call("Allocate", "--requests", "65", "--ids", "0000:10:00.0")["status"], "INVALID_ARGUMENT")
        self.assertEqual(self.call("Allocate", "--hex", "0affffffff0f")["status"], "INVALID_ARGUMENT")
        self.assertEqual(self.call("Allocate", "--hex", "0a0a0a08303030303a3130ff")["status"], "INVALID_ARGUMENT")
        self.assertIn(self.call("Allocate", "--no-message")["status"], ("INVALID_ARGUMENT", "INTERNAL"))
        self.assertIn(self.call("Allocate", "--size", str(4 << 20), "--timeout", "20")["status"],
                      ("RESOURCE_EXHAUSTED", "INVALID_ARGUMENT"))
        self.assertEqual(self.call("NoSuchThing")["status"], "UNIMPLEMENTED")
        self.assertEqual(self.call("PreStartContainer", "--ids", "0000:10:00.0")["status"], "OK")
        for hexadecimal in ("00" * 64, "474554202f20485454502f312e310d0a0d0a", "505249202a20485454502f322e300d0a0d0a534d0d0a0d0a" + "ff" * 40):
            self.kubelet.ctl("garbage", GPU, "--hex", hexadecimal, "--timeout", "0.2")
        self.wait()
        self.assertEqual(self.call("Allocate", "--ids", "0000:10:00.0")["status"], "OK")

    def test_connections_are_limited(self):
        self.both()
        path = os.path.join(self.kubelet.plugins, "ccnode-GH100_H100_PCIE.sock")
        before = self.plugin.quiet_descriptors()
        open_ = []
        for _ in range(60):
            s = socket.socket(socket.AF_UNIX)
            s.connect(f"/proc/self/fd/{self.dir_fd(path)}/{os.path.basename(path)}")
            open_.append(s)
        harness.eventually(lambda: self.plugin.descriptors() - before >= 60, "connections taken")
        time.sleep(0.1)
        self.assertLess(self.plugin.descriptors() - before, 70, "two descriptors for each of 31")
        for s in open_:
            s.close()
        harness.eventually(lambda: self.plugin.descriptors() <= before, "all given back")
        self.assertEqual(self.call("Allocate", "--ids", "0000:10:00.0")["status"], "OK")

    def dir_fd(self, path):
        fd = os.open(os.path.dirname(path), os.O_PATH)
        self.addCleanup(os.close, fd)
        return fd


class OldAuthority(Case):
    options = ("--authority", "path")

    def test_authority_of_old_kubelets(self):
        self.both()


class Restarts(Case):
    def test_registered_again_within_50_ms(self):
        self.both()
        took = []
        for kill in ((), ("--kill",)) * 4:  # one in time shows that nothing is waited for; a processor may be away for as long
            self.kubelet.ctl("restart", *kill)
            self.wait()
            log = self.kubelet.ctl("log")["log"]
            start = [e for e in log if e["what"] == "start"][-1]["time"]
            again = [e for e in log if e["what"] == "register" and e["time"] >= start]
            took.append(max(e["time"] for e in again) - start)
        self.assertLess(min(took), 0.05, took)

    def test_late_kubelet_and_late_directory(self):
        self.kubelet.ctl("stop")
        shutil.rmtree(self.kubelet.plugins)
        self.plugin.offer(*gpus(), *switches())
        self.plugin.expect(f"event waiting {GPU}")
        self.kubelet.ctl("start")
        self.wait()
        self.plugin.expect(f"event registered {GPU}")

    def test_a_kubelet_that_stays_away(self):
        self.both()
        self.kubelet.ctl("stop", "--kill")
        self.plugin.expect(f"event lost {GPU} kubelet ended the list")
        self.plugin.expect(f"event waiting {GPU}")
        self.assertEqual(self.plugin.ask(f"registered {GPU}")[-1], "answer 0")
        self.kubelet.ctl("start")
        self.wait()

    def test_cut_connection(self):
        self.both()
        for _ in range(2):
            self.kubelet.ctl("disconnect", GPU)
            self.plugin.expect(f"event registered {GPU}")
            self.wait()

    def test_a_resource_that_others_fight_for_is_told(self):
        self.both()
        for _ in range(4):
            self.kubelet.ctl("disconnect", GPU)
            self.plugin.expect(f"event lost {GPU} kubelet ended the list")
            self.plugin.expect(f"event registered {GPU}")
        self.plugin.ask(f"registered {GPU}")
        self.kubelet.ctl("disconnect", GPU)
        self.plugin.expect(f"event registered {GPU}")
        self.assertTrue(any(line.startswith(f"event trouble {GPU} kubelet ends the registration again and again")
                            for line in self.plugin.every), self.plugin.every)
        self.wait()

    def test_nobody_reads_the_list(self):
        """Every change of health goes on meanwhile, without a thread that waits; then the last state arrives."""
        self.both()
        os.kill(self.kubelet.process.pid, signal.SIGSTOP)
        try:
            began = self.plugin.offer(*gpus(), *switches())
            for i in range(400):
                ended = self.plugin.offer(*gpus(healthy=lambda n, i=i: int(n != i % 8)), *switches())
            self.assertLess(ended - began, 60, "an offer waits for nobody")
            self.plugin.offer(*gpus(healthy=lambda n: int(n > 2)), *switches())
        finally:
            os.kill(self.kubelet.process.pid, signal.SIGCONT)
        self.wait(5)

    def test_the_new_stream_gets_the_news(self):
        """Health that changes while kubelet restarts: nothing of the old stream takes it away."""
        self.both()
        for i in range(12):
            self.kubelet.ctl("restart", *(("--kill",) if i % 2 else ()))
            self.plugin.offer(*gpus(healthy=lambda n, i=i: int(n >= 1 + i % 7)), *switches())
            self.wait(7 - i % 7)
        self.plugin.stop("withdraw")
        self.kubelet.ctl("wait", GPU, "--capacity", "0")  # the end reaches the newest stream too

    def test_socket_removed_under_us(self):
        self.both()
        os.unlink(os.path.join(self.kubelet.plugins, "ccnode-GH100_H100_PCIE.sock"))
        self.plugin.expect(f"event lost {GPU} our socket was removed")
        self.plugin.expect(f"event registered {GPU}")
        self.wait()

    def test_many_restarts_leave_nothing_behind(self):
        # a sanitizer that keeps freed memory aside would look like a leak
        self.plugin.end()
        self.plugin = driver.Driver(self.kubelet.dir, env={**os.environ, "ASAN_OPTIONS": "quarantine_size_mb=1:malloc_context_size=2"})
        self.both()
        rounds = int(os.environ.get("RPC_RESTARTS", "60"))
        for i in range(rounds + 20):
            self.kubelet.ctl("restart", *(("--kill", "--delay", "0.01") if i % 2 else ()))
            self.wait()
            if i == 19:
                descriptors, memory = self.plugin.descriptors(), self.plugin.memory_kb()
        harness.eventually(lambda: self.plugin.descriptors() <= descriptors, "descriptors as before")
        self.plugin.ask(f"registered {GPU}")
        self.assertEqual([line for line in self.plugin.every if line.startswith("event trouble")], [], "restarts are no fight")
        growth = self.plugin.memory_kb() - memory
        limit = 6000 if self.plugin.sanitized() else 400
        self.assertLess(growth, limit, f"{growth} kB after {rounds} restarts")
        harness.eventually(lambda: len(self.sockets()) == 2, "no other socket")


class Generations(Case):
    def test_survives_every_kubelet(self):
        """An older registration of the same resource (that of the instance we replace) ends after ours began."""
        for generation in ("by-name", "by-path", "guarded"):
            with self.subTest(generation):
                self.kubelet.ctl("set", f"generation={generation}")
                old = driver.Driver(self.kubelet.dir)
                old.offer(*gpus())
                old.expect(f"event registered {GPU}")
                self.plugin.offer(*gpus())
                self.plugin.expect(f"event registered {GPU}")
                path = os.path.join(self.kubelet.plugins, "ccnode-GH100_H100_PCIE.sock")
                inode = os.stat(path).st_ino
                old.stop()
                self.assertEqual(os.stat(path).st_ino, inode, "the old instance left our socket alone")
                self.kubelet.ctl("wait", GPU, "--allocatable", "8")
                self.plugin.offer()
                self.kubelet.ctl("wait", GPU, "--capacity", "0")


class End(Case):
    def test_keep(self):
        self.both()
        self.plugin.stop("keep")
        self.assertEqual(self.sockets(), [])
        self.kubelet.ctl("wait", GPU, "--allocatable", "0")
        found = self.kubelet.ctl("list")["resources"][GPU]
        self.assertEqual((found["capacity"], found["allocatable"]), (8, 0), "kubelet keeps the capacity")

    def test_withdraw(self):
        self.both()
        self.plugin.stop("withdraw")
        self.kubelet.ctl("wait", GPU, "--capacity", "0")
        found = self.kubelet.ctl("list")["resources"][GPU]
        self.assertEqual((found["capacity"], found["allocatable"]), (0, 0))

    def test_kubelet_that_does_not_read(self):
        self.both()
        os.kill(self.kubelet.process.pid, signal.SIGSTOP)
        try:
            self.plugin.offer(*gpus(healthy=0))
            took = self.plugin.stop("withdraw")
        finally:
            os.kill(self.kubelet.process.pid, signal.SIGCONT)
        self.assertLess(took, 2)

    def test_killed_and_started_again(self):
        self.both()
        self.plugin.process.kill()
        self.plugin.process.communicate()
        self.plugin = driver.Driver(self.kubelet.dir)
        self.both()
        harness.eventually(lambda: len(self.sockets()) == 2, "no other socket")


class Idle(Case):
    def test_no_wakeups_and_little_memory(self):
        plugin = self.plugin
        self.both()
        plugin.ask("pods /var/lib/kubelet/pod-resources/kubelet.sock")
        self.second_lists()

        def quiet():
            before = plugin.wakeups()
            time.sleep(3)
            return plugin.wakeups() - before <= 1
        harness.eventually(quiet, "three seconds without wake-ups, when what the registration needs is over")
        if not plugin.sanitized():
            self.assertLess(plugin.memory_kb(), 12000)


class LongPath(unittest.TestCase):
    def test_host_root_beyond_sun_path(self):
        root = tempfile.mkdtemp(prefix="rpc-test-")
        self.addCleanup(shutil.rmtree, root)
        deep = os.path.join(root, "x" * 100, "y" * 100)
        os.makedirs(deep)
        kubelet = driver.Kubelet("--root", deep, "--device-plugins", deep + driver.DIRECTORY)
        self.addCleanup(kubelet.stop)
        plugin = driver.Driver(deep)
        self.addCleanup(plugin.end)
        plugin.offer(*gpus())
        plugin.expect(f"event registered {GPU}")


if __name__ == "__main__":
    unittest.main()
