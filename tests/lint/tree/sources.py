"""The files of this repository, for the lint tests: without builds, caches and what git ignores."""

import os

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
SKIPPED = {".git", "build", "__pycache__", ".cache", "shared", "node_modules"}


def files(*suffixes):
    """Paths relative to the root, sorted; all files without suffixes."""
    found = []
    for folder, folders, names in os.walk(ROOT):
        folders[:] = [name for name in folders if name not in SKIPPED]
        for name in names:
            if name == ".git":  # of a work tree
                continue
            path = os.path.join(folder, name)
            if (not suffixes or name.endswith(suffixes)) and os.path.isfile(path) and not os.path.islink(path):
                found.append(os.path.relpath(path, ROOT))
    return sorted(found)


def read(path):
    with open(os.path.join(ROOT, path), "rb") as file:
        return file.read()


def text(path):
    """The text of a file, or None where it is not text."""
    data = read(path)
    if b"\0" in data:
        return None
    try:
        return data.decode()
    except UnicodeDecodeError:
        return None


def scripts(*interpreters):
    """Files without a telling suffix whose first line names one of the interpreters."""
    found = []
    for path in files():
        first = read(path)[:80].split(b"\n")[0]
        if first.startswith(b"#!") and any(name.encode() in first for name in interpreters):
            found.append(path)
    return found
