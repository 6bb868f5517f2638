"""deploy/host on a fake root: check, dry run, change, undo."""
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

SOURCE = os.environ.get("CCNODE_SOURCE") or os.path.realpath(os.path.join(os.path.dirname(__file__), "../../.."))
HOST = os.path.join(SOURCE, "deploy/host")
OURS = ["etc/default/grub.d/ccnode.cfg", "etc/modprobe.d/ccnode.conf", "etc/modules-load.d/ccnode.conf",
        "etc/tmpfiles.d/ccnode.conf"]


class Prepare(unittest.TestCase):
    def setUp(self):
        self.temporary = tempfile.TemporaryDirectory()
        self.root = pathlib.Path(self.temporary.name)
        self.put("proc/cpuinfo", "processor\t: 0\nvendor_id\t: AuthenticAMD\nprocessor\t: 1\nvendor_id\t: AuthenticAMD\n")
        self.put("proc/cmdline", "BOOT_IMAGE=/vmlinuz quiet\n")
        self.put("etc/default/grub", 'GRUB_DEFAULT=0\nGRUB_CMDLINE_LINUX_DEFAULT="quiet iommu=pt splash"\n'
                                     'GRUB_CMDLINE_LINUX="iommu.passthrough=1 console=ttyS0"\n')

    def tearDown(self):
        self.temporary.cleanup()

    def put(self, name, text):
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def files(self):
        return sorted(str(p.relative_to(self.root)) for p in self.root.rglob("*") if p.is_file())

    def host(self, *args, code=0):
        p = subprocess.run([HOST, "--root", self.root, *args], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                           stdin=subprocess.DEVNULL)
        self.assertEqual(p.returncode, code, p.stdout)
        return p.stdout

    def kernel_line(self, shell="sh"):
        text = f'. {self.root}/etc/default/grub; . {self.root}/etc/default/grub.d/ccnode.cfg; ' \
               'echo "$GRUB_CMDLINE_LINUX_DEFAULT|$GRUB_CMDLINE_LINUX"'
        return subprocess.run([shell, "-c", text], stdout=subprocess.PIPE, text=True, check=True).stdout.strip()

    def test_change_and_undo(self):
        before = self.files()
        text = self.host("--yes")
        self.assertEqual(sorted(set(self.files()) - set(before)), OURS)
        for name in OURS:
            self.assertLess(text.index("/" + name), text.index("not run in another root"), "explained before it is done")
            self.assertEqual(os.stat(self.root / name).st_mode & 0o777, 0o644)
        self.assertIn("restart the host", text)
        self.assertIn("vfio-pci\n", (self.root / OURS[2]).read_text())
        self.assertIn("nothing to do", self.host("--yes"))
        self.assertIn("will be removed", self.host("--undo", "--yes"))
        self.assertEqual(self.files(), before)
        self.assertIn("nothing to undo", self.host("--undo", "--yes"))

    def test_amd_kernel_line(self):
        self.host("--yes")
        for shell in ("sh", "bash"):
            self.assertEqual(self.kernel_line(shell),
                             "quiet splash|console=ttyS0 kvm_amd.sev=1 kvm_amd.sev_es=1 kvm_amd.sev_snp=1")

    def test_intel_kernel_line(self):
        self.put("proc/cpuinfo", "vendor_id\t: GenuineIntel\n")
        self.host("--yes")
        self.assertEqual(self.kernel_line(),
                         "quiet iommu=pt splash|iommu.passthrough=1 console=ttyS0 intel_iommu=on kvm_intel.tdx=1 nohibernate")
        self.host("--undo", "--yes")
        self.host("--yes", "--tee", "none")
        self.assertTrue(self.kernel_line().endswith("console=ttyS0 intel_iommu=on"))

    def test_dry_run(self):
        before = self.files()
        text = self.host("--dry-run")
        for name in OURS:
            self.assertIn("/" + name, text)
        self.assertEqual(self.files(), before)
        self.host("--yes")
        after = self.files()
        self.assertIn("will be removed", self.host("--undo", "--dry-run"))
        self.assertEqual(self.files(), after)

    def test_asks_before_it_changes(self):
        before = self.files()
        text = self.host(code=2)
        self.assertIn("--yes", text)
        self.assertEqual(self.files(), before)

    def test_check(self):
        text = self.host("--check", code=1)
        for word in ("IOMMU: off", "SEV-SNP: off", "vfio-pci: not loaded", "/" + OURS[1]):
            self.assertIn(word, text)
        self.host("--yes")
        self.put("sys/kernel/iommu_groups/0/type", "DMA\n")
        self.put("sys/module/kvm_amd/parameters/sev_snp", "Y\n")
        self.put("sys/bus/pci/drivers/vfio-pci/bind", "")
        self.put("sys/kernel/security/lockdown", "[none] integrity confidentiality\n")
        text = self.host("--check")
        self.assertNotIn("missing", text)
        self.put("proc/cmdline", "quiet iommu=pt\n")
        self.assertIn("refuses SEV-SNP", self.host("--check", code=1))
        self.put("proc/cmdline", "quiet\n")
        self.put("sys/kernel/security/lockdown", "none [integrity] confidentiality\n")
        self.assertIn("Secure Boot", self.host("--check"))

    def test_tdx_check(self):
        self.put("proc/cpuinfo", "vendor_id\t: GenuineIntel\n")
        self.assertIn("TDX: off", self.host("--check", code=1))
        self.put("sys/module/kvm_intel/parameters/tdx", "Y\n")
        self.assertIn("TDX: on", self.host("--check", code=1))

    def test_foreign_files_stay(self):
        self.put(OURS[1], "options vfio-pci ids=10de:2331\n")
        text = self.host("--yes", code=2)
        self.assertIn("/" + OURS[1], text)
        self.assertEqual((self.root / OURS[1]).read_text(), "options vfio-pci ids=10de:2331\n")
        self.assertNotIn(OURS[2], self.files(), "nothing half done")
        self.assertIn("it stays", self.host("--undo", "--yes"))
        self.assertIn(OURS[1], self.files())

    def test_without_grub(self):
        os.unlink(self.root / "etc/default/grub")
        self.assertIn("by other means: kvm_amd.sev=1", self.host("--check", code=1))
        self.host("--yes")
        self.assertNotIn(OURS[0], self.files())

    def test_usage(self):
        self.assertIn("--check", subprocess.run([HOST, "--help"], stdout=subprocess.PIPE, text=True, check=True).stdout)
        self.host("--tee", "sgx", code=2)
        self.host("--wrong", code=2)
        p = subprocess.run([HOST, "--root", "/nonexistent"], stderr=subprocess.PIPE, text=True)
        self.assertEqual(p.returncode, 2)


