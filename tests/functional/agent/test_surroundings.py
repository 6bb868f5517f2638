#!/usr/bin/python3
"""What is wrong around the agent and not its own to mend is told where people look, with the name of the thing and the cure; the
devices are served meanwhile. (Issue 4 section 6; the same rows on real components: tests/cluster/test_bad_input.py.)"""
import asyncio
import os
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
from rig import MODE, READY, STATE, SOURCE, Bench, need, run, same, until  # noqa: E402

sys.path.insert(0, os.path.join(SOURCE, "deploy/standin/lib"))
from plugin import Plugin  # noqa: E402  (beside the stand-ins' tests)

GPU = "0000:18:00.0"
PCIE = "nvidia.com/GH100_H100_PCIE"
SXM = "nvidia.com/GH100_H100_SXM5_80GB"
AGAIN = "the resource is registered again"


def put(b, path, text):
    path = b.root + path
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path + ".new", "w", encoding="utf-8") as f:
        f.write(text)
    os.rename(path + ".new", path)  # at once: nobody sees a part of it
    return path


def truth_goes_on(b):
    same((b.labels()[STATE], b.labels()[READY]), ("on", "true"), b.condition())


def broken_cdi_file_of_somebody_else():
    with Bench("h100-pcie", config='mode: { default: "on" }\n') as b:
        old = put(b, "/etc/cdi/old-tool.yaml", "cdiVersion: 0.5.0\nkind: vendor.com/gpu\ndevices: [\n")
        put(b, "/var/run/cdi/fine.json", '{"cdiVersion":"0.5.0","kind":"vendor.com/nic","devices":[{"name":"a",'
            '"containerEdits":{"env":["A=b"]}}]}')
        b.start_agent()
        b.wait_state("on", ready="true")
        condition = b.wait_condition("BrokenCDIFile")
        assert "/etc/cdi/old-tool.yaml" in condition["message"] and "fine.json" not in condition["message"], condition
        same(condition["status"], "True", "the devices are what they are")
        event = until("an Event", lambda: b.events("BrokenCDIFile"))[0]
        assert "/etc/cdi/old-tool.yaml" in event["note"] and event["type"] == "Warning", event
        second = put(b, "/var/run/cdi/twice.json", "not a specification")
        until("the second file is named", lambda: "/var/run/cdi/twice.json" in b.condition()["message"])
        os.unlink(second)
        os.unlink(old)
        b.wait_condition("Ready")
        assert "cdi" not in b.condition()["message"].lower(), b.condition()
        truth_goes_on(b)
        b.stop_agent()


def cdi_kind_of_somebody_else():
    """A foreign file offers nvidia.com/pgpu too: that kind is given up, the devices are served under their model's name."""
    with Bench("h100-pcie", config='mode: { default: "on" }\n') as b:
        put(b, "/var/run/cdi/kata.yaml", "cdiVersion: 0.5.0\nkind: nvidia.com/pgpu\ndevices:\n- name: x\n"
            "  containerEdits:\n    env: [A=b]\n")
        b.start_agent()
        b.wait_state("on", ready="true")
        condition = b.wait_condition("OfferFailed")
        assert "/var/run/cdi/kata.yaml" in condition["message"] and "nvidia.com/pgpu" in condition["message"], condition
        until("served", lambda: b.kubelet.devices() == {PCIE: {GPU: "Healthy"}})
        assert os.path.exists(b.root + "/var/run/cdi/nvidia.com-GH100_H100_PCIE.yaml")
        until(lambda: f"annotation: {b.annotation_status()}",
              lambda: [(d["health"], d["resource"]) for d in b.annotation_status()] == [("healthy", PCIE)])
        b.stop_agent()


