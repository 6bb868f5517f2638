"""Shell scripts pass shellcheck; Python passes pyflakes, which compiles it first."""

import re
import shutil
import subprocess
import sys

import sources


def run(what, command, paths):
    if shutil.which(command[0]) is None:
        print(f"{command[0]} is not installed (deploy/packages.txt, section [test])")
        return True
    done = subprocess.run([*command, *paths], cwd=sources.ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    findings = [line for line in done.stdout.splitlines() if not is_excused(line)]
    print("\n".join([*findings, *done.stderr.splitlines(), f"{len(paths)} {what}"]))
    return bool(findings or done.stderr)


def is_excused(finding):
    """A Python line that says so itself: pyflakes does not look for that."""
    match = re.match(r"(.*\.py):(\d+):\d+:? ", finding)
    return match and "# noqa" in sources.text(match.group(1)).splitlines()[int(match.group(2)) - 1]


def main():
    shell = sorted(set(sources.scripts("/sh", "/bash", "env bash")) | set(sources.files(".sh")))
    python = sorted(set(sources.scripts("python3")) | set(sources.files(".py")))
    # sourced files are checked themselves (1091), their variables are used elsewhere (2034, 2154); 2054 misreads the commas of QEMU
    # options, 2044 names without blanks
    failed = run("shell scripts", ["shellcheck", "-x", "-S", "warning", "-e", "SC1091,SC2034,SC2154,SC2054,SC2044"], shell)
    return run("Python files", ["pyflakes3"], python) or failed


if __name__ == "__main__":
    sys.exit(main())
