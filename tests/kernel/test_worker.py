"""ccnode-device on a real Debian kernel (guest/scenarios/worker.sh): it switches, resets, binds and refuses there as on the simulated node."""
import json
import os
import shutil
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
BUILD = os.path.realpath(os.environ.get("CCNODE_BUILD", os.path.join(HERE, "../../build/dev")))


def overlay(root):
    """The program and the libraries it was linked with, where the guest looks for them."""
    program = os.path.join(BUILD, "bin/ccnode-device")
    os.makedirs(os.path.join(root, "payload"))
    shutil.copy(program, os.path.join(root, "payload"))
    out = subprocess.run(["ldd", program], stdout=subprocess.PIPE, text=True, check=True).stdout
    for word in out.split():
        if word.startswith("/"):
            os.makedirs(os.path.dirname(root + word), exist_ok=True)
            shutil.copy(word, root + word)


def answers(text):
    """{name: [answer, …]}, and the words of other lines"""
    runs, notes = {}, {}
    for line in text.splitlines():
        if not line.startswith("worker "):
            continue
        name, _, rest = line.removeprefix("worker ").partition(": ")
        if rest.startswith("{"):
            runs.setdefault(name, []).append(json.loads(rest))
        else:
            notes.setdefault(name, []).append(rest)
    return runs, notes


def check(runs, notes):
    """What is wrong."""
    def step(run, name, last=False):
        found = [a for a in runs.get(run, []) if a["step"] == name]
        return (found[-1] if last else found[0]) if found else {"ok": None}

    for run, mode in (("h100-on", "on"), ("b200-on", "on"), ("ls10-ppcie", "ppcie"), ("h100-ppcie", "ppcie"), ("lockdown-off", "off")):
        for a in runs.get(run, []):
            if not a["ok"]:
                yield f"{run}: {a}"
        if step(run, "verify").get("active") != mode or step(run, "query", last=True).get("active") != mode:
            yield f"{run}: not verified: {runs.get(run)}"
    if notes.get("power") != ["control auto driver vfio-pci"]:
        yield f"power/control afterwards: {notes.get('power')}"
    pids = notes.get("holder", [])
    for run, index in (("held", 0), ("held-group", 1), ("held-group-container", 1), ("held-unbinding", 2)):
        for a in runs.get(run, [{"ok": True, "step": "nothing"}]):
            if a["ok"] or a["code"] != "EBUSY" or f"pid {pids[index]}," not in a["error"]:
                yield f"{run}: {a}, holder {pids[index]}"
    holders = step("held-node", "holders").get("holders", [])
    if [(h["bdf"], str(h["pid"])) for h in holders] != [("0000:18:00.0", pids[0])]:
        yield f"holders: {holders}"
    for run in ("sbr", "remove", "rescan", "back"):
        for a in runs.get(run, [{"ok": False}]):
            if not a["ok"]:
                yield f"{run}: {a}"
    if [a.get("method") for a in runs.get("sbr", []) if a["step"] == "reset"] != ["bus", "flr"]:
        yield f"methods: {runs.get('sbr')}"
    if notes.get("methods") != ["flr bus"]:
        yield f"reset_method afterwards: {notes.get('methods')}"
    unbound = step("lockdown-unbound", "query")
    if unbound.get("code") != "EPERM" or "lockdown" not in unbound.get("error", ""):
        yield f"lockdown without VFIO: {unbound}"
    contained = step("lockdown-container", "query")
    if contained.get("code") != "EPERM" or "device cgroup" not in contained.get("error", "") or "privileged: true" not in contained.get("cure", ""):
        yield f"lockdown in a container that is not privileged: {contained}"
    if not step("free-container", "unbind")["ok"]:
        yield f"idle, asked from a container that is not privileged: {runs.get('free-container')}"


def main():
    with tempfile.TemporaryDirectory(prefix="ccnode-kernel-") as root:
        overlay(root)
        p = subprocess.run([os.path.join(HERE, "run"), "worker"], stdout=subprocess.PIPE, text=True, timeout=1700,
                           env=dict(os.environ, KT_ROOT=root, KT_MEM="768"), check=False)
    if p.returncode == 77:
        print("SKIPPED: the reason is above")
        sys.exit(77)
    wrong = list(check(*answers(p.stdout))) if p.returncode == 0 else [f"the guest ended with {p.returncode}"]
    if wrong:
        print(p.stdout)
    for text in wrong:
        print("WRONG:", text)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
