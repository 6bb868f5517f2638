#!/usr/bin/python3
"""A device that anyone uses is never touched: wait, evict, fail; who holds it is told."""
import os
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
from rig import MODE, READY, STATE, Bench, run, same, until  # noqa: E402

GPU = "0000:18:00.0"
RESOURCE = "nvidia.com/GH100_H100_SXM5_80GB"


def gpus(b):
    return [d for d in sorted(b.modes())][4:]


def a_held_gpu_holds_up_only_itself_and_the_holder_is_named():
    with Bench("hgx-h100") as b:
        b.start_agent()
        b.wait_state("off", ready="false")
        pid = int(b.ctl("hold", GPU).split()[-1])
        before = b.resets()
        b.label(MODE, "on")
        b.wait_state("waiting-busy", ready="false")
        same({d for d in gpus(b) if b.modes()[d] == "off"}, {GPU}, "the others are switched")
        same(b.resets()[GPU], before[GPU], "a held GPU is never reset")
        until(lambda: f"withdrawn: {b.kubelet.devices()}",
              lambda: {d for d, h in b.kubelet.devices()[RESOURCE].items() if h == "Unhealthy"} == {GPU})
        condition = b.wait_condition("WaitingForPods")
        assert GPU in condition["message"] and f"pid {pid}" in condition["message"], condition
        until("Event", lambda: b.events("WaitingForPods"))
        b.ctl("release", GPU)
        b.wait_state("on", ready="true")
        same(b.modes()[GPU], "on", "it follows when it is released")


def a_holder_is_seen_although_a_look_is_under_way():
    """A look at the users that was begun earlier must not vouch for the device, however soon the order comes."""
    for _ in range(3):
        with Bench("h100-pcie") as b:
            b.start_agent()
            b.wait_state("off", ready="false")  # a look is nearly always under way now
            b.ctl("hold", GPU, "resource0")
            resets = b.resets()[GPU]
            b.label(MODE, "on")
            b.wait_state("waiting-busy", ready="false")
            same(b.resets()[GPU], resets, "held")


def reads(b, bdf, what="step begins"):
    """How often its registers were read."""
    return len([x for x in b.log().splitlines() if f'"{what}"' in x and bdf in x and "step=query" in x])


def wait_for_reads(b, bdf):
    until("reads under way have ended", lambda: reads(b, bdf) == reads(b, bdf, "step done"))


def registers_of_a_device_in_use_are_not_read():
    """A pod has it, and its VM may be about to open it; the others are verified all the while."""
    with Bench("hgx-h100", config="devices: { verifyInterval: 100ms }\n") as b:
        b.start_agent()
        b.wait_state("off", ready="false")
        b.kubelet.ask("wait", resource=RESOURCE, allocatable=8)
        b.kubelet.ask("allocate", resource=RESOURCE, pod="ml/train")
        held = until("the pod is seen", lambda: [d["bdf"] for d in b.status().get("devices", []) if "ml/train" in str(d)])[0]
        idle = [d for d in gpus(b) if d != held]
        wait_for_reads(b, held)
        before, others = reads(b, held), [reads(b, d) for d in idle]
        until("the others are read", lambda: all(reads(b, d) >= n + 2 for d, n in zip(idle, others)))
        same(reads(b, held), before, "left alone")
        b.kubelet.ask("release", pod="ml/train")
        until("read when it is free", lambda: reads(b, held) > before)


def an_offered_device_is_not_opened_to_verify_it():
    """Under kernel lockdown reading goes through VFIO, which resets the device and keeps a VM from starting."""
    with Bench("h100-pcie", config="devices: { verifyInterval: 100ms }\n") as b:
        b.start_agent()
        b.wait_state("off", ready="false")
        b.kubelet.ask("wait", resource="nvidia.com/GH100_H100_PCIE", allocatable=1)
        first = reads(b, GPU)
        until("it is verified while its registers can be mapped", lambda: reads(b, GPU) > first)
        b.ctl("lockdown", "integrity")
        b.label(MODE, "off")  # a look at the host
        until("it is taken in", lambda: '"orders of the node" mode=off' in b.log())
        b.get("/healthz")  # answered after the look that follows the order
        wait_for_reads(b, GPU)
        before, resets = reads(b, GPU), b.resets()[GPU]
        time.sleep(9)  # the agent looks what is due every 4 s
        same((reads(b, GPU), b.resets()[GPU]), (before, resets), "left alone")


