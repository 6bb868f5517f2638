"""The driver as a process, and the API server stand-in beside it."""

import json
import os
import queue
import re
import subprocess
import sys
import tempfile
import threading
import unittest

SOURCE = os.environ.get("CCNODE_SOURCE") or os.path.realpath(os.path.join(os.path.dirname(__file__), "../../.."))
sys.path.insert(0, os.path.join(SOURCE, "tests/functional/standin"))
import harness  # noqa: E402

DRIVER = sys.argv.pop(1) if len(sys.argv) > 1 else None


class Client:
    def __init__(self, kubeconfig, node="n1", evict_token="-", stall_ms=60000, env=None):
        self.errors = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen([DRIVER, node, kubeconfig, evict_token, str(stall_ms)], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=self.errors, text=True, env={**os.environ, **(env or {})})
        self.killed = False
        self.lines = queue.Queue()
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        for line in self.process.stdout:
            self.lines.put(json.loads(line))
        self.lines.put(None)

    def say(self, *words):
        self.process.stdin.write(" ".join(map(str, words)) + "\n")
        self.process.stdin.flush()

    def next(self, seconds=30):
        line = self.lines.get(timeout=seconds)
        if line is None:
            self.errors.seek(0)
            raise AssertionError(f"the driver ended: {self.errors.read()}")
        return line

    def until(self, check, what, seconds=30):
        """The first line that fits; others are read over."""
        seen = []
        while True:
            try:
                line = self.next(seconds)
            except queue.Empty:
                raise AssertionError(f"not within {seconds} s: {what}; seen {seen[-5:]}") from None
            if check(line):
                return line
            seen.append(line)

    def call(self, *words, what=None):
        self.say(*words)
        name = what or words[0]
        return self.until(lambda l: l["what"] == name, name)

    def mode(self, value):
        return self.until(lambda l: l["what"] == "node" and l["labels"].get("nvidia.com/cc.mode") == value, f"mode {value}")

    def up(self):
        return self.until(lambda l: l["what"] == "watch" and l["up"], "watch up")

    def down(self):
        return self.until(lambda l: l["what"] == "watch" and not l["up"], "watch down")

    def stats(self):
        return self.call("stats")

    def kill(self):
        """As a crash: nothing is given back."""
        self.process.kill()
        self.killed = True

    def stop(self):
        """The end of input ends it; sanitizers speak through the exit status."""
        self.process.stdin.close()
        code = self.process.wait(60)
        self.reader.join(5)
        self.process.stdout.close()
        self.errors.seek(0)
        text = self.errors.read()
        self.errors.close()
        if code and not self.killed:
            raise AssertionError(f"exit status {code}: {text}")


class Case(unittest.TestCase):
    """One TLS server with a token per class."""
    options = ("--token", "secret", "--bookmark", "0.2", "--cluster-policy", "devtools")

    @classmethod
    def setUpClass(cls):
        cls.server = harness.ApiServer(*cls.options)

    @classmethod
    def tearDownClass(cls):
        cls.server.stop()

    def setUp(self):
        self.server.ctl("clear")

    def client(self, **options):
        c = Client(options.pop("kubeconfig", self.server.kubeconfig), **options)
        self.addCleanup(c.stop)
        return c

    def watched(self):
        """Until a watch is open."""
        harness.eventually(lambda: self.server.ctl("watches")["watches"], "a watch is open")

    def admin(self, *words):
        """As another user would: kubectl's requests by the stand-in's control socket are not counted here."""
        return self.server.ctl(*words)

    def api(self, method, path, body=None, content="application/json"):
        import http.client
        import ssl
        with open(self.server.kubeconfig, encoding="utf-8") as f:
            token = re.search(r"token: *\"?([^\s\"]+)", f.read()).group(1)
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        connection = http.client.HTTPSConnection("127.0.0.1", self.server.port, timeout=10, context=context)
        try:
            connection.request(method, path, None if body is None else json.dumps(body),
                               {"Content-Type": content, "Authorization": f"Bearer {token}"})
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read() or b"{}")
        finally:
            connection.close()

    def label(self, key, value, node="n1"):
        code, answer = self.api("PATCH", f"/api/v1/nodes/{node}", {"metadata": {"labels": {key: value}}},
                                "application/merge-patch+json")
        self.assertEqual(code, 200, answer)

    def node(self):
        return self.api("GET", "/api/v1/nodes/n1")[1]
