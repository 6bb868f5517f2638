"""What no file of this repository may hold."""

import re
import sys

import sources

LONGEST = 650  # lines of a source file: one idea per file
SOURCE = (".c", ".h", ".py", ".sh", ".cmake", "CMakeLists.txt", ".rs", ".go")
BANNED = [
    # words are cut so that this file passes its own check
    (re.compile(r"/wor[k]/|/roo[t]/\.|/hom[e]/[a-z]"), "a path of somebody's machine"),
    (re.compile(r"\b(TOD[O]|FIXM[E]|XX[X])\b"), "unfinished work: finish it or write down the limit"),
    (re.compile(r"^(<{7}|>{7}) ", re.M), "a merge conflict"),
    (re.compile(r"-----BEGIN [A-Z ]*PRIVATE KE[Y]-----\s+[A-Za-z0-9+/]{40}"), "a private key"),
]
BLANKS = re.compile(r"[ \t]+$", re.M)
# saved inputs are bytes, go.sum and captured documents are as their makers wrote them
FOREIGN = re.compile(r"^(tests/fuzz/corpus/|LICENSE$|.*go\.sum$|.*\.(pem|patch|crt)$|tests/(.*/)?data/)")


def check(path, text):
    for pattern, what in BANNED:
        for match in pattern.finditer(text):
            yield f"{path}:{text.count(chr(10), 0, match.start()) + 1}: {what}: {match.group(0).strip()}"
    for match in BLANKS.finditer(text):
        yield f"{path}:{text.count(chr(10), 0, match.start()) + 1}: blanks at the end of the line"
    if text and not text.endswith("\n"):
        yield f"{path}: the last line has no end"
    lines = text.count("\n")
    if path.endswith(SOURCE) and lines > LONGEST:
        yield f"{path}: {lines} lines, the limit is {LONGEST}"


def main():
    wrong, checked = [], 0
    for path in sources.files():
        text = sources.text(path)
        if text is None or FOREIGN.match(path):
            continue
        checked += 1
        wrong += check(path, text)
    print("\n".join(wrong) if wrong else f"{checked} files are clean")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
