"""The sample Pods of helm/ccnode/examples against a real API server, kubelet and containerd: the one for a simulated guest runs
with the image that deploy/image makes, those for SNP and TDX are admitted as written."""
import os
import re
import subprocess
import sys

from harness import BUILD, HERE, Cluster, report, until

SOURCE = os.path.realpath(os.path.join(HERE, "../.."))
EXAMPLES = os.path.join(SOURCE, "helm/ccnode/examples")
GUEST = "/var/lib/ccnode-guest"
IMAGE_LIMIT = 30e6


def runtime_class(name):
    return {"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": name}, "handler": "kata-qemu-nvidia-gpu-snp"}


def main():
    with Cluster() as cluster:
        archive, guest = os.path.join(cluster.dir, "attest.tar"), os.path.join(cluster.dir, "guest")

        def image():
            said = subprocess.run([f"{SOURCE}/deploy/image", "--image", "attest", "--out", archive], check=True, text=True,
                                  stdout=subprocess.PIPE).stdout
            size = float(re.search(r"uncompressed ([0-9.]+) MB", said).group(1)) * 1e6
            print(f"        {size / 1e6:.1f} MB uncompressed", flush=True)
            assert size <= IMAGE_LIMIT, said
            cluster.run("ctr", "-n", "k8s.io", "images", "import", archive)

        def play(name):
            """The plain sample under another name; only the place of the guest's folder is another one."""
            with open(f"{EXAMPLES}/attest-pod-plain.yaml", encoding="utf-8") as f:
                text = f.read().replace(GUEST, guest).replace("name: attested-simulated", f"name: {name}")
            cluster.kubectl("apply", "-f", "-", stdin=text)
            return until(f"{name} ended", lambda: (lambda s: s if s["phase"] in ("Succeeded", "Failed") else None)(
                cluster.get("pod", name)["status"]), every=0.5)

        def accepted():
            subprocess.run([sys.executable, f"{SOURCE}/tests/functional/attestation/make_guest.py", guest, "--nvml",
                            f"{os.path.realpath(BUILD)}/lib/libnvidia-ml.so.1"], check=True)
            status = play("accepted")
            assert status["phase"] == "Succeeded", status
            assert "ACCEPTED" in cluster.kubectl("logs", "accepted", "-c", "workload"), cluster.kubectl("logs", "accepted", "-c", "attest")

        def refused():
            with open(f"{guest}/mode", "w", encoding="utf-8") as f:
                f.write("0 0 0 0\n")
            status = play("cc-off")
            assert status["phase"] == "Failed", status
            assert status["initContainerStatuses"][0]["state"]["terminated"]["exitCode"] == 3, status
            assert "running" not in status["containerStatuses"][0]["state"] and not status["containerStatuses"][0]["started"], status
            assert "CC off" in cluster.kubectl("logs", "cc-off", "-c", "attest")

        def admitted():
            for tee in ("snp", "tdx"):
                cluster.apply(runtime_class(f"kata-qemu-nvidia-gpu-{tee}"))
                said = cluster.kubectl("apply", "--dry-run=server", "--validate=strict", "-f", f"{EXAMPLES}/attest-pod-{tee}.yaml")
                assert "created (server dry run)" in said, said

        return report([("the init container's image is built, small and loaded", image),
                       ("evidence accepted: the workload reads the verdict", accepted),
                       ("CC off: the init container fails, the workload never starts", refused),
                       ("the SNP and TDX samples are admitted as written", admitted)])


if __name__ == "__main__":
    sys.exit(main())
