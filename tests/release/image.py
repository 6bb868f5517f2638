"""Both images: the same bytes twice, no larger than promised, complete (each program starts in its own root with nothing
else there), every blob what its digest says, every library's package in the SPDX document."""

import glob
import hashlib
import json
import os
import subprocess
import sys
import tarfile
import tempfile

SOURCE = os.path.realpath(os.path.join(os.path.dirname(__file__), "../.."))
LIMITS = {"agent": (30e6, 12e6), "attest": (30e6, 12e6)}  # bytes as files, bytes of the compressed layer
PROGRAMS = {"agent": ("usr/bin/ccnode-agent", "usr/bin/ccnode", "usr/libexec/ccnode/ccnode-device"),
            "attest": ("usr/bin/ccnode-attest",)}

# loaded or read only when something is fetched: a start without them looks fine
BESIDE = {"agent": (), "attest": ("usr/lib/*/libcurl.so.4", "etc/ssl/certs/ca-certificates.crt")}


def build(which, build_dir, folder):
    root = f"{folder}/root"
    subprocess.run([f"{SOURCE}/deploy/image", "--image", which, "--build", build_dir, "--out", f"{folder}/image.tar", "--rootfs", root],
                   check=True, stdout=subprocess.PIPE)
    with tarfile.open(f"{folder}/image.tar") as tar:
        return root, {member.name: tar.extractfile(member).read() for member in tar.getmembers() if member.isfile()}


def blob(files, descriptor):
    data = files["blobs/" + descriptor["digest"].replace(":", "/")]
    assert "sha256:" + hashlib.sha256(data).hexdigest() == descriptor["digest"], f"{descriptor['digest']} is not its content's digest"
    assert len(data) == descriptor["size"], f"{descriptor['digest']}: {len(data)} bytes, the descriptor says {descriptor['size']}"
    return data


def check(which, build_dir):
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as two:
        root, files = build(which, build_dir, one)
        _, again = build(which, build_dir, two)
        assert files == again, f"{which}: two builds differ"
        manifest = json.loads(blob(files, json.loads(files["index.json"])["manifests"][0]))
        config = json.loads(blob(files, manifest["config"]))
        layer, = manifest["layers"]
        plain = subprocess.run(["gzip", "-dc"], input=blob(files, layer), stdout=subprocess.PIPE, check=True).stdout
        assert config["rootfs"]["diff_ids"] == ["sha256:" + hashlib.sha256(plain).hexdigest()], f"{which}: diff_ids"
        assert os.path.exists(root + config["config"]["Entrypoint"][0]), config
        size = sum(os.lstat(os.path.join(d, f)).st_size for d, _, names in os.walk(root) for f in names)
        assert size <= LIMITS[which][0] and layer["size"] <= LIMITS[which][1], f"{which}: {size} bytes, {layer['size']} compressed"
        for program in PROGRAMS[which]:
            p = subprocess.run(["chroot", root, f"/{program}", "--help"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            assert p.returncode == 0 and "usage" in p.stdout.lower(), f"{which}: /{program} --help: {p.returncode} {p.stdout}"
        for pattern in BESIDE[which]:
            assert glob.glob(f"{root}/{pattern}"), f"{which}: no {pattern}"
        with open(f"{root}/usr/share/sbom/ccnode.spdx.json", encoding="utf-8") as f:
            document = json.load(f)
        listed = {word.split(" ")[0] for package in document["packages"] for word in package.get("comment", "").split("; ")}
        for folder, _, names in os.walk(f"{root}/usr"):
            for name in names:
                real = os.path.realpath(f"/usr{os.path.join(folder, name).removeprefix(root + '/usr')}")
                assert ".so" not in name or os.path.basename(real) in listed, f"{which}: {name} is in no package of the SBOM"
        print(f"{which}: {size / 1e6:.1f} MB, {layer['size'] / 1e6:.1f} MB compressed, {len(document['packages'])} packages")


if __name__ == "__main__":
    if os.geteuid() != 0:
        print("SKIPPED: chroot needs root")
        sys.exit(77)
    for image in LIMITS:
        check(image, sys.argv[1])