def every_kind_of_holder_is_seen():
    with Bench("h100-pcie") as b:
        b.start_agent()
        b.wait_state("off", ready="false")
        mode = "on"
        for how in ("group", "device", "resource0"):
            b.ctl("hold", GPU, how)
            resets = b.resets()[GPU]
            b.label(MODE, mode)
            b.wait_state("waiting-busy", ready="false")
            same(b.resets()[GPU], resets, f"held by {how}")
            b.ctl("release", GPU)
            b.wait_state(mode)
            mode = "off" if mode == "on" else "on"


def ppcie_waits_for_all():
    with Bench("hgx-h100") as b:
        b.start_agent()
        b.wait_state("off", ready="false")
        before = b.resets()
        b.ctl("hold", "0000:3a:00.0")
        b.label(MODE, "ppcie")
        b.wait_state("waiting-busy", ready="false")
        held = b.resets()
        same({d for d in before if held[d] != before[d] and d != "0000:3a:00.0"}, set(), "nobody is reset")
        until(lambda: f"all withdrawn: {b.kubelet.devices()}",
              lambda: {h for r in b.kubelet.devices().values() for h in r.values()} == {"Unhealthy"})
        b.ctl("release", "all")
        b.wait_state("ppcie", ready="true")


def a_pod_is_waited_for():
    with Bench("h100-pcie") as b:
        b.start_agent()
        resource = "nvidia.com/GH100_H100_PCIE"
        b.wait_state("off", ready="false")
        b.kubelet.ask("wait", resource=resource, allocatable=1)
        b.kubelet.ask("allocate", resource=resource, pod="ml/train")
        resets = b.resets()[GPU]
        b.label(MODE, "on")
        b.wait_state("waiting-busy", ready="false")
        assert "pod ml/train" in b.wait_condition("WaitingForPods")["message"]
        same(b.resets()[GPU], resets, "not reset under a pod")
        b.kubelet.ask("release", pod="ml/train")
        b.wait_state("on", ready="true")


def a_wrong_socket_of_kubelet_is_told_and_nothing_is_reset():
    """Kubelet has another root directory than we believe: it gives our devices away, and cannot be asked to whom."""
    wrong = "podResources: { socket: /var/lib/elsewhere/pod-resources/kubelet.sock }\n"
    with Bench("h100-pcie", config=wrong) as b:
        b.start_agent()
        resource = "nvidia.com/GH100_H100_PCIE"
        b.kubelet.ask("wait", resource=resource)
        until(b.condition, lambda: "/var/lib/elsewhere" in b.condition()["message"])
        message = b.condition()["message"]
        same(message.count("set podResources.socket"), 1, message)
        until("Event", lambda: b.events("UsersUnknown"))
        resets = b.resets()[GPU]
        b.label(MODE, "on")
        b.wait_state("waiting-busy", ready="false")
        b.kill_agent()
        b.start_agent()
        until("known from the journal", lambda: b.status().get("pid") == b.agent.pid and "podResources.socket" in str(b.status()))
        b.wait_state("waiting-busy", ready="false")
        same(b.resets()[GPU], resets, "not reset under a pod")
        b.write_config("")
        b.wait_state("on", ready="true")
        b.kubelet.give(resource, "ml/train")
        b.write_config(wrong)
        until("told again", lambda: "podResources.socket" in b.condition()["message"])
        same(b.labels()[STATE], "on", "what is in place stays")
        resets = b.resets()[GPU]
        b.label(MODE, "off")
        b.wait_state("waiting-busy", ready="false")
        same(b.resets()[GPU], resets, "not reset under a pod")
        b.write_config("")
        until("the pod is named", lambda: "ml/train" in b.condition()["message"])
        b.kubelet.ask("release", pod="ml/train")
        b.wait_state("off", ready="false")


