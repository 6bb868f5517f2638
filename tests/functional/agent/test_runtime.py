#!/usr/bin/python3
"""What the container runtime lacks is told before the first pod fails; whatever it answers, the devices are served."""
import os
import signal
import sys

sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
from rig import MODE, READY, Bench, run, same, standin, until  # noqa: E402

PCIE = "nvidia.com/GH100_H100_PCIE"
NO_HANDLER = ("containerd", "--handlers", "runc")


class Cri(standin.Process):
    def __init__(self, root, name, play, *options):
        self.path = f"/run/cri/{name}.sock"
        self.words = ("--socket", root + self.path, "--play", play, *options)
        super().__init__("cri")

    def options(self):
        return self.words


def watched(b):
    """The condition may differ in its words, but the devices are what they are."""
    condition = b.condition()
    same((condition["status"], b.labels()[READY]), ("True", "true"), condition)
    return condition


def the_usual_socket_and_a_kubelet_that_registers_again():
    with Bench("h100-pcie") as b:
        b.start_agent()
        b.label(MODE, "on")
        b.wait_state("on", ready="true")
        b.wait_condition("Ready")
        until("asked in vain", lambda: "no container runtime to ask" in b.log())
        same(watched(b)["reason"], "Ready", "without a runtime")
        same(b.events("RuntimeNotPrepared"), [], "nothing is claimed of a runtime that is not there")
        runtime = Cri(b.root, "../containerd/containerd", *NO_HANDLER)
        b.kubelet.ask("restart", kill=False)  # it is asked again then, not only after minutes
        message = b.wait_condition("RuntimeNotPrepared")["message"]
        b.wait_state("on", ready="true")  # registered again
        same(watched(b)["reason"], "RuntimeNotPrepared", "reason")
        for words in ("1 device verified in mode on and offered", "kata-qemu-nvidia-gpu-snp", "containerd v2.2.9", "kata-deploy"):
            assert words in message, message
        event = until("an Event", lambda: b.events("RuntimeNotPrepared"))[0]
        assert "kata-deploy" in event["note"] and event["type"] == "Warning", event
        same(b.get("/readyz")[0], 200, "the agent itself is well")
        b.label(MODE, "off")  # pods of that class are of no use here now
        b.wait_condition("NotConfidential")
        assert "kata" not in b.condition()["message"]
        b.label(MODE, "on")
        b.wait_condition("RuntimeNotPrepared")
        runtime.stop()
        runtime = Cri(b.root, "../containerd/containerd", "containerd")
        b.kubelet.ask("restart", kill=True)
        b.wait_condition("Ready")
        until("told", lambda: "prepared now" in b.log())
        runtime.stop()
        b.stop_agent()


