"""deploy/render --check finds a manifest changed by hand and a chart that was not rendered, also where there is no helm."""

import os
import shutil
import subprocess
import sys
import tempfile

from chart import ROOT, report


def check(change):
    """Return: status and output of the check on a copy of the tree in which change(folder) was done."""
    with tempfile.TemporaryDirectory() as copy:
        for path in ("helm", "manifests"):
            shutil.copytree(f"{ROOT}/{path}", f"{copy}/{path}")
        os.makedirs(f"{copy}/deploy")
        shutil.copy(f"{ROOT}/deploy/render", f"{copy}/deploy/render")
        change(copy)
        env = {**os.environ, "PATH": "/usr/bin:/bin", "CCNODE_CACHE": copy}  # no helm
        p = subprocess.run([f"{copy}/deploy/render", "--check"], env=env, capture_output=True, text=True, check=False)
        return p.returncode, p.stdout + p.stderr


def append(path, text):
    def change(copy):
        with open(f"{copy}/{path}", "a", encoding="utf-8") as file:
            file.write(text)
    return change


def nothing_changed():
    status, said = check(lambda copy: None)
    assert status == 0, said


def changes_are_found():
    for path in ("manifests/ccnode.yaml", "manifests/kustomization.yaml", "manifests/namespace.yaml", "helm/ccnode/values.yaml", "deploy/render"):
        status, said = check(append(path, "# by hand\n"))
        assert status == 1 and "run deploy/render" in said, f"{path}: {status} {said}"
    status, said = check(append("manifests/more.yaml", "kind: Role\n"))
    assert status == 1, f"a new file: {said}"


if __name__ == "__main__":
    sys.exit(report([nothing_changed, changes_are_found]))