def restart_with_a_held_gpu_believes_the_journal():
    with Bench("h100-pcie") as b:
        b.start_agent()
        b.label(MODE, "on")
        b.wait_state("on", ready="true")
        b.ctl("hold", GPU)
        resets = b.resets()[GPU]
        for stop in (b.stop_agent, b.kill_agent):
            stop()
            b.start_agent()
            until("registered again", lambda: b.kubelet.devices().get("nvidia.com/GH100_H100_PCIE", {}).get(GPU))
            until("in place", lambda: b.status().get("pid") == b.agent.pid and b.status()["devices"][0]["decision"] == "in-place")
            b.wait_state("on")
            until("told", b.annotation_status)
            same(b.labels().get("nvidia.com/cc.capable"), "true", "what its registers said is not forgotten")
            same(b.resets()[GPU], resets, "untouched")
        # without the journal nobody vouches for it
        b.stop_agent()
        os.remove(os.path.join(b.root, "var/lib/ccnode/journal.json"))
        b.start_agent()
        b.wait_state("waiting-busy", ready="false")
        same(b.labels().get("nvidia.com/cc.capable"), "true", "a held GPU cannot be asked: what was said stays")
        b.ctl("release", "all")
        b.wait_state("on", ready="true")


def policy_fail_reports_and_recovers():
    with Bench("h100-pcie", config="busy: { policy: fail }\n") as b:
        b.start_agent()
        b.wait_state("off", ready="false")
        b.ctl("hold", GPU)
        b.label(MODE, "on")
        b.wait_state("failed", ready="")
        until("Event", lambda: b.events("ModeChangeFailed"))
        b.ctl("release", "all")
        b.wait_state("on", ready="true")


def start_pod(b, resource, gpus=1):
    """A pod that has a GPU."""
    b.kubelet.ask("wait", resource=resource, allocatable=gpus)
    pod = {"metadata": {"name": "train", "namespace": "default"},
           "spec": {"containers": [{"name": "c", "image": "i", "resources": {"limits": {resource: "1"}}}],
                    "terminationGracePeriodSeconds": 0}}
    code, answer = b.api.call("POST", "/api/v1/namespaces/default/pods", pod)
    assert code == 201, answer
    until("the pod has the GPU", lambda: [a for a in b.kubelet.ask("list")["allocations"] if a["pod"] == "train"])


def policy_evict_evicts_once_and_obeys_budgets():
    with Bench("h100-pcie", config="busy: { policy: evict, evictTimeout: 2s }\n", pods=True, api_options=("--no-reap",)) as b:
        b.start_agent()
        b.wait_state("off", ready="false")
        start_pod(b, "nvidia.com/GH100_H100_PCIE")
        b.api.ctl("pdb", "default/train", "blocked")
        b.label(MODE, "on")
        b.wait_state("waiting-busy", ready="false")
        until("the refusal is told", lambda: b.events("EvictionFailed"))
        event = until("so is that it stays", lambda: b.events("EvictedPodStays"))[0]
        assert "default/train" in event["note"] and "not accepted" in event["note"], event
        same(b.modes()[GPU], "off", "not touched")
        b.api.ctl("pdb", "default/train", "allowed")
        b.label(MODE, "off")
        b.wait_state("off")
        b.label(MODE, "on")
        b.wait_state("on", ready="true")
        until("Event", lambda: b.events("PodEvicted"))


def a_pod_that_does_not_leave_is_told():
    """Its eviction was accepted, and it takes its time: told once, and waited for."""
    # so long that the server has accepted the eviction before, however busy it is
    with Bench("h100-pcie", config="busy: { policy: evict, evictTimeout: 6s }\n", api_options=("--no-reap",)) as b:
        b.start_agent()
        b.wait_state("off", ready="false")
        resource = "nvidia.com/GH100_H100_PCIE"
        b.kubelet.ask("wait", resource=resource, allocatable=1)
        pod = {"metadata": {"name": "train", "namespace": "default"},
               "spec": {"nodeName": "n1", "containers": [{"name": "c", "image": "i"}], "terminationGracePeriodSeconds": 600}}
        code, answer = b.api.call("POST", "/api/v1/namespaces/default/pods", pod)
        assert code == 201, answer
        b.kubelet.ask("allocate", resource=resource, pod="default/train")
        b.label(MODE, "on")
        until(b.condition, lambda: "busy.evictTimeout" in b.condition()["message"])
        condition = b.wait_condition("WaitingForPods")
        assert "default/train has not left" in condition["message"] and "was accepted" in condition["message"], condition
        event = until("Event", lambda: b.events("EvictedPodStays"))[0]
        assert "default/train" in event["note"] and "was accepted" in event["note"], event
        same(b.modes()[GPU], "off", "not touched")
        b.kubelet.ask("release", pod="default/train")
        b.wait_state("on", ready="true")
        same((len(b.events("PodEvicted")), len(b.events("EvictedPodStays"))), (1, 1), "once")


