"""ccnode on a node that has a kubelet, a container runtime and an agent: stand-ins, and the real agent."""
import json
import os
import subprocess
import sys

from rig import BIN, FAILED, IN_USE, OK, SOURCE, Host, main, same, until

sys.path.insert(0, os.path.join(SOURCE, "tests/functional/standin"))
import harness  # noqa: E402

RESOURCE = "nvidia.com/GH100_H100_PCIE"


class Kubelet(harness.Kubelet):
    def __init__(self, root, *options):
        super().__init__("--root", root, *options)


class Runtime(harness.Process):
    def __init__(self, root, *options):
        super().__init__("cri", "--root", root, *options)


class Agent:
    """Without Kubernetes API; the kubelet is there."""

    def __init__(self, host, config):
        self.host = host
        host.put("/etc/ccnode/ccnode.yaml", 'http: { listen: "127.0.0.1:0" }\n' + config)
        self.log = open(os.path.join(host.dir, "agent.log"), "w+")
        env = {k: v for k, v in host.env.items() if k != "KUBECONFIG"}
        self.process = subprocess.Popen([os.path.join(BIN, "ccnode-agent"), "--host-root", host.root, "--config",
                                         host.root + "/etc/ccnode/ccnode.yaml"], env=env, stdout=self.log, stderr=self.log)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(timeout=30)
        self.log.seek(0)
        text = self.log.read()
        self.log.close()
        assert self.process.returncode == 0, text[-3000:]


def found(h, ident, state):
    answer = h.run("preflight", "-o", "json").json()
    return [c["seen"] for c in answer["checks"] if (c["id"], c["state"]) == (ident, state)]


def test_preflight_asks_kubelet():
    with Host("h100-pcie") as h:
        for how, state, word in (("normal", "ok", "Get works"), ("no-get", "error", "Kata needs it"),
                                 ("old", "error", "Kata needs it"), ("stall", "warning", "cannot be asked")):
            kubelet = Kubelet(h.root, "--podresources", how)
            try:
                assert any(word in seen for seen in found(h, "kubelet", state)), (how, found(h, "kubelet", state))
            finally:
                kubelet.stop()


def test_preflight_asks_the_runtime():
    with Host("h100-pcie") as h:
        for options, ident, state, word in (
                (["--play", "containerd"], "runtime", "ok", "containerd"),
                (["--play", "containerd"], "kata", "ok", "kata-qemu-nvidia-gpu-snp"),
                (["--play", "containerd", "--handlers", "runc"], "kata", "warning", "kata-qemu-nvidia-gpu-snp"),
                (["--play", "containerd", "--cdi", "off"], "runtime", "warning", "CDI is switched off"),
                (["--play", "containerd", "--cdi-dirs", "/etc/cdi"], "runtime", "warning", "does not read /var/run/cdi"),
                (["--play", "containerd", "--not-ready", "no sandbox image"], "runtime", "error", "no sandbox image"),
                (["--play", "crio"], "runtime", "ok", "cri-o"),
                (["--play", "old"], "runtime", "error", ""),
                (["--play", "garbage"], "runtime", "error", "")):
            runtime = Runtime(h.root, *options)
            try:
                seen = found(h, ident, state)
                assert any(word in text for text in seen), (options, seen)
            finally:
                runtime.stop()


def test_a_pod_is_a_user():
    """Given to a pod whose sandbox does not run yet: refused, and the pod is named."""
    with Host("h100-pcie") as h:
        (bdf,) = h.list()
        kubelet = Kubelet(h.root)
        try:
            with Agent(h, "mode: { default: 'off' }\n"):
                until("the resource is there", lambda: kubelet.ctl("list")["resources"].get(RESOURCE, {}).get("devices"), 60)
                until("it is healthy", lambda: all(d["health"] == "Healthy" for d in
                                                   kubelet.ctl("list")["resources"][RESOURCE]["devices"]), 60)
                kubelet.ctl("allocate", RESOURCE, "1", "--pod", "ml/train")
            d = h.set_mode("on", code=IN_USE)[bdf]
            same(d["result"], "refused")
            assert "pod ml/train" in d["error"], d
            same(h.list()[bdf]["in_use_by"], ["pod ml/train"])
            same(h.modes()[bdf], "off")
            kubelet.ctl("release", "ml/train")
            h.set_mode("on")
        finally:
            kubelet.stop()


def test_status_of_the_agent():
    with Host("hgx-h100", scale="0.1") as h:
        with Agent(h, "mode: { default: 'on' }\ndevicePlugin: { enabled: false }\n") as agent:
            def state():
                a = h.run("status", "-o", "json")
                return a.code == OK and a.json()
            s = until("all devices are on", lambda: (s := state()) and s["mode_state"] == "on" and s, 30) or state()
            s = state()
            same({d["mode"] for d in s["devices"] if d["kind"] == "gpu"}, {"on"})
            same(s["pid"], agent.process.pid)
            h.run("status", "--check", code=OK)
            text = h.run("status", code=OK).out
            for bdf in h.list():
                assert bdf in text, text
            a = h.run("set-mode", "on", "gpus", "-o", "json", code=OK)
            assert f"ccnode-agent (pid {agent.process.pid})" in a.err, a.err
            files = os.listdir(h.root + "/var/run/cdi")
            same(sorted(files), ["nvidia.com-GH100_H100_NVSWITCH.yaml", "nvidia.com-GH100_H100_SXM5_80GB.yaml",
                                 "nvidia.com-pgpu.yaml"])
            printed = {p["file"]: p["spec"] for p in h.run("cdi", "print", "-o", "json", code=OK).json()}
            for name in files:
                with open(h.root + "/var/run/cdi/" + name) as f:
                    same(json.loads(f.read().partition("\n")[2]), printed[name], "agent and ccnode name devices alike")
            held = next(iter(h.list("gpus")))
            h.hold(held)
            h.put("/etc/ccnode/ccnode.yaml", 'http: { listen: "127.0.0.1:0" }\nmode: { default: "off" }\ndevicePlugin: { enabled: false }\n')
            until("not in order", lambda: "WaitingForPods" in h.run("status", "--check", "-o", "json").err)
            a = h.run("status", "--check", code=FAILED)
            assert "not in order: WaitingForPods" in a.err and held in a.err and held in a.out, a.err
            h.run("status", code=OK)
        same(h.run("status").code, FAILED)


harness.need_h2()
main(test_preflight_asks_kubelet, test_preflight_asks_the_runtime, test_a_pod_is_a_user, test_status_of_the_agent)
