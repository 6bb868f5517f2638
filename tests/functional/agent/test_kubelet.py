#!/usr/bin/python3
"""Kubelet comes late, restarts, asks odd things; several models; another operand of the GPU Operator."""
import os
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
from rig import MODE, READY, STATE, Bench, run, same, until  # noqa: E402

GPU = "0000:18:00.0"
PCIE = "nvidia.com/GH100_H100_PCIE"
SXM = "nvidia.com/GH100_H100_SXM5_80GB"


def a_kubelet_that_starts_later():
    with Bench("h100-pcie", kubelet=False) as b:
        b.start_agent()
        b.label(MODE, "on")
        b.wait_state("on", ready="false")  # kubelet has nothing to give away yet
        b.wait_condition("KubeletUnavailable")
        same(b.get("/readyz")[0], 503, "readyz")
        b.start_kubelet()
        b.wait_state("on", ready="true")
        until("served", lambda: b.kubelet.devices() == {PCIE: {GPU: "Healthy"}})
        until("condition", lambda: b.condition()["reason"] == "Ready")
        same(b.events("KubeletUnavailable"), [], "no Event for a kubelet that is a little late")


def a_kubelet_that_restarts():
    with Bench("hgx-h100") as b:
        b.start_agent()
        b.label(MODE, "on")
        b.wait_state("on", ready="true")
        for kill in (False, True, False):
            b.kubelet.ask("restart", kill=kill)
            b.kubelet.ask("wait", resource=SXM, allocatable=8)
        until("ready again", lambda: b.labels()[READY] == "true" and b.condition()["status"] == "True")
        b.kubelet.ask("stop")
        time.sleep(0.3)
        assert b.agent.poll() is None
        b.kubelet.ask("start")
        b.kubelet.ask("wait", resource=SXM, allocatable=8)
        b.wait_state("on", ready="true")


def allocations_are_checked():
    with Bench("hgx-h100") as b:
        b.start_agent()
        b.wait_state("off", ready="false")
        b.kubelet.ask("wait", resource=SXM, allocatable=8)

        def call(ids, method="Allocate"):
            return b.kubelet.ctl("call", SXM, method, "--ids", ids)
        answer = call(GPU)
        same(answer["code"], 0, answer)
        for ids, words in (("0000:ff:00.0", "0000:ff:00.0"), ("", ""), (f"{GPU},{GPU}", ""), ("x" * 200, "")):
            answer = call(ids)
            assert answer["code"] != 0 and words in answer.get("message", ""), (ids[:20], answer)
        # opened behind kubelet's back, long before the next look at who has what
        pid = b.ctl("hold", "0000:3a:00.0").split("pid=")[-1].split()[0]
        answer = call("0000:3a:00.0")
        assert answer["code"] != 0 and "0000:3a:00.0" in answer["message"] and "process" in answer["message"], answer
        until(f"withdrawn, process {pid} has it", lambda: b.kubelet.devices()[SXM]["0000:3a:00.0"] == "Unhealthy")
        b.ctl("release", "0000:3a:00.0")
        until("offered again", lambda: b.kubelet.devices()[SXM]["0000:3a:00.0"] == "Healthy")
        same(call("0000:3a:00.0")["code"], 0, "given again")
        b.ctl("fault", GPU, "reset-error", "25")
        b.label(MODE, "on")
        b.wait_state("degraded", ready="true")
        answer = call(GPU)
        assert answer["code"] != 0 and GPU in answer["message"], answer
        same(call("0000:2a:00.0")["code"], 0, "the others are given")
        # rebound behind our back: refused although nobody has noticed yet
        with open(f"{b.root}/sys/bus/pci/devices/0000:2a:00.0/driver/unbind", "w") as f:
            f.write("0000:2a:00.0")
        answer = call("0000:2a:00.0")
        if answer["code"] == 0:
            same(b.driver("0000:2a:00.0"), "vfio-pci", "given away while it was not bound")
        for ids in (f"{GPU},0000:2a:00.0", "", "nonsense"):
            same(b.kubelet.ctl("call", SXM, "GetPreferredAllocation", "--ids", ids, "--want", "1")["code"] in (0, 3), True, "preferred")
        assert b.metric("ccnode_allocations_total", result="refused") >= 5
        same(b.agent.poll(), None, "alive")


