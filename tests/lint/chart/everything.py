"""The chart with all of it switched on: every object has what it needs, and they fit together."""

import json
import re
import sys

from chart import NAMESPACE, RELEASE, Helm, Server, names, one, read, report

DIGEST = "sha256:" + "a" * 64
ALL = {
    "image": {"repository": "registry.example/ccnode-agent", "digest": DIGEST},
    "imagePullSecrets": ["pull", "other"],
    "config": {"busy": {"policy": "evict"}, "http": {"listen": ":9500"}},
    "sandboxWorkloads": {"defaultWorkload": "container"},
    "ccManager": {"defaultMode": "on"},
    "vfioManager": {"enabled": False},
    "sandboxDevicePlugin": {"enabled": False},
    "kataManager": {"enabled": True},
    "nfd": {"nodefeaturerules": True},
    "podLabels": {"team": "gpu"},
    "podAnnotations": {"note": "x"},
    "security": {"privileged": True, "seLinuxOptions": {"type": "spc_t"}},
    "eviction": {"enabled": True},
    "networkPolicy": {"enabled": True},
    "podMonitor": {"enabled": True, "labels": {"prometheus": "main"}},
    "prometheusRule": {"enabled": True, "labels": {"prometheus": "main"}},
    "dashboard": {"enabled": True},
    "clusterPolicy": {"createCRD": True},
}
APIS = ("--api-versions", "nfd.k8s-sigs.io/v1alpha1")
CLUSTER_WIDE = {"ClusterRole", "ClusterRoleBinding", "ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding", "NodeFeatureRule",
                "RuntimeClass", "CustomResourceDefinition"}
EXPECTED = {"ConfigMap": 2, "DaemonSet": 1, "NetworkPolicy": 1, "PodMonitor": 1, "PrometheusRule": 1, "NodeFeatureRule": 1, "RuntimeClass": 3,
            "CustomResourceDefinition": 1, "ValidatingAdmissionPolicy": 3, "ValidatingAdmissionPolicyBinding": 3, "Secret": 1, "Job": 1, "Pod": 1,
            "ServiceAccount": 3, "ClusterRole": 2, "ClusterRoleBinding": 2, "Role": 3, "RoleBinding": 3}

helm = Helm()
objects = helm.render(*APIS, values=ALL)
daemon_set = one(objects, "DaemonSet")
pod = daemon_set["spec"]["template"]
agent = pod["spec"]["containers"][0]


