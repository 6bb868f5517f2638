"""ccnode-device switches every kind of device in every mode, in its own time and with few accesses."""
import os

from worker import Node, Worker, counters, json, knob, modes, run, same, switch

H100, SWITCH = "0000:18:00.0", "0000:c1:00.0"


def every_kind_every_mode():
    cc, ppcie = ["on", "devtools", "off"], ["ppcie", "off"]
    with Node("mixed", "--scale", "0.01") as n:
        for bdf, wanted in {H100: cc + ppcie + ["on", "ppcie"], "0000:2a:00.0": cc, "0000:3b:00.0": ppcie,
                            "0000:5d:00.0": cc, "0000:81:00.0": cc, SWITCH: ppcie}.items():
            with Worker(n, bdf) as w:
                capable = w.ok("query")["capable"]
                for mode in wanted:
                    assert mode in capable, (bdf, mode, capable)
                    result = switch(w, mode)
                    same(result["driver"], "vfio-pci", bdf)
                    same(modes(n)[bdf], mode, bdf)
                    q = w.ok("query")
                    same((q["active"], q["pending"], q["booted"], q["fault"]), (mode, mode, True, ""), bdf)
            same(counters(n, bdf)["unknown"], "0", f"unknown registers of {bdf}")
            same(n.read(f"{bdf}/power/control"), "auto", f"power/control of {bdf} afterwards")
        # the audio function of the RTX PRO 6000 went along
        same(n.driver("0000:81:00.1"), "vfio-pci", "companion")


def capabilities_come_from_the_device():
    with Node("mixed", "--scale", "0.01") as n:
        for bdf, want in {H100: ["off", "on", "devtools", "ppcie"], "0000:2a:00.0": ["off", "on", "devtools"],
                          "0000:5d:00.0": ["off", "on", "devtools"], SWITCH: ["off", "ppcie"], "0000:9a:00.0": []}.items():
            with Worker(n, bdf) as w:
                q = w.ok("query")
                same(q["capable"], want, bdf)
                same(q["active"], "on" if bdf == "0000:5d:00.0" else "off", bdf)
        with Worker(n, "0000:2a:00.0") as w:
            a = w.fails("stage ppcie", "EREMOTEIO", "knob 45 (PPCIE)", "firmware")
            same(a["device_status"], 0x1e3, "status")
            assert "update the firmware" in a["cure"], a
        with Worker(n, SWITCH) as w:
            w.fails("stage on", "EOPNOTSUPP", "not possible on ls10")
        with Worker(n, "0000:9a:00.0") as w:
            w.fails("stage on", "EOPNOTSUPP")
            same(w.ok("stage off")["writes"], 0, "off on a chip that is always off")


def ppcie_is_really_left():
    """W1 of the peers: CC bits read off in ppcie."""
    with Node("h100-pcie", "--scale", "0.01") as n, Worker(n, H100) as w:
        switch(w, "ppcie")
        a = w.fails("verify off", "EIO", "is ppcie, not off")
        assert a["ms"] < 3000, a
        switch(w, "off")
        same(modes(n)[H100], "off", "mode")
        same(knob(n, H100, 45), 0, "PPCIE knob")


def accesses_and_time():
    with Node("h100-pcie") as n, Worker(n, H100) as w:
        w.ok("unbind", "wake", "stage on")
        before = counters(n, H100)
        w.ok("reset")
        took = w.ok("wait-boot")["ms"] + w.ok("verify on")["ms"]  # as the worker measured it
        after = counters(n, H100)
        reads, writes = int(before["reads"]), int(after["writes"])
        assert reads + 8 <= 120, (reads, writes)
        assert writes <= 88, writes
        assert took < 3000, f"{took} ms for a boot of 1.7 s"
        same(after["resets"], "1", "resets")


def asleep_and_awake():
    """vfio-pci lets idle devices sleep; a query wakes it and puts back what was before."""
    with Node("h100-pcie", "--scale", "0.01") as n:
        same(n.bind(H100), 0, "bind")
        same(n.read(f"{H100}/power_state"), "D3hot", "asleep")
        with Worker(n, H100) as w:
            same(w.ok("query")["active"], "off", "mode")
            same(n.read(f"{H100}/power/control"), "on", "while it works")
            w.ok("sleep")
            same(n.read(f"{H100}/power/control"), "auto", "after sleep")
            w.ok("wake")
        same(n.read(f"{H100}/power/control"), "auto", "after the end")
        same(n.read(f"{H100}/power_state"), "D3hot", "asleep again")