def cdi_files_that_somebody_touches():
    """What is advertised resolves on disk: a file that was damaged or removed is written again, one that became another's is
    a reason to withdraw."""
    with Bench("h100-pcie", config='mode: { default: "on" }\n') as b:
        b.start_agent()
        b.wait_state("on", ready="true")
        files = {n: b.root + f"/var/run/cdi/nvidia.com-{n}.yaml" for n in ("GH100_H100_PCIE", "pgpu")}
        texts = {}
        for name, path in files.items():
            with open(path, encoding="utf-8") as f:
                texts[name] = f.read()

        def restored():
            for name, path in files.items():
                with open(path, encoding="utf-8") as f:
                    if f.read() != texts[name]:
                        return False
            return True

        for count, harm in enumerate((lambda: os.truncate(files["GH100_H100_PCIE"], 0), lambda: os.truncate(files["pgpu"], 100),
                                      lambda: put(b, "/var/run/cdi/nvidia.com-GH100_H100_PCIE.yaml", "\x00 rubbish"),
                                      lambda: put(b, "/var/run/cdi/nvidia.com-pgpu.yaml", texts["pgpu"].replace("/dev/vfio/", "/dev/v/"))), 1):
            harm()  # may be put right before we look
            until("told", lambda n=count: b.log().count("changed or removed by somebody else") == n)
            until("restored", restored)
        event = until("an Event", lambda: b.events("CDIFileRestored"))[0]
        assert "/var/run/cdi/nvidia.com-" in event["note"], event
        until("served", lambda: b.kubelet.devices() == {PCIE: {GPU: "Healthy"}})
        theirs = f'cdiVersion: 0.5.0\nkind: {PCIE}\ndevices:\n- name: "{GPU}"\n  containerEdits:\n    env: [A=b]\n'
        for path in ("/var/run/cdi/nvidia.com-GH100_H100_PCIE.yaml", "/var/run/cdi/other.yaml"):
            path = put(b, path, theirs)
            until("withdrawn with its own kind", lambda: b.kubelet.devices() == {PCIE: {GPU: "Unhealthy"}})
            assert path[len(b.root):] in b.wait_condition("OfferFailed")["message"]
            with open(path, encoding="utf-8") as f:
                same(f.read(), theirs, "not ours to change")
            os.unlink(path)
            until("served again", lambda: b.kubelet.devices() == {PCIE: {GPU: "Healthy"}})
            b.wait_condition("Ready")
            until("all as before", restored)
        same(b.log().count("changed or removed by somebody else"), 4, "our own writing is nobody else's")
        b.stop_agent()


def missing_permissions():
    """Verb and resource are told by whatever can still be written; with the rule back the complaint goes."""
    with Bench("h100-pcie", config='mode: { default: "on" }\n') as b:
        b.start_agent()
        b.wait_state("on", ready="true")
        b.wait_condition("Ready")

        def forbid(verb, resource):
            b.api.ctl("fault", "status", "--code", "403", "--times", "0", "--agent", "ccnode-agent*", "--verb", verb,
                      "--resource", resource)

        def told(words):
            return lambda: words in b.condition()["message"] and b.condition()
        forbid("patch", "nodes/status")
        b.label(MODE, "off")
        b.wait_state("off", ready="false")
        words = 'needs the verb "patch" on "nodes/status"'
        until("an Event instead of the condition", lambda: any(words in e["note"] for e in b.events("PermissionMissing")))
        until("and the status of the agent", lambda: words in b.status()["condition"]["message"])
        b.api.ctl("clear")
        b.wait_condition("NotConfidential")
        until("over", lambda: "forbids nothing any more" in b.log())
        until("the condition forgets it", lambda: "forbidden" not in b.condition()["message"])

        b.label(MODE, "on")
        b.wait_state("on", ready="true")
        forbid("patch", "nodes")
        b.label(STATE, None)  # something to write
        condition = until("labels", told('needs the verb "patch" on "nodes"'))
        same(condition["reason"], "PermissionMissing", condition)
        b.api.ctl("clear")
        b.wait_state("on", ready="true")
        until("over", lambda: "nodes" not in b.condition()["message"])

        forbid("create,patch", "events")
        b.label(MODE, "off")
        until("Events", told('needs the verb "create" on "events.events.k8s.io"'))
        until("done all the same", lambda: b.labels()[STATE] == "off")
        b.stop_agent()


