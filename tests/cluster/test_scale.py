"""100 nodes: 100 agents, each on its own simulated server, follow one `kubectl label nodes --all` on a real API server; then the
same under a limit of concurrent changes (a semaphore of Leases)."""
import json
import os
import re
import statistics
import sys
import time
from concurrent.futures import ThreadPoolExecutor

from harness import Cluster, report, until

NODES = int(os.environ.get("CCNODE_SCALE_NODES", "100"))
BUILD = os.path.realpath(os.environ.get("CCNODE_SCALE_BUILD", os.path.join(os.environ.get("CCNODE_BUILD", "build/dev"))))


class Fleet:
    def __init__(self, cluster):
        self.cluster = cluster
        self.names = [f"hollow-{i:03d}" for i in range(NODES)]
        self.limit = 0

    def start(self):
        self.cluster.apply(*({"apiVersion": "v1", "kind": "Node", "metadata": {"name": n, "labels": {"fleet": "hollow"}}} for n in self.names))
        # 100 nodes share one kernel here, and its default of 128 inotify instances
        self.cluster.run("sysctl", "-qw", "fs.inotify.max_user_instances=4096")
        # one script inside the node starts all: a process of ours for each would only cost time
        script = f"""
set -eu
for n in {' '.join(self.names)}; do
  r=/run/fleet/$n; mkdir -p $r
  {BUILD}/bin/ccnode-sim --profile h100-pcie --root $r/host >/dev/null
  cat >$r/ccnode.yaml <<END
devicePlugin: {{ enabled: false }}
cri: {{ socket: "" }}
concurrency: {{ max: {self.limit}, lease: fleet }}
http: {{ listen: "unix:$r/http.sock" }}
END
  ( eval "$({BUILD}/bin/ccnode-sim env --root $r/host | sed 's/^export //; s/^/export /')"
    exec setsid {BUILD}/bin/ccnode-agent --config $r/ccnode.yaml --host-root $r/host --node-name $n \\
      --kubeconfig /run/cluster/admin.kubeconfig >$r/log 2>&1 </dev/null ) &
done
"""
        self.cluster.run("bash", "-c", script)
        self.reach("off", 180)

    def states(self):
        items = self.cluster.get("nodes", "-l", "fleet=hollow")["items"]
        return [i["metadata"]["labels"].get("nvidia.com/cc.mode.state") for i in items]

    def reach(self, mode, seconds):
        until(f"all {NODES} nodes in {mode}", lambda: self.states() == [mode] * NODES, seconds, every=0.2)

    def requests(self):
        """Requests that the agents made, by their own count; the watch's own list and watch calls apart."""
        def one(name):
            text = self.cluster.run("curl", "-s", "--unix-socket", f"/run/fleet/{name}/http.sock", "http://x/metrics")
            return sum(float(v) for verb, v in re.findall(r'ccnode_api_requests_total\{verb="([a-z]+)"[^}]*\} ([0-9.]+)', text)
                       if verb not in ("list", "watch"))
        with ThreadPoolExecutor(4) as pool:
            return list(pool.map(one, self.names))

    def server_patches(self):
        text = self.cluster.kubectl("get", "--raw", "/metrics")
        return sum(float(m) for m in re.findall(r'^apiserver_request_total\{[^}]*resource="nodes"[^}]*verb="PATCH"[^}]*\} ([0-9.e+]+)', text, re.M))

    def server_memory(self):
        return int(self.cluster.run("bash", "-c", "grep VmRSS /proc/$(pgrep -f 'kube kube-apiserver' | head -1)/status").split()[1]) / 1024

    def switch(self):
        before, patches = self.requests(), self.server_patches()
        begin = time.monotonic()
        self.cluster.kubectl("label", "nodes", "-l", "fleet=hollow", "nvidia.com/cc.mode=on", "--overwrite")
        self.reach("on", 120)
        took = time.monotonic() - begin
        time.sleep(2)  # Events may still be on their way
        each = [after - b for after, b in zip(self.requests(), before)]
        usual = statistics.median(each)
        print(f"        {NODES} nodes in {took:.1f} s; {usual:.0f} requests each, {max(each):.0f} at most; API server: "
              f"{(self.server_patches() - patches) / NODES:.2f} Node patches each, {self.server_memory():.0f} MiB")
        # a patch that meets another writer's is sent again: that one node may have one more
        assert usual <= 6 and sum(each) <= 6.2 * NODES, each

    def working(self):
        """Nodes on which a worker is at a step of a change right now, by what `ccnode status` shows there."""
        return int(self.cluster.run("bash", "-c", """grep -lE '"step":"(wake|unbind|stage|check-staged|reset|wait-boot|verify)"' /run/fleet/*/host/run/ccnode/status.json | wc -l"""))

    def limited(self):
        """The limit is reloaded, not restarted."""
        self.cluster.run("bash", "-c", "for f in /run/fleet/*/ccnode.yaml; do sed 's/max: 0/max: 10/' $f >$f.new && mv $f.new $f; done")
        time.sleep(3)
        self.cluster.kubectl("label", "nodes", "-l", "fleet=hollow", "nvidia.com/cc.mode=off", "--overwrite")
        most = 0
        end = time.monotonic() + 240
        while time.monotonic() < end:
            most = max(most, self.working())
            states = self.states()
            if states == ["off"] * NODES:
                break
            time.sleep(0.1)
        else:
            raise AssertionError(f"not all off: {json.dumps({s: states.count(s) for s in set(map(str, states))})}")
        print(f"        at most {most} nodes at a time were changing")
        assert 0 < most <= 10, most

    def stop(self):
        self.cluster.run("bash", "-c", f"pkill -TERM ccnode-agent; for r in /run/fleet/*/host; do {BUILD}/bin/ccnode-sim stop --root $r; done")
        assert not self.cluster.run("bash", "-c", "pgrep ccnode-agent; true").strip(), "an agent did not end on SIGTERM"


def main():
    with Cluster() as cluster:
        fleet = Fleet(cluster)
        return report([
            (f"{NODES} agents see {NODES} nodes", fleet.start),
            ("kubectl label nodes --all: all reach the mode, at most 6 requests each", fleet.switch),
            ("concurrency.max 10: never more than 10 at a time", fleet.limited),
            ("all agents end on SIGTERM", fleet.stop),
        ])


if __name__ == "__main__":
    sys.exit(main())