def four_models_and_a_gpu_without_cc():
    with Bench("mixed") as b:
        b.start_agent()
        until("more than two resources", lambda: len(b.kubelet.devices()) >= 3)
        b.label(MODE, "on")
        b.wait_state("degraded", ready="true")
        modes = b.modes()
        until("said", lambda: not [d for d in b.annotation_status() if d["health"] == "changing"])
        told = {d["bdf"]: "Healthy" if d["health"] == "healthy" else "Unhealthy" for d in b.annotation_status()}
        until(lambda: f"as told, {told}: {b.kubelet.devices()}",
              lambda: all(health == told[device] for ids in b.kubelet.devices().values() for device, health in ids.items()))
        devices = b.kubelet.devices()
        for resource, ids in devices.items():
            for device, health in ids.items():
                assert health == "Unhealthy" or modes[device] == "on" or "NVSWITCH" in resource, (device, modes)
        until("the foreign function in a group is named", lambda: "0000:ac:00.0 (mlx5_core)" in b.condition()["message"])
        names = b.cdi_names()
        for resource, ids in devices.items():
            for device, health in ids.items():
                same(device in names.get(resource, ()), health == "Healthy", f"CDI entry of {device}")


def several_models_under_one_alias():
    """One endpoint for all of them; no model takes the place of another."""
    with Bench("mixed", config="devicePlugin: { naming: alias }\n") as b:
        b.start_agent()
        b.wait_condition("DeviceFailed")  # the one in a group that is not viable
        told = until("all are decided", lambda: "changing" not in {d["health"] for d in b.annotation_status()} and b.annotation_status())
        models = {d["name"] for d in until("status", b.status)["devices"] if d["resource"] == "nvidia.com/pgpu"}
        assert len(models) > 2, models
        for resource in ("nvidia.com/pgpu", "nvidia.com/nvswitch"):
            want = {d["bdf"]: "Healthy" if d["health"] == "healthy" else "Unhealthy" for d in told if d["resource"] == resource}
            until(lambda: f"{resource} {want}: {b.kubelet.devices()}", lambda: b.kubelet.devices().get(resource, {}) == want)
            same({n for n in b.cdi_names().get(resource, ()) if ":" in n}, {d for d, h in want.items() if h == "Healthy"}, "CDI")
        once = [e["resource"] for e in b.kubelet.ask("log", what="register")["log"]]
        same(sorted(once), sorted(set(once)), "each resource registered once")


def aliases_and_numbers():
    partitions = '{ "gpus[1]": far, "gpus[6]": far, "10de:9999": elsewhere }'
    with Bench("hgx-h100", config=f"devicePlugin: {{ naming: alias, deviceIdStyle: number, partitions: {partitions} }}\n") as b:
        b.start_agent()
        b.wait_state("off", ready="false")
        b.kubelet.ask("wait", resource="nvidia.com/pgpu", allocatable=8)
        until("two resources", lambda: set(b.kubelet.devices()) == {"nvidia.com/pgpu", "nvidia.com/nvswitch"})
        devices = b.kubelet.devices()["nvidia.com/pgpu"]
        assert all(i.isdigit() for i in devices), devices

        def preferred(want):
            answer = b.kubelet.ctl("call", "nvidia.com/pgpu", "GetPreferredAllocation", "--ids", ",".join(devices), "--want", str(want))
            return answer["answer"]["container_responses"][0]["deviceIDs"]
        groups = {d["bdf"]: str(d["group"]) for d in b.ctl_json("devices")}
        gpus = [groups[bdf] for bdf in sorted(groups) if groups[bdf] in devices]
        same(preferred(2), [gpus[1], gpus[6]], "one partition, though two NUMA nodes")
        b.write_config("devicePlugin: { naming: alias, deviceIdStyle: number }\n")
        until("one NUMA node again, lowest addresses", lambda: preferred(4) == gpus[:4])
        names = b.cdi_names()
        same(len(names["nvidia.com/pgpu"]), len(set(names["nvidia.com/pgpu"])), "no name twice")
        assert set(devices) <= set(names["nvidia.com/pgpu"])


