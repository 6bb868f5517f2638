"""clang-format 14 would change nothing. `format.py --fix` lets it."""

import os
import subprocess
import sys

import sources


def main():
    paths = sources.files(".c", ".h")
    how = ["-i"] if "--fix" in sys.argv else ["--dry-run", "--Werror", "--ferror-limit=3"]
    done = subprocess.run(["clang-format-14", *how, *paths], cwd=sources.ROOT, stdin=subprocess.DEVNULL)
    if done.returncode == 0:
        print(f"{len(paths)} files are formatted")
    else:
        print(f"put it right with: {os.path.relpath(__file__, sources.ROOT)} --fix")
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
