"""What the API server refuses to store (422)."""

import json
import re

from .status import ApiError, invalid

_NAME = re.compile(r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$")
_QUALIFIED = re.compile(r"^([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]$")
_MICRO = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)$")

# apimachinery pkg/api/validation/objectmeta.go TotalAnnotationSizeLimitB
ANNOTATIONS_MAX = 256 * 1024
_LABEL_RULE = ("a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must "
               "start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used "
               "for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')")


def _key_problem(key):
    prefix, slash, name = key.rpartition("/")
    if slash and (not prefix or len(prefix) > 253 or not _NAME.match(prefix)):
        return "prefix part must be a DNS subdomain of at most 253 characters"
    if not name:
        return "name part must be non-empty"
    if len(name) > 63:
        return "name part must be no more than 63 characters"
    if not _QUALIFIED.match(name):
        return "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character"
    return None


def _strings(meta, what, causes):
    values = meta.get(what)
    if values is None:
        return {}
    if not isinstance(values, dict) or not all(isinstance(v, str) for v in values.values()):
        causes.append((f"metadata.{what}", "Invalid value: must be a map of strings"))
        return {}
    for key in values:
        # annotation keys are checked in lower case
        problem = _key_problem(key if what == "labels" else key.lower())
        if problem:
            causes.append((f"metadata.{what}", f'Invalid value: "{key}": {problem}'))
    return values


def _label_values(labels, causes):
    for value in labels.values():
        if len(value) > 63:
            causes.append(("metadata.labels", f'Invalid value: "{value}": must be no more than 63 characters'))
        if value and not _QUALIFIED.match(value):
            causes.append(("metadata.labels", f'Invalid value: "{value}": {_LABEL_RULE}'))


def _event(obj, causes):
    """events.k8s.io/v1: kubernetes pkg/apis/core/validation/events.go (an eventTime marks the new form)."""
    if not obj.get("eventTime"):
        causes.append(("eventTime", "Required value"))
    elif not _MICRO.match(str(obj["eventTime"])):
        causes.append(("eventTime", f'Invalid value: "{obj["eventTime"]}": not a MicroTime'))
    for key, limit in (("reportingController", None), ("reportingInstance", 128), ("action", 128), ("reason", 128)):
        value = obj.get(key)
        if not value:
            causes.append((key, "Required value"))
        elif limit and len(value) > limit:
            causes.append((key, f"Too long: may not be more than {limit} bytes"))
    if obj.get("reportingController") and _key_problem(obj["reportingController"]):
        causes.append(("reportingController", f'Invalid value: "{obj["reportingController"]}": must be a qualified name'))
    if len((obj.get("note") or "").encode()) > 1024:
        causes.append(("note", "Too long: may not be more than 1024 bytes"))
    if obj.get("type") not in ("Normal", "Warning"):
        causes.append(("type", 'Invalid value: "": has invalid value: Normal or Warning'))
    series = obj.get("series")
    if series is not None:
        if not isinstance(series.get("count"), int) or series["count"] < 2:
            causes.append(("series.count", "should be at least 2"))
        if not series.get("lastObservedTime"):
            causes.append(("series.lastObservedTime", "Required value"))


def _event_namespace(obj, ns, causes):
    about = obj.get("regarding") or obj.get("involvedObject") or {}
    if not about.get("namespace") and ns not in ("default", "kube-system"):
        causes.append(("metadata.namespace", f'Invalid value: "{ns}": does not match regarding.namespace'))


def _conditions(obj, causes):
    conditions = (obj.get("status") or {}).get("conditions") or []
    seen = set()
    for i, c in enumerate(conditions):
        if not isinstance(c, dict) or not c.get("type") or c.get("status") not in ("True", "False", "Unknown"):
            causes.append((f"status.conditions[{i}]", "Invalid value: needs a type and a status True, False or Unknown"))
        elif c["type"] in seen:
            causes.append((f"status.conditions[{i}].type", f'Duplicate value: "{c["type"]}"'))
        else:
            seen.add(c["type"])


# Fields whose type a client may get wrong and a reader would stumble over; the real server decodes into Go types.
_OBJECTS = ("spec", "status", "status.capacity", "status.allocatable", "status.nodeInfo", "metadata.labels", "metadata.annotations")
_LISTS = ("status.conditions", "status.addresses", "spec.taints", "spec.containers", "spec.initContainers", "spec.tolerations",
          "status.containerStatuses", "metadata.ownerReferences")


def _shapes(obj):
    for path in _OBJECTS + _LISTS:
        value = obj
        for part in path.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        good = isinstance(value, dict) if path in _OBJECTS else (
            isinstance(value, list) and all(isinstance(v, dict) for v in value))
        if value is not None and not good:
            raise ApiError(400, f"the object could not be decoded: {path} is {json.dumps(value)[:80]}, not "
                                f"{'an object' if path in _OBJECTS else 'a list of objects'}")
    for key in ("name", "generateName", "namespace", "uid", "resourceVersion"):
        if not isinstance(obj["metadata"].get(key, ""), str):
            raise ApiError(400, f"the object could not be decoded: metadata.{key} is not a string")


def check(res, obj):
    """Raise 400 for what is no object of the kind, 422 with every cause for what may not be stored."""
    _shapes(obj)
    meta, causes = obj["metadata"], []
    name = meta.get("name") or ""
    if not name:
        causes.append(("metadata.name", "Required value: name or generateName is required"))
    elif len(name) > 253 or not _NAME.match(name):
        causes.append(("metadata.name", f'Invalid value: "{name}": a lowercase RFC 1123 subdomain must consist of lower '
                       "case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character"))
    _label_values(_strings(meta, "labels", causes), causes)
    annotations = _strings(meta, "annotations", causes)
    if sum(len(k.encode()) + len(v.encode()) for k, v in annotations.items()) > ANNOTATIONS_MAX:
        causes.append(("metadata.annotations", f"Too long: may not be more than {ANNOTATIONS_MAX} bytes"))
    if res.kind in ("Node", "Pod"):
        _conditions(obj, causes)
    if res.kind == "Pod" and not (obj.get("spec") or {}).get("containers"):
        causes.append(("spec.containers", "Required value"))
    if res.kind == "Event":
        if res.group:
            _event(obj, causes)
        _event_namespace(obj, meta.get("namespace"), causes)
    if causes:
        raise invalid(res.kind, name, causes)
