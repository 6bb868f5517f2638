"""What goes wrong around a running node: every component restarted, the API server away for a minute, updates and rollbacks
of the chart, the agent killed. Pods keep running, the resource comes back, the labels stay true."""
import subprocess
import sys
import time

from harness import HERE, NODE, Cluster, report, until
from release import NAMESPACE, Release, agent_states, build_image, gpu_pod, set_mode, start_sim


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
        self.cluster.apply(gpu_pod("work", self.resource))
        self.cluster.kubectl("wait", "--for=condition=Ready", "pod/work", "--timeout=60s")
        self.resets, self.device = self.sim.resets(), self.cluster.held("work")
        assert len(self.device) == 1, self.device

    def allocatable(self):
        return self.cluster.node()["status"]["allocatable"]

    def holds(self, seconds=60):
        """Everything is as before the disturbance."""
        until("the labels are true", lambda: agent_states(self.cluster) == ("on", "true"), seconds)
        until("the resource is back", lambda: self.allocatable().get(self.resource) == "8", seconds)
        pod = self.cluster.get("pod", "work")
        assert pod["status"]["phase"] == "Running" and not pod["status"]["containerStatuses"][0]["restartCount"], pod["status"]
        assert self.sim.resets() == self.resets, "a device was reset"
        until("PodResources names the pod's device", lambda: self.cluster.held("work") == self.device, 30)

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
        self.holds()

    def api_server_away(self):
        self.restart("kube-apiserver", "--stop")
        time.sleep(60)
        self.restart("kube-apiserver", "--start")
        until("the API server answers", lambda: self.cluster.kubectl("get", "--raw", "/readyz"), 60)
        self.holds()
        # and it still listens to orders
        self.still_obeys()

    def etcd(self):
        self.restart("etcd", "--kill")
        until("the API server answers", lambda: self.cluster.kubectl("get", "--raw", "/readyz"), 60)
        self.holds()

    def still_obeys(self):
        self.cluster.kubectl("label", "node", NODE, "nvidia.com/cc.mode=off", "--overwrite")
        until("idle GPUs switched, the busy one waited for", lambda: agent_states(self.cluster)[0] == "waiting-busy", 120)
        self.cluster.kubectl("label", "node", NODE, "nvidia.com/cc.mode=on", "--overwrite")
        until("back", lambda: agent_states(self.cluster) == ("on", "true"), 60)
        self.resets = self.sim.resets()

    def agent_killed(self):
        pod = self.release.pod()
        before = self.restarts(pod)
        self.cluster.run("bash", "-c", "kill -KILL $(pidof ccnode-agent)")
        until("the container was started again", lambda: self.restarts(pod) > before, 60)
        self.holds()

    def restarts(self, pod):
        return self.cluster.get("pod", pod, "-n", NAMESPACE)["status"]["containerStatuses"][0]["restartCount"]

    def rolling_update(self):
        before = self.release.pod()
        self.cluster.kubectl("-n", NAMESPACE, "rollout", "restart", f"daemonset/{self.release.name}")
        self.cluster.kubectl("-n", NAMESPACE, "rollout", "status", f"daemonset/{self.release.name}", "--timeout=120s")
        assert self.release.pod() != before
        self.holds()

    def upgrade(self):
        self.release.upgrade("--set", "podAnnotations.round=two")
        self.holds()

    def rollback(self):
        self.cluster.run("helm", "rollback", self.release.name, "1", "-n", NAMESPACE, "--wait", "--timeout", "90s")
        self.holds()

    def reboot(self):
        """All processes of the node end and start again; devices come up as after a power cycle: knobs kept, not yet looked at."""
        for name in ("kubelet", "containerd", "kube-scheduler", "kube-controller-manager", "kube-apiserver", "etcd"):
            self.restart(name, "--stop", "--kill")
        self.cluster.run("bash", "-c", "pkill -KILL containerd-shim; pkill -KILL ccnode-agent; sleep 1; true")
        for name in ("etcd", "containerd", "kube-apiserver"):
            self.restart(name, "--start")
        until("the API server answers", lambda: self.cluster.kubectl("get", "--raw", "/readyz"), 90)
        for name in ("kube-controller-manager", "kube-scheduler", "kubelet"):
            self.restart(name, "--start")
        until("the labels are true", lambda: agent_states(self.cluster) == ("on", "true"), 120)
        until("the resource is back", lambda: self.allocatable().get(self.resource) == "8", 120)


def main():
    with Cluster() as cluster:
        d = Disturbances(cluster)
        failed = report([
            ("installed, cc.mode=on, a pod holds a GPU", d.prepare),
            ("kubelet restarted", d.kubelet),
            ("kubelet killed", d.kubelet_killed),
            ("containerd restarted", d.containerd),
            ("agent killed, as by the OOM killer", d.agent_killed),
            ("DaemonSet rolling update", d.rolling_update),
            ("helm upgrade", d.upgrade),
            ("helm rollback", d.rollback),
            ("etcd killed and restarted", d.etcd),
            ("API server away for a minute", d.api_server_away),
            ("node reboot: all processes", d.reboot),
        ])
        if failed:
            print("--- agent\n" + d.release.log() + "--- kubelet\n" + cluster.logs("kubelet.log", 20))
        return failed


if __name__ == "__main__":
    sys.exit(main())
