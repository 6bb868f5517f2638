"""ccnode-device and what Linux does (REF-L 6): devices in use, revoked mappings, blocked unbinds, lockdown, groups,
resets that fail, devices that are dead."""
import os
import signal
import sys
import subprocess
import tempfile

from worker import Node, Worker, counters, has_lock, modes, run, same, switch, until

H100 = "0000:18:00.0"
CURE = "stop the pod, VM or process"


def hold(n, bdf, how):
    return int(n.ctl("hold", bdf, how).split()[-1].split("=")[-1])


def held_devices_are_refused_and_the_holder_named():
    with Node("mixed", "--scale", "0.01") as n:
        for bdf, how, what, queryable in (
                (H100, "group", "/dev/vfio/", True), (H100, "device", "/dev/vfio/", False),
                ("0000:3b:00.0", "nvidia", "/dev/nvidia", True)):
            pid = hold(n, bdf, how)
            before = counters(n, bdf)
            with Worker(n, bdf) as w:
                for step in ("unbind", "reset") if queryable else ("query", "stage on", "unbind", "reset", "verify off"):
                    parts = [] if (step, how) == ("reset", "nvidia") else [f"pid {pid}", what]
                    a = w.fails(step, "EBUSY", *parts)
                    assert CURE in a["cure"] or "unbind" in a["cure"], a
            with Worker(n, "node") as w:
                holders = [h for h in w.ok("holders")["holders"] if h["bdf"] == bdf]
                same([h["pid"] for h in holders], [pid], how)
                assert holders[0]["comm"], holders
                assert what in holders[0]["what"], holders
            after = counters(n, bdf)
            same((after["resets"], after["writes"]), (before["resets"], before["writes"]), f"held as {how}")
            n.ctl("release", bdf)
            with Worker(n, bdf) as w:
                w.ok("unbind", "reset", "wait-boot", "bind nvidia" if how == "nvidia" else "bind")


def registers_mapped_by_another_program_are_a_use():
    """Nothing but /proc shows them, whether the device is on VFIO or has no driver: as NVIDIA's own tool does it."""
    with Node("h100-pcie", "--scale", "0.01") as n:
        for bound in (True, False):
            if bound:
                same(n.bind(H100), 0, "bind")
            pid = hold(n, H100, "resource0")
            before = counters(n, H100)
            for step in ("unbind", "release", "reset", "remove") + (() if bound else ("wake", "stage on")):
                with Worker(n, H100) as w:
                    w.fails(step, "EBUSY", f"pid {pid}", "resource0")
            same(counters(n, H100), before, "touched")
            with Worker(n, H100, "--users-known") as w:  # believed for a second
                until("looked again", lambda w=w: w.step("reset").get("code") == "EBUSY")
            n.ctl("release", H100)
            with Worker(n, H100) as w:
                w.ok("unbind", "wake", "reset")


def another_vfio_driver_is_no_way_around_a_holder():
    with Node("h100-pcie", "--scale", "0.01") as n:
        same(n.bind(H100), 0, "bind")
        n.ctl("modprobe", "nvgrace_gpu_vfio_pci")
        for how in ("group", "device", "resource0"):
            pid = hold(n, H100, how)
            with Worker(n, H100) as w:
                w.fails("bind nvgrace-gpu-vfio-pci", "EBUSY", f"pid {pid}")
                w.ok("bind vfio-pci", "bind auto")  # as it is: nobody is disturbed
            same(n.driver(H100), "vfio-pci", "driver")
            n.ctl("release", H100)


def holders_of_every_kind_are_found():
    with Node("mixed", "--scale", "0") as n:
        pids = {hold(n, "0000:5d:00.0", "cdev"): "0000:5d:00.0", hold(n, "0000:2a:00.0", "resource0"): "0000:2a:00.0",
                hold(n, "0000:81:00.0", "group"): "0000:81:00.0"}
        with Worker(n, "node") as w:
            got = {h["pid"]: (h["bdf"], h["what"]) for h in w.ok("holders")["holders"]}
        same({pid: bdf for pid, (bdf, _) in got.items()}, pids, "who holds what")
        assert any("resource0" in what for _, what in got.values()), got
        assert any("/dev/vfio/devices/" in what for _, what in got.values()), got


