"""Every relative link of a Markdown file leads to a file, and every anchor to a heading."""

import os
import re
import sys

import sources

LINK = re.compile(r"(?<!\\)\[[^\]\[]*\]\(([^)\s]+)\)")
CODE = re.compile(r"^(```|~~~).*?^\1|`[^`\n]*`", re.M | re.S)
HEADING = re.compile(r"^#+\s+(.*?)\s*#*$", re.M)


def anchors(path):
    """As GitHub makes them: lower case, punctuation dropped, blanks become hyphens."""
    found = set()
    for heading in HEADING.findall(re.sub(r"^(```|~~~).*?^\1", "", sources.text(path), flags=re.M | re.S)):
        heading = re.sub(r"[`*]|\[([^\]]*)\]\([^)]*\)", lambda m: m.group(1) or "", heading)
        found.add(re.sub(r"\s", "-", re.sub(r"[^\w\s-]", "", heading.lower())))
    return found


def check(path):
    body = CODE.sub("", sources.text(path))
    for target in LINK.findall(body):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        there = os.path.normpath(os.path.join(os.path.dirname(path), file)) if file else path
        if not os.path.exists(os.path.join(sources.ROOT, there)):
            yield f"{path}: link to {target}: there is no {there}"
        elif anchor and there.endswith(".md") and anchor not in anchors(there):
            yield f"{path}: link to {target}: no heading makes that anchor"


def main():
    pages = sources.files(".md")
    wrong = [message for path in pages for message in check(path)]
    print("\n".join(wrong) if wrong else f"the links of {len(pages)} pages hold")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