def has_pod(b):
    return b.api.call("GET", "/api/v1/namespaces/default/pods/train")[0] == 200


def nobody_is_evicted_for_what_cannot_be():
    """One GPU of the node has no ppcie, held or not; also after a restart that knows the held one from the journal only."""
    for profile, resource, incapable, gpus in (("hgx-h100", RESOURCE, "0000:2a:00.0", 8),
                                               ("h100-pcie", "nvidia.com/GH100_H100_PCIE", GPU, 1)):
        with Bench(profile, config="busy: { policy: evict }\n", pods=True) as b:
            b.ctl("fault", incapable, "ppcie-invalid")
            b.start_agent()
            b.wait_state("off", ready="false")
            start_pod(b, resource, gpus)
            b.label(MODE, "ppcie")
            b.wait_state("failed", ready="")
            assert "firmware" in b.wait_condition("DeviceFailed")["message"], b.condition()
            b.stop_agent()
            b.start_agent()
            until("decided", lambda: [d for d in b.status().get("devices", []) if d["decision"] == "refused"])
            b.wait_state("failed", ready="")
            assert has_pod(b) and not b.events("PodEvicted"), b.events()
            same(set(b.modes().values()), {"off"}, "nothing is touched")


def the_lease_comes_before_eviction():
    with Bench("h100-pcie", config="busy: { policy: evict }\nconcurrency: { max: 1, lease: turn }\n", pods=True) as b:
        b.start_agent()
        b.wait_state("off", ready="false")
        start_pod(b, "nvidia.com/GH100_H100_PCIE")
        until("given back", lambda: not b.whose_turn())
        b.give_turn_to("other-node")
        b.label(MODE, "on")
        b.wait_state("waiting-busy", ready="false")
        until("the condition says what it waits for", lambda: "concurrency.max" in b.condition()["message"])
        assert has_pod(b) and not b.events("PodEvicted"), "evicted before it is our turn"
        b.give_turn_to("other-node", 1)
        b.wait_state("on", ready="true", seconds=120)  # the other one does not renew
        assert not has_pod(b)
        until("Event", lambda: b.events("PodEvicted"))
        until("given back", lambda: not b.whose_turn())


def a_pod_that_comes_at_the_last_moment_wins():
    """kubelet gives the device away while the change begins: whoever is first, nothing is reset under a pod."""
    with Bench("h100-pcie") as b:
        b.start_agent()
        resource = "nvidia.com/GH100_H100_PCIE"
        b.wait_state("off", ready="false")
        mode = "on"
        for i in range(6):
            b.kubelet.ask("wait", resource=resource, allocatable=1)
            before = b.resets()[GPU]
            b.label(MODE, mode)
            time.sleep(0.004 * i)
            answer = b.kubelet.ask("allocate", resource=resource, pod=f"ml/p{i}")
            if "error" not in answer:
                b.wait_state("waiting-busy")
                same(b.resets()[GPU], before, "allocated first")
                b.kubelet.ask("release", pod=f"ml/p{i}")
            b.wait_state(mode)
            mode = "off" if mode == "on" else "on"
        assert b.labels()[READY] == "false"


def pod_api(b, namespace, name):
    code, answer = b.api.call("POST", f"/api/v1/namespaces/{namespace}/pods", {
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"nodeName": "n1", "containers": [{"name": "c", "image": "i"}]}})
    assert code == 201, answer


