"""clang-tidy 14 over every source file of the build, with the checks of .clang-tidy.

A file is looked at again only when it, a header that it includes, its flags or the checks changed: what passed is remembered
by a hash of all that in the cache, as ccache does for the compiler. `tidy.py BUILD [REGEX]` looks at matching files only."""

import concurrent.futures
import hashlib
import json
import os
import re
import shlex
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
CACHE = os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "ccnode-tidy")


def read(path):
    with open(path, "rb") as file:
        return file.read()


def dependencies(build):
    """Object file -> the files it was made from, as ninja knows it from the compiler."""
    out = subprocess.run(["ninja", "-C", build, "-t", "deps"], capture_output=True, text=True, check=True).stdout
    found = {}
    for block in out.split("\n\n"):
        lines = block.splitlines()
        if lines and not lines[0].startswith("ninja:"):
            found[lines[0].split(":")[0]] = [line.strip() for line in lines[1:]]
    return found


class Hashes:
    """Of the files that a source includes; system headers count by their name and size."""

    def __init__(self, build):
        self.build, self.known = build, {}

    def of(self, path):
        path = os.path.normpath(os.path.join(self.build, path))
        if path not in self.known:
            inside = path.startswith((ROOT + "/", self.build + "/"))
            what = read(path) if inside else f"{path} {os.stat(path).st_size}".encode()
            self.known[path] = hashlib.sha256(what).digest()
        return self.known[path]


def fingerprint(entry, needed, hashes, common):
    digest = hashlib.sha256(common)
    digest.update(entry["command"].replace(hashes.build, "BUILD").replace(ROOT, "ROOT").encode())
    for path in needed:
        digest.update(hashes.of(path))
    return digest.hexdigest()


def look(build, path):
    done = subprocess.run(["clang-tidy-14", "--quiet", "--extra-arg=-Wno-unknown-warning-option", "-p", build, path], capture_output=True, text=True, cwd=ROOT,
                          stdin=subprocess.DEVNULL, timeout=600)
    return done.returncode, re.sub(r"^\d+ warnings? generated\.\n|^Suppressed .*\n", "", done.stdout, flags=re.M)


def entries(build, pattern):
    """Generated sources are other people's style."""
    for entry in json.loads(read(os.path.join(build, "compile_commands.json"))):
        path = os.path.normpath(os.path.join(entry["directory"], entry["file"]))
        if path.startswith(ROOT + "/") and not path.startswith(build + "/") and re.search(pattern, path):
            words = shlex.split(entry["command"])
            yield entry, path, words[words.index("-o") + 1]


def main():
    build = os.path.abspath(sys.argv[1])
    pattern = sys.argv[2] if len(sys.argv) > 2 else ""
    common = subprocess.run(["clang-tidy-14", "--version"], capture_output=True, check=True).stdout
    for folder in ("", "tests", "simulator"):
        common += read(os.path.join(ROOT, folder, ".clang-tidy"))
    needed, hashes = dependencies(build), Hashes(build)
    os.makedirs(CACHE, exist_ok=True)
    todo, total = {}, 0
    for entry, path, output in entries(build, pattern):
        total += 1
        if output not in needed:
            print(f"{path}: not built yet, build {build} first")
            return 1
        mark = os.path.join(CACHE, fingerprint(entry, needed[output], hashes, common))
        if not os.path.exists(mark):
            todo[path] = mark
    failed = 0
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        runs = {pool.submit(look, build, path): path for path in todo}
        for run in concurrent.futures.as_completed(runs):
            status, output = run.result()
            if status == 0:
                open(todo[runs[run]], "w").close()
            else:
                failed += 1
                print(output.replace(ROOT + "/", ""), flush=True)
    print(f"{total} files, {len(todo)} looked at, {failed} with findings")
    return failed != 0


if __name__ == "__main__":
    sys.exit(main())
