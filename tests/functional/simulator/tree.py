"""The fake /sys does what Linux was seen to do: binding, power, reset, removal, holders (reference tables 6.1-6.8)."""
import ctypes
import os
import stat
import struct
import subprocess
import tempfile
import time

from node import READ, Node, in_call, run, same, until

GPU = "0000:18:00.0"


def fresh_device():
    with Node("h100-pcie", "--scale", "0") as n:
        same(n.driver(GPU), None)
        same(n.read(f"{GPU}/driver_override"), "(null)")
        same(n.read(f"{GPU}/power_state"), "unknown")
        same(n.read(f"{GPU}/power/runtime_status"), "active")
        same(n.read(f"{GPU}/power/control"), "on")
        same(n.read(f"{GPU}/enable"), "0")
        same(n.read(f"{GPU}/d3cold_allowed"), "1")
        same(n.read(f"{GPU}/reset_method"), "flr bus")
        same(n.read(f"{GPU}/vendor"), "0x10de")
        same(n.read(f"{GPU}/device"), "0x2331")
        same(n.read(f"{GPU}/class"), "0x030200")
        same(n.read(f"{GPU}/modalias"), "pci:v000010DEd00002331sv000010DEsd00001626bc03sc02i00")
        same(n.read(f"{GPU}/numa_node"), "0")
        same(os.stat(n.path(f"{GPU}/config")).st_size, 4096)
        lines = n.read(f"{GPU}/resource").split("\n")
        same(len(lines), 13)
        start, end, _ = (int(x, 16) for x in lines[0].split())
        same(end - start + 1, 16 << 20)
        same(os.stat(n.path(f"{GPU}/resource0")).st_size, 16 << 20)
        assert int(lines[1].split()[0], 16) == 0 and int(lines[2].split()[0], 16) != 0
        for name, mode in {"resource0": 0o600, "config": 0o644, "reset": 0o200, "remove": 0o220}.items():
            same(stat.S_IMODE(os.stat(n.path(f"{GPU}/{name}")).st_mode), mode, name)
        real = os.path.realpath(n.path(GPU))
        same(real, f"{n.root}/sys/devices/pci0000:17/0000:17:01.0/{GPU}")
        same(os.path.basename(os.path.realpath(n.path(f"{GPU}/subsystem"))), "pci")
        same(os.listdir(n.path(f"{GPU}/iommu_group/devices")), [GPU])
        same(n.read("/sys/kernel/security/lockdown"), "[none] integrity confidentiality")
        same(n.read("/sys/module/kvm_amd/parameters/sev_snp"), "Y")
        assert os.path.exists(n.path(f"{GPU}/waiting_for_supplier"))
        with open(n.path(f"{GPU}/config"), "rb", buffering=0) as f:
            same(f.read(4).hex(), "de103123")
        same(os.readlink(n.root + "/var/run"), "../run")
        assert "nvgrace_gpu_vfio_pci" in n.read("/lib/modules/" + os.uname().release + "/modules.alias")
        same(os.path.samefile(n.root + "/proc/self/exe", "/proc/self/exe"), True)


def resource0_is_for_mmap_only():
    with Node("h100-pcie", "--scale", "0") as n:
        fd = os.open(n.path(f"{GPU}/resource0"), os.O_RDWR)
        try:
            os.pread(fd, 4, 0)
            raise AssertionError("pread of resource0 worked")
        except OSError as e:
            same(e.errno, 5, "errno of pread")
        finally:
            os.close(fd)


