"""The Table form that kubectl asks for when it prints (meta/v1 Table).
Columns: kubernetes pkg/printers/internalversion/printers.go"""

import datetime


def age(stamp):
    if not stamp:
        return "<unknown>"
    text = stamp.split(".")[0].rstrip("Z")
    try:
        then = datetime.datetime.strptime(text, "%Y-%m-%dT%H:%M:%S").replace(tzinfo=datetime.timezone.utc)
    except ValueError:
        return "<invalid>"
    s = max(0, int((datetime.datetime.now(datetime.timezone.utc) - then).total_seconds()))
    if s < 120:
        return f"{s}s"
    if s < 600:
        return f"{s // 60}m{s % 60}s" if s % 60 else f"{s // 60}m"
    if s < 3 * 3600:
        return f"{s // 60}m"
    if s < 8 * 3600:
        return f"{s // 3600}h{s % 3600 // 60}m"
    if s < 48 * 3600:
        return f"{s // 3600}h"
    return f"{s // 86400}d"


def _dig(obj, *path):
    for part in path:
        obj = obj.get(part) if isinstance(obj, dict) else None
    return obj


def _node(obj):
    status = obj.get("status") or {}
    ready = next((c for c in status.get("conditions") or [] if c.get("type") == "Ready"), None)
    state = "Unknown" if ready is None else "Ready" if ready.get("status") == "True" else "NotReady"
    if _dig(obj, "spec", "unschedulable"):
        state += ",SchedulingDisabled"
    labels = obj["metadata"].get("labels") or {}
    roles = sorted(k.partition("/")[2] for k in labels if k.startswith("node-role.kubernetes.io/"))
    address = {a.get("type"): a.get("address") for a in status.get("addresses") or []}
    info = status.get("nodeInfo") or {}
    return [obj["metadata"]["name"], state, ",".join(roles) or "<none>", age(obj["metadata"].get("creationTimestamp")),
            info.get("kubeletVersion", ""), address.get("InternalIP", "<none>"), address.get("ExternalIP", "<none>"),
            info.get("osImage", "<unknown>"), info.get("kernelVersion", "<unknown>"),
            info.get("containerRuntimeVersion", "<unknown>")]


def _pod(obj):
    status = obj.get("status") or {}
    containers = _dig(obj, "spec", "containers") or []
    states = status.get("containerStatuses") or []
    phase = status.get("reason") or status.get("phase") or "Unknown"
    if obj["metadata"].get("deletionTimestamp"):
        phase = "Terminating"
    return [obj["metadata"]["name"], f"{sum(1 for s in states if s.get('ready'))}/{len(containers)}", phase,
            str(sum(s.get("restartCount", 0) for s in states)), age(obj["metadata"].get("creationTimestamp")),
            status.get("podIP") or "<none>", _dig(obj, "spec", "nodeName") or "<none>", "<none>", "<none>"]


def _event(obj):
    about = obj.get("involvedObject") or {}
    first = obj.get("firstTimestamp") or obj.get("eventTime")
    last = _dig(obj, "series", "lastObservedTime") or obj.get("lastTimestamp") or first
    count = _dig(obj, "series", "count") or obj.get("count") or 1
    source = _dig(obj, "source", "component") or obj.get("reportingComponent") or ""
    return [age(last), obj.get("type", ""), obj.get("reason", ""), f"{about.get('kind', '').lower()}/{about.get('name', '')}",
            about.get("fieldPath", ""), source, (obj.get("message") or "").strip(), age(first), count, obj["metadata"]["name"]]


def _name_age(*paths):
    def row(obj):
        return [obj["metadata"]["name"], *[str(_dig(obj, *p) if _dig(obj, *p) is not None else "") for p in paths],
                age(obj["metadata"].get("creationTimestamp"))]
    return row


# kind -> (columns as "Name" or "Name/priority", row function)
_PRINTERS = {
    "Node": ("Name Status Roles Age Version Internal-IP/1 External-IP/1 OS-Image/1 Kernel-Version/1 Container-Runtime/1", _node),
    "Pod": ("Name Ready Status Restarts Age IP/1 Node/1 Nominated_Node/1 Readiness_Gates/1", _pod),
    "Event": ("Last_Seen Type Reason Object Subobject/1 Source/1 Message First_Seen/1 Count/1 Name/1", _event),
    "Namespace": ("Name Status Age", _name_age(("status", "phase"))),
    "Lease": ("Name Holder Age", _name_age(("spec", "holderIdentity"))),
    "RuntimeClass": ("Name Handler Age", _name_age(("handler",))),
    "ClusterPolicy": ("Name Status Age", _name_age(("status", "state"))),
}
_DEFAULT = ("Name Age", _name_age())


def table(res, objects, meta, include="Metadata", columns=True):
    names, row = _PRINTERS.get(res.kind, _DEFAULT)
    definitions = []
    for name in names.split():
        label, _, priority = name.partition("/")
        definitions.append({"name": label.replace("_", " "), "type": "string",
                            "format": "name" if label == "Name" else "", "description": "",
                            "priority": int(priority or 0)})
    rows = []
    for obj in objects:
        one = {"cells": row(obj)}
        if include == "Object":
            one["object"] = obj
        elif include == "Metadata":
            one["object"] = partial(obj)
        rows.append(one)
    return {"kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": meta,
            "columnDefinitions": definitions if columns else None, "rows": rows}


def partial(obj):
    return {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": obj["metadata"]}