def node_of_another_machine():
    """The name was given to another machine, or ours is wrong: nothing is written there and nothing is changed here."""
    with Bench("h100-pcie") as b:
        put(b, "/etc/machine-id", "11111111222222223333333344444444\n")
        b.label(MODE, "on")
        before = b.labels()
        b.start_agent()
        until("it says so", lambda: "belongs to another machine" in b.log())
        status, page = b.get("/readyz")
        assert status == 503 and "machine-id" in page and "11111111222222223333333344444444" in page, (status, page)
        until("in its status", lambda: b.status().get("condition", {}).get("reason") == "ForeignNode")
        b.label(MODE, "devtools")
        time.sleep(1)  # for what must not happen: the watch and a look take milliseconds
        same((b.labels(), b.condition()["reason"], b.events()), ({**before, MODE: "devtools"}, "", []), "nothing is written")
        same((set(b.modes().values()), set(b.resets().values())), ({"off"}, {0}), "nothing is changed")
        b.stop_agent()
        put(b, "/etc/machine-id", b.node()["status"]["nodeInfo"]["machineID"])
        b.start_agent()
        b.wait_state("devtools", ready="")
        b.stop_agent()


def node_that_cannot_be_checked():
    """The question goes unanswered for longer than one call takes: no answer is no proof, and it is asked again."""
    with Bench("h100-pcie") as b:
        own = b.node()["status"]["nodeInfo"]["machineID"]
        put(b, "/etc/machine-id", "11111111222222223333333344444444\n")
        b.label(MODE, "on")
        b.api.ctl("fault", "status", "--code", "503", "--times", "0", "--method", "GET", "--path", "/api/v1/nodes/n1", "--agent", "ccnode-agent*")
        b.start_agent()
        until("it says so", lambda: "it is not known yet whether the Node is this machine" in b.log(), 60)
        status, page = b.get("/readyz")
        assert status == 503 and "503" in page, (status, page)
        same((b.condition()["reason"], set(b.modes().values())), ("", {"off"}), "nothing is believed")
        b.api.ctl("clear")
        until("asked again", lambda: "belongs to another machine" in b.log(), 60)
        same((b.condition()["reason"], set(b.modes().values())), ("", {"off"}), "nothing is changed")
        b.stop_agent()
        put(b, "/etc/machine-id", own)
        b.api.ctl("fault", "status", "--code", "403", "--times", "0", "--method", "GET", "--path", "/api/v1/nodes/n1", "--agent", "ccnode-agent*")
        b.start_agent()
        b.wait_state("on", ready="true")  # who may not ask is not held up
        assert "it is not checked whether the Node is this machine" in b.log()
        b.stop_agent()


def profile(b_dir, text):
    path = os.path.join(b_dir, "profile.yaml")
    with open(path, "w", encoding="utf-8") as f:
        f.write(text)
    return path


def wait_event(b, reason, words):
    event = until(f"Event {reason}", lambda: b.events(reason))[0]
    assert words in event["note"] and event["type"] == "Warning", event


def an_order_on_a_host_without_tee():
    """It is carried out, it was given explicitly; that confidential pods cannot start is said, and goes when it is over."""
    with tempfile.TemporaryDirectory() as d, Bench(profile(
            d, "tee: snp\ntee_enabled: false\ndriver: vfio-pci\ndevices:\n- {bdf: '0000:18:00.0', model: h100-pcie}\n")) as b:
        b.start_agent()
        b.wait_state("off", ready="false")
        b.wait_condition("NotConfidential")
        b.label(MODE, "on")
        b.wait_state("on", ready="true")
        condition = b.wait_condition("ConfidentialGuestsImpossible")
        assert "neither SEV-SNP" in condition["message"] and "nvidia.com/cc.mode=off" in condition["message"], condition
        wait_event(b, "ConfidentialGuestsImpossible", "confidential pods cannot start here")
        assert "nvidia.com/cc.capable" not in b.labels(), b.labels()
        b.label(MODE, "off")
        b.wait_state("off", ready="false")
        b.wait_condition("NotConfidential")
        until("over", lambda: "SEV-SNP" not in b.condition()["message"])
        b.stop_agent()


