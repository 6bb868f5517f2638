"""standin-cri: options and life."""

import argparse
import asyncio
import ctypes
import os
import signal
import sys

from .runtime import PLAYS, Runtime, default_socket

_HANDLERS = "runc,kata-qemu-nvidia-gpu,kata-qemu-nvidia-gpu-snp,kata-qemu-nvidia-gpu-tdx"


def _sandbox(text):
    """NAMESPACE/POD:HANDLER:ID, "!" in front for one that has ended"""
    ended = text.startswith("!")
    try:
        pod, handler, sandbox = text.lstrip("!").split(":")
        namespace, name = pod.split("/")
    except ValueError as e:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAMESPACE/POD:HANDLER:ID") from e
    return {"namespace": namespace, "pod": name, "handler": handler, "id": sandbox, "uid": f"uid-of-{name}", "ready": not ended}


def parser():
    p = argparse.ArgumentParser(
        prog="standin-cri", formatter_class=argparse.RawDescriptionHelpFormatter,
        description="A container runtime's CRI socket (runtime.v1: Version, Status, ListPodSandbox) without a runtime.\n\nplays:\n"
                    + "\n".join(f"  {name:15} {text}" for name, text in PLAYS.items()))
    p.add_argument("--root", metavar="DIR", default="/", help="prefix of the default socket (default /)")
    p.add_argument("--socket", metavar="SOCKET", help="default ROOT/run/containerd/containerd.sock or ROOT/run/crio/crio.sock")
    p.add_argument("--play", choices=list(PLAYS), default="containerd", metavar="PLAY", help="which runtime (default containerd)")
    p.add_argument("--handlers", type=lambda text: text.split(","), default=_HANDLERS.split(","), metavar="A,B",
                   help=f"runtime handlers (default {_HANDLERS})")
    p.add_argument("--cdi", choices=("on", "off", ""), default="", help="enable_cdi of containerd; default: not configured")
    p.add_argument("--cdi-dirs", type=lambda text: text.split(","), default=["/etc/cdi", "/var/run/cdi"], metavar="A,B",
                   help="cdi_spec_dirs of containerd (default /etc/cdi,/var/run/cdi)")
    p.add_argument("--not-ready", metavar="TEXT", help="condition RuntimeReady is false, with this message")
    p.add_argument("--sandbox", dest="sandboxes", action="append", type=_sandbox, default=[], metavar="NAMESPACE/POD:HANDLER:ID",
                   help='a pod sandbox, "!" in front: it has ended; may be repeated')
    p.add_argument("--die-with-parent", action="store_true", help="stop when the process that started this one ends")
    return p


async def serve(options):
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.set_exception_handler(lambda _loop, context: None if isinstance(context.get("exception"), (ConnectionError, OSError))
                               else loop.default_exception_handler(context))
    runtime = Runtime(options)
    path = options.socket or os.path.join(options.root, default_socket(options.play))
    await runtime.listen(path)
    print(f"ready {path}", flush=True)
    await stop.wait()
    runtime.close()
    if os.path.exists(path):
        os.unlink(path)


def main(argv):
    options = parser().parse_args(argv)
    if options.die_with_parent:
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)           # PR_SET_PDEATHSIG
    try:
        asyncio.run(serve(options))
    except OSError as e:
        sys.exit(f"standin-cri: {e}")
    sys.stdout.flush()
    os._exit(0)
