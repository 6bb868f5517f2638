"""One line per tier and one per skipped, failed or unsteady test, from the JUnit files that CTest wrote.

A test that failed and passed when it was run again alone (folder "again") is no failure, but it is named.

Fails when a tier of --require has a skipped test or none at all."""

import argparse
import os
import re
import sys
import xml.etree.ElementTree as ElementTree


class Tier:
    def __init__(self):
        self.passed, self.seconds = 0, 0.0
        self.failed, self.skipped, self.unsteady, self.extracts = [], [], [], []


def reason(case):
    """The last thing a skipped test said."""
    lines = [line.strip() for line in (case.findtext("system-out") or "").splitlines() if line.strip()]
    return lines[-1] if lines else "it gave no reason"


NAMES_A_FAILURE = re.compile(r"FAILED|not ok|Error|ERROR|assert|differs")


def extract(case):
    """What a reader of a shortened log needs of a failed test: the lines that name failures, and the last ones."""
    lines = (case.findtext("system-out") or "").splitlines()
    named = [i for i, line in enumerate(lines) if NAMES_A_FAILURE.search(line)][:20]
    return [lines[i][:400] for i in sorted({*named, *range(max(0, len(lines) - 10), len(lines))})]


def what_failed(tier, test):
    """For the summary itself, which is all that is left of the longest logs."""
    lines = [line.strip() for name, lines in tier.extracts if name == test for line in lines]
    return next((line for line in lines if re.match(r"FAILED|AssertionError|not ok", line)),
                next((line for line in lines if NAMES_A_FAILURE.search(line)), "it did not say why"))[:300]


def read(folder):
    tiers = {}
    for name in sorted(n for n in os.listdir(folder) if n.endswith(".xml")):
        build = name.removesuffix(".xml").split("-")[0]
        for case in ElementTree.parse(os.path.join(folder, name)).iter("testcase"):
            label = case.get("name").split("/")[0]
            tier = tiers.setdefault(label if build == "dev" else build, Tier())
            tier.seconds += float(case.get("time") or 0)
            if case.find("skipped") is not None:
                tier.skipped.append((case.get("name"), reason(case)))
            elif case.get("status") == "run":
                tier.passed += 1
            else:
                tier.failed.append(case.get("name"))
                tier.extracts.append((case.get("name"), extract(case)))
    return tiers


def forgive(tiers, again):
    for label, tier in again.items():
        for test in [t for t in tiers[label].failed if t not in tier.failed + [name for name, _ in tier.skipped]]:
            tiers[label].failed.remove(test)
            tiers[label].unsteady.append(test)
            tiers[label].passed += 1


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--tiers", required=True)
    parser.add_argument("--require", default="")
    parser.add_argument("--broken", default="", help="builds that failed")
    parser.add_argument("folder")
    args = parser.parse_args()
    tiers, required = read(args.folder), [name for name in args.require.split(",") if name]
    if os.path.isdir(os.path.join(args.folder, "again")):
        forgive(tiers, read(os.path.join(args.folder, "again")))
    for test, lines in [pair for tier in tiers.values() for pair in tier.extracts]:
        print(f"-- of the output of {test}:", *lines, sep="\n   ")
    bad = False
    for name in args.tiers.split(","):
        tier = tiers.get(name)
        build = name if name in ("clang", "release", "fuzz") else "release" if name == "bench" else "dev"
        if build in args.broken.split():
            print(f"{name:<12} FAILED: the {build} build failed")
            bad = True
        elif tier is None:
            refused = name in required
            print(f"{name:<12} {'FAILED: required, but no test ran' if refused else 'SKIPPED: no test of this tier ran'}")
            bad = bad or refused
        if tier is None or build in args.broken.split():
            continue
        refused = name in required and tier.skipped
        word = "FAILED" if tier.failed or refused else "passed" if tier.passed else "SKIPPED"
        bad = bad or word == "FAILED"
        counts = [f"{tier.passed} passed"]
        counts += [f"{len(tier.failed)} failed"] if tier.failed else []
        counts += [f"{len(tier.skipped)} skipped"] if tier.skipped else []
        print(f"{name:<12} {word:<8} {', '.join(counts)} ({tier.seconds:.0f} s of tests)")
        for test in tier.unsteady:
            print(f"             UNSTEADY {test}: failed, passed when it was run again alone: {what_failed(tier, test)}")
        for test in tier.failed:
            print(f"             FAILED   {test}: {what_failed(tier, test)}")
        for test, why in tier.skipped:
            print(f"             SKIPPED  {test}: {why}{' (required)' if refused else ''}")
    return bad


if __name__ == "__main__":
    sys.exit(main())
