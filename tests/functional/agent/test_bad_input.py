#!/usr/bin/python3
"""What bad input gets: a clear error that names the thing, the cause and the cure; no crash, no descriptor lost, nothing half
done. The parsers' own tests are elsewhere (docs/developer.md has the table); here the whole agent is fed."""
import json
import os
import signal
import socket
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
from rig import MODE, READY, STATE, Bench, run, same, until  # noqa: E402

GPU = "0000:18:00.0"
PCIE = "nvidia.com/GH100_H100_PCIE"
DEVICES = "ccnode.io/cc.mode.devices"


def descriptors(b):
    return len(os.listdir(f"/proc/{b.agent.pid}/fd"))


def children(b):
    with open(f"/proc/{b.agent.pid}/task/{b.agent.pid}/children", encoding="ascii") as f:
        return len(f.read().split())


class Unharmed:
    """Around hostile input: the hardware stays as it is, the agent lives, and holds no more descriptors than before."""

    def __init__(self, b):
        self.b = b

    def __enter__(self):
        until("settled", lambda: children(self.b) == 0)
        self.before, self.resets, self.modes = descriptors(self.b), self.b.resets(), self.b.modes()
        return self

    def __exit__(self, kind, *_):
        if kind:
            return
        b = self.b
        assert b.agent.poll() is None, "the agent has ended"
        same((b.resets(), b.modes()), (self.resets, self.modes), "hardware")
        until(lambda: f"descriptors {self.before} -> {descriptors(b)}, children {children(b)}",
              lambda: descriptors(b) <= self.before + 2 and children(b) == 0)  # a connection that is kept for a while


def send_event(b, labels, annotations=None):
    """As a server would that validates nothing."""
    meta = b.node()["metadata"]
    node = {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": {
        "name": "n1", "uid": meta["uid"], "resourceVersion": meta["resourceVersion"], "labels": labels,
        "annotations": annotations or {}}}
    until("a watch is open", lambda: b.api.call("GET", "/_standin/watches")[1]["watches"])
    code, answer = b.api.call("POST", "/_standin/watches", {
        "how": "bytes", "data": json.dumps({"type": "MODIFIED", "object": node}) + "\n"})
    same(code, 200, answer)


def conditions(b):
    """Every one that anybody could have seen."""
    code, answer = b.api.call("GET", "/_standin/history?resource=nodes&name=n1")
    same(code, 200, answer)
    return [c for change in answer["changes"] for c in change["object"].get("status", {}).get("conditions", [])
            if c["type"] == "ConfidentialGPUsReady"]


def label_and_annotation_values():
    """The true value comes back with the very event of the condition that complains of the false one: the log is asked."""
    with Bench("h100-pcie") as b:
        b.start_agent()
        b.label(MODE, "on")
        b.wait_state("on", ready="true")

        def expect(reason, labels, annotations=None):
            seen = b.log().count(f"reason={reason}\n")
            send_event(b, labels, annotations)
            until(lambda: f"{reason} for {labels} {annotations}"[:300], lambda: b.log().count(f"reason={reason}\n") > seen)
            b.label("example.com/other", str(time.monotonic_ns()))
            b.wait_condition("Ready")
        with Unharmed(b):
            for value in ("x" * 100_000, "o\x1b[31mn\x07", "on\n", "öff", "on,off", " on"):
                expect("InvalidMode", {MODE: value})
            for value in ('{"gpus":"\x1b[1m"}', '{"\x1b]0;x\x07":"off"}', '["on"]', '{"gpus":{"a":[1]}}', "{" * 1000, '{"gpus":"off"',
                          json.dumps({f"0000:{i:02x}:00.0": "off" for i in range(100)}), '{"' + "g" * 30_000 + '":"off"}'):
                expect("InvalidDeviceModes", {MODE: "on"}, {DEVICES: value})
            same((b.labels()[STATE], b.labels()[READY]), ("on", "true"), "the truth goes on")
        for condition in conditions(b):
            assert condition["message"].isprintable() and len(condition["message"]) <= 1024, condition
            assert condition["reason"] != "InvalidMode" or "on, off, devtools, ppcie" in condition["message"], condition
        assert {"InvalidMode", "InvalidDeviceModes"} <= {c["reason"] for c in conditions(b)}
        assert "\x1b" not in b.log(), "the log is for terminals"
        b.label(MODE, "off")
        b.wait_state("off", ready="false")
        b.stop_agent()


