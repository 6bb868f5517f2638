"""standin-apiserver: options and life."""

import argparse
import asyncio
import ctypes
import os
import signal
import sys
import tempfile

from . import ctl


def parser():
    p = argparse.ArgumentParser(
        prog="standin-apiserver", formatter_class=argparse.RawDescriptionHelpFormatter,
        description="A small Kubernetes API server for one machine: real enough for kubectl and for agents, able to "
                    "misbehave on demand.",
        epilog="`standin-apiserver ctl --help` lists the controls: faults, dropped watches, tokens, counts.\n"
               "When it serves, it prints one line (ready URL kubeconfig=FILE) and DIR/kubeconfig exists.")
    p.add_argument("--dir", help="directory for kubeconfig, certificates and the control socket (default: a new one in /tmp)")
    p.add_argument("--port", type=int, default=0, help="port on 127.0.0.1 (default: any free one)")
    p.add_argument("--plain", action="store_true", help="HTTP instead of HTTPS (kubectl then sends no token)")
    p.add_argument("--token", action="append", default=[], metavar="TOKEN[=USER]",
                   help="accept only this bearer token (repeatable; the first is written to the kubeconfig); default: everybody may")
    p.add_argument("--service-account", metavar="DIR", help="also write token, ca.crt and namespace as a pod sees them")
    p.add_argument("--node", action="append", default=[], metavar="NAME", help="create this Node (repeatable)")
    p.add_argument("--label", action="append", default=[], metavar="KEY=VALUE", help="label of the created Nodes (repeatable)")
    p.add_argument("--cluster-policy", metavar="MODE", help="serve clusterpolicies.nvidia.com with ccManager.defaultMode MODE")
    p.add_argument("--state", metavar="FILE", help="keep the objects here, to go on after a restart")
    p.add_argument("--bookmark", type=float, default=60, metavar="SECONDS", help="interval of watch bookmarks (default 60)")
    p.add_argument("--reap", type=float, default=2, metavar="SECONDS",
                   help="end deleted pods after their grace period, at most after this time (default 2)")
    p.add_argument("--no-reap", action="store_true", help="leave that to a kubelet")
    p.add_argument("--die-with-parent", action="store_true", help="stop when the process that started this one ends")
    return p


async def serve(options):
    from .app import App
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    # a client that vanishes in the middle is this server's daily bread, not news
    loop.set_exception_handler(lambda _loop, context: None if isinstance(context.get("exception"), (ConnectionError, OSError))
                               else loop.default_exception_handler(context))
    await App(options).run(stop)


def main(argv):
    if argv[:1] == ["ctl"]:
        return ctl.main(argv[1:])
    options = parser().parse_args(argv)
    if options.die_with_parent:
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)           # PR_SET_PDEATHSIG
    if not options.dir:
        options.dir = tempfile.mkdtemp(prefix="standin-apiserver-")
    os.makedirs(options.dir, exist_ok=True)
    stale = os.path.join(options.dir, "kubeconfig")
    if os.path.exists(stale):
        os.unlink(stale)
    try:
        asyncio.run(serve(options))
    except OSError as e:
        sys.exit(f"standin-apiserver: {e}")
    return 0