def a_held_gpu_is_not_given_twice_under_a_new_name():
    """After a reload kubelet knows nothing of the old name: what a pod has would be one more device to give away."""
    with Bench("hgx-h100") as b:
        b.start_agent()
        b.wait_state("off", ready="false")
        b.kubelet.ask("wait", resource=SXM, allocatable=8)
        b.kubelet.ask("allocate", resource=SXM, pod="ml/train")
        held = until("the pod is seen", lambda: [d["bdf"] for d in b.status().get("devices", []) if "ml/train" in str(d)])[0]
        numbers = {d["bdf"]: str(d["group"]) for d in b.ctl_json("devices")}
        for config, resource, name in (("naming: alias", "nvidia.com/pgpu", held),
                                       ("deviceIdStyle: number", SXM, numbers[held])):
            b.write_config(f"devicePlugin: {{ {config} }}\n")
            # the list comes first, health with the CDI entries
            until(lambda c=config: f"offered with {c}, the held one alone is not: {b.kubelet.devices()}",
                  lambda r=resource, n=name: {i for i, h in b.kubelet.devices().get(r, {}).items() if h == "Unhealthy"} == {n})
            answer = b.kubelet.ctl("call", resource, "Allocate", "--ids", name)
            assert answer["code"] != 0 and f"ml/train has it as {SXM} {held}" in answer["message"], answer
        b.kubelet.ask("release", pod="ml/train")
        until("offered when the pod has ended", lambda: set(b.kubelet.devices()[SXM].values()) == {"Healthy"})


def we_stand_back_from_duties_of_the_gpu_operator():
    with Bench("h100-pcie", pods=True) as b:
        b.start_agent()
        b.wait_state("off", ready="false")
        label = "nvidia.com/gpu.deploy.cc-manager"
        b.label(label, "true")
        b.label(MODE, "on")
        b.wait_state("on", ready="true")  # the label alone, without a pod, is no operand
        # the operand has no right here that the chart does not give: kubelet says which pods run on the node
        b.api.ctl("fault", "status", "--code", "403", "--times", "0", "--agent", "ccnode-agent*", "--resource", "pods")
        pod = {"metadata": {"name": "nvidia-cc-manager-x7k2p", "namespace": "kube-system"},
               "spec": {"nodeName": "n1", "containers": [{"name": "c", "image": "i"}]}}
        code, answer = b.api.call("POST", "/api/v1/namespaces/kube-system/pods", pod)
        assert code == 201, answer
        b.label(label, "false")
        b.label(label, "true")
        b.wait_condition("StandingBack")
        resets = b.resets()
        b.label(MODE, "off")
        time.sleep(0.4)
        same(b.resets(), resets, "modes are cc-manager's")
        same(b.labels()[STATE], "on", "and so are its labels")

        b.stop_agent()
        b.api.ctl("fault", "reset", "--times", "0", "--agent", "ccnode-agent*")
        b.start_agent()
        until("it has looked", lambda: b.status().get("condition", {}).get("reason") == "StandingBack")
        time.sleep(0.4)  # for what must not happen: a look takes milliseconds
        same(b.resets(), resets, "still, though the API server is away")
        b.api.ctl("clear")
        b.wait_condition("StandingBack")
        b.label(label, "paused-for-driver-upgrade")
        b.wait_state("off", ready="false")


def a_cluster_policy_holds_while_nobody_answers():
    """spec.ccManager.defaultMode is an order: neither an error, nor an API server that is away, nor a restart ends it."""
    with Bench("h100-pcie", api_options=("--cluster-policy", "on")) as b:
        b.start_agent()
        b.wait_state("on", ready="true")
        same(b.resets()[GPU], 1, "not by way of the default mode")
        policy = ("--agent", "ccnode-agent*", "--resource", "clusterpolicies")
        b.stop_agent()
        b.api.ctl("fault", "status", "--code", "503", "--times", "0", *policy)
        b.start_agent()
        until("asked in vain", lambda: any(
            c["code"] == 503 and c["count"] > 1 for c in b.api.ctl("counts")["counts"] if "clusterpolicies" in c["path"]))
        until("looked", lambda: "verified" in b.status().get("condition", {}).get("message", ""))
        b.stop_agent()
        b.api.ctl("fault", "reset", "--times", "0", "--agent", "ccnode-agent*")
        b.start_agent()
        until("looked", lambda: "verified" in b.status().get("condition", {}).get("message", ""))
        b.api.ctl("clear")
        until("answered", lambda: "watching the Node" in b.log())
        b.wait_state("on", ready="true")
        same(b.resets()[GPU], 1, "untouched all the while")


def a_default_waits_for_the_cluster_policy():
    """At the first start: what only a default asks for is not done before it is known whether a policy says otherwise."""
    with Bench("h100-pcie", config='mode: { default: "devtools" }\n', api_options=("--cluster-policy", "on")) as b:
        b.api.ctl("fault", "status", "--code", "503", "--times", "3", "--agent", "ccnode-agent*", "--resource", "clusterpolicies")
        b.start_agent()
        b.wait_state("on", ready="true")
        same(b.resets()[GPU], 1, "never devtools")


