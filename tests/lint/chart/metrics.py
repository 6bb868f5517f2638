"""Alerts and dashboard ask for what the agent really emits: metrics, labels, and the words that a label can have. Needs no helm."""

import json
import re
import sys

from chart import read, report

RULES = "helm/ccnode/templates/observation.yaml"
FOREIGN = {"kube_daemonset_status_number_unavailable": {"namespace", "daemonset"}}  # of kube-state-metrics
GIVEN = {"node", "le"}  # by the PodMonitor's relabeling; by histograms


def declared():
    """The one table, agent_metrics_init() with the devices' add_devices(): name -> labels."""
    source = read("node-agent/http/metrics.c")
    table = {name: set(re.findall(r'"(\w+)"', labels))
             for name, labels in re.findall(r'\{&a->\w+,\s*METRIC_\w+,\s*"(ccnode_\w+)",[^{]*\{([^}]*)\}\}', source)}
    assert len(table) == source.count("{&a->"), table
    for name, rest in re.findall(r'metrics_add\(\s*m, METRIC_\w+, "(ccnode_\w+)",(.*?)\);', source, re.S):
        labels = re.search(r"LABELS\(([^)]*)\)", rest)
        table[name] = set(re.findall(r'"(\w+)"', labels.group(1))) if labels else set()
    return table


def words():
    """Label -> what the sources put there."""
    health = re.search(r"^const char \*publish_health\(.*?^}", read("node-agent/publish.c"), re.S | re.M).group(0)
    return {"health": set(re.findall(r'return "(\w+)"', health)),
            "result": set(re.findall(r'end_change\(agent, "(\w+)"\)', read("node-agent/tell.c")))}


def expressions():
    for panel in json.loads(read("helm/ccnode/dashboards/ccnode.json"))["panels"]:
        for target in panel["targets"]:
            yield target["expr"], set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
    for line in read(RULES).split("- alert:")[1:]:
        yield re.search(r"expr:(.*?)\n *(?:for|labels):", line, re.S).group(1), set(re.findall(r"\$labels\.(\w+)", line))


def complaints(expr, shown, table, known):
    asked = re.findall(r"\b((?:ccnode|kube)_\w+)(?:{([^}]*)})?", re.sub(r"{{.*?}}", "x", expr))
    if not asked:
        yield f"no metric in {expr}"
    by = set(re.findall(r"\w+", " ".join(re.findall(r"\bby \(([^)]*)\)", expr))))
    for name, selector in asked:
        base = re.sub(r"_(bucket|sum|count)$", "", name)
        labels = table.get(name, table.get(base))
        if labels is None:
            yield f"{name} is not a metric"
            continue
        for label, value in re.findall(r'(\w+) *(?:=~|!~|!=|=) *"?([^",]*)', selector):
            if label not in labels:
                yield f"{name} has no label {label}"
            for word in value.split("|") if label in known else []:
                if word not in known[label]:
                    yield f"{name}: {label} is never {word}"
        for label in (by | shown) - labels - GIVEN:
            yield f"{name} has no label {label}"


def all_are_emitted():
    table, known = declared(), words()
    assert len(table) >= 10 and len(known["health"]) >= 5 and known["result"] == {"changed", "failed"}, (table, known)
    found = list(expressions())
    assert len(found) >= 12, found
    wrong = [c for expr, shown in found for c in complaints(expr, shown, table | FOREIGN, known)]
    assert not wrong, "; ".join(wrong)


def unhealthy_is_not_busy():
    """The words that call somebody at night: not those of a device that waits for a pod, is being changed, or is nobody's."""
    alert = re.search(r"alert: CcnodeDeviceUnhealthy\n(.*?)\n *for:", read(RULES), re.S).group(1)
    assert set(re.search(r'health=~"([^"]*)"', alert).group(1).split("|")) == words()["health"] - {"healthy", "busy", "changing", "unmanaged"}


def the_check_can_fail():
    table, known = declared(), words()
    for expr in ('ccnode_device > 0', 'ccnode_devices{healt="failed"}', 'ccnode_devices{health=~"failed|sick"}', 'sum by (bdf) (ccnode_devices)'):
        assert list(complaints(expr, set(), table, known)), expr


if __name__ == "__main__":
    sys.exit(report([all_are_emitted, unhealthy_is_not_busy, the_check_can_fail]))