def binding_and_power():
    with Node("h100-pcie", "--scale", "0") as n:
        same(n.bind(GPU), 0)
        same(n.driver(GPU), "vfio-pci")
        same(n.read(f"{GPU}/power_state"), "D3hot")
        same(n.read(f"{GPU}/power/runtime_status"), "suspended")
        same(n.read(f"{GPU}/power/control"), "auto")
        same(n.read(f"{GPU}/enable"), "0")
        assert not n.exists(f"{GPU}/waiting_for_supplier")
        assert os.listdir(n.path(f"{GPU}/vfio-dev")) == ["vfio0"]
        node = f"/dev/vfio/{n.group(GPU)}"
        same(stat.S_IMODE(os.stat(n.path(node)).st_mode), 0o600)
        same(stat.S_IMODE(os.stat(n.path("/dev/vfio/vfio")).st_mode), 0o666)
        same(n.write("/sys/bus/pci/drivers_probe", GPU), 0, "probe of a bound device")
        same(n.write("/sys/bus/pci/drivers/vfio-pci/bind", GPU), "EBUSY")
        same(n.write(f"{GPU}/power/control", "on"), 0)
        same(n.read(f"{GPU}/power_state"), "D0")
        same(n.write(f"{GPU}/power/control", "auto"), 0)
        same(n.read(f"{GPU}/power_state"), "D3hot")
        same(n.write(f"{GPU}/power/control", "off"), "EINVAL")
        same(n.unbind(GPU), 0)
        same(n.driver(GPU), None)
        same(n.read(f"{GPU}/power_state"), "D0")
        same(n.read(f"{GPU}/power/control"), "on")
        same(n.read(f"{GPU}/driver_override"), "vfio-pci", "override is kept")
        assert not n.exists(node)
        same(n.write("/sys/bus/pci/drivers/vfio-pci/unbind", GPU), "ENODEV")
        same(n.write(f"{GPU}/driver_override", "\n"), 0)
        same(n.read(f"{GPU}/driver_override"), "(null)")
        same(n.write("/sys/bus/pci/drivers/vfio-pci/bind", GPU), "ENODEV", "bind without override")
        same(n.write(f"{GPU}/driver_override", "not-loaded"), 0)
        same(n.write("/sys/bus/pci/drivers_probe", GPU), 0, "probe when the driver is not loaded")
        same(n.driver(GPU), None)
        same(n.write("/sys/bus/pci/drivers_probe", "0000:99:00.0"), "ENODEV")
        same(n.write("/sys/bus/pci/drivers/vfio-pci/bind", "0000:99:00.0"), "ENODEV")
        same(n.write(f"{GPU}/driver_override", "x" * 300), 0)
        same(len(n.read(f"{GPU}/driver_override")), 300)


def new_id_takes_every_match():
    with Node("hgx-h100", "--scale", "0") as n:
        switches = [f"0000:{b}:00.0" for b in ("07", "08", "09", "0a")]
        for s in switches:
            same(n.unbind(s), 0)
            same(n.write(f"{s}/driver_override", "\n"), 0)
        same(n.write("/sys/bus/pci/drivers/vfio-pci/new_id", "10de 22a3"), 0)
        same([n.driver(s) for s in switches], ["vfio-pci"] * 4)
        same(n.write("/sys/bus/pci/drivers/vfio-pci/new_id", "10de 22a3"), "EEXIST")
        same(n.write("/sys/bus/pci/drivers/vfio-pci/remove_id", "10de 22a3"), 0)
        same(n.write("/sys/bus/pci/drivers/vfio-pci/remove_id", "10de 22a3"), "ENODEV")
        same(n.write("/sys/bus/pci/drivers/vfio-pci/new_id", "nonsense"), "EINVAL")