def changes_take_turns_by_lease():
    with Bench("h100-pcie", config="concurrency: { max: 1, lease: turn }\n") as b:
        b.give_turn_to("other-node")
        b.start_agent()
        until("the condition says what it waits for", lambda: b.condition()["reason"] == "WaitingForLease")
        same(b.resets()[GPU], 0, "not our turn")
        b.label(MODE, "on")
        time.sleep(1)
        same(b.resets()[GPU], 0, "still not")
        b.give_turn_to("other-node", 1)
        b.wait_state("on", ready="true", seconds=120)  # the other one does not renew
        until("given back", lambda: not b.whose_turn())


def healthy(b):
    return sorted(d for have in b.kubelet.devices().values() for d, health in have.items() if health == "Healthy")


def a_node_serves_until_its_turn():
    """What concurrency.max is for: the nodes that wait go on as they were ordered before."""
    with Bench("hgx-h100", config="concurrency: { max: 1, lease: turn }\ndevices: { verifyInterval: 1s }\n") as b:
        b.start_agent()
        b.wait_state("off", ready="false")
        everything = sorted(b.modes())
        until("all are offered", lambda: healthy(b) == everything)
        names = b.cdi_names()
        b.give_turn_to("other-node")
        for mode in ("on", "ppcie"):  # each for itself, and all together
            b.label(MODE, mode)
            b.wait_condition("WaitingForLease")
            until(lambda: f"said of each: {b.annotation_status()} {healthy(b)} {b.condition()}", lambda: "turn" in {d["bdf"]: d["reason"] for d in b.annotation_status()}[GPU])
            time.sleep(0.5)  # nothing happens
            same((healthy(b), b.cdi_names()), (everything, names), "offered as before")
            same((b.labels()[STATE], b.labels()[READY]), ("off", "false"), "and said to be so")
        b.stop_agent()
        b.start_agent()
        until("so does the next agent", lambda: healthy(b) == everything)
        b.wait_condition("WaitingForLease")
        same(b.log().count("step=stage"), 0, "nothing was touched")
        same(b.resets()[GPU], 0, "nor reset")

        b.label(MODE, "on")
        b.ctl("drift", GPU, "devtools")
        until("nobody ordered that", lambda: healthy(b) == [d for d in everything if d != GPU], 15)
        same(b.modes()[GPU], "devtools", "also what drifted waits for its turn")

        since = time.time()
        b.give_turn_to("")
        b.wait_state("on", ready="true")
        until("all are offered", lambda: healthy(b) == everything)
        lists = [e for e in b.kubelet.ask("log", since=since, what="list")["log"] if e["resource"] == SXM]
        withdrawn = min(e["time"] for e in lists if set(e["devices"].values()) == {"Unhealthy"})
        touched = min(float(e["time"]) for e in b.ctl_json("events") if float(e["time"]) > since)
        assert withdrawn < touched, f"withdrawn {withdrawn - touched:.3f} s after the first write"


def a_confidential_node_stays_ready_until_its_turn():
    """Else the RuntimeClass for plain pods would find cc.ready.state=false, and give them a GPU in mode on."""
    with Bench("hgx-h100", config="concurrency: { max: 1, lease: turn }\n") as b:
        b.start_agent()
        b.label(MODE, "on")
        b.wait_state("on", ready="true")
        until("given back", lambda: not b.whose_turn())
        b.give_turn_to("other-node")
        at = len(b.history())
        b.label(MODE, "off")
        b.wait_condition("WaitingForLease")
        until("one is used", lambda: b.kubelet.ask("allocate", resource=SXM, pod="ml/train"))
        until("and that is seen", lambda: "ml/train" in b.condition()["message"], 15)
        same((b.labels()[STATE], b.labels()[READY], b.condition()["status"]), ("on", "true", "True"), "as before")
        same({(x.get(STATE), x.get(READY)) for _, x in b.history()[at:]}, {("on", "true")}, "at every instant")
        b.give_turn_to("")
        b.wait_state("waiting-busy", ready="false")
        until("the others are changed", lambda: list(b.modes().values()).count("on") == 1)
        seen = [(x.get(STATE), x.get(READY)) for _, x in b.history()[at:]]
        assert ("changing", "false") in seen and ("changing", "true") not in seen, seen
        b.kubelet.ask("release", pod="ml/train")
        b.wait_state("off", ready="false")


