"""What Linux answers (guest/scenarios/facts.sh): a real kernel's answers are those of facts.expected, and so are the simulated node's.

usage: test_facts.py kernel | simulator       CCNODE_RECORD=1 with kernel: write facts.expected anew
"""
import difflib
import os
import re
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
BUILD = os.path.realpath(os.environ.get("CCNODE_BUILD", os.path.join(HERE, "../../build/dev")))
EXPECTED = os.path.join(HERE, "facts.expected")
SECTIONS = "fresh reset override bound vfio held-open held-used revoked unbind-held clear new_id remove lockdown".split()


def facts(text):
    return [line for line in text.splitlines() if line.split(":")[0] in SECTIONS]


def kernel():
    p = subprocess.run([os.path.join(HERE, "run"), "facts"], stdout=subprocess.PIPE, text=True, timeout=1700)
    if p.returncode == 77:
        print("SKIPPED: the reason is above")
        sys.exit(77)
    if p.returncode != 0:
        print(p.stdout)
        sys.exit(f"the guest ended with {p.returncode}")
    return facts(p.stdout)


PROFILE = """description: the kernel tier's machine
tee: none
release: 6.12.0-sim
devices:
""" + "".join(f'  - {{ bdf: "0000:{bus}:00.0", model: {model} }}\n' for bus, model in
              (("18", "h100-pcie"), ("19", "h100-sxm"), ("1a", "b200"), ("1b", "rtx-pro-6000"), ("1c", "ls10")))


def simulator():
    if not os.path.exists("/dev/fuse") or os.geteuid() != 0:
        print("SKIPPED: needs root and /dev/fuse")
        sys.exit(77)
    sim = os.path.join(BUILD, "bin/ccnode-sim")
    with tempfile.TemporaryDirectory(prefix="ccnode-facts-") as work:
        vp, profile, root = (os.path.join(work, n) for n in ("vp", "profile.yaml", "root"))
        subprocess.run(["cc", "-O1", "-o", vp, os.path.join(HERE, "guest/vp.c")], check=True)
        with open(profile, "w", encoding="utf-8") as f:
            f.write(PROFILE)
        subprocess.run([sim, "--profile", profile, "--root", root], check=True)
        try:
            p = subprocess.run([sim, "exec", "--root", root, "--", "sh", os.path.join(HERE, "guest/scenarios/facts.sh")],
                               env=dict(os.environ, VP=vp), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=500)
        finally:
            subprocess.run([sim, "stop", "--root", root], check=True)
    return facts(p.stdout) or [p.stdout]


def main():
    where = sys.argv[1]
    seen = kernel() if where == "kernel" else simulator()
    if os.environ.get("CCNODE_RECORD") and where == "kernel":
        with open(EXPECTED, "w", encoding="utf-8") as f:
            f.write("\n".join(seen) + "\n")
    with open(EXPECTED, encoding="utf-8") as f:
        expected = f.read().splitlines()
    difference = list(difflib.unified_diff(expected, seen, "a real kernel answers", f"the {where} answers", lineterm="", n=1))
    print("\n".join(difference))
    wrong = sum(bool(re.match(r"[+-][^+-]", line)) for line in difference)
    print(f"{len(expected)} facts, {wrong} lines differ")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
