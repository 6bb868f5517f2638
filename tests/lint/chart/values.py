"""The chart's values: each is read; what cannot work is refused with name, cause and cure; nothing ends in a template's own error."""

import copy
import json
import sys

import yaml
from chart import CHART, Helm, one, read, report

helm = Helm()
with open(f"{CHART}/values.yaml", encoding="utf-8") as file:
    DEFAULTS = yaml.safe_load(file)
EVERYTHING = {"runtimeClasses": {"create": True}, "prometheusRule": {"enabled": True}, "dashboard": {"enabled": True},
              "podMonitor": {"enabled": True}, "networkPolicy": {"enabled": True}}
NFD = ("--api-versions", "nfd.k8s-sigs.io/v1alpha1")

# another value of each key, whose rendering must differ; a text is how it is refused
OTHER = {
    "image.repository": "registry.example/x", "image.tag": "7", "image.digest": "sha256:" + "0" * 64, "image.pullPolicy": "Always",
    "imagePullSecrets": ["s"], "config.mode.default": "on", "config.workload.default": "container", "config.http.listen": ":1",
    "sandboxWorkloads.enabled": False, "sandboxWorkloads.defaultWorkload": "container", "ccManager.enabled": False,
    "ccManager.defaultMode": "devtools", "vfioManager.enabled": False, "sandboxDevicePlugin.enabled": False, "kataManager.enabled": True,
    "nfd.nodefeaturerules": True, "nodeSelector": {"a": "b"}, "affinity": {}, "tolerations": [], "priorityClassName": "x",
    "updateStrategy": {"type": "OnDelete"}, "terminationGracePeriodSeconds": 1, "podLabels": {"a": "b"}, "podAnnotations": {"a": "b"},
    "resources": {"limits": {"memory": "1Gi"}}, "security.privileged": True, "security.capabilities": ["SYS_ADMIN"],
    "security.loadModules": False, "security.seccompProfile": {"type": "Unconfined"}, "security.appArmorProfile": {"type": "RuntimeDefault"},
    "security.seLinuxOptions": {"type": "x"}, "hostPaths.root": "/other", "hostPaths.kubelet": "/k", "hostPaths.cdi": "/c",
    "hostPaths.state": "/s", "hostPaths.validations": "/v", "hostPaths.runtimeSockets": ["/r"], "hostPaths.modules": "/m",
    "hostPaths.crio": "", "hostPaths.machineId": "", "extraEnv": [{"name": "A", "value": "b"}],
    "extraVolumes": [{"name": "x", "emptyDir": {}}], "extraVolumeMounts": [{"name": "x", "mountPath": "/x"}], "hostRoot": "/h",
    "serviceAccount.create": (False, "serviceAccount.name"), "serviceAccount.name": "x", "serviceAccount.annotations": {"a": "b"},
    "rbac.create": False, "eviction.enabled": True, "fence.enabled": False, "networkPolicy.enabled": False, "networkPolicy.apiServerPort": 1,
    "podMonitor.enabled": False, "podMonitor.interval": "1s", "podMonitor.labels": {"a": "b"}, "prometheusRule.enabled": False,
    "prometheusRule.labels": {"a": "b"}, "dashboard.enabled": False, "dashboard.labels": {"a": "b"}, "runtimeClasses.create": False,
    "runtimeClasses.classes": [], "runtimeClasses.overhead": {"cpu": "2"}, "clusterPolicy.createCRD": True,
}
# maps that are one value
WHOLE = {"nodeSelector", "affinity", "updateStrategy", "podLabels", "podAnnotations", "resources", "seccompProfile", "appArmorProfile",
         "seLinuxOptions", "annotations", "labels", "overhead"}

