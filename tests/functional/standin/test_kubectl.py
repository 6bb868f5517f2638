#!/usr/bin/python3
"""A real kubectl against the stand-in API server over TLS with a token."""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
import harness  # noqa: E402

KUBECTL = None

POD = """apiVersion: v1
kind: Pod
metadata: {name: p1}
spec:
  containers:
  - {name: c, image: x, resources: {limits: {nvidia.com/GH100_H100_PCIE: 1}}}
"""


def find():
    """The kubectl that quickstart would use: the one on PATH, else Debian's, unpacked in build/. None: curl."""
    cache = os.path.join(harness.SOURCE, "build")
    os.makedirs(cache, exist_ok=True)
    script = f". '{harness.SOURCE}/deploy/lib/kubectl.sh'; kubectl_find '{cache}' >&2 && echo \"$KUBECTL\""
    found = subprocess.run(["/bin/sh", "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False).stdout.strip()
    return None if found in ("", "curl") else found


class Kubectl(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.home = tempfile.mkdtemp()
        cls.server = harness.ApiServer("--token", "secret", "--label", "nvidia.com/gpu.present=true")
        cls.env = {**os.environ, "HOME": cls.home, "KUBECONFIG": cls.server.kubeconfig}

    @classmethod
    def tearDownClass(cls):
        cls.server.stop()
        shutil.rmtree(cls.home)

    def run_it(self, *words, stdin=None, fails=False):
        done = subprocess.run([KUBECTL, *words], env=self.env, input=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              text=True, timeout=300, check=False)
        self.assertEqual(done.returncode != 0, fails, f"kubectl {' '.join(words)}: {done.stdout}{done.stderr}")
        return done.stderr if fails else done.stdout

    def test_get_prints_columns(self):
        lines = self.run_it("get", "nodes", "-L", "nvidia.com/gpu.present").splitlines()
        self.assertEqual(lines[0].split(), ["NAME", "STATUS", "ROLES", "AGE", "VERSION", "GPU.PRESENT"])
        self.assertRegex(lines[1], r"^n1 +Ready +worker +\S+ +v\S+ +true$")
        self.assertIn("containerd://", self.run_it("get", "node", "n1", "-o", "wide"))
        self.assertEqual(self.run_it("get", "nodes", "-l", "nvidia.com/gpu.present", "-o", "name"), "node/n1\n")
        self.assertIn("n9", self.run_it("get", "node", "n9", fails=True))

    def test_label_and_annotate(self):
        self.run_it("label", "node", "n1", "nvidia.com/cc.mode=on")
        self.assertEqual(self.run_it("get", "node", "n1", "-o", r"jsonpath={.metadata.labels.nvidia\.com/cc\.mode}"), "on")
        self.assertIn("already has a value", self.run_it("label", "node", "n1", "nvidia.com/cc.mode=off", fails=True))
        self.run_it("label", "node", "n1", "nvidia.com/cc.mode=off", "--overwrite")
        self.run_it("label", "node", "n1", "nvidia.com/cc.mode-")
        self.run_it("annotate", "node", "n1", 'ccnode.io/cc.mode.devices={"gpus[0]":"off"}')
        node = json.loads(self.run_it("get", "node", "n1", "-o", "json"))
        self.assertEqual(node["metadata"]["annotations"]["ccnode.io/cc.mode.devices"], '{"gpus[0]":"off"}')
        self.assertNotIn("nvidia.com/cc.mode", node["metadata"]["labels"])

    def test_describe_node_with_its_events(self):
        event = {"apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": "n1.changed"}, "reason": "ModeChanged",
                 "eventTime": "2026-01-01T00:00:00.000000Z", "reportingController": "ccnode.io/agent", "reportingInstance": "n1",
                 "action": "Switch", "type": "Normal", "note": "8 GPUs are on", "regarding": {"kind": "Node", "name": "n1", "uid": "n1"}}
        self.run_it("create", "-f", "-", stdin=json.dumps(event))
        text = self.run_it("describe", "node", "n1")
        for word in ("Capacity:", "ModeChanged", "8 GPUs are on", "KubeletReady"):
            self.assertIn(word, text)
        self.assertRegex(self.run_it("get", "events"), r"Normal +ModeChanged +node/n1 +8 GPUs are on")

    def test_patch_and_wait_for_a_condition(self):
        condition = {"type": "ConfidentialGPUsReady", "status": "True", "reason": "AllReady", "message": "m"}
        status = json.dumps({"status": {"conditions": [condition]}})
        if "--subresource" in self.run_it("patch", "--help"):
            self.run_it("patch", "node", "n1", "--subresource=status", "-p", status)
        else:  # before 1.24, as Debian's is
            node = json.loads(self.run_it("get", "node", "n1", "-o", "json"))
            node["status"]["conditions"].append(condition)
            self.run_it("replace", "--raw", "/api/v1/nodes/n1/status", "-f", "-", stdin=json.dumps(node))
        self.assertIn("condition met", self.run_it("wait", "--for=condition=ConfidentialGPUsReady", "node/n1", "--timeout=60s"))

    def test_taint_cordon_uncordon(self):
        self.run_it("taint", "node", "n1", "a=b:NoSchedule")
        self.run_it("taint", "node", "n1", "a-")
        self.run_it("cordon", "n1")
        self.assertIn("SchedulingDisabled", self.run_it("get", "node", "n1"))
        self.run_it("uncordon", "n1")

    def test_pods(self):
        self.run_it("create", "-f", "-", stdin=POD)
        self.run_it("apply", "-f", "-", stdin=POD.replace("image: x", "image: other"))
        self.assertRegex(self.run_it("get", "pods"), r"p1 +0/1 +Pending")
        self.assertIn("nvidia.com/GH100_H100_PCIE", self.run_it("describe", "pod", "p1"))
        self.run_it("delete", "pod", "p1", "--timeout=60s")
        self.assertEqual(self.run_it("get", "pods", "-o", "name"), "")

    def test_watch_in_columns(self):
        watch = subprocess.Popen([KUBECTL, "get", "nodes", "-w", "--no-headers"], env=self.env, stdout=subprocess.PIPE, text=True)
        try:
            self.assertTrue(watch.stdout.readline().startswith("n1 "))
            harness.eventually(lambda: self.server.ctl("watches")["watches"], "kubectl watches")
            self.run_it("label", "node", "n1", "seen=yes")
            self.assertTrue(re.match(r"n1 +Ready", watch.stdout.readline()))
        finally:
            watch.kill()
            watch.communicate()

    def test_the_rest_of_what_people_type(self):
        self.assertIn("nodes", self.run_it("api-resources"))
        self.assertIn("Server Version", self.run_it("version"))
        self.assertIn("kata-qemu-nvidia-gpu-snp", self.run_it("get", "runtimeclass"))
        self.assertEqual(json.loads(self.run_it("get", "--raw", "/version"))["major"], "1")

    def test_fault_reaches_the_user(self):
        self.server.ctl("fault", "status", "--code", "403", "--message", "nodes is forbidden", "--path", "/api/v1/nodes/n1")
        self.assertIn("forbidden", self.run_it("get", "node", "n1", fails=True))


if __name__ == "__main__":
    KUBECTL = find()
    if not KUBECTL:
        harness.skip("no kubectl on PATH, and Debian's cannot be had")
    unittest.main()