def what_a_killed_worker_left_awake_sleeps_again():
    """The device and the bridge above it; a setting that is somebody else's stays."""
    def killed(steps):
        w = Worker(n, H100).__enter__()
        w.ok(*steps)
        w.p.kill()
        w.p.wait()
        for f in (w.p.stdin, w.p.stdout):
            f.close()

    with Node("h100-pcie", "--scale", "0.01") as n:
        bridge = os.path.basename(os.path.dirname(os.path.realpath(n.path(H100))))
        controls = [f"{x}/power/control" for x in (bridge, H100)]

        def left():
            return [f for f in os.listdir(n.path("/run/ccnode/lock")) if f.endswith(".awake")]
        same(n.bind(H100), 0, "bind")
        n.write(controls[0], "auto")
        killed(["query"])
        same([n.read(c) for c in controls], ["on", "on"], "left awake")
        with Worker(n, H100) as w:
            w.ok("query")
        same([n.read(c) for c in controls], ["auto", "auto"], "put back by the next one")
        same(left(), [], "records")
        killed(["query"])
        same(n.write(f"{H100}/driver/unbind", H100), 0, "unbind")  # Linux sets it to "on" then
        with Worker(n, H100) as w:
            w.ok("query")
        same([n.read(c) for c in controls], ["auto", "on"], "the record is of another driver")
        same(left(), [], "records")


def reading_starts_no_ring():
    """What only a change needs to write is left alone by a look, unless the look needs it too."""
    ring, mailbox = {0x12004c, 0x122204}, {0x8f2c10, 0x8f2c14, 0x8f2c90, 0x8f2c94, 0x8f2ad0, 0x8f2ad4}

    def writes(steps):
        n.ctl("trace", "off")
        n.ctl("trace", "on")
        with Worker(n, H100) as w:
            w.ok(*steps)
        return {a["offset"] for a in json.loads(n.ctl("--json", "trace", H100)) if a["op"] == "W"}

    with Node("h100-pcie", "--scale", "0.01") as n:
        assert writes(["query", "knobs"]) <= mailbox
        assert ring <= writes(["stage off"])
        n.ctl("fault", H100, "priv-ring")
        assert ring <= writes(["query"])
        n.ctl("fault", H100, "priv-ring")
        assert ring <= writes(["knobs"])


def sbr_and_flr():
    with Node("h100-pcie", "--scale", "0.01") as n, Worker(n, H100) as w:
        w.ok("unbind", "wake")
        before = n.read(f"{H100}/reset_method")
        same(w.ok("reset sbr")["method"], "bus", "method")
        w.ok("wait-boot")
        same(w.ok("reset flr")["method"], "flr", "method")
        w.ok("wait-boot")
        same(n.read(f"{H100}/reset_method"), before, "reset_method afterwards")
        c = counters(n, H100)
        same((c["flr"], c["sbr"]), ("1", "1"), "resets of each kind")
        w.fails("reset fundamental", "EINVAL", "flr, sbr")
        n.write(f"{H100}/reset_method", "\n")
        assert "default" in w.fails("reset", "EOPNOTSUPP", "switched off")["error"]


def knobs_are_listed():
    with Node("mixed", "--scale", "0") as n:
        with Worker(n, "0000:2a:00.0") as w:
            knobs = {k["id"]: k for k in w.ok("knobs")["knobs"]}
            same(sorted(knobs), list(range(1, 48)), "ids")
            same((knobs[45]["value"], knobs[45]["status"]), (None, 0x1e3), "PPCIE on old firmware")
            same((knobs[7]["name"], knobs[7]["value"]), ("CCM_ALLOW_INB", 1), "knob 7")


def bad_steps_are_answered():
    with Node("h100-pcie", "--scale", "0") as n:
        with Worker(n, H100) as w:
            for line, part in (("dance", "unknown step"), ("stage", "off, on, devtools, ppcie"),
                               ("stage maybe", "'maybe'"), ("query now", "no argument"),
                               ("holders", "step of the node"), ("", "unknown step")):
                w.send(line)
                a = w.receive()
                assert not a["ok"] and a["code"] == "EINVAL" and part in a["error"], a
            w.p.stdin.write(b"x" * 100000 + b"\n\0\xff\"\\\n")
            same([w.receive()["ok"], w.receive()["ok"]], [False, False], "long line, garbage")
            n.ctl("lockdown", "integrity")
            assert "cure" in w.fails("query", "EPERM")
            assert "cure" not in w.fails("dance", "EINVAL"), "that of another step"
            n.ctl("lockdown", "none")
            w.ok("query")
            w.p.stdin.write(b"reset")  # without its newline it was not ordered
        same(counters(n, H100)["resets"], "0", "half a line")


if __name__ == "__main__":
    run([every_kind_every_mode, capabilities_come_from_the_device, ppcie_is_really_left, accesses_and_time,
         asleep_and_awake, what_a_killed_worker_left_awake_sleeps_again, reading_starts_no_ring, sbr_and_flr, knobs_are_listed, bad_steps_are_answered])
