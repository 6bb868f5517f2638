#!/usr/bin/python3
"""PodResources and CRI clients against stand-ins that play every kind of peer."""

import os
import socket
import unittest

import driver
from driver import GPU, gpus

PODS = "/var/lib/kubelet/pod-resources/kubelet.sock"
SANDBOX = "0123456789abcdef" * 4


def dead_socket(path):
    """A socket file that nobody listens behind."""
    s = socket.socket(socket.AF_UNIX)
    s.bind(path)
    s.close()


class PodResources(unittest.TestCase):
    def setUp(self):
        self.kubelet = driver.Kubelet()
        self.addCleanup(self.kubelet.stop)
        self.driver = driver.Driver(self.kubelet.dir)
        self.addCleanup(self.driver.end)

    def mode(self, mode):
        self.kubelet.ctl("set", f"podresources={mode}")

    def test_who_holds_what(self):
        self.assertEqual(self.driver.ask(f"pods {PODS}"), ["answer 0 "])
        self.driver.offer(*gpus())
        self.driver.expect(f"event registered {GPU}")
        self.kubelet.ctl("wait", GPU, "--allocatable", "8")
        self.kubelet.ctl("allocate", GPU, "2", "--pod", "team/first")
        self.kubelet.ctl("allocate", GPU, "1", "--pod", "team/second", "--container", "c2")
        held = [line for line in self.driver.ask(f"pods {PODS}") if line.startswith("held")]
        self.assertEqual(held, [f"held team first main {GPU} 0000:10:00.0", f"held team first main {GPU} 0000:11:00.0",
                                f"held team second c2 {GPU} 0000:12:00.0"])
        self.kubelet.ctl("release", "team/first")
        self.assertEqual(len(self.driver.ask(f"pods {PODS}")), 2)

    def test_peers_that_fail(self):
        for mode, text in (("unimplemented", "-38 .*not known there"), ("limited", "-121 .*RESOURCE_EXHAUSTED: rejected by rate limit"),
                           ("error", "-121 .*INTERNAL: injected"), ("oversize", "-27 .*too large"),
                           ("garbage", "-74 .*cannot be decoded"), ("cut", "-(74|104|121) "), ("stall", "-110 .*no answer in time")):
            with self.subTest(mode):
                self.mode(mode)
                limit = 1500 if mode == "stall" else 30000  # ms; the others answer
                self.assertRegex(self.driver.ask(f"pods {PODS} {limit}", 60)[-1], "answer " + text)
        self.mode("huge")
        self.assertEqual(self.driver.ask(f"pods {PODS} 30000", 60)[-1], "answer 0 ")

    def test_no_kubelet(self):
        self.assertRegex(self.driver.ask("pods /var/lib/none.sock")[-1], "answer -2 .*/var/lib/none.sock")
        self.kubelet.ctl("stop", "--kill")
        path = self.kubelet.pod_resources
        if not os.path.exists(path):
            dead_socket(path)
        self.assertRegex(self.driver.ask(f"pods {PODS}")[-1], "answer -111 connect to " + PODS)
        with open(os.path.join(self.kubelet.dir, "plain"), "w", encoding="ascii"):
            pass
        self.assertRegex(self.driver.ask("pods /plain")[-1], "answer -88 /plain is not a socket")

    def test_is_get_there(self):
        for mode, expected in (("normal", "works"), ("no-get", "missing .*disabled"), ("old", "missing"),
                               ("error", "unknown .*injected"), ("limited", "unknown")):
            with self.subTest(mode):
                self.mode(mode)
                self.assertRegex(self.driver.ask(f"get {PODS}")[-1], f"answer {expected}")
        self.mode("stall")
        self.assertRegex(self.driver.ask(f"get {PODS} 200")[-1], "answer unknown .*no answer in time")


