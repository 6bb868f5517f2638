"""The fence: with the token of an agent's pod, what the API server lets through and what it refuses.

Every row is one real request with that token (not impersonation): verb, path, body, and what must become of it:
  PASSES  it is done
  RBAC    refused since no rule gives the verb on the resource
  FENCE   refused by the ValidatingAdmissionPolicy, in its own words: a body that is wrong otherwise proves nothing
  RESET   answered 200, and the API server itself leaves the Node as it was
"""
import base64
import json
import time

from harness import until

NODE = "/api/v1/nodes/node-1"
OTHER = "/api/v1/nodes/node-2"
MERGE = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
JSON = "application/json"
PASSES, RBAC, FENCE, RESET = "passes", "RBAC", "fence", "reset"
# what the API server keeps as its own books; resourceVersion comes with every write
BOOKS = ("managedFields", "resourceVersion")
CONDITION = "ConfidentialGPUsReady"
OWN_LABELS = ("nvidia.com/cc.mode.state", "nvidia.com/cc.ready.state", "nvidia.com/cc.capable", "nvidia.com/gpu.present")
OWN_ANNOTATIONS = ("ccnode.io/status",)


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


def event(node, kind="Node", by="ccnode.io/agent", name=None):
    return {"apiVersion": "events.k8s.io/v1", "kind": "Event",
            "metadata": {"name": name or f"fence-test.{time.time_ns():x}", "namespace": "default"},
            "eventTime": "2026-01-01T00:00:00.000000Z", "reportingController": by, "reportingInstance": "a",
            "action": "Test", "reason": "Test", "type": "Normal", "note": "x", "regarding": {"kind": kind, "name": node, "apiVersion": "v1"}}


def lease(namespace, name):
    return {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": name, "namespace": namespace},
            "spec": {"holderIdentity": "node-1", "leaseDurationSeconds": 60}}


# one value for each field of status that the API server would take: {field: value}
STATUS = {
    "capacity": {"nvidia.com/GH100_H100_PCIE": "64"},
    "allocatable": {"nvidia.com/GH100_H100_PCIE": "64"},
    "phase": "Terminated",
    "addresses": [],
    "conditions": [],
    "daemonEndpoints": {"kubeletEndpoint": {"Port": 1}},
    "nodeInfo": {"bootID": "x"},
    "images": [],
    "volumesInUse": ["kubernetes.io/csi/x"],
    "volumesAttached": [{"name": "kubernetes.io/csi/x", "devicePath": "/dev/x"}],
    "runtimeHandlers": [{"name": "kata-qemu-nvidia-gpu-tdx"}],
    "features": {"supplementalGroupsPolicy": False},
}


