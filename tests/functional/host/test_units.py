"""The systemd units: systemd-analyze takes them, and their commands are commands of the programs."""
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

SOURCE = os.environ.get("CCNODE_SOURCE") or os.path.realpath(os.path.join(os.path.dirname(__file__), "../../.."))
BIN = os.path.join(os.environ.get("CCNODE_BUILD") or os.path.join(SOURCE, "build/dev"), "bin")
UNITS = pathlib.Path(SOURCE, "deploy/systemd")


def main():
    if not os.access(os.path.join(BIN, "ccnode-agent"), os.X_OK):
        print(f"SKIPPED: ccnode-agent is not built in {BIN}")
        sys.exit(77)
    failed = []
    with tempfile.TemporaryDirectory() as directory:
        files = []
        for unit in sorted(UNITS.glob("*.in")):
            text = unit.read_text().replace("@CMAKE_INSTALL_FULL_BINDIR@", BIN)
            assert "@CMAKE" not in text
            name = unit.name.removesuffix(".in").replace("@.", "@on.")
            pathlib.Path(directory, name).write_text(text)
            files.append(os.path.join(directory, name))
            for command in re.findall(r"^ExecStart=(\S+) (.*)$", text, re.M):
                program, words = command[0], command[1].replace("%i", "on").split()
                help_text = subprocess.run([program, "--help"], stdout=subprocess.PIPE, text=True, check=True).stdout
                for word in words[:1] if program.endswith("ccnode") else words[:1]:
                    if word not in help_text:
                        failed.append(f"{unit.name}: {program} knows no {word}")
        config = os.path.join(UNITS, "ccnode.yaml")
        for args in (["ccnode", "names", "--config", config], ["ccnode-agent", "--config", config, "--help"]):
            if subprocess.run([os.path.join(BIN, args[0]), *args[1:]], stdout=subprocess.DEVNULL).returncode != 0:
                failed.append(f"{' '.join(args)} fails")
        if shutil.which("systemd-analyze"):
            p = subprocess.run(["systemd-analyze", "verify", "--man=no", *files], stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT, text=True)
            ours = [line for line in p.stdout.splitlines() if directory in line or "ccnode" in line]
            if p.returncode != 0 and ours or any("Unknown" in line or "Failed to parse" in line for line in ours):
                failed.append("systemd-analyze verify:\n" + "\n".join(ours))
            print("systemd-analyze verify: taken")
        else:
            print("systemd-analyze is not here: the units are read by this test only")
    for line in failed:
        print(f"not right: {line}")
    sys.exit(1 if failed else 0)


main()
