#!/usr/bin/python3
"""An API server that misbehaves: no order is lost, nothing wrong is said, the process never ends."""
import os
import re
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
from rig import MODE, READY, STATE, Bench, run, same, until  # noqa: E402

GPU = "0000:18:00.0"


class Flip:
    """on, off, on, …: the next order."""

    def __init__(self, b):
        self.b, self.mode = b, "off"

    def __call__(self):
        self.mode = "on" if self.mode == "off" else "off"
        self.b.label(MODE, self.mode)
        self.b.wait_state(self.mode, ready="true" if self.mode == "on" else "false")


def no_fault_of_the_server_loses_an_order():
    with Bench("h100-pcie") as b:
        b.start_agent()
        b.wait_state("off", ready="false")
        flip = Flip(b)
        flip()
        for way in ("end", "reset", "close", "truncate", "error"):
            b.api.ctl("watches", way)
            flip()
        b.api.ctl("watches", "bytes", "--data", '{"type":"MODIFIED","obj')
        flip()
        b.api.ctl("watches", "error", "--code", "500")
        flip()
        b.api.ctl("forget-history")
        b.api.ctl("watches", "reset")
        flip()
        ours = ("--agent", "ccnode-agent*", "--verb", "patch", "--resource", "nodes", "--times", "1")  # not our own patch
        for code in ("401", "403", "409", "429", "500", "503"):
            more = ("--retry-after", "1") if code == "429" else ()
            b.api.ctl("fault", "status", "--code", code, *ours, *more)
            flip()
        for code in ("410", "500"):
            b.api.ctl("fault", "status", "--code", code, "--verb", "watch", "--times", "1")
            b.api.ctl("watches", "reset")
            flip()
        for kind in ("reset", "malformed", "truncate", "empty", "html"):
            b.api.ctl("fault", kind, *ours)
            flip()
        b.api.ctl("fault", "wrong-node", "--verb", "list", "--times", "1")
        b.api.ctl("watches", "reset")
        flip()
        assert b.agent.poll() is None
        until("all said in the end", lambda: b.condition()["status"] == ("True" if flip.mode == "on" else "False"))


def other_writers_do_not_confuse_the_labels():
    with Bench("h100-pcie") as b:
        b.start_agent()
        b.wait_state("off", ready="false")
        b.api.ctl("writer", "50")
        flip = Flip(b)
        for _ in range(4):
            flip()
        b.api.ctl("writer", "0")
        same(b.modes(), {GPU: flip.mode}, "hardware")


def a_foreign_value_of_our_label_is_put_right():
    with Bench("h100-pcie") as b:
        b.start_agent()
        b.wait_state("off", ready="false")
        time.sleep(1.2)  # past the time in which an event may be older than our own patch
        for _ in range(3):
            b.label(READY, "true")
            b.wait_state("off", ready="false")
        b.label(STATE, None)
        b.wait_state("off", ready="false")


def an_invalid_label_touches_nothing():
    with Bench("h100-pcie") as b:
        b.start_agent()
        b.label(MODE, "on")
        b.wait_state("on", ready="true")
        resets = b.resets()
        for value in ("maybe", "ON", "x" * 63, "off.on"):
            b.label(MODE, value)
            condition = b.wait_condition("InvalidMode")
            assert "on, off, devtools, ppcie" in condition["message"], condition
            same((b.labels()[STATE], b.labels()[READY]), ("on", "true"), "the truth goes on")
        same(b.resets(), resets, "hardware")
        until("Event", lambda: b.events("InvalidMode"))
        b.annotate("ccnode.io/cc.mode.devices", "{not json")
        b.wait_condition("InvalidDeviceModes")
        b.annotate("ccnode.io/cc.mode.devices", None)
        b.label("nvidia.com/gpu.workload.config", "kata")
        b.wait_condition("InvalidWorkload")
        same(b.resets(), resets, "hardware")
        b.label("nvidia.com/gpu.workload.config", None)
        b.label(MODE, "off")
        b.wait_state("off", ready="false")


def on_off_on_is_one_change_and_one_more():
    with Bench("hgx-h100", scale="0.3") as b:
        b.start_agent()
        b.wait_state("off", ready="false")
        before, orders = b.resets(), ["on", "off", "on"]
        for mode in orders:
            b.label(MODE, mode)
            time.sleep(0.1)
        # the state of the first order looks like that of the last: it counts when that one has been heard
        until("all orders are heard", lambda: re.findall('"orders of the node" mode=(\\w+)', b.log())[-3:] == orders)
        b.get("/healthz")  # answered after what was heard before
        b.wait_state("on", ready="true")
        time.sleep(0.3)
        for d, n in b.resets().items():
            assert n - before[d] <= 3, f"{d}: {n - before[d]} resets"
        modes = b.modes()
        same({modes[d] for d in sorted(modes)[4:]}, {"on"}, "the last order counts")


def per_device_modes():
    with Bench("hgx-h100") as b:
        b.start_agent()
        b.wait_state("off", ready="false")
        b.annotate("ccnode.io/cc.mode.devices", '{"0000:18:00.0":"on","gpus[1]":"devtools"}')
        b.wait_state("mixed", ready="")
        modes = b.modes()
        same((modes[GPU], modes["0000:2a:00.0"], modes["0000:3a:00.0"]), ("on", "devtools", "off"), "each its own")
        b.annotate("ccnode.io/cc.mode.devices", None)
        b.wait_state("off", ready="false")


def without_api_server_the_last_orders_hold():
    with Bench("h100-pcie", config="devices: { verifyInterval: 1s }\n") as b:
        b.start_agent()
        b.label(MODE, "on")
        b.wait_state("on", ready="true")
        b.api.ctl("down")
        # a restart while the server is away: the orders are known from the disk
        b.kill_agent()
        b.start_agent()
        resource = "nvidia.com/GH100_H100_PCIE"
        until("served", lambda: b.kubelet.devices().get(resource, {}).get(GPU) == "Healthy")
        same(b.modes(), {GPU: "on"}, "not switched to the default")
        # a mode that drifts while the label says ready: withdrawn at kubelet, but not touched until the label can be cleared
        resets = b.resets()[GPU]
        b.ctl("drift", GPU, "off")
        until("withdrawn", lambda: b.kubelet.devices()[resource][GPU] == "Unhealthy")
        time.sleep(0.5)
        same(b.resets()[GPU], resets, "the label says ready and cannot be cleared")
        same(b.modes(), {GPU: "off"}, "waits for the label")
        assert b.metric("ccnode_drift_detected_total") >= 1
        b.api.ctl("up")
        until("put right", lambda: b.modes()[GPU] == "on", 60)
        b.wait_state("on", ready="true")


def a_node_that_is_registered_late():
    with Bench("h100-pcie") as b:
        code, _ = b.api.call("DELETE", "/api/v1/nodes/n1")
        assert code == 200
        b.start_agent()
        time.sleep(0.5)
        assert b.agent.poll() is None
        same(b.resets()[GPU], 0, "untouched")
        code, _ = b.api.call("POST", "/api/v1/nodes", {"metadata": {"name": "n1", "labels": {MODE: "on"}}})
        assert code == 201
        b.wait_state("on", ready="true")


if __name__ == "__main__":
    run(no_fault_of_the_server_loses_an_order, other_writers_do_not_confuse_the_labels,
        a_foreign_value_of_our_label_is_put_right, an_invalid_label_touches_nothing, on_off_on_is_one_change_and_one_more,
        per_device_modes, without_api_server_the_last_orders_hold, a_node_that_is_registered_late, at_once=3)