REFUSED = (
    ({"config": {"http": {"listen": "127.0.0.1:9408"}}}, ("config.http.listen", "probes", '":9408"')),
    ({"config": {"http": {"listen": "[::1]:9408"}}}, ("config.http.listen",)),
    ({"config": {"http": {"listen": "unix:/run/x"}}}, ("config.http.listen", "unix:/run/x")),
    ({"config": {"http": {"listen": ":0"}}}, ("config.http.listen", "fixed port")),
    ({"config": {"http": {"listen": ""}}, "podMonitor": {"enabled": True}}, ("podMonitor.enabled", "config.http.listen")),
    ({"config": {"http": {"listen": ""}}, "networkPolicy": {"enabled": True}}, ("networkPolicy.enabled", "config.http.listen")),
    ({"config": {"cdi": {"directory": "/etc/cdi"}}}, ("config.cdi.directory is /etc/cdi", "set hostPaths.cdi")),
    ({"config": {"state": {"directory": "/srv"}}}, ("config.state.directory", "hostPaths.state")),
    ({"config": {"validations": {"directory": "/srv"}}}, ("config.validations.directory", "hostPaths.validations")),
    ({"config": {"podResources": {"socket": "/x/kubelet.sock"}}}, ("config.podResources.socket", "hostPaths.kubelet")),
    ({"config": {"devicePlugin": {"directory": "/x"}}}, ("config.devicePlugin.directory", "/var/lib/kubelet/device-plugins")),
    ({"config": {"cri": {"socket": "/run/k3s/containerd/containerd.sock"}}}, ("hostPaths.runtimeSockets", "add /run/k3s/containerd there")),
    ({"hostPaths": {"state": "/run/ccnode/"}}, ("hostPaths", "state and run-ccnode", "/run/ccnode")),
    ({"hostPaths": {"kubeletRootDir": "/x"}}, ("hostPaths.kubeletRootDir", "GPU Operator", "hostPaths.kubelet")),
    ({"ccManager": {"hostNetwork": True}}, ("ccManager.hostNetwork", "GPU Operator", "never needed")),
    ({"clusterPolicy": {"deployCR": False}}, ("clusterPolicy.deployCR", "clusterPolicy.createCRD")),
    ({"gpuCluster": {"deployCR": True}}, ("gpuCluster", "DRA")),
    ({"draDriver": {}}, ("draDriver", "DRA")),
    ({"psa": {"enabled": True}}, ("psa.enabled", "kubectl label ns gpu pod-security.kubernetes.io/enforce=privileged")),
    ({"psp": {"enabled": True}}, ("psp", "kubectl label ns")),
    ({"hostRoot": "/"}, ("/hostRoot", "pattern")),
    ({"networkPolicy": {"apiServerPort": 0}}, ("/networkPolicy/apiServerPort", "minimum")),
    ({"nfd": {"enabled": True}}, ("nfd.enabled", "NFD chart")),
)
TAKEN = (
    {"psa": {"enabled": False}},
    {"config": {"http": {"listen": ""}}},
    {"config": {"http": {"listen": "0.0.0.0:9408"}}},
    {"config": {"cdi": {"directory": "/etc/cdi"}}, "hostPaths": {"cdi": "/etc/cdi/"}},
    {"config": {"cri": {"socket": "/run/k3s/containerd/containerd.sock"}}, "hostPaths": {"runtimeSockets": ["/run/k3s/containerd"]}},
    {"config": {"podResources": {"socket": "/var/lib/k0s/kubelet/pod-resources/kubelet.sock"}}, "hostPaths": {"kubelet": "/var/lib/k0s/kubelet"}},
)


def leaves(values, prefix=""):
    for key, value in values.items():
        if isinstance(value, dict) and key not in WHOLE:
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield prefix + key


def with_value(path, value):
    """EVERYTHING, less a map that is replaced: helm would merge it with the default's."""
    result = copy.deepcopy(EVERYTHING)
    *parents, last = path.split(".")
    place = result
    for key in parents:
        place = place.setdefault(key, {})
    old = DEFAULTS
    for key in path.split("."):
        old = old[key]
    if isinstance(value, dict) and isinstance(old, dict):
        value = {**{k: None for k in old}, **value}
    place[last] = value
    return result


