"""The table "Rights of the agent" of docs/operator.md says of each Pod Security rule what the rendered DaemonSet really does."""

import os
import re
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
# capabilities that level baseline lets a container add
BASELINE = {"AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD", "NET_BIND_SERVICE", "SETFCAP", "SETGID", "SETPCAP",
            "SETUID", "SYS_CHROOT"}


def read(path):
    with open(os.path.join(ROOT, path), encoding="utf-8") as file:
        return file.read()


def rules(text):
    """Rule of the standard (Kubernetes 1.34) -> whether the manifest's text keeps it."""
    def has(pattern):
        return re.search(pattern, text) is not None

    def listed(key):
        found = re.search(rf"\b{key}: \[([A-Z_, ]*)\]", text)
        return set(found.group(1).replace(" ", "").split(",")) if found else set()

    confined = not has(r"seccompProfile:\s*\{?\s*type: Unconfined")
    return {
        "HostProcess": not has(r"hostProcess: true"),
        "Host Namespaces": not has(r"host(Network|PID|IPC): true"),
        "Privileged Containers": not has(r"\bprivileged: true"),
        "Capabilities (baseline)": listed("add") <= BASELINE,
        "HostPath Volumes": not has(r"hostPath:"),
        "Host Ports": not has(r"hostPort:"),
        "Host Probes / Lifecycle Hooks": not has(r"(httpGet|tcpSocket): \{[^}]*\bhost:"),
        "AppArmor": not has(r"appArmorProfile:\s*\{?\s*type: Unconfined"),
        "SELinux": not has(r"seLinuxOptions:"),
        "/proc Mount Type": not has(r"procMount: Unmasked"),
        "Seccomp": confined,
        "Sysctls": not has(r"sysctls:"),
        "Volume Types": not has(r"\b(hostPath|nfs|iscsi|rbd|cephfs|glusterfs): "),
        "Privilege Escalation": has(r"allowPrivilegeEscalation: false"),
        "Running as Non-root": has(r"runAsNonRoot: true"),
        "Running as Non-root user": not has(r"runAsUser: 0\b"),
        "Seccomp (restricted)": confined and has(r"seccompProfile:\s*\{?\s*type: (RuntimeDefault|Localhost)"),
        "Capabilities (restricted)": "ALL" in listed("drop") and listed("add") <= {"NET_BIND_SERVICE"},
    }


def complaints(text, page):
    table = page[page.index("| rule of the Pod Security Standards |"):]
    told = dict(re.findall(r"^\| ([^|]+?) \| (yes|no) \|", table[:table.index("\n\n")], re.M))
    truth = {name: "yes" if kept else "no" for name, kept in rules(text).items()}
    for name in sorted(told.keys() | truth.keys()):
        if told.get(name) != truth.get(name):
            yield f"docs/operator.md: {name}: the table says {told.get(name)}, the DaemonSet {truth.get(name)}"


def main():
    page = read("docs/operator.md")
    daemonset = [d for d in read("manifests/ccnode.yaml").split("\n---\n") if re.search(r"^kind: DaemonSet$", d, re.M)]
    if len(daemonset) != 1:
        sys.exit(f"manifests/ccnode.yaml: {len(daemonset)} DaemonSets")
    wrong = list(complaints(daemonset[0], page))
    # the check itself must be able to fail
    for change in (("privileged: false", "privileged: true"), ("RuntimeDefault", "Unconfined"), ("runAsUser: 0", "runAsUser: 1"),
                   ("spec:", "spec:\n      hostPID: true")):
        if not list(complaints(daemonset[0].replace(*change), page)):
            wrong.append(f"{change} is not noticed")
    for text in wrong:
        print(text)
    if not wrong:
        print(f"{len(rules(daemonset[0]))} rules are as the table says")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