def a_kubelet_that_has_just_started_is_not_believed():
    """It lists the pods that it has heard of so far; a device that none of them has may still belong to one."""
    with Bench("h100-pcie") as b:
        b.start_agent()
        b.wait_state("off", ready="false")
        b.kubelet.ask("wait", resource="nvidia.com/GH100_H100_PCIE", allocatable=1)
        b.kubelet.ask("allocate", resource="nvidia.com/GH100_H100_PCIE", pod="ml/train")
        b.label(MODE, "on")
        b.wait_state("waiting-busy", ready="false")
        resets = b.resets()
        b.kubelet.ask("set", podresources="starting")
        b.kubelet.ask("restart", kill=True)
        until("the list is not believed", lambda: "kubelet has just started" in b.condition()["message"])
        b.kubelet.ask("set", podresources="normal")
        until("the pod is seen again", lambda: "ml/train" in b.condition()["message"])
        # anew, as after ten seconds it is believed, and on a busy machine two agents may need them
        registered = b.log().count("registered with kubelet")
        b.kubelet.ask("set", podresources="starting")
        b.kubelet.ask("restart", kill=True)
        until("registered", lambda: b.log().count("registered with kubelet") > registered)
        b.stop_agent()
        b.start_agent()  # which remembers with whom it registered first
        until("neither by the next agent", lambda: "kubelet has just started" in b.status().get("condition", {}).get("message", ""))
        b.kubelet.ask("set", podresources="normal")
        until("the pod is seen again", lambda: "ml/train" in b.status().get("condition", {}).get("message", ""))
        same((b.resets(), b.labels()[STATE]), (resets, "waiting-busy"), "never touched")
        b.kubelet.ask("release", pod="ml/train")
        b.wait_state("on", seconds=120)


def a_held_device_stays_offered_while_kubelet_restarts():
    """Kubelet admits its pods anew then, and refuses those whose device is unhealthy at that moment."""
    with Bench("h100-pcie", config='mode: { default: "on" }\n') as b:
        b.start_agent()
        b.wait_state("on", ready="true")
        b.kubelet.ask("wait", resource="nvidia.com/GH100_H100_PCIE", allocatable=1)
        b.kubelet.ask("allocate", resource="nvidia.com/GH100_H100_PCIE", pod="ml/train")
        until("the pod is seen", lambda: "ml/train" in str(b.status().get("devices")))
        b.kubelet.ask("stop")
        time.sleep(6)  # who has a device that is in use is looked at every 5 s: in vain
        began = time.time()
        b.kubelet.ask("start")
        b.kubelet.ask("wait", resource="nvidia.com/GH100_H100_PCIE", allocatable=1)
        lists = [e["devices"] for e in b.kubelet.ask("log", since=began, what="list")["log"]]
        same({h for l in lists for h in l.values()}, {"Healthy"}, lists)
        same((b.labels()[STATE], b.resets()[GPU]), ("on", 1))


def in_a_cluster_the_own_pod_tells_when_kubelet_knows_all():
    with Bench("h100-pcie", pods=True) as b:
        b.extra_env = {"CCNODE_DAEMONSET": "kube-system/ccnode"}
        pod_api(b, "kube-system", "ccnode-x7k2p")
        b.start_agent()
        b.wait_state("off", ready="false")
        b.kubelet.ask("wait", resource="nvidia.com/GH100_H100_PCIE", allocatable=1)
        b.kubelet.ask("allocate", resource="nvidia.com/GH100_H100_PCIE", pod="ml/train")
        b.label(MODE, "on")
        b.wait_state("waiting-busy", ready="false")
        resets = b.resets()
        b.kubelet.ask("set", podresources="starting")
        b.kubelet.ask("restart", kill=True)
        until("the list is not believed", lambda: "kubelet has just started" in b.condition()["message"])
        same(b.resets(), resets, "not touched")
        b.kubelet.ask("release", pod="ml/train")
        b.kubelet.ask("set", podresources="normal")
        began = time.time()
        b.wait_state("on", ready="true")
        said = next(t for t, labels in b.history() if t > began and (labels.get(STATE), labels.get(READY)) == ("on", "true"))
        assert said - began < 15, "no need to wait until kubelet has run for a while"


if __name__ == "__main__":
    run(an_offered_device_is_not_opened_to_verify_it, registers_of_a_device_in_use_are_not_read, the_lease_comes_before_eviction,
        a_held_gpu_holds_up_only_itself_and_the_holder_is_named, a_holder_is_seen_although_a_look_is_under_way,
        every_kind_of_holder_is_seen, ppcie_waits_for_all, a_pod_is_waited_for,
        a_wrong_socket_of_kubelet_is_told_and_nothing_is_reset, a_kubelet_that_has_just_started_is_not_believed,
        in_a_cluster_the_own_pod_tells_when_kubelet_knows_all, restart_with_a_held_gpu_believes_the_journal,
        policy_fail_reports_and_recovers, policy_evict_evicts_once_and_obeys_budgets, a_pod_that_does_not_leave_is_told,
        nobody_is_evicted_for_what_cannot_be, a_pod_that_comes_at_the_last_moment_wins, at_once=3)
