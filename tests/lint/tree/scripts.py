"""Shell scripts pass shellcheck; Python passes pyflakes, which compiles it first."""

import shutil
import subprocess
import sys

import sources


def run(what, command, paths):
    if shutil.which(command[0]) is None:
        print(f"{command[0]} is not installed (deploy/packages.txt, section [test])")
        return 1
    done = subprocess.run([*command, *paths], cwd=sources.ROOT, stdin=subprocess.DEVNULL)
    print(f"{len(paths)} {what} {'are clean' if done.returncode == 0 else 'checked'}")
    return done.returncode


def main():
    shell = sorted(set(sources.scripts("/sh", "/bash", "env bash")) | set(sources.files(".sh")))
    python = sorted(set(sources.scripts("python3")) | set(sources.files(".py")))
    # SC1091: sourced files are checked themselves; SC2086 and SC2317 misread lists of words and trap handlers
    failed = run("shell scripts", ["shellcheck", "-x", "-S", "warning", "-e", "SC1091"], shell)
    return run("Python files", ["pyflakes3"], python) or failed


if __name__ == "__main__":
    sys.exit(main())
