"""ccnode on a real Debian kernel with the model's GPUs as PCI devices: bind, set-mode, users, CDI, lockdown (docs/host.md)."""
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
BUILD = os.path.realpath(os.environ.get("CCNODE_BUILD", os.path.join(HERE, "../../build/dev")))
OK, FAILED, IN_USE, IMPOSSIBLE = 0, 1, 3, 4
GPU, SWITCH = "0000:18:00.0", "0000:1c:00.0"


def overlay(root):
    """The programs and the libraries they are linked with, where the loader looks for them."""
    os.makedirs(f"{root}/usr/bin")
    libraries = set()
    for program in ("ccnode", "ccnode-device"):
        shutil.copy(f"{BUILD}/bin/{program}", f"{root}/usr/bin/")
        for line in subprocess.run(["ldd", f"{BUILD}/bin/{program}"], stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines():
            libraries |= {word for word in line.split() if word.startswith("/")}
    for library in libraries:
        target = root + library
        os.makedirs(os.path.dirname(target), exist_ok=True)
        shutil.copy(os.path.realpath(library), target)


def run():
    with tempfile.TemporaryDirectory(prefix="ccnode-kernel-") as root:
        overlay(root)
        env = {**os.environ, "KT_ROOT": root, "KT_MEM": os.environ.get("KT_MEM", "1024"), "KT_TIMEOUT": "1200"}
        p = subprocess.run([os.path.join(HERE, "run"), "host"], stdout=subprocess.PIPE, text=True, timeout=1700, env=env)
    if p.returncode == 77:
        print("SKIPPED: the reason is above")
        sys.exit(77)
    answers = {}
    for part in re.split(r"^@ ", p.stdout, flags=re.M)[1:]:
        head, _, body = part.partition("\n")
        name, status = head.split()
        body = "\n".join(line for line in body.splitlines() if not line.startswith("#"))
        try:
            answers[name] = (int(status), json.loads(body) if body.strip() else None)
        except json.JSONDecodeError:
            answers[name] = (int(status), body)
    if "end" not in answers:
        print(p.stdout[-6000:])
        sys.exit(f"the guest ended with {p.returncode} before the scenario did")
    return answers, p.stdout


def main():
    answers, text = run()
    wrong = []

    def check(name, status, condition=lambda rows: True, what=""):
        seen, rows = answers.get(name, (None, None))
        try:
            good = seen == status and condition(rows)
        except (TypeError, KeyError, AttributeError):
            good = False
        print(f"{'ok  ' if good else 'FAIL'} {name} {what}")
        if not good:
            wrong.append(name)
            print(json.dumps(rows, indent=1)[:2500] if not isinstance(rows, str) else rows[:2500], seen)

    def by(rows, bdf):
        return next(row for row in rows if row["bdf"] == bdf)

    check("list", OK, lambda r: len(r) == 5 and all(d["driver"] is None and d["mode"] == "off" for d in r), "five devices, off")
    check("dry-run", OK, lambda r: r["changes"])
    check("bind", OK, lambda r: all(d["to"] == "vfio-pci" for d in r), "all on vfio-pci")
    check("on", OK, lambda r: all(by(r, b)["to"] == "on" for b in (GPU, "0000:1a:00.0")) and by(r, SWITCH)["to"] == "off")
    check("after", OK, lambda r: by(r, GPU)["mode"] == "on" and by(r, GPU)["driver"] == "vfio-pci", "bound again")
    check("again", OK, lambda r: all(d["result"] == "unchanged" for d in r))
    check("cdi-write", OK, lambda r: "nvidia.com-GH100_H100_PCIE.yaml" in r["files"])
    check("cdi-check", OK, lambda r: r["findings"] == [], "every node exists")
    pid = answers.get("holder", (0, {}))[1].get("pid")
    check("held", OK, lambda r: by(r, GPU)["health"] == "busy" and by(r, GPU)["mode"] == "on" and
          any(f"pid {pid}," in user for user in by(r, GPU)["in_use_by"]), "holder named, mode by the journal")
    check("refused", IN_USE, lambda r: r[0]["result"] == "refused" and f"pid {pid}," in r[0]["error"])
    check("off", OK, lambda r: by(r, GPU)["to"] == "off")
    check("unbind", OK, lambda r: r[0]["to"] is None)
    check("preflight", FAILED, lambda r: {c["id"] for c in r["checks"] if c["state"] == "error"} == {"tee"}, "no TEE in this guest")
    check("locked-unbound", IMPOSSIBLE, lambda r: "lockdown" in r[0]["error"])
    check("locked-bind", OK)
    check("locked-on", OK, lambda r: r[0]["to"] == "on", "through VFIO")
    if "Sanitizer" in text:
        wrong.append("sanitizer")
        print(text[-6000:])
    sys.exit(1 if wrong else 0)


main()
