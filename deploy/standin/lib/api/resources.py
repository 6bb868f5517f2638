"""Which resources exist. One table feeds routing, discovery, OpenAPI, selectors and printing."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Resource:
    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool
    short: tuple = ()
    status: bool = False             # has a /status subresource
    custom: bool = False             # a custom resource: no strategic merge patch
    fields: tuple = ()               # field selectors besides metadata.name and metadata.namespace
    extra: tuple = field(default=())  # further subresources as (name, kind)

    @property
    def api_version(self):
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def prefix(self):
        return f"/apis/{self.group}/{self.version}" if self.group else "/api/v1"

    @property
    def storage(self):
        """Events of both groups are one set of objects."""
        return "events" if self.kind == "Event" else f"{self.group}/{self.plural}"

    @property
    def list_kind(self):
        return self.kind + "List"


# Field selectors: kubernetes pkg/registry/core/{node,pod,event}/strategy.go
_POD_FIELDS = ("spec.nodeName", "spec.restartPolicy", "spec.schedulerName", "spec.serviceAccountName",
               "spec.hostNetwork", "status.phase", "status.podIP")
_EVENT_FIELDS = ("involvedObject.kind", "involvedObject.namespace", "involvedObject.name", "involvedObject.uid",
                 "involvedObject.apiVersion", "involvedObject.resourceVersion", "involvedObject.fieldPath",
                 "regarding.kind", "regarding.namespace", "regarding.name", "regarding.uid",
                 "reason", "reportingComponent", "reportingController", "source", "type")

RESOURCES = (
    Resource("", "v1", "nodes", "Node", False, ("no",), True, fields=("spec.unschedulable",)),
    Resource("", "v1", "pods", "Pod", True, ("po",), True, fields=_POD_FIELDS,
             extra=(("eviction", "Eviction"), ("binding", "Binding"))),
    Resource("", "v1", "events", "Event", True, ("ev",), fields=_EVENT_FIELDS),
    Resource("", "v1", "namespaces", "Namespace", False, ("ns",), True),
    Resource("", "v1", "configmaps", "ConfigMap", True, ("cm",)),
    Resource("events.k8s.io", "v1", "events", "Event", True, ("ev",), fields=_EVENT_FIELDS),
    Resource("coordination.k8s.io", "v1", "leases", "Lease", True),
    Resource("node.k8s.io", "v1", "runtimeclasses", "RuntimeClass", False),
    Resource("apps", "v1", "daemonsets", "DaemonSet", True, ("ds",), True),
)

# NVIDIA/gpu-operator api/nvidia/v1/clusterpolicy_types.go
CLUSTER_POLICY = Resource("nvidia.com", "v1", "clusterpolicies", "ClusterPolicy", False, status=True, custom=True)


class Registry:
    def __init__(self, with_cluster_policy=False):
        self.all = RESOURCES + ((CLUSTER_POLICY,) if with_cluster_policy else ())
        self.by_path = {(r.group, r.version, r.plural): r for r in self.all}

    def find(self, group, version, plural):
        return self.by_path.get((group, version, plural))

    def groups(self):
        """(group, version) pairs other than the core group, in table order."""
        seen = []
        for r in self.all:
            if r.group and (r.group, r.version) not in seen:
                seen.append((r.group, r.version))
        return seen
