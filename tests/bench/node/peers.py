"""The unmodified peers on the same simulated node, in the same run: NVIDIA's tool and k8s-cc-manager."""

import os
import subprocess
import sys
import time

import measure
from measure import rig

SHARED = os.environ.get("CCNODE_SHARED") or os.path.join(os.path.dirname(rig.SOURCE), "shared")
TOOL = os.path.join(SHARED, "thirdparty/gpu-admin-tools")
MANAGER = os.path.join(SHARED, "thirdparty/k8s-cc-manager")


class Absent(Exception):
    """A peer that cannot run here; the text says why."""


def python_packages():
    """A folder with the `kubernetes` client that k8s-cc-manager needs, from the package index, once per build."""
    folder = os.path.join(rig.BUILD, "bench-python")
    if not os.path.isdir(os.path.join(folder, "kubernetes")):
        done = subprocess.run([sys.executable, "-m", "pip", "install", "-q", "--target", folder, "kubernetes"],
                              capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=300)
        if done.returncode:
            raise Absent(f"the Python package kubernetes cannot be installed: {done.stderr.strip().splitlines()[-1][:90]}")
    return folder


def on_node(bench, *command):
    return [os.path.join(rig.BIN, "ccnode-sim"), "exec", "--root", bench.root, "--", *command]


def tool_seconds(profile):
    """All GPUs to mode on by NVIDIA's tool."""
    if not os.path.isdir(TOOL):
        raise Absent(f"{TOOL} is absent")
    with measure.node(profile, kubelet=False, api=False) as bench:
        began = time.monotonic()
        done = subprocess.run(on_node(bench, sys.executable, os.path.join(TOOL, "nvidia_gpu_tools.py"), "--devices", "gpus",
                                      "--set-cc-mode", "on", "--reset-after-cc-mode-switch"),
                              capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=300)
        if done.returncode:
            raise Absent(f"NVIDIA's tool failed here: {done.stdout.strip().splitlines()[-1:]}")
        return time.monotonic() - began


def tool_accesses():
    """Of one switch to `on` by NVIDIA's tool: (reads without boot polls, writes)."""
    if not os.path.isdir(TOOL):
        raise Absent(f"{TOOL} is absent")
    with measure.node("h100-pcie", scale="0", kubelet=False, api=False) as bench:
        bdf = next(iter(bench.modes()))
        measure.unbind(bench, bdf)

        def switch():
            done = subprocess.run(on_node(bench, sys.executable, os.path.join(TOOL, "nvidia_gpu_tools.py"), "--devices", "gpus",
                                          "--set-cc-mode", "on", "--reset-after-cc-mode-switch"),
                                  capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=300)
            if done.returncode or bench.modes()[bdf] != "on":
                raise Absent(f"NVIDIA's tool failed here: {done.stdout.strip().splitlines()[-1:]}")
        return measure.count_accesses(bench, bdf, switch)


class Manager:
    """k8s-cc-manager with its tool beside it, as its image has it, following the label of the Node."""

    def __init__(self, profile, scale="1"):
        if not os.path.isdir(MANAGER):
            raise Absent(f"{MANAGER} is absent")
        self.packages = python_packages()
        self.bench = measure.node(profile, scale=scale, kubelet=False)

    def __enter__(self):
        bench = self.bench.__enter__()
        folder = os.path.join(bench.dir, "manager")
        os.mkdir(folder)
        for name in ("main.py", "gpu_operator_eviction.py"):
            os.symlink(os.path.join(MANAGER, name), os.path.join(folder, name))
        os.symlink(TOOL, os.path.join(folder, "gpu-admin-tools"))
        env = {**os.environ, "PYTHONPATH": self.packages, "NODE_NAME": rig.NODE, "KUBECONFIG": bench.api.kubeconfig,
               "EVICT_OPERATOR_COMPONENTS": "false",
               "CC_READINESS_FILE": os.path.join(bench.dir, "ready"), "PYTHONDONTWRITEBYTECODE": "1"}
        # Python resolves a script's own folder by its link: the folder is put first by hand
        code = f"import sys, runpy; sys.path.insert(0, {folder!r}); runpy.run_path({folder + '/main.py'!r}, run_name='__main__')"
        self.log = open(os.path.join(bench.dir, "manager.log"), "w+", encoding="utf-8")
        self.process = subprocess.Popen(on_node(bench, sys.executable, "-c", code, "--default-cc-mode", "off"),
                                        stdout=self.log, stderr=self.log, stdin=subprocess.DEVNULL, env=env, cwd=bench.dir)
        try:
            rig.until("k8s-cc-manager watches", self.is_watching, 30)
            assert self.process.poll() is None
        except AssertionError:
            self.log.seek(0)
            end = self.log.read().strip().splitlines()[-1:]
            self.__exit__(None, None, None)
            raise Absent(f"k8s-cc-manager did not start: {end}") from None
        return self

    def is_watching(self):
        return self.process.poll() is not None or self.bench.api.call("GET", "/_standin/watches")[1]["watches"]

    def switch(self, mode):
        self.bench.label(rig.MODE, mode)
        rig.until(f"k8s-cc-manager says {mode}", lambda: self.process.poll() is not None or self.bench.labels().get(rig.STATE) == mode, 90)
        if self.process.poll() is not None:
            raise Absent(f"k8s-cc-manager ended during the switch to {mode}")
        return measure.changed(self.bench.history(), mode)[0]

    def __exit__(self, *reason):
        self.process.kill()
        self.process.wait()
        self.log.close()
        self.bench.__exit__(None, None, None)


def manager_seconds(profile, mode):
    with Manager(profile) as manager:
        return manager.switch(mode)


def manager_cpu(runs):
    """Mean of the switches that it lives to finish; those of one instance may be a few."""
    spent, done = 0, 0
    while done < 2 * runs:
        with Manager("hgx-h100", scale="0") as manager:
            before, last = done, measure.cpu_seconds(manager.process.pid)
            try:
                for mode in ("on", "off") * runs:
                    manager.switch(mode)
                    now = measure.cpu_seconds(manager.process.pid)
                    spent, done, last = spent + now - last, done + 1, now
            except Absent:
                if done == before:
                    raise
    return spent / done


def manager_requests():
    with Manager("hgx-h100", scale="0.2") as manager:
        began = time.time()
        manager.switch("on")
        time.sleep(1)
        return measure.count_requests(manager.bench, began, "python")
