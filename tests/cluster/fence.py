"""The fence: with the token of an agent's pod, what the API server lets through and what it refuses.

Every row is one real request with that token (not impersonation): verb, path, body, and whether it must pass.
"""
import json
import time

NODE = "/api/v1/nodes/node-1"
OTHER = "/api/v1/nodes/node-2"
MERGE = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
JSON = "application/json"



def one(path, key, value):
    """{"metadata": {"labels": {key: value}}} and the like"""
    body = {key: value}
    for part in reversed(path.split(".")):
        body = {part: body}
    return body


def condition(kind):
    return {"status": {"conditions": [{"type": kind, "status": "False", "reason": "Test", "message": "test",
                                       "lastHeartbeatTime": "2026-01-01T00:00:00Z",
                                       "lastTransitionTime": "2026-01-01T00:00:00Z"}]}}


def event(node, kind="Node", name="fence-test"):
    return {"apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": f"{name}.{time.time_ns():x}", "namespace": "default"},
            "eventTime": "2026-01-01T00:00:00.000000Z", "reportingController": "ccnode.io/agent", "reportingInstance": "a",
            "action": "Test", "reason": "Test", "type": "Normal", "note": "x", "regarding": {"kind": kind, "name": node, "apiVersion": "v1"}}


def lease(namespace, name):
    return {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": name, "namespace": namespace},
            "spec": {"holderIdentity": "node-1", "leaseDurationSeconds": 60}}


def rows(namespace):
    leases = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
    events = "/apis/events.k8s.io/v1/namespaces/default/events"
    return [
        # (sentence, verb, path, content type, body, passes)
        ("read the own Node", "GET", NODE, None, None, True),
        ("own label cc.mode.state", "PATCH", NODE, MERGE, one("metadata.labels", "nvidia.com/cc.mode.state", "off"), True),
        ("own label cc.ready.state", "PATCH", NODE, MERGE, one("metadata.labels", "nvidia.com/cc.ready.state", "false"), True),
        ("own label cc.capable", "PATCH", NODE, MERGE, one("metadata.labels", "nvidia.com/cc.capable", "true"), True),
        ("own label gpu.present", "PATCH", NODE, MERGE, one("metadata.labels", "nvidia.com/gpu.present", "true"), True),
        ("own labels removed", "PATCH", NODE, MERGE, one("metadata.labels", "nvidia.com/cc.capable", None), True),
        ("own annotation ccnode.io/status", "PATCH", NODE, MERGE, one("metadata.annotations", "ccnode.io/status", "[]"), True),
        ("own condition", "PATCH", NODE + "/status", STRATEGIC, condition("ConfidentialGPUsReady"), True),
        ("an Event about the own Node", "POST", events, JSON, event("node-1"), True),
        ("a Lease of the semaphore", "POST", leases, JSON, lease(namespace, "ccnode-mode-change-0"), True),
        ("its own orders: nvidia.com/cc.mode", "PATCH", NODE, MERGE, one("metadata.labels", "nvidia.com/cc.mode", "devtools"), False),
        ("its own orders removed", "PATCH", NODE, MERGE, one("metadata.labels", "nvidia.com/cc.mode", None), False),
        ("its own orders: ccnode.io/cc.mode.devices", "PATCH", NODE, MERGE, one("metadata.annotations", "ccnode.io/cc.mode.devices", "{}"), False),
        ("gpu.workload.config", "PATCH", NODE, MERGE, one("metadata.labels", "nvidia.com/gpu.workload.config", "container"), False),
        ("an operand's deploy label", "PATCH", NODE, MERGE, one("metadata.labels", "nvidia.com/gpu.deploy.cc-manager", "false"), False),
        ("a label of somebody else", "PATCH", NODE, MERGE, one("metadata.labels", "example.com/x", "y"), False),
        ("somebody else's label removed", "PATCH", NODE, MERGE, one("metadata.labels", "kubernetes.io/hostname", None), False),
        ("a role label", "PATCH", NODE, MERGE, one("metadata.labels", "node-role.kubernetes.io/control-plane", ""), False),
        ("somebody else's annotation", "PATCH", NODE, MERGE, one("metadata.annotations", "example.com/x", "y"), False),
        ("cordon", "PATCH", NODE, MERGE, {"spec": {"unschedulable": True}}, False),
        ("a taint", "PATCH", NODE, STRATEGIC, {"spec": {"taints": [{"key": "a", "value": "b", "effect": "NoExecute"}]}}, False),
        ("a finalizer", "PATCH", NODE, MERGE, {"metadata": {"finalizers": ["example.com/f"]}}, False),
        ("an owner", "PATCH", NODE, MERGE, {"metadata": {"ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": "n", "uid": "u"}]}}, False),
        ("another condition", "PATCH", NODE + "/status", STRATEGIC, condition("Ready"), False),
        ("a new condition", "PATCH", NODE + "/status", STRATEGIC, condition("Anything"), False),
        ("capacity", "PATCH", NODE + "/status", MERGE, {"status": {"capacity": {"nvidia.com/GH100_H100_PCIE": "64"}}}, False),
        ("allocatable", "PATCH", NODE + "/status", MERGE, {"status": {"allocatable": {"nvidia.com/GH100_H100_PCIE": "64"}}}, False),
        ("addresses", "PATCH", NODE + "/status", MERGE, {"status": {"addresses": []}}, False),
        ("own label on another Node", "PATCH", OTHER, MERGE, one("metadata.labels", "nvidia.com/cc.ready.state", "true"), False),
        ("own condition on another Node", "PATCH", OTHER + "/status", STRATEGIC, condition("ConfidentialGPUsReady"), False),
        ("make a Node", "POST", "/api/v1/nodes", JSON, {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node-3"}}, False),
        ("delete the own Node", "DELETE", NODE, None, None, False),
        ("an Event about another Node", "POST", events, JSON, event("node-2"), False),
        ("an Event about a pod", "POST", events, JSON, event("x", "Pod"), False),
        ("a foreign Lease", "POST", leases, JSON, lease(namespace, "kube-scheduler"), False),
        ("a Lease of a node's heartbeat", "PATCH", "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/node-1", MERGE,
         {"spec": {"holderIdentity": "x"}}, False),
        ("read pods", "GET", "/api/v1/pods", None, None, False),
        ("evict a pod", "POST", f"/api/v1/namespaces/{namespace}/pods/x/eviction", JSON,
         {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "x", "namespace": namespace}}, False),
        ("read secrets", "GET", f"/api/v1/namespaces/{namespace}/secrets", None, None, False),
        ("make a pod", "POST", f"/api/v1/namespaces/{namespace}/pods", JSON, {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"},
         "spec": {"containers": [{"name": "c", "image": "x"}]}}, False),
        ("change a DaemonSet", "PATCH", f"/apis/apps/v1/namespaces/{namespace}/daemonsets/ccnode", MERGE, {"spec": {}}, False),
        ("mint a token", "POST", f"/api/v1/namespaces/{namespace}/serviceaccounts/ccnode/token", JSON,
         {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}, False),
        ("read a ConfigMap", "GET", f"/api/v1/namespaces/{namespace}/configmaps/ccnode", None, None, False),
        ("the kubelet's proxy", "GET", NODE + "/proxy/pods", None, None, False),
    ]