STUBS = ("update-grub", "update-initramfs", "modprobe", "systemd-tmpfiles")


class Commands(unittest.TestCase):
    """The commands of the host, as stubs on PATH; /etc and /var/lib are folders of ours in a mount namespace of its own."""

    def setUp(self):
        self.temporary = tempfile.TemporaryDirectory()
        self.top = pathlib.Path(self.temporary.name)
        for name in ("etc/default", "lib", "bin", "fail"):
            (self.top / name).mkdir(parents=True)
        (self.top / "etc/default/grub").write_text("GRUB_DEFAULT=0\n")
        for name in STUBS:
            stub = self.top / "bin" / name
            stub.write_text(f'#!/bin/sh\necho "{name} $*" >>{self.top}/log\n[ ! -e {self.top}/fail/{name} ] || exit 7\n')
            stub.chmod(0o755)

    def tearDown(self):
        self.temporary.cleanup()

    def fail(self, *names):
        for stub in STUBS:
            (self.top / "fail" / stub).unlink(missing_ok=True)
        for name in names:
            (self.top / "fail" / name).touch()

    def host(self, *args, code=0):
        """What it said, and which commands it ran."""
        log = self.top / "log"
        log.unlink(missing_ok=True)
        script = f'mount --bind {self.top}/etc /etc && mount --bind {self.top}/lib /var/lib && exec "$@"'
        p = subprocess.run(["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh", HOST, "--tee", "snp", *args],
                           stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, stdin=subprocess.DEVNULL,
                           env={**os.environ, "PATH": f"{self.top}/bin:/usr/sbin:/usr/bin:/sbin:/bin"})
        self.assertEqual(p.returncode, code, p.stdout)
        return p.stdout, [line.split()[0] for line in log.read_text().splitlines()] if log.exists() else []

    def ours(self):
        return sorted(n for n in OURS if (self.top / n).exists())

    def test_all_well(self):
        self.assertEqual(sorted(self.host("--yes")[1]), sorted(STUBS))
        self.assertEqual(self.host("--yes"), (self.host("--yes")[0], []))
        self.assertIn("nothing to do", self.host("--yes")[0])
        self.assertEqual(os.listdir(self.top / "lib"), [], "nothing is left to remember")
        self.assertEqual(sorted(self.host("--undo", "--yes")[1]), ["update-grub", "update-initramfs"])
        self.assertEqual(self.ours(), [])

    def test_a_failing_command_stops_nothing_and_is_run_again(self):
        for name in STUBS:
            with self.subTest(name):
                self.fail(name)
                text, ran = self.host("--yes", code=1)
                self.assertEqual(sorted(ran), sorted(STUBS), "the others are run all the same")
                self.assertIn("failed with exit status 7", text)
                self.assertIn("run deploy/host again", text)
                self.assertEqual(self.ours(), OURS)
                self.assertIn("its command has not succeeded", self.host("--check", code=1)[0])
                self.assertEqual(self.host("--yes", "--dry-run")[1], [], "a dry run runs nothing")
                self.assertEqual(self.host("--yes", code=1)[1], [name], "only what failed, until it succeeds")
                self.fail()
                self.assertEqual(self.host("--yes")[1], [name])
                text, ran = self.host("--yes")
                self.assertEqual(ran, [])
                self.assertIn("nothing to do", text)
                self.assertNotIn("has not succeeded", self.host("--check", code=1)[0])
                self.host("--undo", "--yes")

    def test_undo_with_failing_commands(self):
        self.host("--yes")
        self.fail("update-grub")
        text, ran = self.host("--undo", "--yes", code=1)
        self.assertEqual(sorted(ran), ["update-grub", "update-initramfs"])
        self.assertIn("run deploy/host --undo again", text)
        self.assertEqual(self.ours(), [])
        self.fail()
        self.assertEqual(self.host("--undo", "--yes")[1], ["update-grub"])
        self.assertIn("nothing to undo", self.host("--undo", "--yes")[0])

    def test_undo_after_a_failed_change(self):
        self.fail("modprobe", "update-initramfs")
        self.host("--yes", code=1)
        self.fail()
        self.assertEqual(sorted(self.host("--undo", "--yes")[1]), ["update-grub", "update-initramfs"])
        self.assertEqual((self.ours(), os.listdir(self.top / "lib")), ([], []))


if __name__ == "__main__":
    sys.exit(not unittest.main(exit=False).result.wasSuccessful())