def every_value_is_read():
    assert set(leaves(DEFAULTS)) == OTHER.keys(), f"this test and values.yaml differ: {set(leaves(DEFAULTS)) ^ OTHER.keys()}"
    base = helm.render(*NFD, values=EVERYTHING)
    for path, value in OTHER.items():
        words = None
        if isinstance(value, tuple):
            value, words = value
        changed = with_value(path, value)
        if path == "kataManager.enabled":  # the other way to ask for RuntimeClasses
            changed.pop("runtimeClasses")
            assert any(o["kind"] == "RuntimeClass" for o in helm.render(values=changed)), path
        elif words:
            p = helm.run(*NFD, values=changed)
            assert p.returncode and path in p.stderr and words in p.stderr, (path, p.stderr)
        else:
            assert helm.render(*NFD, values=changed) != base, f"{path}: {value} changes nothing"


def what_cannot_work_is_refused():
    for values, words in REFUSED:
        p = helm.run(values=values)
        assert p.returncode and all(w in p.stderr for w in words), f"{values}: {p.stderr or 'taken'}"
    for values in TAKEN:
        p = helm.run(values=values)
        assert p.returncode == 0, f"{values}: {p.stderr}"


def nulls(paths):
    result = {}
    for path in paths:
        *parents, last = path.split(".")
        place = result
        for key in parents:
            place = place.setdefault(key, {})
        place[last] = None
    return result


def null_is_the_default_or_refused():
    """Helm takes a key with the value null out: the schema says that it is missing, or there is no need for it."""
    schema = json.loads(read("helm/ccnode/values.schema.json"))
    inner = {f"{k}.{n}" for k, s in schema["properties"].items() for n in s.get("required", [])}
    for needed in (schema["required"], inner):
        p = helm.run(values=nulls(needed))
        silent = [n for n in needed if f"'{n.rpartition('.')[2]}'" not in p.stderr]
        assert p.returncode and "missing propert" in p.stderr and not silent, f"null is not refused: {silent}: {p.stderr}"
    free = {*DEFAULTS, *leaves(DEFAULTS)} - inner - set(schema["required"])
    p = helm.run(values=nulls(free))
    assert p.returncode == 0, f"null: {p.stderr}"
    config = yaml.safe_load(one(helm.render(values={"config": {"http": None}}), "ConfigMap")["data"]["ccnode.yaml"])
    assert config["http"] == {"listen": ":9408"}, config


def places_are_the_same_on_both_sides():
    """The agent's configuration, the mounts and the host name each directory alike."""
    wish = {"hostPaths": {"root": "/tree", "cdi": "/opt/cdi", "state": "/srv/state/", "validations": "/srv/valid", "kubelet": "/var/lib/k0s/kubelet"}}
    objects = helm.render(values=wish)
    config = yaml.safe_load(one(objects, "ConfigMap")["data"]["ccnode.yaml"])
    spec = one(objects, "DaemonSet")["spec"]["template"]["spec"]
    host = {v["name"]: v["hostPath"]["path"] for v in spec["volumes"] if "hostPath" in v}
    mounts = {m["mountPath"]: m for m in spec["containers"][0]["volumeMounts"]}
    socket = config["podResources"]["socket"]
    for path in (config["cdi"]["directory"], config["state"]["directory"], config["validations"]["directory"], socket.rpartition("/")[0]):
        assert host[mounts["/host" + path]["name"]] == "/tree" + path, path
    assert (config["cdi"]["directory"], config["state"]["directory"]) == ("/opt/cdi", "/srv/state"), config
    assert "readOnly" not in mounts["/host/opt/cdi"] and mounts["/host/var/run/cdi"]["readOnly"] and mounts["/host/etc/cdi"]["readOnly"]
    test = {m["mountPath"] for c in one(objects, "Pod")["spec"]["containers"] for m in c["volumeMounts"]}
    assert {"/host/opt/cdi", "/host/var/run/cdi", "/host/etc/cdi"} <= test, "helm test looks where the agent writes, and beside"
    assert host["machine-id"] == "/etc/machine-id", "kubelet's own"


if __name__ == "__main__":
    sys.exit(report([every_value_is_read, what_cannot_work_is_refused, null_is_the_default_or_refused, places_are_the_same_on_both_sides]))
