"""100 nodes: 100 agents, each on its own simulated server, follow one `kubectl label nodes --all` on a real API server; then the
same under a limit of concurrent changes (a semaphore of Leases)."""
import collections
import json
import os
import re
import statistics
import subprocess
import sys
import time

from harness import HERE, Cluster, report, until

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
        subprocess.run(["bash", f"{HERE}/node/watchers", "raise"], env=self.cluster.env, check=True)
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
        self.reach("off", 600)

    def states(self):
        items = self.cluster.get("nodes", "-l", "fleet=hollow")["items"]
        return [i["metadata"]["labels"].get("nvidia.com/cc.mode.state") for i in items]

    def reach(self, mode, seconds):
        until(f"all {NODES} nodes in {mode}", lambda: self.states() == [mode] * NODES, seconds, every=0.2)

    def metrics(self):
        """Of each agent, by its own count: {(verb, code): requests}, and how often the API server ended the watch when its time was up."""
        # one way into the node for all of them
        text = self.cluster.run("bash", "-c", """for n; do echo "node $n"
            curl -s --unix-socket /run/fleet/$n/http.sock http://x/metrics | grep -E '^ccnode_(api_requests|watch_restarts)_total'; done""",
                                "metrics", *self.names)
        found = []
        for part in text.split("node ")[1:]:
            counts = {(verb, code): int(float(v)) for verb, code, v in
                      re.findall(r'^ccnode_api_requests_total\{verb="([a-z]+)",code="(\w+)"\} (\S+)', part, re.M)}
            assert counts, f"no metrics: {part}"
            ended = sum(int(float(v)) for v in re.findall(r'^ccnode_watch_restarts_total\{reason="timeout"\} (\S+)', part, re.M))
            found.append((counts, ended))
        assert len(found) == NODES, len(found)
        return found

    def settled(self):
        """The counts when no agent has anything more to say: Events come behind the labels."""
        last = []

        def same():
            last.append(self.metrics())
            return len(last) > 5 and all(one == last[-1] for one in last[-6:])
        until("no more requests for five seconds", same, every=1)
        return last[-1]

    def server(self):
        """What the API server counts, {(verb, resource, code): requests}, of everybody; watches count when they end."""
        found = collections.Counter()
        for labels, value in re.findall(r"^apiserver_request_total\{([^}]*)\} (\S+)", self.cluster.kubectl("get", "--raw", "/metrics"), re.M):
            of = dict(re.findall(r'(\w+)="([^"]*)"', labels))
            found[of["verb"], of["resource"], of["code"]] += int(float(value))
        return found

    def server_memory(self):
        pid = "$(cat $CLUSTER_DIR/log/kube-apiserver.pid)"
        return int(self.cluster.run("bash", "-c", f"grep VmRSS /proc/{pid}/status").split()[1]) / 1024

    def switch(self):
        """Every verb counts, the watch's own list and watch included: a node in whose time the watch was lost and opened again has
        paid for it. One thing is not the change's: the API server ends each watch after 4 to 8 minutes, whatever happens, and it is
        opened again by one request. Those, by the agent's own count of such ends, are taken off and told."""
        before, server = self.settled(), self.server()
        begin = time.monotonic()
        self.cluster.kubectl("label", "nodes", "-l", "fleet=hollow", "nvidia.com/cc.mode=on", "--overwrite")
        self.reach("on", 600)
        took = time.monotonic() - begin
        after, rose = self.settled(), self.server()
        counted = time.monotonic() - begin
        rose.subtract(server)
        each, by_verb, reopened, again = [], collections.Counter(), 0, 0
        for (was, ended_before), (now, ended) in zip(before, after):
            new = collections.Counter(now)
            new.subtract(was)
            each.append(sum(new.values()) - (ended - ended_before))
            reopened += ended - ended_before
            again += sum(n for (_, code), n in new.items() if not code.startswith("2"))
            for (verb, _), n in new.items():
                by_verb[verb] += n
        print(f"        {NODES} nodes in {took:.1f} s; requests of a node: {statistics.median(each):.0f} in the median, {max(each)} at most "
              f"({', '.join(f'{n / NODES:.2f} {verb}' for verb, n in by_verb.most_common() if n)}); {again} were refused or lost; "
              f"{reopened} watches opened again when their time was up")
        writes = collections.Counter()
        for (verb, resource, _), n in rose.items():
            writes[f"{verb} {resource}"] += n
        print(f"        API server: {sum(rose.values()) / counted:.0f} requests/s of everybody over {counted:.1f} s "
              f"({', '.join(f'{n / counted:.0f}/s {what}' for what, n in writes.most_common(5) if n)}), {self.server_memory():.0f} MiB")
        assert max(each) <= 6 and min(each) >= 2, sorted(each)

    def working(self):
        """Nodes on which a worker is at a step of a change right now, by what `ccnode status` shows there."""
        return int(self.cluster.run("bash", "-c", """grep -lE '"step":"(wake|unbind|stage|check-staged|reset|wait-boot|verify)"' /run/fleet/*/host/run/ccnode/status.json | wc -l"""))

    def limited(self):
        """The limit is reloaded, not restarted."""
        self.cluster.run("bash", "-c", "for f in /run/fleet/*/ccnode.yaml; do sed 's/max: 0/max: 10/' $f >$f.new && mv $f.new $f; done")
        # their logs say so: an agent that has not read it yet would know of no limit
        until("all have read it again", lambda: int(self.cluster.run(
            "bash", "-c", "grep -l 'configuration is read again' /run/fleet/*/log | wc -l")) == NODES, 600)
        self.cluster.kubectl("label", "nodes", "-l", "fleet=hollow", "nvidia.com/cc.mode=off", "--overwrite")
        most = 0
        end = time.monotonic() + 900
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
        until("every agent has ended on SIGTERM", lambda: not self.cluster.run("bash", "-c", "pgrep ccnode-agent; true").strip())


def main():
    with Cluster() as cluster:
        fleet = Fleet(cluster)
        return report([
            (f"{NODES} agents see {NODES} nodes", fleet.start),
            ("kubectl label nodes --all: all reach the mode, no node with more than 6 requests", fleet.switch),
            ("concurrency.max 10: never more than 10 at a time", fleet.limited),
            ("all agents end on SIGTERM", fleet.stop),
        ])


if __name__ == "__main__":
    sys.exit(main())
