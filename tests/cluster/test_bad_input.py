"""Bad input from real components (issue 4 section 6): each has a message that names the thing and the cure, and goes when the
thing is mended. The rows that need no real component: tests/functional/agent/test_surroundings.py (PodResources of old kubelets) and tests/unit/rpc/test_cri.c (cgroup v1 and v2)."""
import json
import subprocess
import sys

from harness import HERE, NODE, Cluster, report, until
from release import CHART, NAMESPACE, Release, agent_states, build_image, set_mode, start_sim


class BadInput:
    def __init__(self, cluster):
        self.cluster = cluster
        self.sim = start_sim(cluster)
        self.release = Release(cluster, self.sim)
        self.resource = None

    # --- what is asked ---

    def told(self, *words, reason=None):
        def there():
            c = self.cluster.condition()
            assert c and all(w in c["message"] for w in words) and reason in (None, c["reason"]), c
            return c
        return until(f"the condition says {words}", there)

    def not_told(self, *words):
        def gone():
            c = self.cluster.condition()
            assert c and not any(w in c["message"] for w in words), c
            return True
        until(f"the condition no longer says {words}", gone)

    def event(self, reason, *words):
        def there():
            return any(of == reason and all(w in note for w in words) for of, note in self.cluster.events())
        until(f"an Event {reason} with {words}", there)

    def preflight(self):
        p = self.cluster.run(f"{self.sim.programs}/ccnode", "preflight", "--host-root", self.sim.ROOT, check=False, env=self.sim.env)
        return p.stdout + p.stderr

    def restart(self, *argv):
        subprocess.run(["bash", f"{HERE}/node/restart", *argv], env=self.cluster.env, check=True)

    def restart_runtime(self):
        """And kubelet, as an update of the runtime would: the agent asks again when it has registered. A kubelet that finds the
        runtime still starting ends, and is started again as systemd would."""
        self.restart("containerd")
        self.restart("kubelet")

        def healthy():
            if self.cluster.run("bash", "-c", "kill -0 $(cat $CLUSTER_DIR/log/kubelet.pid)", check=False).returncode:
                self.restart("kubelet", "--start")
            return self.cluster.kubectl("get", "--raw", f"/api/v1/nodes/{NODE}/proxy/healthz", check=False).returncode == 0
        until("kubelet is healthy", healthy, every=0.5)

    # --- rows ---

    def chart_values(self):
        for flags, words in (
                (["--set", "config.mode.default=maybe"], ("/config/mode/default", "devtools")),
                (["--set", "config.bussy.policy=wait"], ("/config", "bussy")),
                (["--set", "tolerations=all"], ("/tolerations",)),
                (["--set", "noSuchKey=1"], ("noSuchKey",)),
                (["--set", "driver.version=570"], ("driver", "GPU Operator")),
                (["--set", "ccManager.repository=x"], ("ccManager.repository", "image.repository")),
                (["--set", "kataManager.config.artifactsDir=/x"], ("kataManager.config", "kata-deploy")),
                (["--set", "ccManager.enabeld=true"], ("/ccManager", "enabeld")),
                (["--set", "nfd.enabled=true"], ("nfd.enabled", "NFD chart")),
                (["--set", "config.busy.policy=evict"], ("eviction.enabled",))):
            for command in (["template", "x", CHART, "--kube-version", "1.34.4"], ["install", "x", CHART, "-n", "refused", "--create-namespace"]):
                p = self.cluster.run("helm", *command, *flags, check=False)
                said = p.stderr.replace(".", "/") if "/" in words[0] else p.stderr
                assert p.returncode != 0 and all(w in said for w in words), (flags, p.stdout, p.stderr)
        assert "daemonset" not in self.cluster.kubectl("get", "daemonsets", "-A", "-o", "name"), "nothing was installed"

    def prepare(self):
        build_image(self.cluster)
        self.release.install()
        set_mode(self.cluster, "on")
        self.resource = until("8 GPUs", lambda: [k for k, v in self.cluster.node()["status"]["allocatable"].items()
                                                 if v == "8" and k.startswith("nvidia.com/")])[0]
        self.told("verified in mode on", reason="Ready")

    def node_of_another_machine(self):
        """The real kubelet's machine-id against a host with another one."""
        theirs = self.cluster.node()["status"]["nodeInfo"]["machineID"]
        file = f"{self.sim.ROOT}/etc/machine-id"
        for mine, foreign in ((theirs, False), ("f" * 32, True)):
            self.cluster.run("bash", "-c", f"mkdir -p $(dirname {file}) && echo {mine} >{file}")
            p = self.cluster.run(f"{self.sim.programs}/ccnode-agent", "--explain", "--host-root", self.sim.ROOT, "--node-name", NODE,
                                 "--kubeconfig", "/run/cluster/admin.kubeconfig", check=False, env=self.sim.env)
            assert ("belongs to another machine" in p.stdout) == foreign, p.stdout + p.stderr
            assert not foreign or (theirs in p.stdout and mine in p.stdout), p.stdout
        self.cluster.run("rm", file)

    def rules(self, without=None):
        """The chart's rules for Nodes, less one verb."""
        rules = [{"apiGroups": [""], "resources": [r], "verbs": [v for v in verbs if f"{v} {r}" != without]}
                 for r, verbs in (("nodes", ["get", "list", "watch", "patch"]), ("nodes/status", ["patch"]))]
        rules.append({"apiGroups": ["nvidia.com"], "resources": ["clusterpolicies"], "verbs": ["get"]})
        patch = json.dumps([{"op": "replace", "path": "/rules", "value": [r for r in rules if r["verbs"]]}])
        self.cluster.kubectl("patch", "clusterrole", self.release.name, "--type", "json", "-p", patch)
        account = f"system:serviceaccount:{NAMESPACE}:{self.release.name}"
        for resource, option in (("nodes", ()), ("nodes/status", ("--subresource=status",))):
            wanted = "no" if without == f"patch {resource}" else "yes"  # the API server's own view of the rules follows a little later
            until(f"patch {resource}: {wanted}", lambda option=option, wanted=wanted: self.cluster.kubectl(
                "auth", "can-i", "patch", "nodes/" + NODE, *option, f"--as={account}", check=False).stdout.strip() == wanted)

    def condition_forbidden(self):
        self.rules(without="patch nodes/status")
        set_mode(self.cluster, "off")
        self.event("PermissionMissing", '"patch"', '"nodes/status"')
        self.rules()
        self.told("verified in mode off", reason="NotConfidential")
        self.not_told("forbidden")

    def labels_forbidden(self):
        self.rules(without="patch nodes")
        # ours, so it is put right, which is forbidden
        self.cluster.kubectl("label", "node", NODE, "nvidia.com/cc.mode.state-")
        self.told('the verb "patch" on "nodes"')
        self.event("PermissionMissing", '"patch"', '"nodes"')
        self.rules()
        until("the label is true again", lambda: agent_states(self.cluster) == ("off", "false"))
        self.not_told("forbidden")
        set_mode(self.cluster, "on")

    def foreign_cdi_file(self):
        path = "/run/cdi/leftover.yaml"
        self.cluster.run("bash", "-c", f"echo 'devices: [' >{path}")
        self.told("/var/run/cdi/leftover.yaml", reason="BrokenCDIFile")
        self.event("BrokenCDIFile", "/var/run/cdi/leftover.yaml")
        said = self.preflight()
        assert "/var/run/cdi/leftover.yaml" in said, said
        self.cluster.run("rm", path)
        self.told("verified in mode on", reason="Ready")
        self.not_told("leftover")

    def another_device_plugin(self):
        self.cluster.start(f"{self.cluster.dir}/rival.log", "testtool", "plugin", self.resource, "example.com/gpu", "rival-0")
        self.event("DevicePluginConflict", self.resource, "rival-0", "testtool.sock")
        until("kubelet has ours again", lambda: self.cluster.node()["status"]["allocatable"].get(self.resource) == "8")
        self.not_told("another device plugin")
        until("and the node is ready", lambda: agent_states(self.cluster) == ("on", "true"))
        self.cluster.run("bash", "-c", "kill $(pidof testtool)")

    def containerd_without_cdi(self):
        self.cluster.run("sed", "-i", "s/enable_cdi = true/enable_cdi = false/", "/run/cluster/containerd.toml")
        self.restart_runtime()
        self.told("CDI is switched off in containerd", "enable_cdi = true")
        said = self.preflight()
        assert "enable_cdi" in said, said
        self.cluster.run("sed", "-i", "s/enable_cdi = false/enable_cdi = true/", "/run/cluster/containerd.toml")

    def kubelet_without_get(self):
        self.cluster.run("sed", "-i", "s/^featureGates: {}/featureGates: { KubeletPodResourcesGet: false }/", "/run/cluster/kubelet.yaml")
        self.restart_runtime()
        self.told("PodResources has no Get", "KubeletPodResourcesGet")
        self.not_told("CDI is switched off")
        said = self.preflight()
        assert "KubeletPodResourcesGet" in said or "PodResources" in said, said
        until("served all the same", lambda: agent_states(self.cluster) == ("on", "true"))


def main():
    with Cluster() as cluster:
        b = BadInput(cluster)
        failed = report([
            ("values out of schema: template and install are refused, the key is named", b.chart_values),
            ("installed, cc.mode=on", b.prepare),
            ("a Node object of another machine", b.node_of_another_machine),
            ("permission for the condition is missing", b.condition_forbidden),
            ("permission for the labels is missing", b.labels_forbidden),
            ("broken CDI file of somebody else", b.foreign_cdi_file),
            ("another device plugin for our resource", b.another_device_plugin),
            ("containerd without CDI", b.containerd_without_cdi),
            ("kubelet without PodResources Get", b.kubelet_without_get),
        ])
        if failed:
            print("--- agent\n" + b.release.log(200) + "--- kubelet\n" + cluster.logs("kubelet.log", 20))
        return failed


if __name__ == "__main__":
    sys.exit(main())