def request(cluster, token, verb, path, content, body):
    """Return: HTTP status and the server's message."""
    argv = ["curl", "-sS", "--cacert", "/run/cluster/pki/ca.crt", "-X", verb, "-w", "\n%{http_code}", "-H", f"Authorization: Bearer {token}",
            "https://127.0.0.1:6443" + path]
    if body is not None:
        argv += ["-H", f"Content-Type: {content}", "--data-binary", "@-"]
    text = cluster.run(*argv, stdin=json.dumps(body) if body is not None else "")
    answer, _, status = text.rpartition("\n")
    try:
        message = json.loads(answer).get("message", "")
    except (ValueError, AttributeError):
        message = answer[:200]
    return int(status), message


def bound_token(cluster, namespace, account, pod):
    return cluster.kubectl("-n", namespace, "create", "token", account, "--bound-object-kind", "Pod", "--bound-object-name", pod).strip()


def check(cluster, namespace, account, pod):
    """Raises AssertionError with every row that went the wrong way. Return: number of rows."""
    if "node-2" not in cluster.kubectl("get", "nodes", "-o", "name"):
        cluster.apply({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node-2"}})
    # something to take away: without them a removal would change nothing and pass
    cluster.kubectl("label", "node", "node-1", "nvidia.com/cc.mode=on", "--overwrite")
    before = cluster.node()
    token = bound_token(cluster, namespace, account, pod)
    wrong = []
    table = rows(namespace)
    for sentence, verb, path, content, body, passes in table:
        status, message = request(cluster, token, verb, path, content, body)
        if (200 <= status < 300) != passes or (not passes and status not in (403, 422)):
            wrong.append(f"{sentence}: {verb} {path} answered {status} {message}")
    # a token that is bound to no pod carries no node: it must not write any Node
    loose = cluster.kubectl("-n", namespace, "create", "token", account).strip()
    status, message = request(cluster, loose, "PATCH", NODE, MERGE, one("metadata.labels", "nvidia.com/cc.mode.state", "on"))
    if status not in (403, 422):
        wrong.append(f"a token without a pod: {status} {message}")
    cluster.kubectl("delete", "node", "node-2")
    cluster.kubectl("-n", namespace, "delete", "lease", "ccnode-mode-change-0", "--ignore-not-found")
    after = cluster.node()
    if before["spec"] != after["spec"]:
        wrong.append(f"the Node's spec changed: {before['spec']} {after['spec']}")
    assert not wrong, "; ".join(wrong)
    return len(table) + 1


