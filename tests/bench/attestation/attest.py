#!/usr/bin/python3
"""What ccnode-attest costs, against the goals: CPU, requests, peak memory, image size. NV_VERIFIER_PYTHON names the python of a
virtual environment with nv-local-gpu-verifier to measure the Python verifier on the same evidence in the same run."""
import base64
import json
import os
import statistics
import subprocess
import sys
import tempfile
import urllib.request

SOURCE = os.environ.get("CCNODE_SOURCE", os.path.realpath(os.path.join(os.path.dirname(__file__), "../../..")))
BIN = os.path.join(os.environ.get("CCNODE_BUILD", f"{SOURCE}/build/release"), "bin")
PROGRAM, RUNS = f"{BIN}/ccnode-attest", 30
SET, DATA = f"{SOURCE}/tests/data/attest-set", f"{SOURCE}/tests/data/attestation"
NONCE = open(f"{SET}/nonce", encoding="ascii").read().strip()
OLD = "4cff7f5380ead8fad8ec2c531c110aca4302a88f603792801a8ca29ee151af2e"
rows, missed = [], []


def measure(argv, runs=RUNS, env=None):
    """Median CPU milliseconds, peak memory in MB, of whole processes."""
    cpu, peak = [], 0
    for _ in range(runs):
        # a small parent: what a process has as its peak starts with the size of who forked it
        out = subprocess.run([f"{BIN}/attest_spawn", *argv], stdout=subprocess.PIPE, env={**os.environ, **(env or {})},
                             check=True, text=True).stdout
        microseconds, kilobytes = map(int, out.split())
        cpu.append(microseconds / 1000)
        peak = max(peak, kilobytes / 1024)
    return statistics.median(cpu), peak


def row(what, value, goal, unit):
    ok = value <= goal
    rows.append(f"{what:58} {value:8.2f} {unit:4} goal <= {goal:g} {'' if ok else 'MISSED'}")
    if not ok:
        missed.append(what)


def verify(gpus, *more):
    return [PROGRAM, "verify", "--evidence", f"{SET}/gpu{gpus}.json", "--nonce", NONCE, "--device-root",
            f"{SET}/trust/device-root.pem", "--rim-root", f"{SET}/trust/rim-root.pem", *more]


def offline(tmp):
    public = [PROGRAM, "verify", "--evidence", f"{DATA}/hopper-545.00.json", "--nonce", OLD, "--rim-dir", f"{DATA}/rims",
              "--revocation", "off", "--at", "2023-10-01T00:00:00Z"]
    cpu, peak = measure(public)
    chain = f"{tmp}/chain.pem"
    with open(chain, "wb") as f:
        f.write(base64.b64decode(json.load(open(f"{DATA}/hopper-545.00.json", encoding="ascii"))[0]["certificate"]))
    micro, _ = measure([f"{BIN}/attest_micro", chain, f"{DATA}/rims/NV_GPU_DRIVER_GH100_545.00.xml",
                        f"{DATA}/rims/NV_GPU_VBIOS_1010_0200_882_96005E0001.xml"])
    row("one GPU, RIMs in a directory, no revocation: CPU", cpu, 18, "ms")
    row("the same against its cryptography alone", cpu / micro, 1.25, "x")
    row("the same: peak memory", peak, 15, "MB")
    cpu, peak = measure(verify(8, "--rim-dir", f"{SET}/rims", "--revocation", "off"))
    rows.append(f"eight GPUs, RIMs in a directory, no revocation: CPU {cpu:.2f} ms, peak {peak:.1f} MB")
    row("start-up (--version): CPU", measure([PROGRAM, "--version"])[0], 3, "ms")


def online(port):
    base = f"http://127.0.0.1:{port}"

    def count():
        return int(urllib.request.urlopen(f"{base}/count").read())

    net = ["--rim-url", f"{base}/ok", "--ocsp-url", f"{base}/ok/ocsp"]
    cpu, peak = measure(verify(1, *net))
    row("one GPU, RIM service and live OCSP: CPU", cpu, 48, "ms")
    row("the same: peak memory", peak, 15, "MB")
    before = count()
    cpu, peak = measure(verify(8, *net))
    row("eight GPUs, the same: CPU", cpu, 85, "ms")
    row("the same: HTTP requests", (count() - before) / RUNS, 16, "")
    row("the same: peak memory", peak, 15, "MB")


def token(tmp, port):
    base = f"http://127.0.0.1:{port}"
    out = subprocess.run(verify(1, "--rim-url", f"{base}/ok", "--ocsp-url", f"{base}/ok/ocsp", "-o", "json"), check=True,
                         stdout=subprocess.PIPE).stdout
    document = json.loads(out)
    for name in ("detached_eat", "jwks"):
        with open(f"{tmp}/{name}", "w", encoding="ascii") as f:
            json.dump(document[name], f)
    row("token validation with a key set file: CPU", measure(
        [PROGRAM, "validate-token", "--token", f"{tmp}/detached_eat", "--jwks", f"{tmp}/jwks", "--nonce", NONCE, "--issuer",
         "CCNODE-ATTEST"])[0], 6, "ms")


def image(tmp):
    out = subprocess.run([f"{SOURCE}/deploy/image", "--image", "attest", "--build", os.path.dirname(BIN), "--out",
                          f"{tmp}/attest.tar"], stdout=subprocess.PIPE, text=True, check=True).stdout
    size = float(out.split("uncompressed")[1].split()[0])
    row("init container image, uncompressed", size, 30, "MB")


def python_verifier():
    python = os.environ.get("NV_VERIFIER_PYTHON")
    if not python:
        rows.append("Python verifier: not measured (NV_VERIFIER_PYTHON is not set)")
        return
    rims = [f"{SET}/rims/NV_GPU_DRIVER_GH100_550.90.07.xml", f"{SET}/rims/NV_GPU_VBIOS_1010_0200_882_96009F0001.xml"]
    here = os.path.dirname(os.path.realpath(__file__))
    cpu, peak = measure([os.path.abspath(python), f"{here}/python_verifier.py", *rims, f"{SET}/trust/rim-root.pem"], 5)
    mine, my_peak = measure(verify(1, "--rim-dir", f"{SET}/rims", "--revocation", "off"))
    rows.append(f"Python verifier 2.7.3, the same measurements: CPU {cpu:.0f} ms, peak {peak:.0f} MB")
    row("against the Python verifier: CPU", mine / cpu, 1 / 8, "x")
    row("against the Python verifier: memory", my_peak / peak, 1 / 3, "x")


with tempfile.TemporaryDirectory(prefix="ccnode-bench-") as tmp:
    server = subprocess.Popen([f"{BIN}/attest_services", SET], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        port = server.stdout.readline().strip()
        offline(tmp)
        online(port)
        token(tmp, port)
        image(tmp)
        python_verifier()
    finally:
        server.stdin.close()
        server.wait()
print("\n".join(rows))
sys.exit(1 if missed else 0)