def mapping_without_descriptor_is_a_use():
    """A mapping keeps the device after its descriptor was closed (REF-L 6.7)."""
    with Node("mixed", "--scale", "0") as n:
        code = ("import mmap,os,sys,time; fd = os.open(sys.argv[1], os.O_RDWR); "
                "m = mmap.mmap(fd, 4096); os.close(fd); os.closerange(3, 64); print('x', flush=True); sys.stdin.read()")
        path = n.path("0000:2a:00.0/resource0")
        p = subprocess.Popen(["python3", "-S", "-c", code, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        try:
            same(p.stdout.read(1), b"x", "resource0 is mapped")
            with Worker(n, "node") as w:
                got = [(h["pid"], h["bdf"], h["what"]) for h in w.ok("holders")["holders"]]
            same(got, [(p.pid, "0000:2a:00.0", "mapping of resource0")], "mapping")
        finally:
            p.stdin.close()
            p.wait()
            p.stdout.close()


def revoked_mapping_is_an_error_with_a_name():
    """Somebody opens the device while we have it mapped: SIGBUS on the next access (REF-L 6.2)."""
    with Node("h100-pcie", "--scale", "0.01") as n, Worker(n, H100) as w:
        w.ok("unbind", "wake")  # mapped
        same(n.bind(H100), 0, "bind behind our back")
        pid = hold(n, H100, "device")
        a = w.step("check-staged off")
        assert not a["ok"] and a["code"] == "EBUSY", a
        a = w.step("query")
        assert not a["ok"] and a["code"] == "EBUSY" and f"pid {pid}" in a["error"], a
        n.ctl("release", H100)
        until("released", lambda: n.read(f"{H100}/enable") == "0")
        same(w.ok("query")["active"], "off", "after the release")


def unbind_that_blocks_is_only_late():
    """A user that came in after we looked: the write waits, the parent abandons us; when he goes it is carried out."""
    with Node("h100-pcie", "--scale", "0.01") as n, Worker(n, H100) as w:
        same(n.bind(H100), 0, "bind")
        n.ctl("fault", H100, "unbind-blocks")
        w.send("unbind")
        until("it works", lambda: has_lock(n, H100, w.p.pid))
        same(w.receive(0.5), None, "blocked")
        with Worker(n, H100) as second:
            second.fails("unbind", "EBUSY", f"pid {w.p.pid}", "another ccnode-device")
            a = second.fails("query", "EBUSY", "another ccnode-device")
            same(a.get("lock_pid"), w.p.pid, "the member that says so")
        n.ctl("clear", H100)
        same(w.receive()["ok"], True, "in the end")
        same(n.driver(H100), None, "driver")


def no_driver_link_does_not_mean_free():
    with Node("h100-pcie", "--scale", "0.01") as n:
        same(n.bind(H100), 0, "bind")
        pid = hold(n, H100, "device")
        blocked = n.background("/sys/bus/pci/drivers/vfio-pci/unbind", H100)
        until("link gone", lambda: n.driver(H100) is None)
        with Worker(n, H100) as w:
            w.fails("reset", "EBUSY", f"pid {pid}")
            w.fails("unbind", "EBUSY", f"pid {pid}")
            w.fails("stage on", "EBUSY")
        same(counters(n, H100)["writes"], "0", "register writes")
        n.ctl("release", H100)
        blocked.wait(timeout=60)
        blocked.stdout.close()


def host_driver_is_never_reset_under():
    with Node("mixed", "--scale", "0.01") as n, Worker(n, "0000:3b:00.0") as w:
        a = w.fails("reset", "EBUSY", "driver nvidia has it")
        assert "unbind" in a["cure"], a
        same(w.ok("unbind")["driver"], "nvidia", "what was bound")
        w.ok("reset")
        w.ok("release")
        same(n.driver("0000:3b:00.0"), "nvidia", "given back")


def given_back_where_vfio_has_its_id():
    """vfio-pci ids=: a mere probe would bind it to VFIO again."""
    with Node("mixed", "--scale", "0.01") as n, Worker(n, "0000:3b:00.0") as w:
        same(w.ok("unbind")["driver"], "nvidia", "of before")
        w.ok("bind auto")
        ids = " ".join(n.read(f"0000:3b:00.0/{name}")[2:] for name in ("vendor", "device"))
        same(n.write("/sys/bus/pci/drivers/vfio-pci/new_id", ids), 0, "ids")
        a = w.fails("release", "EEXIST", "vfio-pci again")
        assert "ids=" in a["cure"], a
        same(w.ok("release nvidia")["driver"], "nvidia", "to whom it was")
        same((n.driver("0000:3b:00.0"), n.read("0000:3b:00.0/driver_override")), ("nvidia", "(null)"), "no trace")
        w.ok("unbind", "bind auto")
        w.fails("release nouveau", "EEXIST", "vfio-pci again")  # a driver that is not there


def groups_are_bound_whole_or_not_at_all():
    with Node("mixed", "--scale", "0.01") as n:
        with Worker(n, "0000:ab:00.0") as w:
            a = w.fails("bind auto", "EADDRINUSE", "0000:ac:00.0 (mlx5_core)")
            assert "other function" in a["cure"], a
            same(n.read("0000:ab:00.0/driver_override"), "(null)", "nothing was written")
            same(n.driver("0000:ac:00.0"), "mlx5_core", "the network card is left alone")
        with Worker(n, "0000:81:00.0") as w:
            w.ok("unbind")
            same((n.driver("0000:81:00.0"), n.driver("0000:81:00.1")), (None, None), "whole slot unbound")
            a = w.ok("bind auto")
            same((n.driver("0000:81:00.0"), n.driver("0000:81:00.1")), ("vfio-pci", "vfio-pci"), "whole slot bound")
            assert n.exists(f"/dev/vfio/{a['group']}") and a["cdev"].startswith("vfio"), a
            w.ok("bind auto", "bind vfio-pci")  # again: nothing happens
            w.fails("bind no/such", "EINVAL")
            w.fails("bind nosuch_driver", "EIO")


def without_iommu_binding_is_refused():
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as f:
        f.write('iommu: false\ndevices:\n  - { bdf: "0000:18:00.0", model: h100-pcie }\n')
        f.flush()
        with Node(f.name, "--scale", "0") as n, Worker(n, H100) as w:
            a = w.fails("bind", "ENXIO", "no IOMMU group")
            assert "intel_iommu=on" in a["cure"], a
            switch_alone = w.ok("wake", "stage on", "check-staged on", "reset", "wait-boot", "verify on")
            same(switch_alone["active"], "on", "modes need no IOMMU")


def missing_vfio_driver_is_loaded():
    with Node("h100-pcie", "--scale", "0") as n:
        n.ctl("rmmod", "vfio-pci")
        with Worker(n, H100, "--no-modprobe") as w:
            w.fails("bind auto", "ENODEV", "not loaded")
        with Worker(n, "node") as w:
            same(w.ok("load-module vfio-pci")["loaded"], True, "loaded")
            same(w.ok("load-module vfio-pci")["loaded"], False, "was there")
            for bad in ("../etc", "-r", "a b", ""):
                w.fails(f"load-module {bad}", "EINVAL")
            w.fails("load-module nosuch", "EIO", "modprobe nosuch failed")
        n.ctl("rmmod", "vfio-pci")
        # as the agent's workers: not allowed to change their root
        with Worker(n, "node", through=("setpriv", "--bounding-set", "-sys_chroot", "--inh-caps", "-sys_chroot")) as w:
            same(w.ok("load-module vfio-pci")["loaded"], True, "loaded without chroot")
        n.ctl("rmmod", "vfio-pci")
        with Worker(n, H100) as w:
            same(w.ok("bind auto")["driver"], "vfio-pci", "loaded on the way")


def resets_that_fail():
    with Node("h100-pcie", "--scale", "0.01") as n, Worker(n, H100) as w:
        w.ok("unbind", "wake", "stage on")
        n.ctl("fault", H100, "reset-error", "25")
        w.fails("reset", "ENOTTY", "did not come back")
        n.ctl("fault", H100, "reset-error", "5")
        w.fails("reset", "EIO")
        n.ctl("clear", H100)
        n.ctl("fault", H100, "reset-noop")
        w.fails("reset", "EIO", "the reset did nothing")
        n.ctl("clear", H100)
        n.ctl("fault", H100, "mode-lost")
        w.ok("reset", "wait-boot")
        w.fails("verify on", "EIO", "is off, not on")
        n.ctl("clear", H100)
        n.ctl("fault", H100, "reset-early")
        w.ok("reset", "wait-boot", "verify on")
        n.ctl("clear", H100)
        n.ctl("fault", H100, "reset-hangs")
        w.send("reset")
        same(w.receive(0.5), None, "hangs")
        n.ctl("clear", H100)
        assert w.receive() is not None


def a_step_has_its_own_time_with_the_firmware():
    """What one stage used up does not lack the one that puts it back, in the same worker."""
    with Node("h100-pcie") as n, Worker(n, H100) as w:
        w.ok("unbind", "wake")
        n.ctl("fault", H100, "fsp-slow", "4500")
        w.fails("stage on", "ETIMEDOUT", "FSP does not")
        n.ctl("clear", H100)
        w.ok("stage off", "check-staged off")


def dead_devices_are_not_reset():
    """The kernel would sleep for minutes, unkillable (REF-L 6.6)."""
    with Node("h100-pcie", "--scale", "0.01") as n, Worker(n, H100) as w:
        w.ok("unbind", "wake")
        n.ctl("fault", H100, "dead")
        a = w.fails("reset", "ENODEV", "reads all ones")
        assert "rescan" in a["cure"], a
        q = w.ok("query")
        assert "all ones" in q["fault"] and not q["booted"] and q["active"] == "unknown", q
        v = w.step("verify on")
        same(v["ok"], False, "verify")
        assert a["ms"] + q["ms"] + v["ms"] < 5000, (a, q, v)  # as the worker measured it
        n.ctl("clear", H100)
        q = w.ok("query")
        same((q["fault"], q["active"]), ("", "off"), "back again")


def broken_devices_are_answers():
    want = {"recovery": "recovery mode", "security": "security fault", "priv-error": "privilege", "mmio-dead": "all ones",
            "fsp-mute": "FSP does not", "fsp-error-always": "status 0x"}
    with Node("h100-pcie", "--scale", "0.01") as n:
        for fault, part in want.items():
            n.ctl("fault", H100, fault, "514")
            with Worker(n, H100) as w:
                q = w.ok("query")
                assert part in q["fault"], (fault, q)
                same(q["pending"], "unknown", fault)
            n.ctl("clear", H100)
        with Worker(n, H100) as w:
            same(w.ok("query")["fault"], "", "healthy again")


def devices_that_vanish():
    with Node("h100-pcie", "--scale", "0.01") as n, Worker(n, H100) as w:
        w.ok("unbind", "wake")
        n.ctl("unplug", H100)
        until("gone", lambda: not n.exists(H100))
        for step in ("query", "stage on", "unbind", "bind", "reset", "remove", "sleep"):
            a = w.step(step)
            assert step == "sleep" or (not a["ok"] and a["code"] in ("ENODEV", "EIO")), (step, a)
        n.ctl("plug", H100)
        until("back", lambda: n.exists(H100))
        same(w.ok("query")["active"], "off", "plugged again, memory decoding was off")
        w.ok("remove")
        assert not n.exists(H100)
        with Worker(n, "node") as node:
            node.ok("rescan")
        assert n.exists(H100)


def surprise_removal_while_it_works():
    with Node("h100-pcie", "--delay", "boot_cc_ms=4500") as n, Worker(n, H100) as w:  # 5 s are waited for it
        w.ok("unbind", "wake", "stage on", "reset")
        w.send("wait-boot")
        n.ctl("unplug-surprise", H100)
        a = w.receive()
        assert not a["ok"] and a["code"] in ("ENODEV", "EIO"), a


def signals_do_not_cut_a_step():
    with Node("h100-pcie", "--scale", "0.2") as n:
        n.bind(H100)
        with Worker(n, H100) as w:
            w.ok("query")
            w.send("reset")
            for s in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                w.p.send_signal(s)
            same(w.receive()["ok"], True, "reset in spite of signals")
        same(n.read(f"{H100}/power/control"), "auto", "power/control at the end")
        assert os.path.exists(n.path(f"/run/ccnode/lock/{H100}")), "lock file"


def lockdown_is_worked_around_through_vfio():
    """Secure Boot: resource0 can't be mapped, VFIO can (REF-L 6.3)."""
    with Node("mixed", "--scale", "0.01") as n:
        n.ctl("lockdown", "integrity")
        bdf = H100
        with Worker(n, bdf) as w:  # bound to vfio-pci
            same(w.ok("query")["active"], "off", "query of a bound device")
            for mode in ("on", "ppcie", "off"):
                switch(w, mode)
                same(modes(n)[bdf], mode, "mode under lockdown")
        same((n.driver(bdf), n.read(f"{bdf}/enable")), ("vfio-pci", "0"), "closed again")
        with Worker(n, "0000:5d:00.0") as w:  # Blackwell, on, by group or character device
            switch(w, "off")
            same(modes(n)["0000:5d:00.0"], "off", "Blackwell under lockdown")
        pid = hold(n, bdf, "device")
        with Worker(n, bdf) as w:
            w.fails("query", "EBUSY", f"pid {pid}")
        n.ctl("release", bdf)
        for free in ("0000:2a:00.0", "0000:3b:00.0"):  # no driver, nvidia driver
            before = n.driver(free)
            with Worker(n, free) as w:
                a = w.fails("query", "EPERM", "lockdown")
                assert "bind the device to vfio-pci" in a["cure"], a
            same(n.driver(free), before, "a query binds nothing")
        with Worker(n, "0000:ab:00.0") as w:  # its group can't be given to VFIO
            w.fails("wake", "EPERM", "lockdown", "mlx5_core")


def a_refused_mapping_names_causes_and_cures():
    """mmap of resource0 says EPERM and lockdown is off: seen on an H100 in a sandbox."""
    with Node("mixed", "--scale", "0.01") as n:
        free = "0000:2a:00.0"  # no driver
        for bdf in (free, H100):
            n.ctl("fault", bdf, "map-denied")
        with Worker(n, free) as w:
            a = w.fails("query", "EPERM", "resource0", "lockdown is off", "sandbox", "security module", "not on VFIO")
            for word in ("on the host itself", "ccnode bind", "audit log"):
                assert word in a["cure"], a
            assert "Secure Boot" not in a["error"], a
        with Worker(n, H100) as w:  # bound to vfio-pci: the cure works
            switch(w, "on")
            same(modes(n)[H100], "on", "mode through VFIO")


def slow_sleepers():
    with Node("h100-pcie", "--scale", "0.01") as n:
        n.ctl("fault", H100, "no-power-control")
        with Worker(n, H100) as w:
            same(w.ok("query")["active"], "off", "without power/control")
        n.ctl("clear", H100)
        n.ctl("fault", H100, "d3cold-stuck")
        n.bind(H100)
        with Worker(n, H100) as w:
            q = w.ok("query")
            assert "D3cold" in q["fault"], q
        n.ctl("clear", H100)


if __name__ == "__main__":
    only = sys.argv[1:]
    run([t for t in [held_devices_are_refused_and_the_holder_named,
         registers_mapped_by_another_program_are_a_use, another_vfio_driver_is_no_way_around_a_holder, holders_of_every_kind_are_found,
         mapping_without_descriptor_is_a_use, revoked_mapping_is_an_error_with_a_name, unbind_that_blocks_is_only_late,
         no_driver_link_does_not_mean_free, host_driver_is_never_reset_under, given_back_where_vfio_has_its_id, groups_are_bound_whole_or_not_at_all,
         without_iommu_binding_is_refused, missing_vfio_driver_is_loaded, resets_that_fail,
         a_step_has_its_own_time_with_the_firmware, dead_devices_are_not_reset,
         broken_devices_are_answers, devices_that_vanish, surprise_removal_while_it_works, signals_do_not_cut_a_step,
         lockdown_is_worked_around_through_vfio, a_refused_mapping_names_causes_and_cures, slow_sleepers] if not only or t.__name__ in only],
        at_once=4)
