"""Every #include names a file from the root of the repository (in tests also one beside it), and only what layers.txt
allows to the room of the file; a pure room does nothing but compute."""

import os
import re
import sys

import sources

INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"')
GENERATED = re.compile(r"^(version\.h|[a-z0-9_]+\.pb-c\.h)$")  # in the build folder
# what a pure room has no use for: system headers of files, clocks, processes; calls of ours that a header may bring along
IMPURE = re.compile(r"^\s*#\s*include\s+<(fcntl|unistd|dirent|time|poll|signal|pthread|spawn|sys/(?!types)\w+|curl/\w+)\.h>"
                    r"|\b((?:fs|loop|rpc|log|host_(?:open|close|now))\w*|fopen|getenv|time)\(")


def rules():
    """{room: (all names of that room, what it may include)}"""
    table = {}
    for line in sources.text("tests/lint/layers.txt").splitlines():
        line = line.split("#")[0].strip()
        if line:
            rooms, _, allowed = line.partition(":")
            for room in rooms.split():
                if room in table:
                    sys.exit(f"tests/lint/layers.txt: {room} is there twice")
                table[room] = (rooms.split(), allowed.split())
    return table


def is_in(path, room):
    return path.startswith((room + "/", room + "."))


def room_of(path, table):
    return max((room for room in table if is_in(path, room)), key=len, default=None)


def may(room, target, table):
    own, allowed = table[room]
    if any(is_in(target, a[1:]) for a in allowed if a.startswith("-")):
        return False
    return room_of(target, table) in own or "*" in allowed or any(is_in(target, a) for a in allowed)


def check(path, table):
    room = room_of(path, table)
    if room is None:
        yield f"{path}: in no room of tests/lint/layers.txt"
        return
    for number, line in enumerate(sources.text(path).splitlines(), 1):
        impure = "pure" in table[room][1] and IMPURE.search(line)
        if impure and not path.endswith(".h"):
            yield f"{path}:{number}: {room} is pure ({impure.group(0).strip()})"
        match = INCLUDE.match(line)
        if not match or GENERATED.match(match.group(1)):
            continue
        target = match.group(1)
        if room == "tests" and "/" not in target:  # a test's own helper beside it
            target = os.path.join(os.path.dirname(path), target)
        if not os.path.isfile(os.path.join(sources.ROOT, target)):
            yield f'{path}:{number}: "{target}" is no path from the root of the repository'
        elif not may(room, target, table):
            yield f'{path}:{number}: {room} may not include "{target}"'


def stale(table, paths):
    """Names in the table that no file has."""
    for room, (_, allowed) in table.items():
        for name in (room, *allowed):
            if name not in ("*", "pure") and not any(is_in(path, name.lstrip("-")) for path in paths):
                yield f"tests/lint/layers.txt: there is no {name}"


def main():
    table = rules()
    paths = sources.files(".c", ".h")
    wrong = [*stale(table, paths), *(message for path in paths for message in check(path, table))]
    print("\n".join(wrong) if wrong else f"{len(paths)} files keep to tests/lint/layers.txt")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