def a_turn_that_cannot_be_used_is_given_back():
    """A node whose labels cannot be written begins nothing; with one place in the cluster the others would wait for ever."""
    with Bench("h100-pcie", config="concurrency: { max: 1, lease: turn }\n") as b:
        b.start_agent()
        b.label(MODE, "on")
        b.wait_state("on", ready="true")
        until("given back", lambda: not b.whose_turn())
        resets = b.resets()
        b.api.ctl("fault", "status", "--code", "403", "--verb", "patch", "--resource", "nodes", "--agent", "ccnode-agent*", "--times", "0")
        b.label(MODE, "off")
        until("its turn", lambda: b.whose_turn(), 15)
        until("given back", lambda: not b.whose_turn(), 15)
        until("offered again", lambda: healthy(b) == [GPU])
        time.sleep(5)
        assert not b.whose_turn(), "asked for again at once"
        same((b.resets(), b.labels()[READY]), (resets, "true"), "nothing was done, and nothing said")
        assert "turn given back" in b.log() and "could not begin" in b.log()
        b.api.ctl("clear")
        b.wait_condition("WaitingForLease")
        b.label(MODE, "on")
        until("nothing is waited for", lambda: "turn" not in b.condition()["message"])
        b.label(MODE, "off")
        b.wait_state("off", ready="false", seconds=60)


def what_nobody_ordered_is_not_offered_until_the_turn():
    with Bench("hgx-h100", config="concurrency: { max: 1, lease: turn }\n") as b:
        b.give_turn_to("other-node")
        b.label(MODE, "on")
        b.start_agent()  # for the first time here: that the GPUs are off is nobody's order
        b.wait_condition("WaitingForLease")
        switches = sorted(b.modes())[:4]
        until("the switches are offered", lambda: healthy(b) == switches)
        time.sleep(0.5)  # nothing happens
        same((healthy(b), b.modes()[GPU], b.driver(GPU)), (switches, "off", "vfio-pci"), "found at first sight")
        b.give_turn_to("")
        b.wait_state("on", ready="true")
        until("offered", lambda: healthy(b) == sorted(b.modes()))


def an_index_stays_with_its_gpu():
    """nvidia.com/pgpu=0 of the 2023 guide must not become the next GPU while the first one is withdrawn."""
    with Bench("hgx-h100") as b:
        b.start_agent()
        b.wait_state("off", ready="false")
        first = sorted(b.modes())[4]  # behind four switches

        def indexes():
            return [int(n) for n in b.cdi_names().get("nvidia.com/pgpu", ()) if n.isdigit()]

        until("eight", lambda: indexes() == list(range(8)))
        b.ctl("hold", first)
        b.label(MODE, "on")
        b.wait_state("waiting-busy")
        until("the idle ones are served", lambda: len(indexes()) == 7)
        same(indexes(), list(range(1, 8)))
        b.ctl("release", first)
        until("eight again", lambda: indexes() == list(range(8)))


def the_plugin_is_switched_off_and_on():
    """kubelet is told, so that its capacity goes at once and not after five minutes."""
    with Bench("hgx-h100") as b:
        b.start_agent()
        b.wait_state("off", ready="false")
        b.kubelet.ask("wait", resource=SXM, allocatable=8)
        for _ in range(2):
            b.write_config("devicePlugin: { enabled: false }\n")
            same(b.kubelet.ask("wait", resource=SXM, capacity=0).get("capacity"), 0, "capacity")
            until("the sockets go", lambda: [n for n in os.listdir(b.kubelet.plugins) if n.endswith(".sock")] == ["kubelet.sock"])
            b.write_config("")
            same(b.kubelet.ask("wait", resource=SXM, allocatable=8).get("allocatable"), 8, "allocatable")
        assert b.stop_agent() < 1.5


if __name__ == "__main__":
    run(allocations_are_checked, changes_take_turns_by_lease, a_node_serves_until_its_turn, a_confidential_node_stays_ready_until_its_turn,
        a_turn_that_cannot_be_used_is_given_back, what_nobody_ordered_is_not_offered_until_the_turn, we_stand_back_from_duties_of_the_gpu_operator,
        the_plugin_is_switched_off_and_on, an_index_stays_with_its_gpu, a_kubelet_that_starts_later, a_kubelet_that_restarts,
        four_models_and_a_gpu_without_cc, several_models_under_one_alias, aliases_and_numbers,
        a_held_gpu_is_not_given_twice_under_a_new_name, a_cluster_policy_holds_while_nobody_answers,
        a_default_waits_for_the_cluster_policy, at_once=3)
