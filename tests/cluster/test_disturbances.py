"""What goes wrong around a running node: every component restarted, the API server away for a minute, updates and rollbacks
of the chart, the agent killed. Pods keep running, the resource comes back, the labels stay true. At last a power cut, which ends
the pods: those of a controller are started again."""
import json
import os
import re
import subprocess
import sys
import time

from harness import HERE, NODE, Cluster, report, until
from release import NAMESPACE, SOURCE, Release, agent_states, build_image, gpu_pod, has_its_devices, set_mode, start_sim, wait_ready


class Disturbances:
    def __init__(self, cluster):
        self.cluster = cluster
        self.sim = start_sim(cluster)
        build_image(cluster)
        self.release = Release(cluster, self.sim)
        self.resource = None
        self.resets = None

    def prepare(self):
        self.release.install()
        set_mode(self.cluster, "on")
        found = until("8 GPUs", lambda: [k for k, v in self.allocatable().items() if v == "8" and k.startswith("nvidia.com/")])
        self.resource = found[0]
        until("kubelet has them to give", lambda: len(self.cluster.offered(self.resource)) == 8)
        self.cluster.apply(gpu_pod("work", self.resource))
        wait_ready(self.cluster, "work")
        self.resets, self.device = self.sim.resets(), self.cluster.held("work")
        assert len(self.device) == 1, self.device
        self.start_service()

    def allocatable(self):
        return self.cluster.node()["status"]["allocatable"]

    def holds(self):
        """Everything is as before the disturbance."""
        until("the labels are true", lambda: agent_states(self.cluster) == ("on", "true"))
        until("the resource is back", lambda: self.allocatable().get(self.resource) == "8")
        pod = self.cluster.get("pod", "work")
        assert pod["status"]["phase"] == "Running" and not pod["status"]["containerStatuses"][0]["restartCount"], pod["status"]
        now = self.sim.resets()
        assert now == self.resets, f"a device was reset: {sorted(set(now) - set(self.resets))}, before {sorted(set(self.resets) - set(now))}"
        until("PodResources names the pod's device", lambda: self.cluster.held("work") == self.device)

    def restart(self, *argv):
        subprocess.run(["bash", f"{HERE}/node/restart", *argv], env=self.cluster.env, check=True)

    def kubelet(self):
        self.restart("kubelet")
        self.holds()

    def kubelet_killed(self):
        self.restart("kubelet", "--kill")
        self.holds()

    def containerd(self):
        self.restart("containerd")
        until("containerd answers", lambda: self.cluster.run("ctr", "version"))
        self.holds()

    def api_server_away(self):
        self.restart("kube-apiserver", "--stop", "--kill")  # asked to end, it serves open watches for a minute more
        time.sleep(60)
        self.restart("kube-apiserver", "--start")
        until("the API server answers", lambda: self.cluster.kubectl("get", "--raw", "/readyz"))
        self.holds()
        # and it still listens to orders
        self.still_obeys()

    def etcd(self):
        self.restart("etcd", "--kill")
        until("the API server answers", lambda: self.cluster.kubectl("get", "--raw", "/readyz"))
        self.holds()

    def still_obeys(self):
        self.cluster.kubectl("label", "node", NODE, "nvidia.com/cc.mode=off", "--overwrite")
        until("idle GPUs switched, the busy one waited for", lambda: agent_states(self.cluster)[0] == "waiting-busy")
        self.cluster.kubectl("label", "node", NODE, "nvidia.com/cc.mode=on", "--overwrite")
        until("back", lambda: agent_states(self.cluster) == ("on", "true"))
        self.resets = self.sim.resets()

    def agent_killed(self):
        pod = self.release.pod()
        before = self.restarts(pod)
        self.cluster.run("bash", "-c", "kill -KILL $(pidof ccnode-agent)")
        until("the container was started again", lambda: self.restarts(pod) > before)
        self.holds()

    def restarts(self, pod):
        return self.cluster.get("pod", pod, "-n", NAMESPACE)["status"]["containerStatuses"][0]["restartCount"]

    def rolling_update(self):
        before = self.release.pod()
        self.cluster.kubectl("-n", NAMESPACE, "rollout", "restart", f"daemonset/{self.release.name}")
        self.cluster.kubectl("-n", NAMESPACE, "rollout", "status", f"daemonset/{self.release.name}", "--timeout=300s")
        assert self.release.pod() != before
        self.holds()

    def upgrade(self):
        self.release.upgrade("--set", "podAnnotations.round=two")
        self.holds()

    def rollback(self):
        self.cluster.run("helm", "rollback", self.release.name, "1", "-n", NAMESPACE, "--wait", "--timeout", "300s")
        self.holds()

    # --- a power cut ---

    CHANGED = "0000:db:00.0"  # its board was replaced while the power was off

    def profile_after(self):
        """The board as it comes up: no driver bound, every GPU as its own memory has it, one that is new."""
        with open(os.path.join(SOURCE, "simulator/profiles/hgx-h100.yaml"), encoding="utf-8") as f:
            text = f.read().replace("driver: vfio-pci", "driver: none")
        lines = [line.replace("model: h100-sxm", "model: h100-sxm, mode: on") if self.CHANGED not in line else line
                 for line in text.splitlines()]
        path = os.path.join(self.cluster.dir, "after.yaml")
        with open(path, "w", encoding="utf-8") as f:
            f.write("\n".join(lines) + "\n")
        return path

    def service(self):
        """Its pods by name: those that run, and the ones that ended. With a controller, unlike work."""
        pods = self.cluster.get("pods", "-l", "app=service")["items"]
        running = [p["metadata"]["name"] for p in pods if p["status"]["phase"] == "Running" and "deletionTimestamp" not in p["metadata"]
                   and any(s["ready"] for s in p["status"].get("containerStatuses", []))]
        return running, [p["metadata"]["name"] for p in pods if p["status"]["phase"] == "Failed"]

    def start_service(self):
        pod = gpu_pod("service", self.resource, labels={"app": "service"})
        pod["spec"]["restartPolicy"] = "Always"
        del pod["spec"]["runtimeClassName"]  # its overhead is a processor, and two such pods are too much for a machine with two
        self.cluster.apply({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "service"},
                            "spec": {"replicas": 1, "selector": {"matchLabels": {"app": "service"}},
                                     "template": {"metadata": {"labels": {"app": "service"}}, "spec": pod["spec"]}}})

        def runs():
            assert self.service()[0], self.cluster.kubectl("describe", "pods", "-l", "app=service")[-1500:]
            return True
        until("the service runs", runs)

    def boot_id(self):
        return self.cluster.node()["status"]["nodeInfo"]["bootID"]

    def container(self, pod):
        return self.cluster.get("pod", pod)["status"]["containerStatuses"][0]["containerID"]

    def power_cut(self):
        """The agent's journal says "verified in mode on, boot X" for every GPU: nothing of that may be believed now."""
        before = until("the service runs", lambda: self.service()[0])[0]
        boot, container = self.boot_id(), self.container(before)
        self.cluster.run("bash", f"{HERE}/node/power-off")
        self.sim.start(self.profile_after())
        bound = re.findall(r"^0000:\S+", self.cluster.run("ls", f"{self.sim.ROOT}/sys/bus/pci/drivers/vfio-pci"), re.M)
        assert not bound, f"bound already: {bound}"
        for name in ("etcd", "containerd", "kube-apiserver"):
            self.restart(name, "--start")
        until("the API server answers", lambda: self.cluster.kubectl("get", "--raw", "/readyz"))
        until("containerd answers", lambda: self.cluster.run("ctr", "version"))  # a kubelet that finds none ends
        for name in ("kube-controller-manager", "kube-scheduler", "kube-proxy", "kubelet"):
            self.restart(name, "--start")
        until("kubelet tells the new boot", lambda: self.boot_id() != boot)
        # not the labels first: those of before the power cut say the same. An agent that found no API server tries again within half a minute
        until("the resource is back", lambda: self.allocatable().get(self.resource) == "8")
        until("the labels are true", lambda: agent_states(self.cluster) == ("on", "true"))
        assert all(d["driver"] == "vfio-pci" for d in json.loads(self.sim.ccnode("list", "-o", "json"))), "a device is not bound"
        resets = {bdf: int(n) for bdf, n in self.sim.resets()}
        assert resets.pop(self.CHANGED) == 1, "the GPU that came back in mode off was not switched, or more than once"
        assert set(resets.values()) == {0}, f"a GPU that came back in mode on was reset: {resets}"

        def started_again():
            running, failed = self.service()
            assert running and (running[0] != before or self.container(running[0]) != container), (running, failed)
            return running[0]
        pod = until("the service was started again by its controller", started_again)
        until("and has its GPU", lambda: has_its_devices(self.cluster, self.sim, pod))
        work = until("a pod without controller has ended", lambda: (lambda s: s if s["phase"] == "Failed" else None)(
            self.cluster.get("pod", "work")["status"]))
        print(f"        the pod without controller: {work.get('reason') or 'container ended'}; the service: "
              f"{'a new pod' if pod != before else 'the same pod, a new container'}")


def main():
    with Cluster() as cluster:
        d = Disturbances(cluster)
        failed = report([
            ("installed, cc.mode=on, a pod of its own and one of a Deployment hold a GPU each", d.prepare),
            ("kubelet restarted", d.kubelet),
            ("kubelet killed", d.kubelet_killed),
            ("containerd restarted", d.containerd),
            ("agent killed, as by the OOM killer", d.agent_killed),
            ("DaemonSet rolling update", d.rolling_update),
            ("helm upgrade", d.upgrade),
            ("helm rollback", d.rollback),
            ("etcd killed and restarted", d.etcd),
            ("API server away for a minute", d.api_server_away),
            ("power cut: another boot id, no driver bound, one GPU in another mode; pods end, a controller's is started again", d.power_cut),
        ])
        if failed:
            print("--- agent\n" + d.release.log() + "--- kubelet\n" + cluster.logs("kubelet.log", 20))
        return failed


if __name__ == "__main__":
    sys.exit(main())
