"""standin-kubelet ctl: the controls on the command line, and calls straight to a plugin."""

import argparse
import asyncio
import json
import os
import socket
import sys

from . import bench, grpc, pb, podresources
from .devices import GENERATIONS

_SERVICE = "/v1beta1.DevicePlugin/"


def ask(path, **request):
    """One control request; raises SystemExit with the reason."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.settimeout(float(request.get("timeout") or request.get("delay") or 0) + 60)
    try:
        sock.connect(path)
        sock.sendall(json.dumps({k: v for k, v in request.items() if v is not None}).encode() + b"\n")
        answer = b""
        while not answer.endswith(b"\n"):
            data = sock.recv(1 << 16)
            if not data:
                raise OSError("connection closed")
            answer += data
    except OSError as e:
        raise SystemExit(f"standin-kubelet ctl: no answer at {path}: {e}") from e
    finally:
        sock.close()
    result = json.loads(answer)
    if "error" in result:
        raise SystemExit(f"standin-kubelet ctl: {result['error']}")
    return result


async def _call(path, method, message, timeout):
    client = await grpc.Client.dial(path)
    try:
        answer = await client.unary(_SERVICE + method, message, timeout)
    finally:
        client.close()
    names = {"Allocate": "AllocateResponse", "GetPreferredAllocation": "PreferredAllocationResponse",
             "GetDevicePluginOptions": "DevicePluginOptions", "PreStartContainer": "PreStartContainerResponse"}
    return {"code": 0, "status": "OK", "answer": pb.decode(names.get(method, "Empty"), answer)}


def _message(a):
    """Bytes of the request: well-formed from ids, or anything at all."""
    if a.no_message:
        return None
    if a.hex is not None:
        return bytes.fromhex(a.hex)
    ids = a.ids.split(",") if a.ids else []
    if a.size:
        ids.append("x" * a.size)
    if a.method == "Allocate":
        return pb.encode("AllocateRequest", {"container_requests": [{"devices_ids": ids}] * a.requests})
    if a.method == "GetPreferredAllocation":
        return pb.encode("PreferredAllocationRequest", {"container_requests": [{
            "available_deviceIDs": ids, "must_include_deviceIDs": a.must.split(",") if a.must else [],
            "allocation_size": a.want}] * a.requests})
    if a.method == "PreStartContainer":
        return pb.encode("PreStartContainerRequest", {"devices_ids": ids})
    return b""


def call(a):
    path = ask(a.socket, command="endpoint", resource=a.resource)["path"]
    try:
        return asyncio.run(_call(path, a.method, _message(a), a.timeout))
    except (grpc.GrpcError, pb.DecodeError) as e:
        return e.describe() if isinstance(e, grpc.GrpcError) else {"code": -1, "status": "UNDECODABLE", "message": str(e)}


def garbage(a):
    """Bytes that are no HTTP/2, and what came back."""
    path = ask(a.socket, command="endpoint", resource=a.resource)["path"]
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.settimeout(a.timeout)
    got = b""
    outcome = "closed"
    try:
        with grpc.reachable(path) as short:
            sock.connect(short)
        sock.sendall(bytes.fromhex(a.hex) if a.hex else os.urandom(a.size))
        while data := sock.recv(4096):
            got += data
    except TimeoutError:
        outcome = "open"
    except OSError as e:
        outcome = e.strerror
    finally:
        sock.close()
    return {"connection": outcome, "received_bytes": len(got)}


def bench_allocate(a):
    found = ask(a.socket, command="endpoint", resource=a.resource)
    if len(found["ids"]) < a.devices:
        raise SystemExit(f"standin-kubelet ctl: only {len(found['ids'])} healthy devices of {a.resource}")
    try:
        return bench.run(found["path"], found["ids"][:a.devices], a.calls)
    except (bench.BenchError, OSError) as e:
        raise SystemExit(f"standin-kubelet ctl: {e}") from e


def _number(text):
    return None if text is None else int(text)


def parser():
    p = argparse.ArgumentParser(prog="standin-kubelet ctl", description="Controls of a running stand-in kubelet.")
    p.add_argument("--socket", default=os.environ.get("STANDIN_KUBELET_CTL", "kubelet-ctl.sock"),
                   help="its control socket (default: $STANDIN_KUBELET_CTL, then ./kubelet-ctl.sock)")
    sub = p.add_subparsers(dest="command", required=True)

    def add(name, text, run, *arguments):
        one = sub.add_parser(name, help=text, description=text)
        for words, options in arguments:
            one.add_argument(*words, **options)
        one.set_defaults(run=run)

    def arg(*words, **options):
        return words, options
    resource = arg("resource", help="nvidia.com/...")
    add("list", "resources, devices, allocations", lambda a: ask(a.socket, command="list"))
    add("allocate", "admit a container: preferred allocation and Allocate, as kubelet does",
        lambda a: ask(a.socket, command="allocate", resource=a.resource, count=a.count, pod=a.pod, container=a.container),
        resource, arg("count", type=int), arg("--pod", default="default/standin"), arg("--container", default="main"))
    add("release", "the pod is gone", lambda a: ask(a.socket, command="release", pod=a.pod), arg("pod", help="namespace/name"))
    kill = arg("--kill", action="store_true", help="leave kubelet.sock behind, as SIGKILL does")
    add("restart", "end and start again: sockets in the directory are deleted, plugins must register again",
        lambda a: ask(a.socket, command="restart", kill=a.kill, delay=a.delay), kill,
        arg("--delay", type=float, default=0, help="seconds between"))
    add("stop", "end the kubelet (the control socket stays)", lambda a: ask(a.socket, command="stop", kill=a.kill), kill)
    add("start", "start it again", lambda a: ask(a.socket, command="start"))
    add("disconnect", "cut the connection to a plugin", lambda a: ask(a.socket, command="disconnect", resource=a.resource), resource)
    add("wait", "until the node has so many of a resource",
        lambda a: ask(a.socket, command="wait", resource=a.resource, capacity=_number(a.capacity),
                      allocatable=_number(a.allocatable), gone=a.gone, timeout=a.timeout), resource,
        arg("--capacity"), arg("--allocatable"), arg("--gone", action="store_true"), arg("--timeout", type=float, default=10))
    add("log", "what happened, with times", lambda a: ask(a.socket, command="log", since=a.since, what=a.what),
        arg("--since", type=float, default=0), arg("--what", help="register, options, list, allocate, stream-ended, ..."))
    add("set", "podresources=" + "|".join(podresources.MODES) + "; generation=" + "|".join(GENERATIONS)
        + "; authority=localhost|path; grace=SECONDS",
        lambda a: ask(a.socket, command="set", **dict(item.split("=", 1) for item in a.item)), arg("item", nargs="+"))
    add("call", "one RPC straight to the plugin; prints code, message and answer", call, resource,
        arg("method", help="Allocate, GetPreferredAllocation, GetDevicePluginOptions, PreStartContainer, or any other name"),
        arg("--ids", help="comma list of device ids"), arg("--must", help="must_include_deviceIDs"),
        arg("--want", type=int, default=1, help="allocation_size"), arg("--requests", type=int, default=1, help="container requests"),
        arg("--hex", help="these bytes instead of a request"), arg("--size", type=int, help="add an id of so many bytes"),
        arg("--no-message", action="store_true", help="half-close without a request"), arg("--timeout", type=float, default=5))
    add("garbage", "bytes that are no HTTP/2 on the plugin's socket", garbage, resource, arg("--hex"),
        arg("--size", type=int, default=4096), arg("--timeout", type=float, default=2))
    add("bench-allocate", "p50 and p99 of Allocate, and the plugin's CPU time per call", bench_allocate, resource,
        arg("calls", type=int, nargs="?", default=10000), arg("--devices", type=int, default=1))
    return p


def main(argv):
    a = parser().parse_args(argv)
    result = a.run(a)
    print(json.dumps(result, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
