"""set-mode: the 2023 guide's chapter "set CC mode", in-use refusal, waiting, ppcie, faults, dry run."""
import os
import pty
import select
import signal
import subprocess
import tempfile
import time

from rig import BIN, FAILED, IMPOSSIBLE, IN_USE, OK, USAGE, Host, main, same, say_until, until

RESULT_KEYS = ["bdf", "result", "from", "to", "steps", "duration_ms", "error"]


def test_the_guides_chapter():
    """One H100 PCIe: bind, switch on, look, switch off."""
    with Host("h100-pcie") as h:
        (bdf,) = h.list()
        h.run("bind", code=OK)
        answer = h.run("set-mode", "on", "-o", "json", code=OK)
        (d,) = answer.json()
        same(list(d), RESULT_KEYS)
        same((d["bdf"], d["result"], d["from"], d["to"], d["error"]), (bdf, "changed", "off", "on", None))
        same([s["step"] for s in d["steps"]],
             ["unbind", "wake", "stage on", "check-staged on", "reset", "wait-boot", "verify on", "sleep", "bind vfio-pci"])
        assert all(list(s) == ["step", "ok", "ms"] and s["ok"] for s in d["steps"]), d
        assert d["duration_ms"] >= 0
        same(h.modes()[bdf], "on")
        same(h.driver(bdf), "vfio-pci", "it is bound again as before")
        same(h.counters()[bdf]["resets"], 1)
        (d,) = h.set_mode("on").values()
        same((d["result"], d["steps"]), ("unchanged", []))
        same(h.counters()[bdf]["resets"], 1, "nothing to do means nothing is done")
        text = h.run("set-mode", "off", code=OK).out
        assert "changed" in text and "RESULT" in text, text
        same(h.modes()[bdf], "off")


def test_every_device_and_mode():
    with Host("hgx-h100") as h:
        devices = h.list()
        for mode in ("on", "devtools", "ppcie", "off"):
            results = h.set_mode(mode)
            for bdf, d in devices.items():
                wanted = "off" if d["kind"] == "nvswitch" and mode != "ppcie" else mode
                same(h.modes()[bdf], wanted, f"{mode} on {bdf}")
                same(results[bdf]["to"], wanted)
                same(results[bdf]["result"] == "unchanged", results[bdf]["from"] == wanted)


def test_unknown_words():
    with Host("h100-pcie") as h:
        before = h.counters()
        assert "allowed are on, off, devtools, ppcie" in h.run("set-mode", "On", code=USAGE).err
        h.run("set-mode", "on", "--when-busy", "evict", code=USAGE)
        same(h.counters(), before)


def test_dry_run_touches_nothing():
    with Host("hgx-h100") as h:
        before, power = h.counters(), h.read("0000:18:00.0/power/control") if h.exists("0000:18:00.0") else None
        text = h.run("set-mode", "on", "--dry-run", code=OK).out
        for word in ("stage on", "reset", "verify on", "nothing is touched"):
            assert word in text, text
        plan = h.run("set-mode", "ppcie", "--dry-run", "-o", "json", code=OK).json()
        same((plan["changes"], plan["together"], len(plan["devices"])), (True, True, 12))
        h.run("set-mode", "on", "nvswitches", "--dry-run", code=IMPOSSIBLE)
        h.run("bind", "--dry-run", code=OK)
        h.run("unbind", "--dry-run", code=OK)
        same(h.counters(), before, "model counters")
        if power:
            same(h.read("0000:18:00.0/power/control"), power)
        assert not os.path.exists(h.root + "/var/lib/ccnode/journal.json"), "the journal was written"


def test_refused_while_in_use():
    with Host("hgx-h100") as h:
        h.run("bind", code=OK)
        gpus = sorted(h.list("gpus"))
        pid = h.hold(gpus[1])
        before = h.counters()[gpus[1]]
        results = h.set_mode("on", "gpus", code=IN_USE)
        held = results[gpus[1]]
        same((held["result"], held["steps"]), ("refused", []))
        assert f"pid {pid}" in held["error"], held
        same({d["result"] for b, d in results.items() if b != gpus[1]}, {"changed"}, "the idle ones are switched")
        same(h.counters()[gpus[1]]["resets"], before["resets"])
        same(h.modes()[gpus[1]], "off")
        # ppcie concerns all: nobody is touched
        before = h.counters()
        results = h.set_mode("ppcie", code=IN_USE)
        assert all(gpus[1] in d["error"] or b == gpus[1] for b, d in results.items()), results
        same({b: c["resets"] for b, c in h.counters().items()}, {b: c["resets"] for b, c in before.items()})
        h.ctl("release", "all")
        h.set_mode("ppcie")


