"""docs/operator.md says what the programs say: every configuration key, metric, condition reason and Event.

`operator_page.py PROGRAM --fix` writes the configuration into the page."""

import os
import re
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
PAGE = os.path.join(ROOT, "docs/operator.md")
BLOCK = re.compile(r"(<!-- begin ccnode-agent --help-config -->\n)(.*?)(<!-- end -->)", re.S)
# where the agent names a reason, always as a string of its own
REASON = re.compile(r'(?:say\([^;]*?|set_trouble\([^;]*?|complain\([^;]*?|kube_event\([^;]*?|tell_event\([^;]*?|'
                    r'cond_reason, sizeof [a-z>-]+cond_reason, )"([A-Z][a-z]+(?:[A-Z][a-z]+)*)"', re.S)
LEVELS = {"Warning", "Normal", "True", "False", "Unknown"}


def read(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


def sources(folder):
    for name in sorted(os.listdir(os.path.join(ROOT, folder))):
        if name.endswith(".c"):
            yield read(os.path.join(ROOT, folder, name))


def reasons():
    """As they stand in the sources: the string after the level of an Event or the status of the condition."""
    found = set()
    for text in sources("node-agent"):
        found |= set(REASON.findall(text))
        found |= set(re.findall(r'"(?:Warning|Normal)",\s*"([A-Z][A-Za-z]+)"', text))
        found |= set(re.findall(r'say\(ret, [^,]+, "([A-Z][A-Za-z]+)"', text))
    return found - LEVELS


def main():
    config = subprocess.run([sys.argv[1], "--help-config"], capture_output=True, text=True, check=True).stdout
    page = read(PAGE)
    fresh = BLOCK.sub(lambda match: f"{match.group(1)}```text\n{config}```\n{match.group(3)}", page)
    if "--fix" in sys.argv and fresh != page:
        with open(PAGE, "w", encoding="utf-8") as file:
            file.write(fresh)
        page = fresh
    wrong = []
    if fresh != page:
        wrong.append(f"docs/operator.md: the configuration is not what the program says; {sys.argv[0]} PROGRAM --fix")
    metrics = set(re.findall(r'"(ccnode_[a-z_]+)"', "".join(sources("node-agent/http"))))
    wrong += [f"docs/operator.md: no metric {name}" for name in sorted(metrics) if f"`{name}`" not in page]
    wrong += [f"docs/operator.md: metric {name} is not the agent's"
              for name in sorted(set(re.findall(r"`(ccnode_[a-z_]+)`", page)) - metrics)]
    known = reasons()
    wrong += [f"docs/operator.md: no reason {name}" for name in sorted(known) if f"`{name}`" not in page]
    table = page[page.index("| reason |"):page.index("On the host, `ccnode preflight`")]
    for name in sorted(set(re.findall(r"`([A-Z][A-Za-z]+)`", table)) - known):
        if not any(f'"{name}"' in text for text in sources("node-agent")):
            wrong.append(f"docs/operator.md: reason {name} is not the agent's")
    print("\n".join(wrong) if wrong else f"{len(metrics)} metrics and {len(known)} reasons are described")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
