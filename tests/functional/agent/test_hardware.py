#!/usr/bin/python3
"""Hardware that fails, drifts, comes and goes."""
import os
import re
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
from rig import BIN, MODE, READY, STATE, Bench, run, same, until  # noqa: E402

GPU = "0000:18:00.0"
OTHER = "0000:2a:00.0"
RESOURCE = "nvidia.com/GH100_H100_SXM5_80GB"
SWITCHES = "nvidia.com/GH100_H100_NVSWITCH"


def one_broken_gpu_of_eight(fault, value="1"):
    with Bench("hgx-h100") as b:
        b.start_agent()
        b.wait_state("off", ready="false")
        b.ctl("fault", GPU, fault, value)
        b.label(MODE, "on")
        b.wait_state("degraded", ready="true", seconds=90)
        modes = b.modes()
        same({d for d, m in modes.items() if m == "on"}, set(sorted(modes)[5:]), "the other seven")
        until("seven are served", lambda: [h for h in b.kubelet.devices()[RESOURCE].values()].count("Healthy") == 7)
        condition = b.wait_condition("DeviceFailed")
        assert GPU in condition["message"], condition
        until("Event", lambda: b.events("ModeChangeFailed"))
        b.ctl("clear", GPU)
        b.wait_state("on", ready="true", seconds=90)  # it retries by itself
        same(b.modes()[GPU], "on", "recovered")
        until("eight are served", lambda: [h for h in b.kubelet.devices()[RESOURCE].values()].count("Healthy") == 8)


def a_mute_gpu():
    one_broken_gpu_of_eight("fsp-mute")


def a_dead_gpu():
    one_broken_gpu_of_eight("dead")


def a_gpu_whose_reset_fails():
    one_broken_gpu_of_eight("reset-error", "25")


def a_failing_gpu_does_not_make_the_others_flap():
    """It is tried again and again; meanwhile the node stays degraded and ready, and the waits grow."""
    with Bench("hgx-h100") as b:
        b.start_agent()
        b.wait_state("off", ready="false")
        b.ctl("fault", GPU, "reset-error", "25")
        b.label(MODE, "on")
        b.wait_state("degraded", ready="true")
        at = len(b.history())
        until("three more tries", lambda: b.metric("ccnode_step_seconds_count", step="reset") >= 8 + 3, 120)
        states = {(x.get(STATE), x.get(READY)) for _, x in b.history()[at:]}
        assert states <= {("degraded", "true")}, states
        same(len(b.events("ModeChangeFailed")), 1, "told once")


def repaired_by_hand():
    """While the agent pauses between its tries: the command on the host, and the agent takes the device as it finds it."""
    with Bench("hgx-h100") as b:
        b.start_agent()
        b.wait_state("off", ready="false")
        b.ctl("fault", GPU, "reset-error", "25")
        b.label(MODE, "on")
        b.wait_state("degraded", ready="true")
        until("it pauses for some seconds", lambda: b.metric("ccnode_device_consecutive_failures", device=GPU) >= 4, 120)
        b.ctl("clear", GPU)
        # the agent may be at it in this moment, then the command says who has it: as a person, type it again
        until("by hand", lambda: subprocess.run([os.path.join(BIN, "ccnode"), "--host-root", b.root, "set-mode", "on", GPU],
                                                env={**os.environ, **b.env}, timeout=60).returncode == 0)
        same(b.modes()[GPU], "on", "switched")
        resets = b.resets()
        b.wait_state("on", ready="true", seconds=120)
        same(b.resets(), resets, "the agent found it switched")
        until("eight are served", lambda: list(b.kubelet.devices()[RESOURCE].values()).count("Healthy") == 8)
        b.stop_agent()


def tried_at_once_after_a_restart():
    with Bench("hgx-h100") as b:
        b.start_agent()
        b.wait_state("off", ready="false")
        b.ctl("fault", GPU, "reset-error", "25")
        b.label(MODE, "on")
        b.wait_state("degraded", ready="true")
        until("long pauses", lambda: b.metric("ccnode_device_consecutive_failures", device=GPU) >= 5, 120)
        b.ctl("clear", GPU)
        b.stop_agent()
        b.start_agent()
        b.wait_state("on", ready="true")
        # together with the others: before the first of all has answered
        steps = re.findall('msg="step (begins|done)" bdf=([0-9a-f:.]+)', b.log())
        first = [bdf for _, bdf in steps[:[what for what, _ in steps].index("done")]]
        assert GPU in first, f"the first steps are those of {first}"
        b.stop_agent()


