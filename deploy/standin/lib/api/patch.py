"""The four patch types of the API: merge (RFC 7386), JSON (RFC 6902), strategic merge, apply."""

import copy

from .status import ApiError

# Merge keys of list fields by path without indexes: struct tags patchMergeKey in kubernetes staging/src/k8s.io/api/core/v1/types.go
MERGE_KEYS = {
    "Node": {"status.conditions": "type", "status.addresses": "type", "spec.taints": "key"},
    "Pod": {"spec.containers": "name", "spec.initContainers": "name", "spec.volumes": "name",
            "spec.containers.env": "name", "spec.initContainers.env": "name",
            "spec.containers.ports": "containerPort", "spec.initContainers.ports": "containerPort",
            "spec.containers.volumeMounts": "mountPath", "spec.initContainers.volumeMounts": "mountPath",
            "spec.containers.volumeDevices": "devicePath", "spec.imagePullSecrets": "name",
            "spec.hostAliases": "ip", "spec.topologySpreadConstraints": "topologyKey",
            "spec.resourceClaims": "name", "spec.schedulingGates": "name", "status.conditions": "type"},
    "Namespace": {"status.conditions": "type"},
    "DaemonSet": {"status.conditions": "type"},
}
COMMON_KEYS = {"metadata.ownerReferences": "uid"}
MERGED_SETS = {"metadata.finalizers"}       # lists of plain values with patchStrategy=merge


def merge(target, patch):
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merge(result.get(key), value)
    return result


def strategic(target, patch, kind):
    return _strategic(target, patch, MERGE_KEYS.get(kind, {}), "")


def _strategic(target, patch, keys, path):
    directive = patch.get("$patch")
    if directive == "replace":
        return {k: copy.deepcopy(v) for k, v in patch.items() if k != "$patch"}
    if directive == "delete":
        return {}
    if directive not in (None, "merge"):
        raise ApiError(400, f"unknown $patch directive {directive!r}")
    result = dict(target) if isinstance(target, dict) else {}
    if "$retainKeys" in patch:
        result = {k: v for k, v in result.items() if k in patch["$retainKeys"]}
    for key, value in patch.items():
        below = f"{path}.{key}" if path else key
        if key in ("$patch", "$retainKeys") or key.startswith("$setElementOrder/"):
            continue
        if key.startswith("$deleteFromPrimitiveList/"):
            name = key.partition("/")[2]
            if isinstance(result.get(name), list):
                result[name] = [v for v in result[name] if v not in value]
        elif value is None:
            result.pop(key, None)
        elif isinstance(value, dict):
            result[key] = _strategic(result.get(key), value, keys, below)
        elif isinstance(value, list):
            result[key] = _strategic_list(result.get(key), value, keys, below)
        else:
            result[key] = value
    return result


def _strategic_list(old, new, keys, path):
    old = old if isinstance(old, list) else []
    if path in MERGED_SETS:
        return old + [v for v in new if v not in old]
    merge_key = keys.get(path) or COMMON_KEYS.get(path)
    if any(isinstance(v, dict) and v.get("$patch") == "replace" for v in new):
        return [copy.deepcopy(v) for v in new if not (isinstance(v, dict) and "$patch" in v)]
    if not merge_key:
        return copy.deepcopy(new)
    result = list(old)
    for item in new:
        if not isinstance(item, dict) or merge_key not in item:
            raise ApiError(400, f"map: {item!r} does not contain declared merge key: {merge_key}")
        at = next((i for i, v in enumerate(result) if v.get(merge_key) == item[merge_key]), None)
        if item.get("$patch") == "delete":
            if at is not None:
                del result[at]
        elif at is None:
            result.append(_strategic({}, item, keys, path))
        else:
            result[at] = _strategic(result[at], item, keys, path)
    return result


def _rejected(detail):
    return ApiError(422, "the server rejected our request due to an error in our request", details={
        "causes": [{"reason": "UnexpectedServerResponse", "message": detail}]})


def _pointer(text):
    if text == "":
        return []
    if not isinstance(text, str) or not text.startswith("/"):
        raise ApiError(400, f"json patch: {text!r} is not a JSON pointer")
    return [part.replace("~1", "/").replace("~0", "~") for part in text[1:].split("/")]


def _step(doc, part, path):
    if isinstance(doc, dict) and part in doc:
        return doc[part]
    if isinstance(doc, list) and part.isdigit() and int(part) < len(doc):
        return doc[int(part)]
    raise _rejected(f"path {path!r} does not exist")


def _get(doc, path):
    for part in _pointer(path):
        doc = _step(doc, part, path)
    return doc


def _edit(doc, path, op, value=None):
    """Apply add, replace or remove at path; returns the new document."""
    parts = _pointer(path)
    if not parts:
        if op == "remove":
            raise _rejected("cannot remove the whole document")
        return value
    parent = doc
    for part in parts[:-1]:
        parent = _step(parent, part, path)
    last = parts[-1]
    if isinstance(parent, dict):
        if op != "add" and last not in parent:
            raise _rejected(f"path {path!r} does not exist")
        if op == "remove":
            del parent[last]
        else:
            parent[last] = value
    elif isinstance(parent, list):
        size = len(parent)
        at = size if last == "-" and op == "add" else int(last) if last.isdigit() else size + 1
        if at > size or (op != "add" and at == size):
            raise _rejected(f"index of {path!r} is out of range")
        if op == "add":
            parent.insert(at, value)
        elif op == "replace":
            parent[at] = value
        else:
            del parent[at]
    else:
        raise _rejected(f"path {path!r} leads into a plain value")
    return doc


def _same(a, b):
    """Equality of JSON values: in Python true == 1, in JSON not."""
    if type(a) is not type(b) and not (isinstance(a, (int, float)) and isinstance(b, (int, float))
                                       and not isinstance(a, bool) and not isinstance(b, bool)):
        return False
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(_same(a[k], b[k]) for k in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(_same(x, y) for x, y in zip(a, b))
    return a == b


def json_patch(target, operations):
    if not isinstance(operations, list):
        raise ApiError(400, "json patch: expected an array of operations")
    doc = copy.deepcopy(target)
    for item in operations:
        if not isinstance(item, dict) or "op" not in item or "path" not in item:
            raise ApiError(400, f"json patch: {item!r} needs op and path")
        op, path = item["op"], item["path"]
        if op in ("add", "replace", "test") and "value" not in item:
            raise ApiError(400, f"json patch: {op} needs a value")
        if op == "test":
            if not _same(_get(doc, path), item["value"]):
                raise _rejected(f"testing value {path} failed: test failed")
        elif op in ("add", "replace"):
            doc = _edit(doc, path, op, copy.deepcopy(item["value"]))
        elif op == "remove":
            doc = _edit(doc, path, op)
        elif op in ("move", "copy"):
            value = copy.deepcopy(_get(doc, item.get("from", "")))
            if op == "move":
                doc = _edit(doc, item["from"], "remove")
            doc = _edit(doc, path, "add", value)
        else:
            raise ApiError(400, f"json patch: unknown operation {op!r}")
    return doc