def configuration_files():
    """While it runs: the old one stays in force, the new one is named with its line."""
    with Bench("h100-pcie", config='mode: { default: "on" }\n') as b:
        b.start_agent()
        b.wait_state("on", ready="true")
        with Unharmed(b):
            for bad, words in (("x" * (10 << 20), "larger than"), ("mode: { default: 7 }\n", "mode.default"), ("busy: []\n", "busy"),
                               ("\x00\x01\x02" * 50, "ccnode.yaml"), ("devicePlugin: { namimg: model }\n", "namimg")):
                seen = b.log().count("the new configuration is not used")
                b.write_config(bad)
                until(f"{words} is told", lambda: b.log().count("the new configuration is not used") > seen)
                line = [x for x in b.log().splitlines() if "the new configuration is not used" in x][-1]
                assert words in line and "ccnode.yaml" in line, line
        same((b.labels()[STATE], b.labels()[READY]), ("on", "true"), "the old one stays")
        until("an Event", lambda: any("ccnode.yaml" in e["note"] for e in b.events("InvalidConfiguration")))
        b.stop_agent()


def who_uses_what_is_not_known():
    """Kubelet answers nonsense to the question who has the devices: nothing is touched until it answers."""
    with Bench("h100-pcie") as b:
        b.start_agent()
        b.wait_state("off", ready="false")
        for mode, words in (("garbage", "decoded"), ("oversize", "large"), ("error", "INTERNAL"), ("cut", "kubelet")):
            # offered, so the last look at its users, which kubelet answered well, no longer counts
            b.kubelet.ask("wait", resource=PCIE, allocatable=1)
            with Unharmed(b):
                b.kubelet.ask("set", podresources=mode)
                b.label(MODE, "on")
                condition = until(f"{mode} is told", lambda: (lambda c: c if words in c["message"] else None)(b.condition()))
                assert condition["status"] == "False", condition
                b.label(MODE, "off")
            b.kubelet.ask("set", podresources="normal")
            until("off, and said so", lambda: b.condition()["reason"] == "NotConfidential")
        b.label(MODE, "on")
        b.wait_state("on", ready="true")
        b.stop_agent()


def answers_of_the_device():
    """Short, of a wrong type, of another request, stale, torn: an error or a further try, in the end the wanted mode."""
    with Bench("h100-pcie", scale="0") as b:
        b.start_agent()
        b.wait_state("off", ready="false")
        mode = "off"
        for fault in ("short-answer", "wrong-type", "wrong-echo", "stale-answer", "stale-command", "torn-queue", "write-lost"):
            b.ctl("fault", GPU, fault, "1")
            mode = "on" if mode == "off" else "off"
            b.label(MODE, mode)
            b.wait_state(mode, ready="true" if mode == "on" else "false")
            b.ctl("clear", GPU)
            same(b.modes()[GPU], mode, fault)
        until("no worker is left", lambda: children(b) == 0)
        b.stop_agent()


def garbage_on_sockets():
    with Bench("h100-pcie") as b:
        b.start_agent()
        b.wait_state("off", ready="false")
        b.kubelet.ask("wait", resource=PCIE, allocatable=1)
        port = b.http_port()
        plugin = os.path.join(b.kubelet.plugins, "ccnode-GH100_H100_PCIE.sock")
        with Unharmed(b):
            for data in (b"\0" * 4096, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 4096, b"GET /" + b"x" * 200_000, os.urandom(3000), b""):
                for family, address in ((socket.AF_UNIX, plugin), (socket.AF_INET, ("127.0.0.1", port))):
                    with socket.socket(family) as s:
                        s.settimeout(5)
                        s.connect(address)
                        try:
                            s.sendall(data)
                            s.shutdown(socket.SHUT_WR)
                            while s.recv(65536):
                                pass
                        except OSError:  # it hung up: its right
                            pass
            for path in ("/" + "a" * 10_000, "/metrics/../../etc/passwd", "/%00", "/debug/plan?x=" + "y" * 5000):
                assert b.get(path)[0] in (200, 400, 404, 414), path
            same(b.get("/healthz")[0], 200, "healthz")
            for words in (("--ids", "0000:ff:00.0"), ("--ids", f"{GPU},{GPU}"), ("--requests", "0"), ("--hex", "0affffffff0f"),
                          ("--size", str(4 << 20), "--timeout", "20")):
                answer = b.kubelet.ctl("call", PCIE, "Allocate", *words)
                assert answer["code"] != 0, (words, answer)
        same(b.kubelet.ctl("call", PCIE, "Allocate", "--ids", GPU)["code"], 0, "it serves as before")
        b.stop_agent()