def a_gpu_that_came_after_this_release():
    """Neither its id nor its registers are in our tables: that is said, and not that it has no Confidential Computing."""
    with tempfile.TemporaryDirectory() as d, Bench(profile(
            d, "tee: snp\ndriver: vfio-pci\ndevices:\n- {bdf: '0000:18:00.0', model: h100-pcie}\n"
            "- {bdf: '0000:2a:00.0', model: a100, device: 0x3400}\n")) as b:
        b.start_agent()
        for mode, ready in (("off", "false"), ("on", "true")):
            b.label(MODE, mode)
            b.wait_state("degraded", ready=ready)
            message = b.wait_condition("DeviceFailed")["message"]
            assert "0000:2a:00.0" in message and "not known to this release" in message, message
            assert "update ccnode" in message and "no Confidential Computing" not in message, message
            same(b.resets()["0000:2a:00.0"], 0, "left as it is")
        until(lambda: f"nobody vouches for it: {b.kubelet.devices()}", lambda: {
            i: h for r in b.kubelet.devices().values() for i, h in r.items()} == {"0000:18:00.0": "Healthy", "0000:2a:00.0": "Unhealthy"})
        b.write_config("devices: { exclude: ['0000:2a:00.0'] }\n")
        b.wait_state("on", ready="true")
        b.stop_agent()


def tdx_with_vfio_groups_only():
    with tempfile.TemporaryDirectory() as d, Bench(profile(
            d, "tee: tdx\ncdev: false\ndriver: vfio-pci\ndevices:\n- {bdf: '0000:18:00.0', model: h100-pcie}\n"),
            config='mode: { default: "on" }\n') as b:
        b.start_agent()
        b.wait_state("on", ready="true")
        until("in the condition", lambda: "CONFIG_VFIO_DEVICE_CDEV" in b.condition()["message"])
        wait_event(b, "IommufdMissing", "TDX guests need iommufd, and 1 of these devices have VFIO groups only")
        truth_goes_on(b)
        b.stop_agent()


def eight_gpus_without_their_switches():
    with Bench("hgx-h100", config="devices: { include: [gpus] }\n") as b:
        b.start_agent()
        b.wait_state("off", ready="false")
        until("in the condition", lambda: "4 of 4 NVSwitches are excluded" in b.condition()["message"])
        wait_event(b, "NVSwitchMissing", "CUDA error 802")
        b.write_config("")
        until("over", lambda: "NVSwitches" not in b.condition()["message"])
        b.write_config("devices: { include: [gpus], exclude: [\"gpus[0]\"] }\n")
        until("seven are no board", lambda: len(b.kubelet.devices()[SXM]) == 7)
        assert "NVSwitches" not in b.condition()["message"], b.condition()
        b.stop_agent()


class Rival(threading.Thread):
    """Another device plugin that registers a resource of ours: once, or whenever it has lost it."""

    def __init__(self, b, resource, ids, stubborn=False):
        super().__init__(daemon=True)
        self.has_lost = lambda: stubborn and set(b.kubelet.devices()[resource]) != set(ids)
        self.plugin = Plugin(b.kubelet.plugins, "rival.sock", resource, {i: "Healthy" for i in ids})
        self.start()

    def run(self):
        asyncio.run(self.live())

    async def live(self):
        self.loop, self.end = asyncio.get_running_loop(), asyncio.Event()
        await self.plugin.serve()
        await self.plugin.register()
        while not self.end.is_set():
            if await asyncio.to_thread(self.has_lost):
                await self.plugin.register()
            await asyncio.sleep(0.2)
        self.plugin.server.close()

    def stop(self):
        self.loop.call_soon_threadsafe(self.end.set)
        self.join(10)