def every_object_is_there():
    kinds = [o["kind"] for o in objects]
    assert {k: kinds.count(k) for k in set(kinds)} == EXPECTED, {k: kinds.count(k) for k in set(kinds)}
    seen = set()
    for o in objects:
        me = (o["apiVersion"], o["kind"], o["metadata"].get("namespace"), o["metadata"]["name"])
        assert me not in seen, f"twice: {me}"
        seen.add(me)
        assert (o["kind"] in CLUSTER_WIDE) == ("namespace" not in o["metadata"]), me
        assert o["metadata"]["labels"]["app.kubernetes.io/part-of"] == "ccnode", me
        assert re.fullmatch(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?", o["metadata"]["name"]), me


def pod_templates():
    yield pod["spec"]
    yield one(objects, "Job")["spec"]["template"]["spec"]
    yield one(objects, "Pod")["spec"]


def every_pod_has_image_and_volumes():
    for spec in pod_templates():
        assert [s["name"] for s in spec["imagePullSecrets"]] == ALL["imagePullSecrets"], spec
        volumes = [v["name"] for v in spec.get("volumes", [])]
        mounted = {m["name"] for c in spec["containers"] for m in c.get("volumeMounts", [])}
        assert len(set(volumes)) == len(volumes) and mounted == set(volumes), (volumes, mounted)
        for c in spec["containers"]:
            assert c["image"] == f"registry.example/ccnode-agent@{DIGEST}", c["image"]
            paths = [m["mountPath"] for m in c.get("volumeMounts", [])]
            assert len(set(paths)) == len(paths), f"mounted twice: {paths}"
        for v in spec.get("volumes", []):
            config, secret = v.get("configMap"), v.get("secret")
            assert not config or config["name"] in names(objects, "ConfigMap"), v
            assert not secret or secret["secretName"] in names(objects, "Secret"), v


def every_account_and_role_is_there():
    accounts = set(names(objects, "ServiceAccount"))
    assert {s["serviceAccountName"] for s in pod_templates() if "serviceAccountName" in s} <= accounts, accounts
    for o in objects:
        if o["kind"].endswith("RoleBinding"):
            assert o["roleRef"]["name"] in names(objects, o["roleRef"]["kind"]), o
            assert {s["name"] for s in o["subjects"]} <= accounts and all(s["namespace"] == NAMESPACE for s in o["subjects"]), o
        if o["kind"] == "ValidatingAdmissionPolicyBinding":
            assert o["spec"]["policyName"] in names(objects, "ValidatingAdmissionPolicy"), o
        if o["kind"] == "ValidatingAdmissionPolicy":
            who = f'"system:serviceaccount:{NAMESPACE}:{pod["spec"]["serviceAccountName"]}"'
            assert who in o["spec"]["matchConditions"][0]["expression"], o["spec"]["matchConditions"]


def selectors_match_the_daemon_set():
    labels = pod["metadata"]["labels"]
    assert labels["team"] == "gpu" and pod["metadata"]["annotations"]["note"] == "x", pod["metadata"]
    port = {p["name"]: p["containerPort"] for p in agent["ports"]}
    assert port == {"metrics": 9500}, port
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert agent[probe]["httpGet"]["port"] in port, agent[probe]
    monitor, policy = one(objects, "PodMonitor")["spec"], one(objects, "NetworkPolicy")["spec"]
    for selector in (daemon_set["spec"]["selector"], monitor["selector"], policy["podSelector"]):
        assert selector["matchLabels"] and selector["matchLabels"].items() <= labels.items(), selector
    for other in (one(objects, "Pod"), one(objects, "Job")["spec"]["template"]):
        assert not daemon_set["spec"]["selector"]["matchLabels"].items() <= other["metadata"]["labels"].items(), "the DaemonSet would delete it"
    assert [e["port"] for e in monitor["podMetricsEndpoints"]] == ["metrics"], monitor
    assert [p["port"] for i in policy["ingress"] for p in i["ports"]] == [9500], policy
    assert {443, 6443} <= {p["port"] for e in policy["egress"] for p in e["ports"]}, policy
    for kind in ("PodMonitor", "PrometheusRule"):
        assert one(objects, kind)["metadata"]["labels"]["prometheus"] == "main", kind


def rights_and_places():
    assert agent["securityContext"]["privileged"] is True and "capabilities" not in agent["securityContext"], agent["securityContext"]
    assert pod["spec"]["securityContext"]["seLinuxOptions"] == {"type": "spc_t"}, pod["spec"]["securityContext"]
    assert pod["spec"]["priorityClassName"] == "system-node-critical" and pod["spec"]["terminationGracePeriodSeconds"] == 120
    keys = [[e["key"] for e in t["matchExpressions"]]
            for t in pod["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]]
    nfd = [f"feature.node.kubernetes.io/pci-{c}10de.present" for c in ("", "0302_", "0300_")]
    assert keys == [[k] for k in (*nfd, "feature.node.kubernetes.io/kernel-version.major")], keys
    assert one(objects, "Pod")["spec"]["affinity"] == pod["spec"]["affinity"], "helm test runs where the agent does"


def files_of_others_are_read_only():
    mounts = {m["mountPath"]: m for m in agent["volumeMounts"]}
    kinds = {v["name"]: v["hostPath"] for v in pod["spec"]["volumes"] if "hostPath" in v}
    for path, kind in (("/etc/machine-id", "File"), ("/etc/crio", "DirectoryOrCreate"), ("/etc/cdi", "DirectoryOrCreate")):
        mount = mounts[f"/host{path}"]
        assert mount["readOnly"] and kinds[mount["name"]] == {"path": path, "type": kind}, (mount, kinds[mount["name"]])


def helm_test_reads_the_agents_configuration():
    spec = one(objects, "Pod")["spec"]
    agents = {m["mountPath"]: m["name"] for m in agent["volumeMounts"]}
    for c in spec["containers"]:
        assert c["args"][c["args"].index("--config") + 1].startswith("/etc/ccnode/"), c["args"]
        mine = {m["mountPath"]: m["name"] for m in c["volumeMounts"]}
        assert {"/etc/ccnode", "/host/var/run/cdi", "/host/etc/cdi"} <= mine.keys() and mine.items() <= agents.items(), mine
        assert all(m["readOnly"] for m in c["volumeMounts"]), c["volumeMounts"]


def alerts_are_whole():
    rules = [r for g in one(objects, "PrometheusRule")["spec"]["groups"] for r in g["rules"]]
    assert len(rules) == len({r["alert"] for r in rules}) == 5, rules
    for r in rules:
        assert r["expr"] and r["labels"]["severity"] in ("warning", "critical") and r["annotations"]["summary"], r
        assert re.fullmatch(r"[0-9]+m", r.get("for", "5m")), r
    down = next(r["expr"] for r in rules if "kube_daemonset" in r["expr"])
    assert f'daemonset="{daemon_set["metadata"]["name"]}"' in down and f'namespace="{NAMESPACE}"' in down, down


def dashboard_is_json():
    config = one(objects, "ConfigMap", "-dashboard")
    assert config["metadata"]["labels"]["grafana_dashboard"] == "1", config["metadata"]
    assert json.loads(config["data"]["ccnode.json"]) == json.loads(read("helm/ccnode/dashboards/ccnode.json"))


# --- Node Feature Discovery: what its rules make of a node (NFD customization guide: matchFeatures is AND, matchAny OR) ---

OPERATORS = {"In": lambda have, value: have in value, "IsTrue": lambda have, _: have == "true", "Exists": lambda have, _: have is not None}


def matches(term, features):
    """A set of devices matches when one of them does; attributes are one set."""
    for f in term:
        found = features.get(f["feature"], [])
        if not any(all(OPERATORS[e["op"]](one_of.get(key), e.get("value")) for key, e in f["matchExpressions"].items())
                   for one_of in (found if isinstance(found, list) else [found])):
            return False
    return True


def nfd_labels(rules, devices, security):
    features = {"pci.device": [{"vendor": "10de", "device": d} for d in devices], "cpu.security": security, "rule.matched": {}}
    resources = {}
    for rule in rules:
        if matches(rule.get("matchFeatures", []), features) and \
                ("matchAny" not in rule or any(matches(m["matchFeatures"], features) for m in rule["matchAny"])):
            features["rule.matched"].update(rule.get("labels", {}))
            for name, source in rule.get("extendedResources", {}).items():
                resources[name] = security[source.removeprefix("@cpu.security.")]
    return features["rule.matched"], resources


def node_feature_rules_are_those_of_2023():
    rules = one(objects, "NodeFeatureRule")["spec"]["rules"]
    snp = {"sev.enabled": "true", "sev.es.enabled": "true", "sev.snp.enabled": "true", "sev.asids": "410", "sev.encrypted_state_ids": "99"}
    tdx = {"tdx.enabled": "true", "tdx.total_keys": "15"}
    prefix, gpu = "feature.node.kubernetes.io/", "nvidia.com/gpu."
    for device, label in (("2339", "H100"), ("2331", "H100.pcie"), ("2330", "H100.HBM3"), ("2324", "H800"), ("2322", "H800.pcie")):
        labels, _ = nfd_labels(rules, [device], {})
        assert labels == {gpu + label: "true", gpu + "family": "hopper"}, (device, labels)
        for security in (snp, tdx):
            assert nfd_labels(rules, [device], security)[0].get("nvidia.com/cc.capable") == "true", (device, security)
    labels, resources = nfd_labels(rules, [], tdx)
    assert (labels, resources) == ({prefix + "tdx.enabled": "true"}, {prefix + "tdx.total_keys": "15"}), (labels, resources)
    labels, resources = nfd_labels(rules, [], snp)
    assert labels == {prefix + "sev.snp.enabled": "true", prefix + "sev.es.enabled": "true"}, labels
    assert resources == {prefix + "sev_asids": "410", prefix + "sev_es": "99"}, resources
    assert nfd_labels(rules, ["2901"], tdx)[0] == {gpu + "family": "blackwell", "nvidia.com/cc.capable": "true", prefix + "tdx.enabled": "true"}
    assert "nvidia.com/cc.capable" not in nfd_labels(rules, ["20b0"], snp)[0], "an A100"
    assert "NodeFeatureRule" not in [o["kind"] for o in helm.render(values=ALL)], "without NFD there is no such resource"


# --- what another component has brought already ---

def crd(owner):
    return {"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": "clusterpolicies.nvidia.com", "annotations": {"meta.helm.sh/release-name": owner}}}


def cluster_policy_of_the_gpu_operator():
    path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/clusterpolicies.nvidia.com"
    for there, expected in (({}, True), ({path: crd(RELEASE)}, True), ({path: crd("gpu-operator")}, False)):
        with Server(there) as flags:
            kinds = [o["kind"] for o in helm.render(*flags, values={"clusterPolicy": {"createCRD": True}})]
        assert ("CustomResourceDefinition" in kinds) == expected, there
    mine = one(objects, "CustomResourceDefinition")
    assert mine["metadata"]["name"] == f'{mine["spec"]["names"]["plural"]}.{mine["spec"]["group"]}', mine
    rules = one(helm.render(), "ClusterRole")["rules"]
    assert {"apiGroups": ["nvidia.com"], "resources": ["clusterpolicies"], "verbs": ["get"]} in rules, "the Operator's own can be read"


def runtime_classes_of_kata_deploy():
    path = "/apis/node.k8s.io/v1/runtimeclasses/kata-qemu-nvidia-gpu-snp"
    theirs = {"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": "kata-qemu-nvidia-gpu-snp"}, "handler": "x"}
    with Server({path: theirs}) as flags:
        found = names(helm.render(*flags, values={"kataManager": {"enabled": True}}), "RuntimeClass")
    assert found == ["kata-qemu-nvidia-gpu", "kata-qemu-nvidia-gpu-tdx"], found
    for o in objects:
        if o["kind"] == "RuntimeClass":
            selector = o["scheduling"]["nodeSelector"]
            confidential = o["metadata"]["name"] != "kata-qemu-nvidia-gpu"
            assert selector["nvidia.com/cc.ready.state"] == str(confidential).lower() and len(selector) == 1 + confidential, o


if __name__ == "__main__":
    sys.exit(report([every_object_is_there, every_pod_has_image_and_volumes, every_account_and_role_is_there, selectors_match_the_daemon_set,
                     rights_and_places, files_of_others_are_read_only, helm_test_reads_the_agents_configuration, alerts_are_whole,
                     dashboard_is_json, node_feature_rules_are_those_of_2023, cluster_policy_of_the_gpu_operator,
                     runtime_classes_of_kata_deploy]))