class ContainerRuntime(unittest.TestCase):
    def play(self, *options):
        cri = driver.Cri(*options)
        self.addCleanup(cri.stop)
        d = driver.Driver(cri.dir)
        self.addCleanup(d.end)
        self.dir = cri.dir
        return d

    def facts(self, d, handler="kata-qemu-nvidia-gpu-snp", directory="/run/cdi"):
        lines = d.ask(f"has {handler}\nreads {directory}\ncri auto 30000", 60)
        self.assertEqual(lines[-1], "answer 0 ")
        return dict(line.split(" ", 1) for line in lines if line.split(" ")[0] in ("runtime", "cdi", "has", "reads"))

    def test_containerd(self):
        f = self.facts(self.play("--play", "containerd"))
        self.assertEqual(f, {"runtime": "containerd v2.2.9 /run/containerd/containerd.sock ready=1 ", "cdi": "yes", "has": "yes",
                             "reads": "yes"})

    def test_containerd_switched_off_other_directory_no_kata(self):
        f = self.facts(self.play("--play", "containerd", "--cdi", "off", "--cdi-dirs", "/opt/cdi", "--handlers", "runc"))
        self.assertEqual((f["cdi"], f["has"], f["reads"]), ("no", "no", "no"))

    def test_containerd_1_7_and_1_6(self):
        f = self.facts(self.play("--play", "containerd-1.7"))
        self.assertEqual((f["cdi"], f["has"], f["reads"]), ("no", "yes", "yes"))
        f = self.facts(self.play("--play", "containerd-1.7", "--cdi", "on"))
        self.assertEqual(f["cdi"], "yes")
        f = self.facts(self.play("--play", "containerd-1.6"))
        self.assertEqual((f["cdi"], f["has"], f["reads"]), ("no", "yes", "unknown"))

    def test_crio_reads_its_files_in_order(self):
        d = self.play("--play", "crio")
        f = self.facts(d)
        self.assertEqual((f["cdi"], f["has"], f["reads"]), ("yes", "yes", "unknown"))
        os.makedirs(os.path.join(self.dir, "etc/crio/crio.conf.d"))
        self.conf("crio.conf", '[crio.runtime]\n# cdi_spec_dirs = ["/no"]\n')
        self.assertEqual(self.facts(d)["reads"], "yes")
        self.conf("crio.conf.d/20-b", 'cdi_spec_dirs = [\n  "/opt/b", # why\n  \'/run/cdi/\',\n]\n')
        self.conf("crio.conf.d/10-a", 'cdi_spec_dirs = ["/opt/a"]\n')
        self.assertEqual(self.facts(d)["reads"], "yes")
        self.assertEqual(self.facts(d, directory="/opt/a")["reads"], "no")

    def conf(self, name, text):
        with open(os.path.join(self.dir, "etc/crio", name), "w", encoding="utf-8") as f:
            f.write(text)

    def test_what_old_ones_do_not_say_is_unknown(self):
        f = self.facts(self.play("--play", "crio-1.26"))
        self.assertEqual((f["cdi"], f["has"], f["reads"]), ("unknown", "unknown", "unknown"))
        f = self.facts(self.play("--play", "bad-json"))
        self.assertEqual((f["cdi"], f["has"]), ("unknown", "yes"))

    def test_not_ready(self):
        f = self.facts(self.play("--not-ready", "the store is being repaired"))
        self.assertIn("ready=0 NotYet: the store is being repaired", f["runtime"])

    def test_peers_that_fail(self):
        for play, text in (("old", "-38 this container runtime does not serve CRI runtime.v1"), ("error", "-121 .*INTERNAL: injected"),
                           ("garbage", "-74 .*cannot be decoded"), ("huge", "-27 .*too large"), ("stall", "-110 .*no answer in time"),
                           ("silent", "-110 .*no answer in time"), ("not-grpc", "(-104 .*connection lost|-121 .*http1.x server)"),
                           ("hang-up", "-104 .*connection lost")):
            with self.subTest(play):
                limit = 300 if play in ("stall", "silent") else 30000  # ms; the others answer
                self.assertRegex(self.play("--play", play).ask(f"cri auto {limit}", 60)[-1], "answer " + text)

    def test_absent(self):
        d = self.play("--play", "crio")
        self.assertRegex(d.ask("cri /run/none.sock")[-1], "answer -2 ")
        os.unlink(os.path.join(self.dir, "run/crio/crio.sock"))
        self.assertRegex(d.ask("cri auto")[-1], "answer -2 no container runtime found")

    def test_auto_goes_past_a_dead_socket(self):
        d = self.play("--play", "crio")
        os.makedirs(os.path.join(self.dir, "run/containerd"))
        dead_socket(os.path.join(self.dir, "run/containerd/containerd.sock"))
        self.assertIn("cri-o", self.facts(d)["runtime"])

    def test_sandboxes(self):
        d = self.play("--sandbox", f"team/vm:kata-qemu-nvidia-gpu-snp:{SANDBOX}", "--sandbox", "!team/old:runc:" + "f" * 64)
        self.assertEqual(d.ask("sandboxes auto"), [
            f"sandbox {SANDBOX} team vm uid-of-vm kata-qemu-nvidia-gpu-snp ready=1",
            f"sandbox {'f' * 64} team old uid-of-old runc ready=0", "answer 0 "])


if __name__ == "__main__":
    unittest.main()
