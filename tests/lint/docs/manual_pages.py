"""Manual pages say what --help says: commands, options with their arguments, exit statuses.

`manual_pages.py PROGRAM…`: the page of each is docs/NAME.1."""

import os
import re
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
OPTION = re.compile(r"--([a-z-]+)(?: ([^\s,]+))?")


def sections(page):
    """{title: [the heads of its entries, as they are shown]}"""
    found, title, lines = {}, None, page.splitlines()
    for i, line in enumerate(lines):
        if line.startswith(".SH "):
            title = line[4:].strip('"')
            found[title] = []
        elif line == ".TP":
            found[title].append(shown(lines[i + 1]))
    return found


def shown(line):
    """A line with a font macro: its arguments one after the other."""
    arguments = re.findall(r'"([^"]*)"|(\S+)', line.split(" ", 1)[1])
    return "".join(quoted or bare for quoted, bare in arguments).replace("\\", "") if line.split()[0] != ".B" else \
        line.split(" ", 1)[1].replace("\\", "")


def options(heads):
    return {match.groups() for head in heads for match in OPTION.finditer(head)}


def of_help(text):
    """What stands in the first column: (commands, options, exit statuses)"""
    heads = [re.split(r"\s{2,}", line.strip())[0] for line in text.splitlines() if re.match(r"  \S", line)]
    commands = {head for head in heads if not head.startswith("-")}
    status = re.search(r"Exit status: ((?:.|\n\S)*)", text).group(1)
    return commands, options(head for head in heads if head.startswith("-")), set(re.findall(r"(?:^|; )(\d)", status.replace("\n", " ")))


def compare(program):
    name = os.path.basename(program)
    path = f"docs/{name}.1"
    with open(os.path.join(ROOT, path), encoding="utf-8") as file:
        text = file.read()
    page = sections(text)
    help_text = subprocess.run([program, "--help"], capture_output=True, text=True, check=True).stdout
    of_page = set(page.get("COMMANDS", ())), options(page["OPTIONS"]), set(page["EXIT STATUS"])
    for what, told, written in zip(("command", "option", "exit status"), of_help(help_text), of_page):
        def words(entry):
            return entry if isinstance(entry, str) else " ".join(filter(None, ("--" + entry[0], entry[1])))
        yield from (f"{path}: {what} {words(entry)} of --help is not there" for entry in sorted(told - written, key=str))
        yield from (f"{path}: {what} {words(entry)} is not in --help" for entry in sorted(written - told, key=str))
    for other in re.findall(r"\.BR (\S+) \(1\)", text):
        other = other.replace("\\", "")
        if not os.path.exists(os.path.join(ROOT, f"docs/{other}.1")):
            yield f"{path}: there is no page {other}(1)"


def main():
    wrong = [message for program in sys.argv[1:] for message in compare(program)]
    print("\n".join(wrong) if wrong else f"{len(sys.argv) - 1} manual pages say what --help says")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
