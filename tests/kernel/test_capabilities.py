"""The capabilities of the chart's container are enough on a real kernel, and none of them is one too many: with each taken away
something breaks, and it is said what. What each is for: security.capabilities in helm/ccnode/values.yaml."""
import os
import re
import shutil
import subprocess
import sys
import tempfile

from test_worker import HERE, answers, overlay

VALUES = os.path.join(HERE, "../../helm/ccnode/values.yaml")
# capability -> (run, step) that must fail without it
BREAKS = {
    "sys_admin": ("", "stage"),
    "sys_ptrace": ("-holders", "holders"),
    "dac_read_search": ("-holders", "holders"),
    "sys_module": ("-module", "load-module"),
}


def chart():
    """What the chart grants by default."""
    with open(VALUES, encoding="utf-8") as file:
        text = file.read()
    block = re.search(r"^  capabilities:\n((?:    - .*\n)+)", text, re.M).group(1)
    caps = [c.lower() for c in re.findall(r"- ([A-Z_]+)", block)]
    return caps + (["sys_module"] if re.search(r"^  loadModules: true", text, re.M) else [])


def lay(root):
    """Beside the worker, the program that takes capabilities away, with its libraries."""
    overlay(root)
    shutil.copy("/usr/bin/setpriv", f"{root}/payload")  # busybox has a smaller one of that name
    for word in subprocess.run(["ldd", "/usr/bin/setpriv"], stdout=subprocess.PIPE, text=True, check=True).stdout.split():
        if word.startswith("/"):
            os.makedirs(os.path.dirname(root + word), exist_ok=True)
            shutil.copy(word, root + word)


def found(answer, holder):
    """Whether a holders step that ended well names the holder."""
    return answer["step"] != "holders" or any(str(h["pid"]) == holder for h in answer["holders"])


def check(caps, runs, notes):
    holder = notes.get("holder", [""])[0]
    for part in ("", "-holders", "-module", "-rest", "-lockdown"):
        for a in runs.get("all" + part, [{"ok": False, "step": "nothing"}]):
            if not a["ok"] or not found(a, holder):
                yield f"with all of the chart's capabilities: {a}"
    for name in caps:
        for a in runs.get(name + "-holders", []):
            if a["ok"] and not found(a, holder):
                yield f"without {name}: a holder that cannot be seen is silently none"
    for cap in caps:
        broken = [(part, a) for part in ("", "-holders", "-module") for a in runs.get(cap + part, []) if not a["ok"] or not found(a, holder)]
        for part, a in broken[:3]:
            print(f"without {cap}: {a['step']}: {a.get('code', '')} {a.get('error', 'the holder is not seen')}")
        if cap not in BREAKS or BREAKS[cap] not in [(part, a["step"]) for part, a in broken]:
            yield f"without {cap}: expected to break {BREAKS.get(cap, 'something, or it is not needed')}, broke {broken}"
    for cap in BREAKS:
        if cap not in caps:
            yield f"the chart does not grant {cap}"


def main():
    caps = chart()
    with tempfile.TemporaryDirectory(prefix="ccnode-kernel-") as root:
        lay(root)
        p = subprocess.run([os.path.join(HERE, "run"), "capabilities", f"kt.caps={','.join(caps)}"], stdout=subprocess.PIPE, text=True, timeout=1700,
                           env=dict(os.environ, KT_ROOT=root, KT_MEM="768"), check=False)
    if p.returncode == 77:
        print("SKIPPED: the reason is above")
        sys.exit(77)
    wrong = list(check(caps, *answers(p.stdout))) if p.returncode == 0 else [f"the guest ended with {p.returncode}"]
    if wrong:
        print(p.stdout)
    for text in wrong:
        print("WRONG:", text)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