def reset_values_and_methods():
    with Node("h100-pcie") as n:
        for bad in ("0", "2", "x"):
            same(n.write(f"{GPU}/reset", bad), "EINVAL", f"reset {bad}")
        start = time.monotonic()
        same(n.write(f"{GPU}/reset", "1"), 0)
        assert 0.1 <= time.monotonic() - start < 10, "FLR takes 100 ms"
        same(n.read(f"{GPU}/power_state"), "D0")
        same(n.write(f"{GPU}/reset_method", "bogus"), "EINVAL")
        same(n.write(f"{GPU}/reset_method", "none"), "EINVAL")
        same(n.write(f"{GPU}/reset_method", "pm"), "EINVAL")
        same(n.write(f"{GPU}/reset_method", "bus flr"), 0)
        same(n.read(f"{GPU}/reset_method"), "bus flr")
        same(n.write(f"{GPU}/reset", "1"), 0)
        same(n.write(f"{GPU}/reset_method", "default"), 0)
        same(n.read(f"{GPU}/reset_method"), "flr bus")
        same(n.write(f"{GPU}/reset_method", "\n"), 0)
        same(n.read(f"{GPU}/reset_method"), "")
        same(n.write(f"{GPU}/reset", "1"), "ENOTTY")


def command(n):
    with open(n.path(f"/sys/bus/pci/devices/{GPU}/config"), "rb", buffering=0) as f:
        f.seek(4)
        return int.from_bytes(f.read(2), "little")


def configuration_space_waits_for_a_reset():
    """pci_cfg_access_lock(): nobody sees it between the reset and the restoring of what it had lost"""
    with Node("h100-pcie") as n:
        n.write(f"{GPU}/enable", "1")
        before = command(n)
        assert before & 2, f"memory space is not enabled: {before:#x}"
        for fault in ((), ("reset-early",)):
            for f in fault:
                n.ctl("fault", GPU, f)
            reset, seen = n.background(f"{GPU}/reset", "1"), set()
            end = time.monotonic() + 0.5
            while reset.poll() is None or time.monotonic() < end:
                seen.add(command(n))
            same((seen, reset.wait()), ({before}, 0), f"COMMAND during a reset, {fault}")
        n.ctl("clear", GPU)
        n.ctl("fault", GPU, "reset-hangs")
        reset = n.background(f"{GPU}/reset", "1")
        until("the reset is under way", lambda: n.locked(GPU))
        reader = subprocess.Popen(["head", "-c", "2", n.path(f"/sys/bus/pci/devices/{GPU}/config")], stdout=subprocess.PIPE)
        until("the reader reads", lambda: reader.poll() is not None or in_call(reader.pid, READ))
        time.sleep(0.1)
        same((reader.poll(), n.read(f"{GPU}/vendor")), (None, "0x10de"), "waits, attributes do not")
        n.ctl("clear", GPU)
        same((reset.wait(60), reader.communicate(timeout=60)[0]), (0, b"\xde\x10"), "after the reset")


def remove_and_rescan():
    with Node("h100-pcie", "--scale", "0") as n:
        group = n.group(GPU)
        same(n.bind(GPU), 0)
        directory = os.open(n.path(GPU), os.O_RDONLY)
        same(n.write(f"{GPU}/remove", "1"), 0)
        assert not n.exists(GPU) and not n.exists(f"/dev/vfio/{group}")
        try:
            os.open("vendor", os.O_RDONLY, dir_fd=directory)
            raise AssertionError("a removed device still has files")
        except FileNotFoundError:
            pass
        os.close(directory)
        same(n.write("/sys/bus/pci/rescan", "1"), 0)
        same(n.group(GPU), group)
        same(n.read(f"{GPU}/driver_override"), "(null)", "override is lost")
        same(n.read(f"{GPU}/power_state"), "unknown")
        same(n.driver(GPU), None)


def group_node_is_exclusive():
    with Node("h100-pcie", "--scale", "0") as n:
        same(n.bind(GPU), 0)
        node = n.path(f"/dev/vfio/{n.group(GPU)}")
        fd = os.open(node, os.O_RDWR)
        same(os.readlink(f"/proc/self/fd/{fd}"), node)
        try:
            os.open(node, os.O_RDWR)
            raise AssertionError("second open of a group worked")
        except OSError as e:
            same(e.errno, 16, "errno of the second open")
        same(n.unbind(GPU), 0, "only the group open: unbind does not wait")
        assert not os.path.exists(node)
        os.close(fd)
        same(n.bind(GPU), 0)
        os.close(os.open(node, os.O_RDWR))