def a_gpu_that_forgets_its_mode():
    one_broken_gpu_of_eight("mode-lost", "100")


def hold_all_withdraws_all():
    with Bench("hgx-h100", config="failure: { policy: hold-all }\n") as b:
        b.start_agent()
        b.wait_state("off", ready="false")
        b.ctl("fault", GPU, "reset-error", "25")
        b.label(MODE, "on")
        b.wait_state("degraded", ready="false", seconds=90)
        until(lambda: f"all withdrawn: {b.kubelet.devices()}", lambda: set(b.kubelet.devices()[RESOURCE].values()) == {"Unhealthy"})
        b.ctl("clear", GPU)
        b.wait_state("on", ready="true", seconds=90)


def settings(b):
    """bdf -> (active mode, every knob): what is staged counts."""
    return {d: (mode, b.ctl_json("knobs", d)["knobs"]) for d, mode in b.modes().items()}


def ppcie_failure_before_the_reset_puts_all_back():
    with Bench("hgx-h100") as b:
        b.start_agent()
        b.wait_state("off", ready="false")
        before, staged = b.resets(), settings(b)
        b.ctl("fault", "0000:07:00.0", "fsp-mute", "1")
        b.label(MODE, "ppcie")
        b.wait_state("failed", ready="", seconds=90)
        same(b.resets(), before, "nobody was reset")

        def as_before():  # between two tries; each stages and puts back
            now = settings(b)
            return [d for d in staged if now[d] != staged[d]] == []
        until(lambda: f"all modes and knobs as before: {staged}, not {settings(b)}", as_before, 90, step=0.2)
        b.ctl("clear", "0000:07:00.0")
        b.wait_state("ppcie", ready="true", seconds=90)


def an_unbind_that_never_ends_before_ppcie_puts_all_back():
    """The others have waited at the barrier for longer than the firmware gets for a step: what they put back is another."""
    with Bench("hgx-h100", "--delay", "rpc_ms=100") as b:
        b.start_agent()
        b.wait_state("off", ready="false")
        before = b.resets()
        b.ctl("fault", GPU, "unbind-blocks")
        b.label(MODE, "ppcie")
        others = sorted(set(b.modes()) - {GPU})
        for staged in (1, 0):
            until(f"PPCIE knob of the others is {staged}",
                  lambda: {b.ctl_json("knobs", d)["knobs"]["45"] for d in others} == {staged}, 120)
        until("bound again", lambda: {b.driver(d) for d in others} == {"vfio-pci"})
        assert "FSP does not" not in b.log()
        same(b.resets(), before, "nobody was reset")
        b.ctl("clear", GPU)
        b.wait_state("ppcie", ready="true", seconds=90)


def a_mode_changed_by_somebody_else_is_put_right():
    with Bench("h100-pcie", config="devices: { verifyInterval: 1s }\n") as b:
        b.start_agent()
        b.label(MODE, "on")
        b.wait_state("on", ready="true")
        b.ctl("drift", GPU, "off")
        until("told", lambda: b.events("DriftDetected"))
        # the Event comes first, the labels of before may still stand
        until("put right", lambda: b.modes() == {GPU: "on"})
        b.wait_state("on", ready="true")
        assert b.metric("ccnode_drift_detected_total") >= 1


def a_rebound_gpu_comes_back():
    with Bench("h100-pcie") as b:
        b.start_agent()
        b.wait_state("off", ready="false")
        with open(f"{b.root}/sys/bus/pci/devices/{GPU}/driver/unbind", "w") as f:
            f.write(GPU)
        until("bound again", lambda: b.driver(GPU) == "vfio-pci")
        until("healthy", lambda: b.kubelet.devices()["nvidia.com/GH100_H100_PCIE"][GPU] == "Healthy")
        until("told", lambda: b.events("DriftDetected"))
        b.wait_state("off", ready="false")