def a_host_that_cannot_be_looked_at():
    """No /sys below the host root, from the start or later: said once, tried again every five seconds, no processor burnt."""
    def calm(b):
        until("it says so", lambda: "the host cannot be looked at" in b.log())
        until("less than a fifth of a processor is used", lambda: share(b) < 0.2, step=0)  # when what the start needs is over
        # a look while the node is taken down may see it half gone: that is something else
        said = [x.split("error=", 1)[1] for x in b.log().splitlines() if "the host cannot be looked at" in x]
        same(said, list(dict.fromkeys(said)), "each said once")

    with Bench() as b:
        simulated, b.root = b.root, os.path.join(b.dir, "empty")
        try:
            os.mkdir(b.root)
            b.start_agent()
            calm(b)
            b.stop_agent()
        finally:
            b.root = simulated
        b.start_agent()
        b.wait_state("off", ready="false")
        b.sim_tool("stop")
        calm(b)


def a_host_that_is_hidden_for_a_while():
    """What was seen before is no promise: ready goes after seconds, and comes again with the host."""
    with Bench("h100-pcie", config='mode: { default: "on" }\n') as b:
        b.start_agent()
        b.wait_state("on", ready="true")
        until("/readyz", lambda: b.get("/readyz")[0] == 200)
        resets, bus = b.resets(), os.path.join(b.root, "sys/bus")
        subprocess.run(["mount", "-t", "tmpfs", "none", bus], check=True)
        try:
            b.agent.send_signal(signal.SIGHUP)  # somebody asks for a look; by itself it comes within a minute
            condition = b.wait_condition("HostUnreadable")
            same(condition["status"], "Unknown", condition)
            b.wait_state("on", ready="false")
            status, page = b.get("/readyz")
            assert status == 503 and "cannot be looked at" in page, (status, page)
            until("an Event", lambda: b.events("HostUnreadable"))
        finally:
            subprocess.run(["umount", "--lazy", bus], check=True)  # the agent may be looking at this moment
        b.wait_state("on", ready="true")
        b.wait_condition("Ready")
        until("/readyz", lambda: b.get("/readyz")[0] == 200)
        same(b.resets(), resets, "nothing was done")
        b.stop_agent()
        # a new agent that never saw the host does not leave the old promise standing
        subprocess.run(["mount", "-t", "tmpfs", "none", bus], check=True)
        try:
            b.start_agent()
            b.wait_condition("HostUnreadable")
            until("no promise", lambda: b.labels().get("nvidia.com/cc.ready.state") != "true")
        finally:
            subprocess.run(["umount", "--lazy", bus], check=True)
        b.wait_state("on", ready="true")
        same(b.resets(), resets, "nothing was done")


def share(b):
    """of a processor that the agent uses, over a second and as long as it takes to ask twice"""
    began, before = time.monotonic(), cpu_seconds(b)
    time.sleep(1)
    used = cpu_seconds(b) - before
    return used / (time.monotonic() - began)


def cpu_seconds(b):
    with open(f"/proc/{b.agent.pid}/stat", encoding="ascii") as f:
        return sum(map(int, f.read().rpartition(")")[2].split()[11:13])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    run(a_host_that_cannot_be_looked_at, a_host_that_is_hidden_for_a_while, answers_of_the_device, garbage_on_sockets,
        who_uses_what_is_not_known, label_and_annotation_values, configuration_files, at_once=4)