def two_functions_one_group():
    with Node("rtx-pro-6000", "--scale", "0") as n:
        gpu, audio = "0000:41:00.0", "0000:41:00.1"
        same(n.group(gpu), n.group(audio))
        same(n.driver(audio), "snd_hda_intel")
        same(n.read(f"{audio}/reset_method"), "flr")
        assert n.exists(f"{gpu}/consumer:pci:{audio}")
        node = f"/dev/vfio/{n.group('0000:81:00.0')}"
        same(n.unbind("0000:81:00.0"), 0)
        assert n.exists(node), "the audio function is still on vfio-pci"
        same(n.unbind("0000:81:00.1"), 0)
        assert not n.exists(node)


def held_device_blocks():
    """a device descriptor open: unbind blocks, the driver link is gone at once, others block behind it"""
    with Node("hgx-b200", "--scale", "0") as n:
        gpu = "0000:1b:00.0"
        holder = os.open(n.path("/dev/vfio/devices/vfio0"), os.O_RDWR)
        unbind = n.background("/sys/bus/pci/drivers/vfio-pci/unbind", gpu)
        until("driver link gone", lambda: n.driver(gpu) is None)
        same(unbind.poll(), None, "unbind blocks")
        same(n.write("/sys/bus/pci/drivers_probe", gpu), 0, "drivers_probe does nothing")
        same(n.write(f"{gpu}/driver_override", "\n"), 0)
        same(n.read(f"{gpu}/power_state"), "D3hot")
        later = [n.background(f"{gpu}/reset", "1"), n.background(f"{gpu}/power/control", "on"),
                 n.background("/sys/bus/pci/drivers/vfio-pci/unbind", gpu)]
        same(n.unbind("0000:43:00.0"), 0, "another GPU is not affected")
        time.sleep(0.05)
        same([p.poll() for p in later], [None] * 3, "all block on the device lock")
        os.close(holder)
        same([p.wait(60) for p in [unbind, *later]], [0] * 4)
        same(n.driver(gpu), None)
        assert not n.exists("/dev/vfio/devices/vfio0")


def killed_holder_lets_go():
    with Node("hgx-b200", "--scale", "0") as n:
        gpu = "0000:1b:00.0"
        holder = subprocess.Popen(["sleep", "600"], stdin=open(n.path("/dev/vfio/devices/vfio0")))
        remove = n.background(f"{gpu}/remove", "1")
        until("driver link gone", lambda: n.driver(gpu) is None)
        same(remove.poll(), None, "remove blocks")
        holder.kill()
        holder.wait()
        same(remove.wait(60), 0)
        assert not n.exists(gpu)


def nvidia_driver_and_nodes():
    with Node("mixed", "--scale", "0") as n:
        gpu = "0000:3b:00.0"
        same(n.driver(gpu), "nvidia")
        assert n.exists("/dev/nvidia0")
        assert n.exists("0000:3b:00.4/physfn")
        same(n.unbind(gpu), 0)
        assert not n.exists("/dev/nvidia0")
        same(n.write("/sys/bus/pci/drivers/nvidia/bind", gpu), 0)
        assert n.exists("/dev/nvidia0")
        same(n.group("0000:ab:00.0"), n.group("0000:ac:00.0"), "the group that is not viable")
        same(n.driver("0000:ac:00.0"), "mlx5_core")
        same(n.read("0000:c1:00.0/numa_node"), "-1")


def without_iommu():
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as f:
        f.write("iommu: false\ntee: none\ndevices:\n- {bdf: '0000:18:00.0', model: h100-pcie}\n")
        f.flush()
        with Node(f.name, "--scale", "0") as n:
            assert not n.exists(f"{GPU}/iommu_group")
            same(os.listdir(n.path("/sys/kernel/iommu_groups")), [])
            n.write(f"{GPU}/driver_override", "vfio-pci")
            same(n.write("/sys/bus/pci/drivers/vfio-pci/bind", GPU), "EINVAL")
            assert not n.exists("/sys/module/kvm_amd")