def kubelet_without_get_and_another_plugin():
    with Bench("h100-pcie", config='mode: { default: "on" }\n') as b:
        b.kubelet.ask("set", podresources="old")
        b.start_agent()
        b.wait_state("on", ready="true")  # List is all that the agent itself needs
        until("Get is missed", lambda: "PodResources has no Get" in b.condition()["message"])
        same((b.condition()["status"], b.condition()["reason"]), ("True", "Ready"), "other ways of starting pods work")
        assert "1.34" in b.events("PodResourcesGetMissing")[0]["note"]
        b.kubelet.ask("set", podresources="normal")
        b.kubelet.ask("restart", kill=True)
        until("Get is there", lambda: "PodResources" not in b.condition()["message"])
        ours = {GPU: "Healthy"}
        until("offered", lambda: b.kubelet.devices()[PCIE] == ours)
        # between our first look, a second after the registration, and the list that is sent again after two: it would hide him
        registered = b.kubelet.ask("log", what="register")["log"][-1]["time"]
        until("that moment", lambda: time.time() > registered + 1.5)
        rival = Rival(b, PCIE, ["0000:ff:00.0"])
        event = until("an Event", lambda: b.events("DevicePluginConflict"))[0]
        for words in (PCIE, "0000:ff:00.0", "rival.sock"):
            assert words in event["note"], event
        until(lambda: f"ours again: {b.kubelet.devices()}", lambda: b.kubelet.devices()[PCIE] == ours)
        until(lambda: f"no complaint: {b.condition()}", lambda: "another" not in b.condition()["message"])
        b.wait_state("on", ready="true")
        same(b.log().count(AGAIN), 1, "once was enough")
        rival.stop()
        b.stop_agent()


def another_plugin_that_does_not_give_way():
    """Neither a fight several times a second nor a label that sends pods to devices which nobody has verified."""
    with Bench("h100-pcie", config='mode: { default: "on" }\n') as b:
        b.start_agent()
        b.wait_state("on", ready="true")
        rival = Rival(b, PCIE, ["0000:ff:00.0"], stubborn=True)
        b.wait_state("on", ready="false")
        condition = b.wait_condition("DevicePluginConflict")
        same(condition["status"], "False", condition)
        until("it is taken back again and again", lambda: b.log().count(AGAIN) >= 3)
        at = [b.stamp(x) for x in b.log().splitlines() if AGAIN in x]
        assert at[1] - at[0] >= 3.9 and at[2] - at[1] >= 7.9, f"more and more seldom, 4 and 8 s later: {at}"
        b.wait_state("on", ready="false")  # as soon as the other one, who is a part of this test, has it again
        rival.stop()
        until(lambda: f"ours again: {b.kubelet.devices()}", lambda: b.kubelet.devices()[PCIE] == {GPU: "Healthy"})
        b.wait_state("on", ready="true")
        b.wait_condition("Ready")
        b.stop_agent()


WAITING = (kubelet_without_get_and_another_plugin, another_plugin_that_does_not_give_way, node_of_another_machine,
           node_that_cannot_be_checked, missing_permissions, broken_cdi_file_of_somebody_else, cdi_kind_of_somebody_else,
           cdi_files_that_somebody_touches)
HOST = (an_order_on_a_host_without_tee, a_gpu_that_came_after_this_release, tdx_with_vfio_groups_only,
        eight_gpus_without_their_switches)

if __name__ == "__main__":
    if sys.argv[1:]:
        run(*WAITING, *HOST)
    need()
    # mostly waiting for timers of the agent: at the same time
    parts = [subprocess.Popen([sys.executable, os.path.realpath(__file__), t.__name__]) for t in WAITING]
    if max([p.wait() for p in parts]) > 0:
        sys.exit(1)
    run(*HOST)
