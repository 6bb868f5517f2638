"""Starts the stand-ins as a user would, and ends them."""

import http.client
import importlib.util
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

SOURCE = os.environ.get("CCNODE_SOURCE") or os.path.realpath(os.path.join(os.path.dirname(__file__), "../../.."))
os.environ["CCNODE_SOURCE"] = SOURCE
STANDIN = os.path.join(SOURCE, "deploy/standin")
sys.path.insert(0, os.path.join(STANDIN, "lib"))


def skip(reason):
    print(f"SKIPPED: {reason}")
    sys.exit(77)


def need_h2():
    if importlib.util.find_spec("h2") is None:
        skip("python3-h2 is not installed for this Python (apt-get install python3-h2)")


def eventually(check, what, seconds=60):
    """Poll for something that another process does; the time is a limit, not a wait."""
    end = time.monotonic() + seconds
    while True:
        late = time.monotonic() > end  # before the look: one that began in time counts, however long we were kept waiting
        result = check()
        if result:
            return result
        if late:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(0.01)


class Process:
    """A stand-in: started, and ready when its line says so."""

    def __init__(self, program, *options):
        self.dir = tempfile.mkdtemp(prefix="standin-test-")
        self.errors = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen([os.path.join(STANDIN, program), "--die-with-parent", *self.options(), *options],
                                        stdout=subprocess.PIPE, stderr=self.errors, text=True, cwd=self.dir)
        self.ready = self.process.stdout.readline()
        if not self.ready.startswith("ready "):
            self.errors.seek(0)
            raise AssertionError(f"{program} did not start: {self.errors.read()}")

    def options(self):
        return ()

    def stop(self):
        """SIGTERM must end it at once, silently, with status 0: not when a watch has run out (a minute), or a grace period."""
        started = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        rest, _ = self.process.communicate(timeout=120)
        took = time.monotonic() - started
        self.errors.seek(0)
        noise = rest + self.errors.read()
        self.errors.close()
        shutil.rmtree(self.dir)
        assert self.process.returncode == 0, f"exit status {self.process.returncode}: {noise}"
        assert noise == "", f"noise: {noise}"
        assert took < 8, f"took {took:.1f} s to end"  # it waits for nobody; a machine under load needs its time


class ApiServer(Process):
    def __init__(self, *options):
        super().__init__("apiserver", *options)
        self.port = int(self.ready.split()[1].rpartition(":")[2])
        self.kubeconfig = os.path.join(self.dir, "kubeconfig")

    def options(self):
        return ("--dir", self.dir, "--node", "n1")

    def ctl(self, *words):
        done = subprocess.run([os.path.join(STANDIN, "apiserver"), "ctl", "--dir", self.dir, *words], stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True, check=False, timeout=300)
        if done.returncode:
            raise AssertionError(f"ctl {' '.join(words)}: {done.stderr}")
        return json.loads(done.stdout)

    def raw(self, method, path, body=None, content="application/json", headers=(), timeout=60):
        """(code, headers, bytes) over plain HTTP."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            data = body if isinstance(body, (bytes, type(None))) else json.dumps(body).encode()
            connection.request(method, path, data, {"Content-Type": content, **dict(headers)})
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()
        finally:
            connection.close()

    def call(self, *words, **options):
        code, _, data = self.raw(*words, **options)
        return code, json.loads(data)

    def node(self, name="n1"):
        return self.call("GET", f"/api/v1/nodes/{name}")[1]


class Watch:
    """An open watch whose events are read one by one."""

    def __init__(self, server, path, headers=(), timeout=60):
        self.connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=timeout)
        self.connection.request("GET", path, headers=dict(headers))
        self.answer = self.connection.getresponse()

    def next(self):
        """(type, object); None at a clean end."""
        line = self.answer.readline()
        if not line:
            return None
        event = json.loads(line)
        return event["type"], event["object"]

    def quiet(self, seconds=0.2, known=0):
        """Nothing comes but bookmarks of the version that is known already: they were under way, however many."""
        self.connection.sock.settimeout(seconds)
        try:
            while True:
                event = json.loads(line := self.answer.readline())
                if event["type"] != "BOOKMARK" or int(event["object"]["metadata"]["resourceVersion"]) > known:
                    break
        except (TimeoutError, socket.timeout):
            return True
        raise AssertionError(f"unexpected: {line!r}")

    def close(self):
        self.answer.close()
        self.connection.close()


class Kubelet(Process):
    def __init__(self, *options):
        super().__init__("kubelet", *options)
        self.plugins = os.path.join(self.dir, "var/lib/kubelet/device-plugins")
        self.pod_resources = os.path.join(self.dir, "var/lib/kubelet/pod-resources/kubelet.sock")
        self.socket = os.path.join(self.dir, "ctl.sock")

    def options(self):
        return ("--root", self.dir, "--ctl", os.path.join(self.dir, "ctl.sock"))

    def ctl(self, *words, fails=False):
        done = subprocess.run([os.path.join(STANDIN, "kubelet"), "ctl", "--socket", self.socket, *words], stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True, check=False, timeout=300)
        if fails:
            assert done.returncode, f"ctl {' '.join(words)} succeeded: {done.stdout}"
            return done.stderr
        if done.returncode:
            raise AssertionError(f"ctl {' '.join(words)}: {done.stderr}")
        return json.loads(done.stdout)
