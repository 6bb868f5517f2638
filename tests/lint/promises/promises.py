#!/usr/bin/env python3
"""Every test that docs/peers.md names exists, and every row names one or says why not; so does every test and fuzz target of
the table of bad input in docs/developer.md."""
import os
import re
import sys

SOURCE = os.environ.get("CCNODE_SOURCE") or os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../..")


def complaints(text, read):
    """What is wrong with the table; read(path) gives a file's text or None."""
    rows = 0
    for number, line in enumerate(text.splitlines(), 1):
        if not line.startswith("| ") or re.match(r"\| *(#|situation) *\|", line):
            continue
        rows += 1
        cell = line.rstrip().rstrip("|").rsplit("|", 1)[-1].strip()
        named = re.findall(r"`([^`:]+):([A-Za-z0-9_]+)`", cell)
        if not named and not cell.startswith("none: "):
            yield f"line {number}: no test is named and no reason given"
        for path, function in named:
            source = read(path)
            if source is None:
                yield f"line {number}: {path} does not exist"
            elif re.search(rf"^    def {function}\(self\)", source, re.M) and function.startswith("test_"):
                continue  # unittest runs it
            elif not re.search(rf"^(def|static void) {function}\(", source, re.M):
                yield f"line {number}: {path} has no test {function}"
            elif len(re.findall(rf"\b{function}\b", source)) < 2:
                yield f"line {number}: {function} in {path} is never run"
    if rows < 20:
        yield f"only {rows} rows were found"


def missing(text, read):
    """What the table of bad input names and is not there; methods of unittest classes too."""
    named = re.findall(r"`(tests/[^`:]+):([A-Za-z0-9_]+)`", text)
    targets = re.findall(r"`(fuzz_[a-z_]+)`", text)
    for path, function in named:
        if not re.search(rf"^( *def|static void) {function}\(", read(path) or "", re.M):
            yield f"docs/developer.md: {path} has no test {function}"
    for target in targets:
        if not os.path.isdir(os.path.join(SOURCE, "tests/fuzz/corpus", target)):
            yield f"docs/developer.md: no fuzz target {target} with saved inputs"
    if len(named) < 20 or len(targets) < 10:
        yield f"docs/developer.md: only {len(named)} tests and {len(targets)} fuzz targets for bad input"


def read_source(path):
    try:
        with open(os.path.join(SOURCE, path)) as f:
            return f.read()
    except FileNotFoundError:
        return None


def self_test():
    """The check itself must be able to fail."""
    row = "| W1 | a | b | `x.py:{}` |\n"
    good = row.format("t") * 20
    files = {"x.py": "def t():\n    pass\n\n\nrun([t])\n\n\ndef idle():\n    pass\n"}
    assert list(complaints(good, files.get)) == []
    assert list(complaints(good + row.format("gone"), files.get))
    assert list(complaints(good + row.format("idle"), files.get))
    assert list(complaints(good + "| W2 | a | b | |\n", files.get))
    assert list(complaints("", files.get))
    bad = "`tests/x.py:t` " * 20 + "`fuzz_pod_list` " * 10
    assert list(missing(bad, {"tests/x.py": "def t():\n"}.get)) == []
    assert list(missing(bad, {}.get)) and list(missing(bad.replace("pod", "pond"), {"tests/x.py": "def t():\n"}.get))


if __name__ == "__main__":
    self_test()
    with open(os.path.join(SOURCE, "docs/peers.md")) as f:
        found = [f"docs/peers.md: {complaint}" for complaint in complaints(f.read(), read_source)]
    with open(os.path.join(SOURCE, "docs/developer.md")) as f:
        found += missing(f.read(), read_source)
    for complaint in found:
        print(complaint)
    sys.exit(1 if found else 0)
