"""Every #include names a file from the root of the repository (in tests also one beside it), and only of a room that layers.txt
allows."""

import os
import re
import sys

import sources

INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"')
GENERATED = re.compile(r"^(version\.h|[a-z0-9_]+\.pb-c\.h)$")  # in the build folder


def rules():
    table = {}
    for line in sources.text("tests/lint/layers.txt").splitlines():
        line = line.split("#")[0].strip()
        if line:
            room, _, allowed = line.partition(":")
            table[room.strip()] = allowed.split()
    return table


def room_of(path, table):
    fitting = [room for room in table if path.startswith(room + "/")]
    return max(fitting, key=len) if fitting else None


def check(path, table):
    room = room_of(path, table)
    if room is None:
        yield f"{path}: in no room of tests/lint/layers.txt"
        return
    for number, line in enumerate(sources.text(path).splitlines(), 1):
        match = INCLUDE.match(line)
        if not match or GENERATED.match(match.group(1)):
            continue
        target = match.group(1)
        if room == "tests" and "/" not in target:  # a test's own helper beside it
            target = os.path.join(os.path.dirname(path), target)
        if not os.path.isfile(os.path.join(sources.ROOT, target)):
            yield f'{path}:{number}: "{target}" is no path from the root of the repository'
            continue
        other = room_of(target, table)
        if other != room and other not in table[room] and "*" not in table[room]:
            yield f'{path}:{number}: {room} may not include {other} ("{target}")'


def main():
    table = rules()
    paths = sources.files(".c", ".h")
    wrong = [message for path in paths for message in check(path, table)]
    print("\n".join(wrong) if wrong else f"{len(paths)} files keep to tests/lint/layers.txt")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
