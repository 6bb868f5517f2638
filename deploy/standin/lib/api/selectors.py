"""Label selectors and field selectors, as functions object -> bool."""

import re

from .status import ApiError

_REQUIREMENT = re.compile(
    r"^\s*(?:(?P<no>!)\s*)?(?P<key>[A-Za-z0-9][-A-Za-z0-9_./]*)\s*"
    r"(?:(?P<op>==|=|!=)\s*(?P<value>[-A-Za-z0-9_.]*)|(?P<set>in|notin)\s*\((?P<values>[^()]*)\))?\s*$")


def _split(text):
    """Split at commas outside parentheses."""
    parts, depth, start = [], 0, 0
    for i, c in enumerate(text):
        if c == "(":
            depth += 1
        elif c == ")":
            depth -= 1
        elif c == "," and depth == 0:
            parts.append(text[start:i])
            start = i + 1
    parts.append(text[start:])
    return parts


def _requirement(text):
    m = _REQUIREMENT.match(text)
    if not m or (m["no"] and (m["op"] or m["set"])):
        raise ApiError(400, f"unable to parse requirement: {text!r}")
    key = m["key"]
    if m["no"]:
        return lambda labels: key not in labels
    if m["set"]:
        values = {v.strip() for v in m["values"].split(",")}
        if m["set"] == "in":
            return lambda labels: key in labels and labels[key] in values
        return lambda labels: labels.get(key) not in values
    if not m["op"]:
        return lambda labels: key in labels
    value = m["value"]
    if m["op"] == "!=":
        return lambda labels: labels.get(key) != value
    return lambda labels: labels.get(key) == value


def label_selector(text):
    if not text:
        return None
    checks = [_requirement(part) for part in _split(text)]
    return lambda obj: all(check(obj["metadata"].get("labels") or {}) for check in checks)


def _lookup(obj, path):
    for part in path.split("."):
        obj = obj.get(part) if isinstance(obj, dict) else None
    if isinstance(obj, bool):
        return "true" if obj else "false"
    if isinstance(obj, dict):           # event source: the component
        obj = obj.get("component")
    return "" if obj is None else str(obj)


_ALIASES = {"regarding": "involvedObject", "reportingController": "reportingComponent"}


def field_selector(text, res):
    """A function, or None; the second value is the name when metadata.name is pinned."""
    if not text:
        return None, None
    checks, name = [], None
    known = ("metadata.name",) + (("metadata.namespace",) if res.namespaced else ()) + res.fields
    for part in text.split(","):
        m = re.match(r"^\s*([A-Za-z.]+)\s*(==|=|!=)(.*)$", part)
        if not m:
            raise ApiError(400, f"invalid selector: {part!r}; can't understand {part!r}")
        path, op, value = m[1], m[2], m[3].strip()
        if path not in known:
            raise ApiError(400, f"field label not supported: {path}")
        if path == "metadata.name" and op != "!=":
            name = value
        head, _, tail = path.partition(".")
        stored = _ALIASES.get(head, head) + ("." + tail if tail else "")
        checks.append((stored, op != "!=", value))
    return (lambda obj: all((_lookup(obj, p) == v) is want for p, want, v in checks)), name