def test_waits_for_the_user():
    with Host("h100-pcie") as h:
        (bdf,) = h.list()
        h.run("bind", code=OK)
        h.hold(bdf)
        p = h.start("set-mode", "on", "--when-busy", "wait", "-o", "json")
        said = say_until(p.stderr, "waiting for 1 device in use")
        time.sleep(0.7)
        same(p.poll(), None, "it waits")
        same(h.modes()[bdf], "off")
        h.ctl("release", bdf)
        out, err = p.communicate(timeout=30)
        same(p.returncode, OK, out)
        assert bdf in said + err, said + err
        same(h.modes()[bdf], "on")
        h.hold(bdf)
        (d,) = h.set_mode("off", "--when-busy", "wait=200ms", code=IN_USE).values()
        same(d["result"], "refused")


def test_stage_only():
    with Host("h100-pcie") as h:
        (bdf,) = h.list()
        (d,) = h.set_mode("on", "--no-reset").values()
        same((d["result"], d["to"]), ("changed", "off"))
        same((h.modes()[bdf], h.counters()[bdf]["resets"]), ("off", 0))
        same(h.list()[bdf]["pending_mode"], "on")
        (d,) = h.set_mode("on", "--no-reset").values()
        same(d["result"], "unchanged", "it is staged already")
        (d,) = h.set_mode("off").values()
        same(h.list()[bdf]["pending_mode"], "off", "what was staged is put back")
        same(h.counters()[bdf]["resets"], 0)


def test_not_possible():
    with Host("mixed") as h:
        devices = h.list()
        old = next(b for b, d in devices.items() if d["device_id"] == "20b0")
        results = h.set_mode("on", code=IMPOSSIBLE)
        same(results[old]["result"], "refused")
        assert "no Confidential Computing" in results[old]["error"]
        same({h.modes()[b] for b, d in devices.items() if d["kind"] == "gpu" and b != old}, {"on"})
        before = h.counters()
        a = h.run("set-mode", "on", "nvswitches", code=IMPOSSIBLE)
        assert "not possible" in a.out, a.out
        a = h.run("set-mode", "ppcie", "10de:2331", code=IMPOSSIBLE)
        assert "together" in a.err, a.err
        a = h.run("set-mode", "ppcie", "10de:2901", code=IMPOSSIBLE)
        same({b: c["resets"] for b, c in h.counters().items()}, {b: c["resets"] for b, c in before.items()})


def test_part_of_a_fabric():
    with Host("hgx-h100") as h:
        h.set_mode("ppcie")
        a = h.run("set-mode", "off", "gpus[0]", code=IMPOSSIBLE)
        assert "together" in a.err, a.err
        a = h.run("set-mode", "on", "gpus", code=IMPOSSIBLE)
        same(set(h.modes()[b] for b in h.list()), {"ppcie"})


def test_lockdown():
    with Host("h100-pcie") as h:
        h.ctl("fault", "all", "map-denied")
        a = h.run("set-mode", "on", code=IMPOSSIBLE)
        text = " ".join((a.out + a.err).split())
        assert "lockdown is off" in text and "sandbox" in text and "ccnode bind" in text, text
        h.ctl("clear")
        h.ctl("lockdown", "integrity")
        a = h.run("set-mode", "on", code=IMPOSSIBLE)
        assert "lockdown" in a.out and "ccnode bind" in a.out, a.out + a.err
        h.run("bind", code=OK)
        h.set_mode("on")
        same(set(h.modes().values()), {"on"}, "through VFIO")


def test_one_of_eight_fails():
    with Host("hgx-h100") as h:
        gpus = sorted(h.list("gpus"))
        h.ctl("fault", gpus[3], "dead")
        results = h.set_mode("on", "gpus", code=FAILED)
        same(results[gpus[3]]["result"], "failed")
        assert results[gpus[3]]["error"], results
        same({d["result"] for b, d in results.items() if b != gpus[3]}, {"changed"})