def plug_and_unplug():
    with Node("h100-pcie", "--scale", "0") as n:
        for command in (["unplug"], ["unplug-surprise"]):
            assert n.exists(GPU)
            n.ctl(*command, GPU)
            assert not n.exists(GPU)
            same(n.write("/sys/bus/pci/rescan", "1"), 0)
            assert not n.exists(GPU), "nothing is in the slot"
            n.ctl("plug", GPU)
        same(n.ctl("plug", GPU, check=False).returncode, 1, "plugged already")


def device_nodes_are_real():
    with Node("h100-pcie", "--scale", "0", "--device-nodes") as n:
        same(n.bind(GPU), 0)
        node = n.path(f"/dev/vfio/{n.group(GPU)}")
        assert stat.S_ISCHR(os.stat(node).st_mode)
        assert stat.S_ISCHR(os.stat(n.path("/dev/vfio/vfio")).st_mode)
        same(n.unbind(GPU), 0)
        assert not os.path.exists(node)


def device_nodes_tell_inotify():
    """as devtmpfs does: agents watch /dev/vfio"""
    libc = ctypes.CDLL(None, use_errno=True)
    with Node("hgx-b200", "--scale", "0") as n:
        fd = libc.inotify_init1(os.O_NONBLOCK)
        create, delete = 0x100, 0x200  # IN_CREATE, IN_DELETE
        for d in ("/dev/vfio", "/dev/vfio/devices"):
            assert libc.inotify_add_watch(fd, n.path(d).encode(), create | delete) > 0

        def events():
            seen, buf = [], os.read(fd, 65536)
            while buf:
                _, mask, _, size = struct.unpack_from("iIII", buf)
                seen.append((mask, buf[16:16 + size].rstrip(b"\0").decode()))
                buf = buf[16 + size:]
            return sorted(seen)
        gpu = "0000:1b:00.0"
        group = n.group(gpu)
        for _ in range(2):
            same(n.unbind(gpu), 0)
            same(events(), [(delete, group), (delete, "vfio0")])
            same(n.bind(gpu), 0)
            same(events(), [(create, group), (create, "vfio0")])
        same(stat.S_IMODE(os.stat(n.path(f"/dev/vfio/{group}")).st_mode), 0o600)
        for call in (lambda: os.unlink(n.path(f"/dev/vfio/{group}")), lambda: os.mknod(n.path("/dev/vfio/999"))):
            try:
                call()
                raise AssertionError("nobody else makes or removes nodes")
            except PermissionError:
                pass
        assert n.exists(f"/dev/vfio/{group}")
        os.close(fd)


def scan_is_fast():
    """12 devices with the files an inventory reads; the bound is generous, a regression is 10 times it"""
    files = ["vendor", "device", "class", "subsystem_vendor", "subsystem_device", "revision", "numa_node",
             "driver_override", "power_state", "enable"]
    with Node("hgx-h100", "--scale", "0") as n:
        devices = os.listdir(n.path(""))
        best = 1e9
        for _ in range(5):
            start = time.monotonic()
            for d in devices:
                for f in files:
                    n.read(f"{d}/{f}")
            best = min(best, time.monotonic() - start)
        print(f"     {len(devices) * len(files)} attributes in {best * 1000:.1f} ms")
        assert best < 1


if __name__ == "__main__":
    run([fresh_device, resource0_is_for_mmap_only, binding_and_power, new_id_takes_every_match,
         reset_values_and_methods, configuration_space_waits_for_a_reset, remove_and_rescan, group_node_is_exclusive, two_functions_one_group,
         held_device_blocks, killed_holder_lets_go, nvidia_driver_and_nodes, without_iommu, plug_and_unplug,
         device_nodes_are_real, device_nodes_tell_inotify, scan_is_fast])
