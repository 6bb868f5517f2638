#!/usr/bin/python3
"""What can be seen of each device from outside, as metrics: who has it, what it is bound to, its mode, link, errors, power,
resets and failures."""
import json
import os
import re
import sys

sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
from rig import MODE, SOURCE, Bench, run, same, until  # noqa: E402

GPU = "0000:18:00.0"
OTHER = "0000:2a:00.0"
SWITCH = "0000:07:00.0"
SXM = "nvidia.com/GH100_H100_SXM5_80GB"


def series(b, name):
    """[(labels, value)] of one metric"""
    out = []
    for line in b.get("/metrics")[1].splitlines():
        head, _, value = line.rpartition(" ")
        if head.split("{")[0] != name:
            continue
        labels = dict(pair.split("=", 1) for pair in head.split("{")[1][:-1].split('",'))
        out.append(({k: v.strip('"') for k, v in labels.items()}, float(value)))
    return out


def of(b, name, device=GPU):
    return [({k: v for k, v in labels.items() if k != "device"}, value)
            for labels, value in series(b, name) if labels["device"] == device]


def one(b, name, device=GPU):
    found = of(b, name, device)
    same(len(found), 1, f"{name} of {device}: {found}")
    return found[0]


def what_is_seen_of_a_device():
    with Bench("hgx-h100") as b:
        b.start_agent()
        b.wait_state("off", ready="false")
        same(one(b, "ccnode_device_info"), ({"kind": "gpu", "resource": SXM, "driver": "vfio-pci"}, 1.0), "a GPU")
        same(one(b, "ccnode_device_info", SWITCH)[0]["kind"], "nvswitch", "a switch")
        same(len(series(b, "ccnode_device_info")), 12, "all")
        same(one(b, "ccnode_device_state"), ({"mode": "off", "health": "healthy"}, 1.0), "its mode")
        # the worker that has just read it lets it sleep as it ends
        until("an idle device on vfio-pci sleeps, and still does", lambda: one(b, "ccnode_device_power_state")[0]["state"] == "D3hot")
        same(one(b, "ccnode_device_link_transfers_per_second"), ({}, 32e9), "its link")
        same(one(b, "ccnode_device_link_max_transfers_per_second"), ({}, 32e9), "its best link")
        same(one(b, "ccnode_device_link_width"), ({}, 16.0), "lanes")
        same(one(b, "ccnode_device_link_max_width"), ({}, 16.0), "most lanes")
        same({x[0]["severity"]: x[1] for x in of(b, "ccnode_device_pcie_errors_total")},
             {"correctable": 0.0, "nonfatal": 0.0, "fatal": 0.0}, "no errors")
        same(one(b, "ccnode_device_resets_total"), ({}, 0.0), "no resets")

        b.ctl("fault", GPU, "link-speed", "3")
        b.ctl("fault", GPU, "link-width", "4")
        b.ctl("fault", GPU, "aer-correctable", "17")
        b.ctl("fault", GPU, "aer-fatal", "2")
        same(one(b, "ccnode_device_link_transfers_per_second"), ({}, 8e9), "seen at once: nothing is remembered")
        same(one(b, "ccnode_device_link_max_transfers_per_second"), ({}, 32e9), "and could be better")
        same(one(b, "ccnode_device_link_width"), ({}, 4.0), "lanes")
        same({x[0]["severity"]: x[1] for x in of(b, "ccnode_device_pcie_errors_total")},
             {"correctable": 17.0, "nonfatal": 0.0, "fatal": 2.0}, "errors")
        same(one(b, "ccnode_device_link_width", OTHER), ({}, 16.0), "of the one alone")

        same(series(b, "ccnode_device_pod"), [], "nobody has one")
        given = b.kubelet.give(SXM, "ml/train")
        until("the pod is named", lambda: series(b, "ccnode_device_pod") ==
              [({"device": given, "namespace": "ml", "pod": "train"}, 1.0)])
        b.kubelet.ask("release", pod="ml/train")
        until("and forgotten", lambda: series(b, "ccnode_device_pod") == [])
        b.stop_agent()


def resets_and_failures():
    with Bench("hgx-h100") as b:
        b.start_agent()
        b.wait_state("off", ready="false")
        b.ctl("fault", OTHER, "reset-error", "25")
        b.label(MODE, "on")
        b.wait_state("degraded", ready="true")
        same(one(b, "ccnode_device_resets_total"), ({}, 1.0), "one reset")
        same(one(b, "ccnode_device_resets_total", OTHER), ({}, 0.0), "none succeeded")
        labels, count = one(b, "ccnode_device_failures_total", OTHER)
        same((labels, count >= 1), ({"step": "reset", "code": "ENOTTY"}, True), "which step and how")
        assert one(b, "ccnode_device_consecutive_failures", OTHER)[1] >= 1
        assert one(b, "ccnode_device_last_failure_timestamp_seconds", OTHER)[1] > 1.7e9
        same(of(b, "ccnode_device_failures_total"), [], "nothing failed here")
        same(one(b, "ccnode_device_state", OTHER)[0]["health"], "failed", "health")
        b.ctl("clear", OTHER)
        b.wait_state("on", ready="true", seconds=90)
        same(one(b, "ccnode_device_consecutive_failures", OTHER), ({}, 0.0), "forgotten")
        assert one(b, "ccnode_device_failures_total", OTHER)[1] >= 1, "a counter is not"
        b.stop_agent()


def what_is_not_there_has_no_sample():
    """A dead device has no link to read; its errors are the kernel's. One that is gone has nothing."""
    with Bench("hgx-h100") as b:
        b.start_agent()
        b.wait_state("off", ready="false")
        b.ctl("fault", GPU, "dead")
        same(of(b, "ccnode_device_link_transfers_per_second"), [], "no speed")
        same(of(b, "ccnode_device_link_width"), [], "no lanes")
        same(len(of(b, "ccnode_device_pcie_errors_total")), 3, "the kernel's counts")
        b.ctl("unplug-surprise", OTHER)
        until("it is gone", lambda: of(b, "ccnode_device_info", OTHER) == [])
        for line in b.get("/metrics")[1].splitlines():
            assert OTHER not in line or "_total" in line, line
        b.stop_agent()


def every_metric_is_documented_and_every_panel_has_one():
    with Bench("h100-pcie") as b:
        b.start_agent()
        b.wait_state("off", ready="false")
        names = {line.split()[2] for line in b.get("/metrics")[1].splitlines() if line.startswith("# TYPE ")}
        b.stop_agent()
    with open(os.path.join(SOURCE, "docs/operator.md"), encoding="utf-8") as f:
        same(set(re.findall(r"`(ccnode_\w+)`", f.read())), names, "the table of docs/operator.md")
    with open(os.path.join(SOURCE, "helm/ccnode/dashboards/ccnode.json"), encoding="utf-8") as f:
        drawn = set(re.findall(r"ccnode_\w+", " ".join(t["expr"] for p in json.load(f)["panels"] for t in p["targets"])))
    same({re.sub("_(bucket|sum|count)$", "", name) for name in drawn} - names, set(), "what the dashboard asks for")


if __name__ == "__main__":
    run(what_is_seen_of_a_device, resets_and_failures, what_is_not_there_has_no_sample,
        every_metric_is_documented_and_every_panel_has_one)