def test_killed_and_run_again():
    """SIGKILL in the middle: the same command finishes, with at most one more reset."""
    with Host("h100-pcie", scale="0.3") as h:
        (bdf,) = h.list()
        h.run("bind", code=OK)
        p = h.start("set-mode", "on")
        until("it is reset", lambda: h.counters()[bdf]["resets"] == 1)
        p.kill()
        p.communicate()
        h.set_mode("on")
        same(h.modes()[bdf], "on")
        same(h.driver(bdf), "vfio-pci", "bound again as before")
        assert h.counters()[bdf]["resets"] <= 2


def test_interrupted():
    with Host("h100-pcie", scale="0.5") as h:
        (bdf,) = h.list()
        h.run("bind", code=OK)
        h.ctl("fault", bdf, "reset-hangs")
        p = h.start("set-mode", "on", "-o", "json")
        until("it is being reset", lambda: h.driver(bdf) is None and "locked=1" in h.ctl("devices"))
        p.send_signal(signal.SIGINT)
        h.ctl("clear", bdf)
        out, _ = p.communicate(timeout=60)
        same(p.returncode, FAILED)
        assert "run the same command again" in out, out
        h.set_mode("on")
        same((h.modes()[bdf], h.driver(bdf)), ("on", "vfio-pci"))
        h.hold(bdf)
        same(h.list()[bdf]["mode"], "on", "the journal vouches for it")


def test_invalid_mode_is_put_right():
    """Devtools without CC, as an interrupted switch of older tools leaves it: told, and any mode puts it right."""
    for mode in ("off", "on"):
        with Host("h100-pcie") as h:
            (bdf,) = h.list()
            h.run("bind", code=OK)
            h.ctl("drift", bdf, "invalid")
            d = h.list()[bdf]
            same((d["mode"], "set a mode to put it right" in d["reason"]), ("invalid", True), d)
            (d,) = h.set_mode(mode, bdf).values()
            same((d["result"], d["from"], d["to"]), ("changed", "invalid", mode))
            same((h.modes()[bdf], h.driver(bdf)), (mode, "vfio-pci"))


def test_live_lines_on_a_terminal():
    with Host("hgx-h100", scale="0.2") as h:
        for bdf in h.list("gpus"):
            h.ctl("fault", bdf, "boot-slow", "1500")  # long enough to be drawn by whoever is slow
        controller, terminal = pty.openpty()
        h.env["TERM"] = "xterm"
        p = subprocess.Popen([os.path.join(BIN, "ccnode"), "--host-root", h.root, "set-mode", "on", "gpus"], env=h.env,
                             stdout=subprocess.DEVNULL, stderr=terminal)
        os.close(terminal)
        seen = b""
        while True:
            ready, _, _ = select.select([controller], [], [], 30)
            try:
                data = os.read(controller, 65536) if ready else b""
            except OSError:
                data = b""
            if not data:
                break
            seen += data
        same(p.wait(), OK)
        text = seen.decode()
        for bdf in h.list("gpus"):
            assert bdf in text, text
        assert "\x1b[8A" in text and "wait-boot" in text, "drawn over, step by step"


def test_host_without_tee_is_said():
    profile = ('tee: none\ndevices:\n'
               '  - { bdf: "0000:18:00.0", model: h100-pcie, path: "pci0000:17/0000:17:01.0", numa: 0 }\n')
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as f:
        f.write(profile)
        f.flush()
        with Host(f.name) as h:
            a = h.run("set-mode", "on", code=OK)
            assert "neither SEV-SNP nor TDX" in a.err, a.err
            same(h.run("set-mode", "off", code=OK).err, "")
    with Host("h100-pcie") as h:
        same(h.run("set-mode", "on", code=OK).err, "")


main(test_the_guides_chapter, test_every_device_and_mode, test_unknown_words, test_dry_run_touches_nothing,
     test_refused_while_in_use, test_waits_for_the_user, test_stage_only, test_not_possible, test_part_of_a_fabric,
     test_lockdown, test_one_of_eight_fails, test_killed_and_run_again, test_interrupted, test_invalid_mode_is_put_right,
     test_live_lines_on_a_terminal,
     test_host_without_tee_is_said)