def unplugged_and_plugged_without_a_restart():
    with Bench("hgx-h100") as b:
        b.start_agent()
        b.wait_state("off", ready="false")
        until("8", lambda: len(b.kubelet.devices()[RESOURCE]) == 8)
        b.ctl("unplug", GPU)
        until("gone from kubelet", lambda: GPU not in b.kubelet.devices()[RESOURCE])
        until("gone from CDI", lambda: GPU not in b.cdi_names().get(RESOURCE, ()))
        b.label(MODE, "on")
        b.wait_state("on", ready="true")
        b.ctl("plug", GPU)
        until("back", lambda: b.kubelet.devices()[RESOURCE].get(GPU) == "Healthy")
        same(b.modes()[GPU], "on", "switched like the others")
        assert GPU in b.cdi_names()[RESOURCE]
        b.wait_state("on", ready="true")


def unplugged_while_bound_to_nothing():
    """No node under /dev/vfio goes with it: the poll alone can tell."""
    with Bench("h100-pcie", config="vfio: { manage: false }\n") as b:
        gpu = next(iter(b.modes()))
        if b.driver(gpu):
            with open(f"{b.root}/sys/bus/pci/devices/{gpu}/driver/unbind", "w") as f:
                f.write(gpu)
        b.start_agent()
        until("found", lambda: "device found" in b.log())
        until("the first look is over", lambda: "ccnode.io/status" in b.node()["metadata"].get("annotations", {}))
        b.ctl("unplug", gpu)
        until("noticed", lambda: "device is gone" in b.log())


def a_dead_gpu_is_reset_by_its_bridge():
    """Its registers are gone, its configuration space is not: what an FLR does not cure."""
    with Bench("hgx-h100", config="recovery: { rescan: true }\n") as b:
        b.start_agent()
        b.wait_state("off", ready="false")
        b.ctl("fault", GPU, "mmio-dead", "2")
        b.label(MODE, "on")
        until("told", lambda: b.events("RecoveringDevice"), 120)
        b.wait_state("on", ready="true", seconds=120)
        same({d["bdf"]: d["sbr"] for d in b.ctl_json("counters")}, {d: int(d == GPU) for d in b.modes()}, "bus resets")
        assert not b.metric("ccnode_step_seconds_count", step="remove"), "taken from the bus"


def a_dead_gpu_is_looked_for_again():
    with Bench("hgx-h100", config="recovery: { rescan: true }\n") as b:
        b.start_agent()
        b.wait_state("off", ready="false")
        b.ctl("fault", GPU, "dead", "1")
        b.label(MODE, "on")
        until("removed and scanned", lambda: b.metric("ccnode_step_seconds_count", step="rescan") == 1)
        until("told", lambda: b.events("RecoveringDevice"))
        until("the other seven go on without it", lambda: len(b.kubelet.devices()[RESOURCE]) == 7)
        b.ctl("clear", GPU)
        with open(b.root + "/sys/bus/pci/rescan", "w") as f:
            f.write("1")
        until("back", lambda: b.modes()[GPU] == "on", 120)
        until("eight are served", lambda: [h for h in b.kubelet.devices()[RESOURCE].values()].count("Healthy") == 8)


def write(b, path, text):
    with open(f"{b.root}/sys/bus/pci/{path}", "w", encoding="ascii") as f:
        f.write(text)


def gpus_bound_later_than_we_start():
    """Somebody else binds them (vfio.manage: false), one after the other, while we run."""
    gpus = [GPU, OTHER]
    with Bench("hgx-h100", config='vfio: { manage: false }\ndevices: { include: [ "18:00.0", "2a:00.0" ] }\n') as b:
        for gpu in gpus:
            if b.driver(gpu):
                write(b, f"devices/{gpu}/driver/unbind", gpu)
        b.start_agent()
        b.wait_state("off", ready="false")
        until("named, not given away", lambda: b.kubelet.devices() == {RESOURCE: dict.fromkeys(gpus, "Unhealthy")})
        same(b.cdi_names(), {}, "CDI entries of devices that nobody has bound")
        b.label(MODE, "on")
        b.wait_state("on", ready="false")
        same([b.driver(gpu) for gpu in gpus], [None, None], "we bind nothing")
        condition = b.wait_condition("NotOffered")
        assert f"{GPU}: it is bound to no driver, not to VFIO" in condition["message"], condition
        for n, gpu in enumerate(gpus, 1):
            write(b, f"devices/{gpu}/driver_override", "vfio-pci")
            write(b, "drivers_probe", gpu)
            health = {g: "Healthy" if g in gpus[:n] else "Unhealthy" for g in gpus}
            until(lambda: f"{health}: {b.kubelet.devices()}", lambda: b.kubelet.devices() == {RESOURCE: health})
            until("its CDI entry", lambda: gpu in b.cdi_names().get(RESOURCE, ()))
        b.wait_state("on", ready="true")


