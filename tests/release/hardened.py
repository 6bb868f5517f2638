"""The programs and libraries that are installed are hardened: position independent, read-only relocations bound at start, no
executable stack, stack protector and fortified calls in use, no run path, and no sanitizer left in."""

import os
import re
import subprocess
import sys
import tempfile


# parts of the simulated node that cannot be: the trap runs in signal handlers of other programs, before their thread data may be
# used; the stand-in for modprobe is static, because it runs in a root without libraries
EXCUSED = {"libccnode-sim-trap.so": {"has no stack protector"}, "ccnode-sim-modprobe": None}


def readelf(path, *options):
    return subprocess.run(["readelf", "-W", *options, path], capture_output=True, text=True, check=True).stdout


def faults(path):
    header, segments, dynamic = readelf(path, "-h"), readelf(path, "-l"), readelf(path, "-d")
    symbols = readelf(path, "--dyn-syms")
    if not re.search(r"Type:\s+DYN", header):
        yield "is not position independent"
    if "GNU_RELRO" not in segments:
        yield "has no read-only relocations (RELRO)"
    if not re.search(r"BIND_NOW|Flags:.*\bNOW\b", dynamic):
        yield "binds symbols lazily (no NOW)"
    stack = re.search(r"GNU_STACK.*", segments)
    if not stack or "E" in stack.group(0).split()[-2]:
        yield "has an executable stack"
    if re.search(r"LOAD.*RWE", segments):
        yield "has a segment that can be written and executed"
    if "__stack_chk_fail" not in symbols:
        yield "has no stack protector"
    if not re.search(r"__\w+_chk\b", symbols.replace("__stack_chk_fail", "")):
        yield "calls no fortified function"
    if "TEXTREL" in dynamic:
        yield "has text relocations"
    if re.search(r"RPATH|RUNPATH", dynamic):
        yield "has a run path"
    if re.search(r"__(asan|ubsan)_", symbols):
        yield "carries a sanitizer"


def unexcused(path):
    excuse = EXCUSED.get(os.path.basename(path), set())
    return [] if excuse is None else [fault for fault in faults(path) if fault not in excuse]


def installed(build, prefix):
    subprocess.run(["cmake", "--install", build, "--prefix", prefix], check=True, stdout=subprocess.DEVNULL)
    for folder, _, names in os.walk(prefix):
        for name in names:
            path = os.path.join(folder, name)
            with open(path, "rb") as file:
                if not os.path.islink(path) and file.read(4) == b"\x7fELF":
                    yield path


def main():
    with tempfile.TemporaryDirectory() as prefix:
        paths = sorted(installed(sys.argv[1], prefix))
        wrong = [f"{os.path.relpath(path, prefix)} {fault}" for path in paths for fault in unexcused(path)]
        names = ", ".join(os.path.relpath(path, prefix) for path in paths)
    if not paths:
        wrong.append("nothing is installed")
    print("\n".join(wrong) if wrong else f"hardened: {names}")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
