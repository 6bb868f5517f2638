"""What the tests of the chart share: helm, the rendering, a stand-in for the few questions that a template asks the API server."""

import glob
import http.server
import json
import os
import shutil
import subprocess
import sys
import threading

import yaml

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
CHART = os.path.join(ROOT, "helm/ccnode")
CLUSTER = ("--kube-version", "1.34.4", "--api-versions", "admissionregistration.k8s.io/v1/ValidatingAdmissionPolicy")
RELEASE, NAMESPACE = "site", "gpu"


def read(path):
    with open(os.path.join(ROOT, path), encoding="utf-8") as file:
        return file.read()


def find_helm():
    """As deploy/render does; with --build the one that the cluster tests build. Without any there is nothing to render."""
    if "--build" in sys.argv:
        built = subprocess.run([os.path.join(ROOT, "tests/cluster/build")], stdout=subprocess.PIPE, text=True, check=False)
        if built.returncode:
            sys.exit(built.returncode)
        return os.path.join(built.stdout.strip(), "helm")
    cache = os.environ.get("CCNODE_CACHE") or os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "ccnode")
    found = shutil.which("helm") or next(iter(glob.glob(os.path.join(cache, "cluster-*/helm"))), None)
    if not found:
        print("no helm here to render the chart; tests/run --tier cluster builds one and runs this test too")
        sys.exit(0)
    return found


class Helm:
    def __init__(self):
        self.program = find_helm()

    def run(self, *flags, values=None):
        """values: of a file, given on standard input. Return: what helm template ended with."""
        argv = [self.program, "template", RELEASE, CHART, "-n", NAMESPACE, *CLUSTER, "-f", "-", *flags]
        return subprocess.run(argv, input=json.dumps(values or {}), capture_output=True, text=True, check=False)

    def render(self, *flags, values=None):
        p = self.run(*flags, values=values)
        assert p.returncode == 0, p.stderr
        return [d for d in yaml.safe_load_all(p.stdout) if d]


def names(objects, kind):
    return [o["metadata"]["name"] for o in objects if o["kind"] == kind]


def one(objects, kind, end=""):
    found = [o for o in objects if o["kind"] == kind and o["metadata"]["name"].endswith(end)]
    assert len(found) == 1, f"{len(found)} of kind {kind} {end}"
    return found[0]


class Api(http.server.BaseHTTPRequestHandler):
    """What "lookup" asks: which resources a version has, then one object. Anything else is not found."""

    objects = {}  # path -> object
    resources = {"/apis/apiextensions.k8s.io/v1": ("customresourcedefinitions", "CustomResourceDefinition"),
                 "/apis/node.k8s.io/v1": ("runtimeclasses", "RuntimeClass")}

    def do_GET(self):
        path = self.path.split("?")[0]
        if path in self.resources:
            name, kind = self.resources[path]
            answer = {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": path.removeprefix("/apis/"),
                      "resources": [{"name": name, "singularName": "", "namespaced": False, "kind": kind, "verbs": ["get"]}]}
        else:
            answer = self.objects.get(path)
        body = json.dumps(answer or {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404}).encode()
        self.send_response(200 if answer else 404)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Server:
    """`with Server({path: object}) as flags:` the flags that let helm's templates ask it."""

    def __init__(self, objects):
        Api.objects = objects
        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Api)

    def __enter__(self):
        threading.Thread(target=self.http.serve_forever, daemon=True).start()
        return ("--dry-run=server", "--kube-apiserver", f"http://127.0.0.1:{self.http.server_address[1]}")

    def __exit__(self, *_):
        self.http.shutdown()
        self.http.server_close()


def report(tests):
    failed = 0
    for test in tests:
        try:
            test()
        except Exception as e:  # what is not there at all is a KeyError
            failed += 1
            print(f"{test.__name__}: {type(e).__name__}: {e}")
    if not failed:
        print(f"{len(tests)} tests passed")
    return bool(failed)