def a_vfio_node_that_goes_and_comes():
    """Of one device, while the others are offered. The simulated node makes real nodes, so that they can be removed."""
    with Bench("hgx-h100", "--device-nodes") as b:
        b.start_agent()
        b.label(MODE, "on")
        b.wait_state("on", ready="true")
        for resource, count in ((RESOURCE, 8), (SWITCHES, 4)):
            b.kubelet.ask("wait", resource=resource, allocatable=count)
        gpus = set(b.kubelet.devices()[RESOURCE])
        node = f"{b.root}/dev/vfio/" + str(next(d["group"] for d in b.ctl_json("devices") if d["bdf"] == OTHER))
        registered = len(b.kubelet.ask("log", what="register")["log"])
        for _ in range(3):
            was = os.stat(node)
            os.unlink(node)
            lost = {g: "Unhealthy" if g == OTHER else "Healthy" for g in gpus}
            until(lambda: f"{OTHER} is withdrawn: {b.kubelet.devices()}", lambda: b.kubelet.devices()[RESOURCE] == lost)
            entry = until("the node says so too", lambda: [d for d in b.annotation_status() if (d["bdf"], d["health"]) == (OTHER, "failed")])[0]
            assert os.path.basename(node) in entry["reason"] and "missing" in entry["reason"], entry
            until("and so is its CDI entry", lambda: OTHER not in b.cdi_names()[RESOURCE])
            answer = b.kubelet.ctl("call", RESOURCE, "Allocate", "--ids", OTHER)
            assert answer["code"] != 0 and OTHER in answer["message"], answer
            same(b.kubelet.ctl("call", RESOURCE, "Allocate", "--ids", GPU)["code"], 0, "the others are given")
            os.mknod(node, was.st_mode, was.st_rdev)
            until(lambda: f"{OTHER} is back: {b.kubelet.devices()}", lambda: set(b.kubelet.devices()[RESOURCE].values()) == {"Healthy"})
            until("its CDI entry too", lambda: OTHER in b.cdi_names()[RESOURCE])
        same(len(b.kubelet.ask("log", what="register")["log"]), registered, "registered once")
        b.wait_state("on", ready="true")


def container_hands_back_and_takes_again():
    with Bench("h100-pcie") as b:
        b.start_agent()
        b.label(MODE, "on")
        b.wait_state("on", ready="true")
        b.label("nvidia.com/gpu.workload.config", "container")
        until("handed back", lambda: b.driver(GPU) != "vfio-pci")
        until("not offered", lambda: not b.kubelet.devices().get("nvidia.com/GH100_H100_PCIE") and not b.cdi_names())
        b.wait_state("on", ready="false")
        b.label("nvidia.com/gpu.workload.config", "vm-passthrough")
        b.wait_state("on", ready="true")
        same(b.driver(GPU), "vfio-pci", "taken again")
        workload = os.path.join(b.root, "run/nvidia/validations/workload-type")
        until("it is said of the workload", lambda: os.path.exists(workload))
        b.label("nvidia.com/gpu.workload.config", "vm-vgpu")
        b.wait_condition("HandsOff")
        until("what we said of the workload is taken back", lambda: not os.path.exists(workload))
        until("and so are the labels", lambda: not {STATE, READY} & set(b.labels()))
        same(b.driver(GPU), "vfio-pci", "hands off means hands off")


if __name__ == "__main__":
    run(an_unbind_that_never_ends_before_ppcie_puts_all_back, ppcie_failure_before_the_reset_puts_all_back, a_mute_gpu,
        tried_at_once_after_a_restart, repaired_by_hand, a_dead_gpu_is_looked_for_again, a_failing_gpu_does_not_make_the_others_flap,
        a_mode_changed_by_somebody_else_is_put_right, unplugged_and_plugged_without_a_restart, unplugged_while_bound_to_nothing,
        a_dead_gpu, a_gpu_whose_reset_fails, a_gpu_that_forgets_its_mode, hold_all_withdraws_all, a_rebound_gpu_comes_back,
        a_dead_gpu_is_reset_by_its_bridge, gpus_bound_later_than_we_start, a_vfio_node_that_goes_and_comes,
        container_hands_back_and_takes_again, at_once=4)
