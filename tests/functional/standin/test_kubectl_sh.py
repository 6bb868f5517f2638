#!/usr/bin/python3
"""deploy/lib/kubectl.sh on machines without kubectl: Debian's, unpacked; or curl."""

import os
import shutil
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
import harness  # noqa: E402

POD = '{"apiVersion":"v1","kind":"Pod","metadata":{"name":"p"},"spec":{"containers":[{"name":"c","image":"x"}]}}'
TOOLS = "sh awk base64 cat curl expr head jq mktemp rm sed mkdir mv".split()
UNPACK = "apt-get dpkg dpkg-deb tar xz".split()


class Fallback(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.top = tempfile.mkdtemp()
        cls.server = harness.ApiServer("--token", "very-secret")

    @classmethod
    def tearDownClass(cls):
        cls.server.stop()
        shutil.rmtree(cls.top)

    def path_of(self, *tools):
        """A PATH that has these tools and nothing else."""
        directory = tempfile.mkdtemp(dir=self.top)
        for tool in tools:
            found = shutil.which(tool)
            if found:
                os.symlink(found, os.path.join(directory, tool))
        return directory

    def sh(self, script, path, stdin=None):
        return subprocess.run(["/bin/sh", "-c", f". '{harness.SOURCE}/deploy/lib/kubectl.sh'; kubectl_find '{path}.cache' && {script}"],
                              env={"PATH": path, "HOME": self.top, "KUBECONFIG": self.server.kubeconfig}, input=stdin,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=300, check=False)

    def by_curl(self, words, stdin=None, fails=False):
        done = self.sh(f"kubectl_run {words}", self.path_of(*TOOLS), stdin)
        self.assertEqual(done.returncode != 0, fails, done.stdout + done.stderr)
        self.assertNotIn("very-secret", done.stdout + done.stderr)
        return done

    def test_curl_does_the_same_and_shows_it(self):
        done = self.by_curl("label node n1 nvidia.com/cc.mode=on")
        self.assertIn("curl -X PATCH", done.stderr)
        self.assertIn('{"metadata":{"labels":{"nvidia.com/cc.mode":"on"}}}', done.stderr)
        self.assertIn("already has a value (on)", self.by_curl("label node n1 nvidia.com/cc.mode=off", fails=True).stderr)
        self.by_curl("label node n1 nvidia.com/cc.mode=off --overwrite")
        lines = self.by_curl("get nodes -L nvidia.com/cc.mode").stdout.splitlines()
        self.assertEqual(lines[0].split(), ["NAME", "STATUS", "ROLES", "AGE", "VERSION", "CC.MODE"])
        self.assertEqual(lines[1].split()[-1], "off")
        self.by_curl("label node n1 nvidia.com/cc.mode-")
        self.by_curl("""annotate node n1 'a={"x y":1}'""")
        self.assertIn('a={"x y":1}', self.by_curl("describe node n1").stdout)
        self.assertIn("Invalid", self.by_curl("label node n1 a=-b", fails=True).stderr)
        self.assertIn("not found", self.by_curl("get node nope", fails=True).stderr)
        self.assertIn("needs a real kubectl", self.by_curl("top node", fails=True).stderr)

    def test_pods_by_curl(self):
        self.assertIn("created", self.by_curl("apply -f -", POD).stdout)
        self.assertIn("configured", self.by_curl("apply -f -", POD).stdout)
        self.assertEqual(self.by_curl("get pods -o name").stdout, "pods/p\n")
        self.assertIn("deleted", self.by_curl("delete pod p").stdout)
        self.assertEqual(self.by_curl("get pods -o name").stdout, "")

    def test_without_any_tool(self):
        done = self.sh("true", self.path_of("sh", "mkdir", "rm"))
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("apt-get install curl jq", done.stderr)

    def test_debians_package_unpacked(self):
        done = self.sh("echo $KUBECTL && kubectl_run get nodes && kubectl_run label node n1 b=c", self.path_of(*TOOLS, *UNPACK))
        if "made by curl" in done.stderr:
            self.skipTest("Debian's archive is not reachable, or this is not Debian")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertRegex(done.stdout, r"\.cache/kubectl/usr/bin/kubectl\n")
        self.assertIn("node/n1 labeled", done.stdout)


if __name__ == "__main__":
    if not shutil.which("curl") or not shutil.which("jq"):
        harness.skip("curl or jq is not installed (apt-get install curl jq)")
    unittest.main()
