"""The main job against a real API server and a real kubelet: the agent as a process of the node follows
`kubectl label`, a pod that asks for a GPU is admitted and holds it."""
import json
import os
import sys
import time

from harness import NODE, Cluster, SimulatedNode, report, until
from release import gpu_pod, has_its_devices, wait_ready

RUNTIME_CLASS = {"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass",
                 "metadata": {"name": "kata-qemu-nvidia-gpu-snp"}, "handler": "kata-qemu-nvidia-gpu-snp"}


def main():
    with Cluster() as cluster:
        sim = SimulatedNode(cluster, "hgx-h100")
        resource = json.loads(sim.ccnode("list", "gpus[0]", "-o", "json"))[0]["resource"]
        config = os.path.join(cluster.dir, "ccnode.yaml")

        def configure(text):
            with open(config + ".new", "w", encoding="utf-8") as f:
                f.write(text + 'http: { listen: "" }\n')
            os.replace(config + ".new", config)  # the agent must never read half of it
        configure("cdi: { directory: /run/cdi }\n")
        log = os.path.join(cluster.dir, "agent.log")
        agent = cluster.start(log, f"{sim.programs}/ccnode-agent", "--config", config, "--host-root", sim.ROOT,
                              "--node-name", NODE, "--kubeconfig", "/run/cluster/admin.kubeconfig", env=sim.env)

        def allocatable(kind=None):
            return cluster.node()["status"]["allocatable"].get(kind or resource)

        def registered():
            until("8 GPUs allocatable while cc.mode is off", lambda: allocatable() == "8")

        def labelled():
            cluster.kubectl("label", "node", NODE, "nvidia.com/cc.mode=on", "--overwrite")
            begin = time.monotonic()
            labels = until("cc.mode.state=on", lambda: (lambda now: now if now.get("nvidia.com/cc.mode.state") == "on" else None)(
                cluster.node()["metadata"]["labels"]), every=0.05)
            print(f"        cc.mode.state=on {time.monotonic() - begin:.2f} s after kubectl label (a boot is 1.7 s)")
            assert labels.get("nvidia.com/cc.ready.state") == "true", labels

        def verified():
            for knob_line in sim.ctl("modes").splitlines():
                assert " off" not in knob_line or "nvswitch" in knob_line or "10de:22a3" in knob_line, knob_line

            def says_so():
                told = cluster.condition()
                assert told and (told["status"], told["reason"]) == ("True", "Ready"), told
                return True
            until("the condition says so", says_so)

        def asked():
            """containerd says which CDI directories it reads, and that it has the handler of the host's TEE."""
            def is_told(reason, *words):
                told = cluster.condition()
                assert told["reason"] == reason and all(w in told["message"] for w in words), told
                return told["status"] == "True"
            configure("cdi: { directory: /run/elsewhere }\ndevicePlugin: { cdiDevices: true }\n")
            until("RuntimeNotPrepared", lambda: is_told("RuntimeNotPrepared", "containerd", "/run/elsewhere", "cdi_spec_dirs"))
            assert "kata" not in cluster.condition()["message"].lower(), cluster.condition()
            configure("cdi: { directory: /run/cdi }\n")
            until("Ready again", lambda: is_told("Ready"))

        def admitted():
            cluster.apply(RUNTIME_CLASS)
            until("kubelet has its devices again", lambda: len(cluster.offered(resource)) == 8)
            cluster.apply(gpu_pod("first", resource))
            wait_ready(cluster, "first")

        def held():
            found = has_its_devices(cluster, sim, "first")
            gpus = {d["bdf"] for d in json.loads(sim.ccnode("list", "gpus", "-o", "json"))}
            assert found[0] in gpus, f"{found} of {gpus}"

        def over_capacity():
            cluster.apply(gpu_pod("greedy", resource, 8))
            until("the second pod stays Pending", lambda: "Insufficient" in cluster.kubectl("describe", "pod", "greedy"))
            cluster.kubectl("delete", "pod", "greedy", "--now")

        def ends():
            cluster.kubectl("delete", "pod", "first", "--now")
            # not agent.terminate(): that would end the way into the namespaces, not the agent
            cluster.run("bash", "-c", "kill -TERM $(pidof ccnode-agent)")
            assert agent.wait(timeout=180) == 0, agent.returncode

        failed = report([
            ("the real kubelet has 8 GPUs from our plugin", registered),
            ("kubectl label nvidia.com/cc.mode=on leads to cc.mode.state=on, cc.ready.state=true", labelled),
            ("every GPU is in CC mode, the condition says so", verified),
            ("containerd is asked: a CDI directory that it does not read is told before a pod fails", asked),
            ("a pod with nvidia.com limit under a Kata RuntimeClass is admitted", admitted),
            ("PodResources names a GPU; the container has the VFIO nodes of that one and no others", held),
            ("a pod over capacity stays Pending", over_capacity),
            ("the pod ends, the agent ends on SIGTERM", ends),
        ])
        if failed:
            with open(log, encoding="utf-8", errors="replace") as f:
                print("--- agent's log\n" + "".join(f.readlines()[-60:]))
            print("--- kubelet's log\n" + cluster.logs("kubelet.log"))
        return failed


if __name__ == "__main__":
    sys.exit(main())