def node_rows():
    """Of the own Node, but for what it may do."""
    status = NODE + "/status"

    def label(key, value):
        return one("metadata.labels", key, value)
    return [
        ("its own orders: nvidia.com/cc.mode", "PATCH", NODE, MERGE, label("nvidia.com/cc.mode", "devtools"), FENCE),
        ("its own orders removed", "PATCH", NODE, MERGE, label("nvidia.com/cc.mode", None), FENCE),
        ("its own orders by way of the status", "PATCH", status, MERGE, label("nvidia.com/cc.mode", "devtools"), FENCE),
        ("its own orders: ccnode.io/cc.mode.devices", "PATCH", NODE, MERGE, one("metadata.annotations", "ccnode.io/cc.mode.devices", "{}"), FENCE),
        ("gpu.workload.config", "PATCH", NODE, MERGE, label("nvidia.com/gpu.workload.config", "container"), FENCE),
        ("an operand's deploy label", "PATCH", NODE, MERGE, label("nvidia.com/gpu.deploy.cc-manager", "false"), FENCE),
        ("a label of somebody else", "PATCH", NODE, MERGE, label("example.com/x", "y"), FENCE),
        ("the same by way of the status", "PATCH", status, MERGE, label("example.com/x", "y"), FENCE),
        ("somebody else's label removed", "PATCH", NODE, MERGE, label("kubernetes.io/hostname", None), FENCE),
        ("a role label", "PATCH", NODE, MERGE, label("node-role.kubernetes.io/control-plane", ""), FENCE),
        ("all labels removed", "PATCH", NODE, MERGE, one("metadata", "labels", None), FENCE),
        ("somebody else's annotation", "PATCH", NODE, MERGE, one("metadata.annotations", "example.com/x", "y"), FENCE),
        ("the same by way of the status", "PATCH", status, MERGE, one("metadata.annotations", "example.com/x", "y"), FENCE),
        ("all annotations removed", "PATCH", NODE, MERGE, one("metadata", "annotations", None), FENCE),
        ("a finalizer", "PATCH", NODE, MERGE, {"metadata": {"finalizers": ["example.com/f"]}}, FENCE),
        ("a finalizer by way of the status", "PATCH", status, MERGE, {"metadata": {"finalizers": ["example.com/f"]}}, FENCE),
        ("an owner", "PATCH", NODE, MERGE, {"metadata": {"ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": "n", "uid": "u"}]}}, FENCE),
        ("metadata.generateName", "PATCH", NODE, MERGE, {"metadata": {"generateName": "x"}}, FENCE),
        ("who wrote what, wiped", "PATCH", NODE, MERGE, {"metadata": {"managedFields": [{}]}}, FENCE),
        ("cordon", "PATCH", NODE, MERGE, {"spec": {"unschedulable": True}}, FENCE),
        ("a taint", "PATCH", NODE, STRATEGIC, {"spec": {"taints": [{"key": "a", "value": "b", "effect": "NoExecute"}]}}, FENCE),
        ("spec.providerID", "PATCH", NODE, MERGE, {"spec": {"providerID": "x://y"}}, FENCE),
        ("spec.podCIDR", "PATCH", NODE, MERGE, {"spec": {"podCIDR": "10.1.0.0/24", "podCIDRs": ["10.1.0.0/24"]}}, FENCE),
        ("the spec by way of the status", "PATCH", status, MERGE, {"spec": {"unschedulable": True}}, RESET),
        ("the status by way of the Node", "PATCH", NODE, MERGE, {"status": {"capacity": {"nvidia.com/GH100_H100_PCIE": "64"}}}, RESET),
        # no Kubernetes has a use for it any more: dropped where it was not there before
        ("status.config", "PATCH", status, MERGE, {"status": {"config": {"error": "x"}}}, RESET),
        ("another condition", "PATCH", status, STRATEGIC, condition("Ready"), FENCE),
        ("a new condition", "PATCH", status, STRATEGIC, condition("Anything"), FENCE),
        *((f"status.{field}", "PATCH", status, MERGE, {"status": {field: value}}, FENCE) for field, value in STATUS.items()),
        *((f"status.{field} removed", "PATCH", status, MERGE, {"status": {field: None}}, FENCE)
          for field in ("capacity", "allocatable", "addresses", "conditions", "daemonEndpoints", "nodeInfo", "images")),
        ("delete the own Node", "DELETE", NODE, None, None, RBAC),
        ("replace the own Node", "PUT", NODE, JSON, {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node-1"}}, RBAC),
        ("replace its status", "PUT", status, JSON, {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node-1"}}, RBAC),
        ("the kubelet's proxy", "GET", NODE + "/proxy/pods", None, None, RBAC),
    ]


def rows(namespace):
    leases = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
    events = "/apis/events.k8s.io/v1/namespaces/default/events"
    return [
        # (sentence, verb, path, content type, body, what becomes of it)
        ("read the own Node", "GET", NODE, None, None, PASSES),
        ("own label cc.mode.state", "PATCH", NODE, MERGE, one("metadata.labels", "nvidia.com/cc.mode.state", "off"), PASSES),
        ("own label cc.ready.state", "PATCH", NODE, MERGE, one("metadata.labels", "nvidia.com/cc.ready.state", "false"), PASSES),
        ("own label cc.capable", "PATCH", NODE, MERGE, one("metadata.labels", "nvidia.com/cc.capable", "true"), PASSES),
        ("own label gpu.present", "PATCH", NODE, MERGE, one("metadata.labels", "nvidia.com/gpu.present", "true"), PASSES),
        ("own labels removed", "PATCH", NODE, MERGE, one("metadata.labels", "nvidia.com/cc.capable", None), PASSES),
        ("own annotation ccnode.io/status", "PATCH", NODE, MERGE, one("metadata.annotations", "ccnode.io/status", "[]"), PASSES),
        ("own condition", "PATCH", NODE + "/status", STRATEGIC, condition(CONDITION), PASSES),
        ("an Event about the own Node", "POST", events, JSON, event("node-1"), PASSES),
        ("a Lease of the semaphore", "POST", leases, JSON, lease(namespace, "ccnode-mode-change-0"), PASSES),
        ("list Leases in the own namespace", "GET", leases, None, None, PASSES),
        *node_rows(),
        ("own label on another Node", "PATCH", OTHER, MERGE, one("metadata.labels", "nvidia.com/cc.ready.state", "true"), FENCE),
        ("own condition on another Node", "PATCH", OTHER + "/status", STRATEGIC, condition(CONDITION), FENCE),
        ("make a Node", "POST", "/api/v1/nodes", JSON, {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node-3"}}, RBAC),
        ("an Event about another Node", "POST", events, JSON, event("node-2"), FENCE),
        ("an Event about a pod", "POST", events, JSON, event("x", "Pod"), FENCE),
        ("an Event in another's name", "POST", events, JSON, event("node-1", by="kubelet"), FENCE),
        ("another's Event about the own Node", "PATCH", f"{events}/fence-others", MERGE, one("metadata.labels", "x", "y"), FENCE),
        ("read Events", "GET", events, None, None, RBAC),
        ("a foreign Lease", "POST", leases, JSON, lease(namespace, "kube-scheduler"), FENCE),
        ("delete a Lease of the semaphore", "DELETE", leases + "/ccnode-mode-change-0", None, None, RBAC),
        ("list Leases elsewhere", "GET", "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases", None, None, RBAC),
        ("a Lease of a node's heartbeat", "PATCH", "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/node-1", MERGE,
         {"spec": {"holderIdentity": "x"}}, RBAC),
        ("read pods", "GET", "/api/v1/pods", None, None, RBAC),
        eviction(namespace, "x", RBAC),
        *others(namespace),
    ]


def eviction(namespace, pod, becomes):
    """Only tried: the eviction of a pod that runs would end it."""
    return ("evict a pod", "POST", f"/api/v1/namespaces/{namespace}/pods/{pod}/eviction?dryRun=All", JSON,
            {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod, "namespace": namespace}}, becomes)


def others(namespace):
    """What neither account may do."""
    return [
        ("read secrets", "GET", f"/api/v1/namespaces/{namespace}/secrets", None, None, RBAC),
        ("make a pod", "POST", f"/api/v1/namespaces/{namespace}/pods", JSON, {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"},
         "spec": {"containers": [{"name": "c", "image": "x"}]}}, RBAC),
        ("change a DaemonSet", "PATCH", f"/apis/apps/v1/namespaces/{namespace}/daemonsets/ccnode", MERGE, {"spec": {}}, RBAC),
        ("mint a token", "POST", f"/api/v1/namespaces/{namespace}/serviceaccounts/ccnode/token", JSON,
         {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}, RBAC),
        ("read a ConfigMap", "GET", f"/api/v1/namespaces/{namespace}/configmaps/ccnode", None, None, RBAC),
        ("give oneself a role", "POST", "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", JSON,
         {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": "x"},
          "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"}}, RBAC),
        ("take the fence away", "DELETE", "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies/ccnode-node", None, None, RBAC),
    ]


def evict_rows(namespace, pod):
    """The second account's: it may look at a pod and ask for its eviction, nothing else."""
    pods = f"/api/v1/namespaces/{namespace}/pods"
    return [
        ("read a pod", "GET", f"{pods}/{pod}", None, None, PASSES),
        eviction(namespace, pod, PASSES),
        ("list pods", "GET", "/api/v1/pods?fieldSelector=spec.nodeName%3Dnode-1", None, None, RBAC),
        ("watch pods", "GET", "/api/v1/pods?watch=1&timeoutSeconds=1", None, None, RBAC),
        ("delete a pod", "DELETE", f"{pods}/{pod}?dryRun=All", None, None, RBAC),
        ("delete all pods", "DELETE", f"{pods}?dryRun=All", None, None, RBAC),
        ("change a pod", "PATCH", f"{pods}/{pod}", MERGE, one("metadata.labels", "x", "y"), RBAC),
        ("a pod's status", "PATCH", f"{pods}/{pod}/status", MERGE, {"status": {"phase": "Failed"}}, RBAC),
        ("bind a pod", "POST", f"{pods}/{pod}/binding", JSON,
         {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": pod}, "target": {"kind": "Node", "name": "node-1"}}, RBAC),
        ("a debug container", "PATCH", f"{pods}/{pod}/ephemeralcontainers", STRATEGIC, {"spec": {"ephemeralContainers": []}}, RBAC),
        ("a pod's log", "GET", f"{pods}/{pod}/log", None, None, RBAC),
        ("a command in a pod", "POST", f"{pods}/{pod}/exec?command=id", None, None, RBAC),
        ("a pod's proxy", "GET", f"{pods}/{pod}/proxy/", None, None, RBAC),
        ("read the Node", "GET", NODE, None, None, RBAC),
        ("own label on the Node", "PATCH", NODE, MERGE, one("metadata.labels", "nvidia.com/cc.ready.state", "true"), RBAC),
        ("own condition on the Node", "PATCH", NODE + "/status", STRATEGIC, condition(CONDITION), RBAC),
        ("an Event about the Node", "POST", "/apis/events.k8s.io/v1/namespaces/default/events", JSON, event("node-1"), RBAC),
        ("a Lease", "POST", f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases", JSON, lease(namespace, "ccnode-mode-change-0"), RBAC),
        ("list Leases", "GET", f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases", None, None, RBAC),
        *others(namespace),
    ]


def request(cluster, token, verb, path, content, body):
    """Return: HTTP status and what the server answered."""
    argv = ["curl", "-sS", "--cacert", "/run/cluster/pki/ca.crt", "-X", verb, "-w", "\n%{http_code}", "-H", f"Authorization: Bearer {token}",
            "https://127.0.0.1:6443" + path]
    if body is not None:
        argv += ["-H", f"Content-Type: {content}", "--data-binary", "@-"]
    text = cluster.run(*argv, stdin=json.dumps(body) if body is not None else "")
    answer, _, status = text.rpartition("\n")
    try:
        answer = json.loads(answer)
    except ValueError:
        pass
    return int(status), answer if isinstance(answer, dict) else {"message": str(answer)[:200]}


def bound_token(cluster, namespace, account, pod):
    return cluster.kubectl("-n", namespace, "create", "token", account, "--bound-object-kind", "Pod", "--bound-object-name", pod).strip()


def refusal(status, message):
    """Who refused, or None."""
    if status == 422 and "ValidatingAdmissionPolicy" in message and "ccnode: the agent may" in message:
        return FENCE
    if status == 403 and "is forbidden: User " in message and " cannot " in message:
        return RBAC
    return None


def in_force(stored, body):
    """What of @body the object has now: the answer to a write is the object as that very write left it."""
    found = []
    for key, value in body.items():
        if isinstance(value, dict):
            found += in_force(stored.get(key) or {}, value)
        elif stored.get(key) == value:
            found.append(key)
    return found


def ask(cluster, token, table):
    """Makes every request of the table. Return: sentences about those that went the wrong way."""
    wrong = []
    for sentence, verb, path, content, body, becomes in table:
        status, answer = request(cluster, token, verb, path, content, body)
        message, done = answer.get("message", ""), 200 <= status < 300
        if done and becomes == RESET and (taken := in_force(answer, body)):
            wrong.append(f"{sentence} ({becomes}): {verb} {path} changed {taken}")
        if (done and becomes not in (PASSES, RESET)) or (not done and refusal(status, message) != becomes):
            wrong.append(f"{sentence} ({becomes}): {verb} {path} answered {status} {message}")
    return wrong


def of_others(node):
    """The Node less what the agent may write, and what kubelet writes all the time."""
    kept = json.loads(json.dumps(node))
    for book in BOOKS:
        kept["metadata"].pop(book, None)
    for key in OWN_LABELS:
        kept["metadata"]["labels"].pop(key, None)
    for key in OWN_ANNOTATIONS:
        kept["metadata"]["annotations"].pop(key, None)
    kept["status"].pop("images", None)
    for amounts in (kept["status"]["capacity"], kept["status"]["allocatable"]):
        for key in [k for k in amounts if k.startswith("nvidia.com/")]:
            amounts.pop(key)  # kubelet follows the devices some seconds later; that no request changes them, the answers say
    kept["status"]["conditions"] = sorted((c["type"], c["status"]) for c in kept["status"]["conditions"] if c["type"] != CONDITION)
    return kept


def check(cluster, namespace, account, pod):
    """Raises AssertionError with every row that went the wrong way. Return: number of rows."""
    if "node-2" not in cluster.kubectl("get", "nodes", "-o", "name"):
        cluster.apply({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node-2"}})
    # something to take away: without them a removal would change nothing and pass
    cluster.kubectl("label", "node", "node-1", "nvidia.com/cc.mode=on", "--overwrite")
    cluster.kubectl("-n", namespace, "delete", "lease", "ccnode-mode-change-0", "--ignore-not-found")
    cluster.apply(event("node-1", by="example.com/other", name="fence-others"))
    until("the policies' expressions are judged", lambda: all(policy["status"].get("observedGeneration") == policy["metadata"]["generation"]
                                                             for policy in cluster.get("validatingadmissionpolicies")["items"]))
    before = cluster.node()
    token = bound_token(cluster, namespace, account, pod)
    table = rows(namespace)
    wrong = ask(cluster, token, table)
    # a token that is bound to no pod carries no node: it must not write any Node
    loose = cluster.kubectl("-n", namespace, "create", "token", account).strip()
    wrong += ask(cluster, loose, [("a token without a pod", "PATCH", NODE, MERGE, one("metadata.labels", "nvidia.com/cc.mode.state", "on"), FENCE)])
    cluster.kubectl("delete", "node", "node-2")
    cluster.kubectl("-n", namespace, "delete", "lease", "ccnode-mode-change-0", "--ignore-not-found")
    before, after = of_others(before), of_others(cluster.node())
    if before != after:
        wrong.append(f"the Node changed: {before} {after}")
    # the policies' own expressions, as the API server judges them
    for policy in cluster.get("validatingadmissionpolicies")["items"]:
        warnings = policy["status"].get("typeChecking", {}).get("expressionWarnings", [])
        if warnings:
            wrong.append(f"{policy['metadata']['name']}: {policy['status']}")
    assert not wrong, "\n".join(wrong)
    return len(table) + 1


def check_evict(cluster, namespace, account, pod):
    """The same for the second account, with the very token that the agent reads for evictions."""
    secret = until("the token is made", lambda: cluster.get("secret", f"{account}-evict", "-n", namespace).get("data", {}).get("token"))
    token = base64.b64decode(secret).decode()
    until("the API server knows the role", lambda: cluster.kubectl(
        "auth", "can-i", "create", "pods", "--subresource=eviction", f"--as=system:serviceaccount:{namespace}:{account}-evict",
        check=False).stdout.strip() == "yes")
    table = evict_rows(namespace, pod)
    wrong = ask(cluster, token, table)
    assert not wrong, "\n".join(wrong)
    return len(table)