def every_kind_of_runtime():
    odd = ("old", "error", "garbage", "bad-json", "huge", "stall", "silent", "not-grpc", "hang-up")
    plays = {
        "no-handler": (*NO_HANDLER,),
        "cdi-off": ("containerd", "--cdi", "off"),
        "other-dir": ("containerd", "--cdi-dirs", "/etc/cdi,/opt/cdi"),
        "well": ("containerd",), "1.7-off": ("containerd-1.7", "--cdi", "off"), "1.7": ("containerd-1.7", "--cdi", "on"),
        "1.6": ("containerd-1.6",), "crio": ("crio",), "crio-1.26": ("crio-1.26",), **{play: (play,) for play in odd}}
    with Bench("h100-pcie", config='mode: { default: "on" }\ncri: { socket: "" }\n') as b:
        os.makedirs(b.root + "/run/cri", exist_ok=True)
        runtimes = {name: Cri(b.root, name, *play) for name, play in plays.items()}

        def use(name, inject=False):
            """Others asked first are forgotten: the file names another socket, and that one is asked at once."""
            path = runtimes[name].path if name else ""
            b.write_config(f'mode: {{ default: "on" }}\ncri: {{ socket: "{path}" }}\n'
                           f"devicePlugin: {{ cdiDevices: {'true' if inject else 'false'} }}\n")
        b.start_agent()
        b.wait_state("on", ready="true")
        b.wait_condition("Ready")
        for name, inject, reason, words in (
                ("no-handler", False, "RuntimeNotPrepared", "no runtime handler"),
                ("cdi-off", False, "Ready", "set enable_cdi = true"), ("cdi-off", True, "RuntimeNotPrepared", "cannot start: CDI is switched off"),
                ("well", True, "Ready", ""),
                ("other-dir", True, "RuntimeNotPrepared", "does not read CDI files in /var/run/cdi"),
                ("1.7", True, "Ready", ""), ("1.7-off", True, "RuntimeNotPrepared", "containerd 1.7.24"), ("crio", True, "Ready", "")):
            use(name, inject)

            def told():
                condition = watched(b)
                return condition["reason"] == reason and (words in condition["message"] if words else "CDI" not in condition["message"])
            until(lambda: f"{name}, {inject}: {reason} {words}: {b.condition()}", told)
        for name in ("1.6", "crio-1.26", *odd):
            seen = b.log().count("cannot be asked what it is prepared for")
            use(name, True)
            until("read again", lambda: f"/{name}.sock" in open(b.config, encoding="utf-8").read())
            if name in odd and name not in ("bad-json",):
                until(f"{name} is told", lambda: b.log().count("cannot be asked what it is prepared for") > seen)
            condition = watched(b)
            same(condition["reason"], "Ready", f"{name}: nothing is claimed: {condition}")
        use("no-handler")
        b.wait_condition("RuntimeNotPrepared")
        use("")
        b.wait_condition("Ready")  # who is not asked is not judged
        same(set(b.kubelet.devices()[PCIE].values()), {"Healthy"}, "served all the while")
        b.stop_agent()
        for runtime in runtimes.values():
            runtime.stop()


def the_pod_of_a_holder_that_kubelet_does_not_list():
    """As while a VM ends: the device is still open, PodResources has forgotten the pod."""
    with Bench("h100-pcie") as b:
        sandbox = os.path.basename(b.dir)  # a part of the holder's command line, as QEMU has "-name sandbox-ID"
        runtime = Cri(b.root, "../containerd/containerd", "containerd", "--sandbox", f"team/vm-7:kata-qemu-nvidia-gpu-snp:{sandbox}")
        b.start_agent()
        b.wait_state("off", ready="false")
        b.ctl("hold", "0000:18:00.0")
        b.label(MODE, "on")
        b.wait_state("waiting-busy")
        until(lambda: f"the pod is named: {b.condition()}", lambda: "of pod team/vm-7" in b.condition()["message"])
        assert "pid " in b.condition()["message"], b.condition()
        b.ctl("release", "0000:18:00.0")
        b.wait_state("on", ready="true")
        b.stop_agent()
        runtime.stop()


def a_runtime_that_does_not_answer_at_first():
    """No answer is not "of no pod": it is asked again."""
    with Bench("h100-pcie") as b:
        runtime = Cri(b.root, "../containerd/containerd", "containerd", "--handlers", "runc", "--sandbox",
                      f"team/vm-7:kata-qemu-nvidia-gpu-snp:{os.path.basename(b.dir)}")
        b.write_config('mode: { default: "devtools" }\n')
        b.start_agent()
        b.wait_state("devtools")
        until("the runtime is known", lambda: "has no runtime handler" in b.condition()["message"])
        runtime.process.send_signal(signal.SIGSTOP)
        try:
            b.ctl("hold", "0000:18:00.0")
            b.label(MODE, "on")
            b.wait_state("waiting-busy")
            until("no answer", lambda: "does not say whose processes they are" in b.log())
        finally:
            runtime.process.send_signal(signal.SIGCONT)
        until(lambda: f"the pod is named: {b.condition()}", lambda: "of pod team/vm-7" in b.condition()["message"])
        b.ctl("release", "0000:18:00.0")
        b.wait_state("on", ready="true")
        b.stop_agent()
        runtime.stop()


if __name__ == "__main__":
    run(every_kind_of_runtime, a_runtime_that_does_not_answer_at_first, the_usual_socket_and_a_kubelet_that_registers_again,
        the_pod_of_a_holder_that_kubelet_does_not_list, at_once=4)
