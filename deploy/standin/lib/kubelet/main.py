"""standin-kubelet: options and life."""

import argparse
import asyncio
import ctypes
import os
import signal
import sys

from . import ctl, podresources
from .control import Control, Log
from .devices import GENERATIONS, DeviceManager
from .podresources import PodResources
from .pods import Cluster


def parser():
    p = argparse.ArgumentParser(
        prog="standin-kubelet",
        description="The kubelet's device manager and PodResources API on unix sockets, without a cluster or with "
                    "standin-apiserver. `standin-kubelet ctl --help` lists the controls.")
    p.add_argument("--root", metavar="DIR", default="/", help="prefix of the default paths (default /)")
    p.add_argument("--device-plugins", metavar="DIR", help="default ROOT/var/lib/kubelet/device-plugins")
    p.add_argument("--pod-resources", metavar="SOCKET", help="default ROOT/var/lib/kubelet/pod-resources/kubelet.sock")
    p.add_argument("--ctl", metavar="SOCKET", default="kubelet-ctl.sock", help="control socket (default ./kubelet-ctl.sock)")
    p.add_argument("--log", metavar="FILE", help="append what happens, one JSON object per line")
    p.add_argument("--kubeconfig", metavar="FILE", help="keep the Node's capacity and allocatable at this API server")
    p.add_argument("--node", metavar="NAME", help="the Node's name (needed with --kubeconfig)")
    p.add_argument("--pods", action="store_true", help="also schedule, admit and end pods of the API server")
    p.add_argument("--status-interval", type=float, default=10, metavar="SECONDS",
                   help="look at the resources at least so often (changes are published at once; default 10)")
    p.add_argument("--grace", type=float, default=300, metavar="SECONDS",
                   help="forget a resource whose plugin is away for so long (default 300)")
    p.add_argument("--generation", choices=GENERATIONS, default="by-name",
                   help="which kubelet: what the end of an old stream does to a newer plugin (default by-name, 1.26 to 1.33)")
    p.add_argument("--authority", choices=("localhost", "path"), default="localhost",
                   help="`path`: the :authority of kubelets before 1.26")
    p.add_argument("--podresources", choices=list(podresources.MODES), default="normal", help="how PodResources answers")
    p.add_argument("--stopped", action="store_true", help="begin stopped; `ctl start` starts it")
    p.add_argument("--die-with-parent", action="store_true", help="stop when the process that started this one ends")
    return p


async def serve(options):
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.set_exception_handler(lambda _loop, context: None if isinstance(context.get("exception"), (ConnectionError, OSError))
                               else loop.default_exception_handler(context))
    settings = {"generation": options.generation, "authority": options.authority, "podresources": options.podresources,
                "grace": options.grace}
    base = os.path.join(options.root, "var/lib/kubelet")
    log = Log(options.log)
    manager = DeviceManager(options.device_plugins or os.path.join(base, "device-plugins"), settings, log)
    resources = PodResources(options.pod_resources or os.path.join(base, "pod-resources/kubelet.sock"), manager, settings)
    control = Control(options.ctl, manager, resources, settings, log)
    if not options.stopped:
        await manager.start()
        await resources.start()
    cluster = None
    if options.kubeconfig:
        cluster = Cluster(manager, options.kubeconfig, options.node, options.pods, options.status_interval, log)
        cluster.start()
        resources.others = cluster.here
    await control.start()
    print(f"ready {manager.socket_path} ctl={options.ctl}", flush=True)
    await stop.wait()
    if cluster:
        cluster.close()
    manager.stop()
    resources.stop()
    os.unlink(options.ctl)


def main(argv):
    if argv[:1] == ["ctl"]:
        return ctl.main(argv[1:])
    options = parser().parse_args(argv)
    if options.kubeconfig and not options.node:
        sys.exit("standin-kubelet: --kubeconfig needs --node NAME")
    if options.die_with_parent:
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)           # PR_SET_PDEATHSIG
    try:
        asyncio.run(serve(options))
    except OSError as e:
        sys.exit(f"standin-kubelet: {e}")
    # threads that wait for the API server must not hold up the end
    sys.stdout.flush()
    os._exit(0)
