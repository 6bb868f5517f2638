#!/usr/bin/python3
"""A device that a pod has released is opened through VFIO, as the next VM will, before it is offered again."""
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
from rig import READY, STATE, Bench, run, same, until  # noqa: E402

SXM = "nvidia.com/GH100_H100_SXM5_80GB"
B200 = "nvidia.com/GB100_B200"
ON = 'mode: { default: "on" }\n'


def use_and_release(b, resource, meanwhile=lambda bdf: None):
    """A pod has a device, and ends. Returns which."""
    b.wait_state("on", ready="true")
    until("offered", lambda: set(b.kubelet.devices()[resource].values()) == {"Healthy"})
    bdf = b.kubelet.give(resource, "ml/train")
    until("it is in use", lambda: b.metric("ccnode_device_pod", device=bdf) == 1)
    meanwhile(bdf)
    b.kubelet.ask("release", pod="ml/train")
    return bdf


def health(b, resource, bdf):
    return b.kubelet.devices()[resource][bdf]


def opened_before_it_is_offered_again():
    for profile, resource in (("hgx-h100", SXM), ("hgx-b200", B200)):
        with Bench(profile, config=ON) as b:
            b.start_agent()
            before = {}
            bdf = use_and_release(b, resource, lambda _: before.update(b.resets()))
            at = len(b.history())
            until("it is checked", lambda: "device was released and can be opened" in b.log() and bdf in b.log())
            until("and offered", lambda: health(b, resource, bdf) == "Healthy")
            now = b.resets()
            same({d: n - before[d] for d, n in now.items() if n != before[d]}, {bdf: 2}, "VFIO resets it as it is opened and closed")
            same({(x.get(STATE), x.get(READY)) for _, x in b.history()[at:]} - {("on", "true")}, set(), "the others go on")
            same(b.events("ModeChangeStarted")[1:], [], "it is no change")
            b.stop_agent()


def not_when_it_is_not_wanted():
    with Bench("hgx-h100", config=ON + "recovery: { checkReleased: false }\n") as b:
        b.start_agent()
        before = {}
        bdf = use_and_release(b, SXM, lambda _: before.update(b.resets()))
        until("it is looked at", lambda: b.metric("ccnode_device_pod") == 0)
        until("and offered", lambda: b.metric("ccnode_device_state", device=bdf, health="healthy") == 1)
        same(b.resets(), before, "nothing was opened")
        b.stop_agent()


def not_where_vfio_may_not_be_opened():
    """As in a container without the devices: that says nothing about the device, and is found out once."""
    with Bench("hgx-b200", config=ON) as b:
        b.start_agent()
        before = {}
        b.ctl("fault", "all", "vfio-denied")
        for _ in range(2):
            bdf = use_and_release(b, B200, lambda _: before.update(b.resets()))
            until("it is looked at", lambda: b.metric("ccnode_device_pod") == 0)
            until("and offered", lambda: b.metric("ccnode_device_state", device=bdf, health="healthy") == 1)
            same((b.resets(), b.events("DeviceUnhealthy")), (before, []), "nothing was opened, nothing is claimed")
        same(b.log().count("released devices are not checked"), 1, "told once")
        same(b.metric("ccnode_step_seconds_count", step="check-vfio"), 1.0, "and not tried again")
        b.stop_agent()


def wedged_until_it_is_reset():
    for profile, resource in (("hgx-h100", SXM), ("hgx-b200", B200)):
        with Bench(profile, config=ON) as b:
            b.start_agent()
            bdf = use_and_release(b, resource, lambda bdf: b.ctl("fault", bdf, "vfio-wedged", "2"))
            event = until("it is told", lambda: b.events("DeviceUnhealthy"))[0]
            for words in (bdf, "check-vfio", "VFIO opens it for nobody any more"):
                assert words in event["note"], event
            until("reset and offered", lambda: health(b, resource, bdf) == "Healthy")
            b.wait_state("on", ready="true")
            same(b.metric("ccnode_device_failures_total", device=bdf, step="check-vfio", code="EIO"), 1.0, "one failure")
            same(b.metric("ccnode_device_consecutive_failures", device=bdf), 0.0, "overcome")
            b.stop_agent()


def wedged_until_it_is_taken_from_the_bus():
    with Bench("hgx-b200", config=ON) as b:
        b.start_agent()
        bdf = use_and_release(b, B200, lambda bdf: b.ctl("fault", bdf, "vfio-wedged", "1"))
        until("a reset did not help", lambda: b.metric("ccnode_device_failures_total", device=bdf, step="check-vfio") >= 2, 60)
        b.wait_condition("DeviceFailed")
        until(lambda: f"the cure is named: {b.condition()}",
              lambda: bdf in b.condition()["message"] and "recovery.rescan" in b.condition()["message"])
        b.wait_state("degraded", ready="true")  # the others are served
        same(health(b, B200, bdf), "Unhealthy", "that one is not")
        assert b.metric("ccnode_device_resets_total", device=bdf) >= 1
        same(b.events("RecoveringDevice"), [], "that was not allowed")
        b.write_config(ON + "recovery: { rescan: true }\n")
        until("taken from the bus", lambda: b.events("RecoveringDevice"))
        until("back and offered", lambda: health(b, B200, bdf) == "Healthy", 60)
        assert b.log().count("device was released and can be opened") == 1, "checked, too"
        b.wait_state("on", ready="true")
        b.stop_agent()


if __name__ == "__main__":
    run(wedged_until_it_is_reset, opened_before_it_is_offered_again, not_where_vfio_may_not_be_opened,
        wedged_until_it_is_taken_from_the_bus, not_when_it_is_not_wanted, at_once=3)
