"""ccnode-sim ctl: every command does what its help says, and the faults that the simulated kernel carries out."""
import errno
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time

from node import SIM, Node, run, same, until

GPU = "0000:18:00.0"

# every fault that the issue of the simulated node asks for, under the name ctl knows it by
WANTED = {"fsp-error", "fsp-error-always", "fsp-mute", "fsp-slow", "stale-answer", "stale-command", "short-answer",
          "wrong-type", "wrong-echo", "torn-queue", "write-lost", "ppcie-invalid", "inband-off", "mnoc-error",
          "mnoc-no-credit", "boot-never", "boot-slow", "boot-badf", "firewall-never", "dead", "mmio-dead", "priv-error",
          "security", "recovery", "retry-forever", "mode-lost", "reset-noop", "reset-error", "reset-hangs",
          "reset-early", "unbind-blocks", "d3cold-stuck", "no-power-control", "map-denied", "priv-ring", "link-slow",
          "vfio-wedged", "vfio-denied", "link-speed", "link-width", "aer-correctable", "aer-nonfatal", "aer-fatal"}


def js(n, *args):
    return json.loads(n.ctl(*args, "--json"))


def devices(n):
    return {d["bdf"]: d for d in js(n, "devices")}


def looks():
    with Node("mixed", "--scale", "0") as n:
        d = devices(n)
        same(len(d), 11)
        same((d[GPU]["driver"], d[GPU]["power"], d[GPU]["model"]), ("vfio-pci", "D3hot", "h100-pcie"))
        same(d["0000:3b:00.0"]["driver"], "nvidia")
        modes = {m["bdf"]: m["mode"] for m in js(n, "modes")}
        same((modes[GPU], modes["0000:5d:00.0"]), ("off", "on"))
        same(js(n, "modes", "5d:00")["mode"], "on", "a part of an address is enough")
        state = js(n, "state", GPU)
        same((state["mode"], state["faults"], state["vfio_opens"]), ("off", {}, 0))
        same(js(n, "counters", GPU)["resets"], 0)
        same(n.write(f"{GPU}/reset", "1"), 0)
        c = js(n, "counters", GPU)
        same((c["resets"], c["flr"], c["sbr"]), (1, 1, 0))
        knobs = js(n, "knobs", GPU)["knobs"]
        same(len(knobs), 47)
        n.ctl("knobs", GPU, "8", "1")
        same(js(n, "knobs", GPU)["knobs"]["8"], 1)
        same(js(n, "modes", GPU)["mode"], "off", "a knob is pending until a reset")
        same(n.write(f"{GPU}/reset", "1"), 0)
        same(js(n, "modes", GPU)["mode"], "on")
        text = n.ctl("devices")
        assert text.startswith("0000:18:00.0 hw="), text


def wrong_usage():
    with Node("h100-pcie", "--scale", "0") as n:
        for args, status, says in [
                (["nonsense"], 2, "no ctl command"), (["fault", GPU], 2, "VALUE"), (["devices", "x"], 2, "devices"),
                (["state", "99:00"], 1, "no device"), (["state", "0000"], 1, "more than one"),
                (["fault", GPU, "nonsense"], 1, "no fault"), (["fault", GPU, "dead", "x"], 1, "'x'"),
                (["delays", "nonsense", "1"], 1, "no delay"), (["delays", "flr_ms", "-1"], 2, "--help"),
                (["delays", "flr_ms"], 1, "NAME"), (["scale", "1001"], 1, "scale"), (["scale", "1e9"], 1, "scale"),
                (["drift", GPU, "nonsense"], 1, "mode is"), (["lockdown", "nonsense"], 1, "lockdown is"),
                (["plug", GPU], 1, "busy"), (["modprobe", "nonsense"], 1, "No such"), (["knobs", GPU, "99", "1"], 1, "99"),
                (["hold", GPU, "nonsense"], 1, "group"), (["release", GPU], 1, "no holder")]:
            p = n.ctl(*args, check=False)
            same(p.returncode, status, f"exit status of {args}")
            assert says in p.stderr, (args, p.stderr)
        same(subprocess.run([SIM, "ctl"], stderr=subprocess.DEVNULL).returncode, 2)
        assert "unplug-surprise" in n.ctl("help")


def every_fault_is_reachable():
    with Node("h100-pcie", "--scale", "0") as n:
        listed = {f["name"]: f["help"] for f in js(n, "faults")}
        same(set(listed), WANTED)
        assert all(listed.values())
        for name in listed:
            n.ctl("fault", GPU, name, "3")
            once = name in ("stale-answer", "stale-command")  # planted at once, then over
            same(js(n, "faults", GPU)["faults"], {} if once else {name: 3})
            n.ctl("fault", GPU, name, "0")
        n.ctl("fault", "all", "fsp-mute")
        n.ctl("fault", GPU, "boot-slow", "7")
        same(js(n, "state", GPU)["faults"], {"fsp-mute": 1, "boot-slow": 7})
        n.ctl("clear")
        same(js(n, "faults", GPU)["faults"], {})


def documented():
    """docs/simulator.md has every fault and every command, and the profiles in it are read"""
    with open(os.path.join(os.environ.get("CCNODE_SOURCE", os.path.join(os.path.dirname(__file__), "../../..")),
                           "docs/simulator.md"), encoding="utf-8") as f:
        text = f.read()
    words = set(re.findall(r"`([a-z0-9-]+)[ `]", text))
    same(sorted(WANTED - words), [], "faults that the page does not name")
    out = subprocess.run([SIM, "ctl", "help"], stdout=subprocess.PIPE, text=True)
    same(out.returncode, 0)
    commands = set(re.findall(r"^  ([a-z-]+) ", out.stdout, re.M))
    assert len(commands) > 20
    same(sorted(commands - words), [], "commands that the page does not name")
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as f:
        f.write(re.search(r"```yaml\n(.*?)```", text, re.S).group(1).replace('    physfn: "0000:3b:00.0"', "    #"))
        f.flush()
        with Node(f.name, "--scale", "0") as n:
            same(devices(n)[GPU]["plugged"], 0)
            assert os.path.exists(n.path("/lib/modules/6.12.0-sim/modules.dep"))


def vfio_not_loaded_yet():
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as f:
        f.write("vfio_loaded: false\ndevices:\n- {bdf: '0000:18:00.0', model: h100-pcie}\n")
        f.flush()
        with Node(f.name, "--scale", "0") as n:
            assert not n.exists("/sys/bus/pci/drivers/vfio-pci") and not n.exists("/dev/vfio/vfio")
            same(n.bind(GPU), 0, "probe does not say that the driver is missing")
            same(n.driver(GPU), None)
            same(subprocess.run([n.path("/usr/sbin/modprobe"), "vfio-pci"]).returncode, 0)
            same(n.driver(GPU), "vfio-pci")
            assert n.exists("/dev/vfio/vfio")


def time_is_ours():
    with Node("h100-pcie", "--delay", "flr_ms=60000") as n:
        same(js(n, "delays")["flr_ms"], 60000)
        reset = n.background(f"{GPU}/reset", "1")
        until("the reset is under way", lambda: n.locked(GPU))
        time.sleep(0.1)
        same(reset.poll(), None, "the reset takes a minute")
        n.ctl("advance", "200000")
        same(reset.wait(50), 0)
        n.ctl("delays", "flr_ms", "1")
        start = time.monotonic()
        same(n.write(f"{GPU}/reset", "1"), 0)
        assert time.monotonic() - start < 50
        n.ctl("delays", "flr_ms", "60000")
        n.ctl("scale", "0")
        same(n.write(f"{GPU}/reset", "1"), 0)


def drift_and_lockdown():
    with Node("hgx-h100", "--scale", "0") as n:
        for mode in ("on", "devtools", "ppcie", "invalid", "off"):
            n.ctl("drift", GPU, mode)
            same(js(n, "modes", GPU)["mode"], mode)
        config = n.path(f"{GPU}/config")
        same(n.write(f"{GPU}/config", "\xde"), 0)
        n.ctl("lockdown", "integrity")
        same(n.read("/sys/kernel/security/lockdown"), "none [integrity] confidentiality")
        same(n.write(f"{GPU}/config", "x"), "EPERM")
        with open(config, "rb") as f:
            same(f.read(2), b"\xde\x10", "reading config is allowed")
        same(n.write(f"{GPU}/reset", "1"), 0, "so is a reset")
        same(n.unbind(GPU), 0)
        same(n.bind(GPU), 0)
        same(n.write("/sys/kernel/security/lockdown", "none"), "EPERM", "Linux only raises it")
        same(n.write("/sys/kernel/security/lockdown", "bogus"), "EINVAL")
        same(n.write("/sys/kernel/security/lockdown", "confidentiality"), 0)
        n.ctl("lockdown", "none")
        same(js(n, "lockdown")["lockdown"], "none")


def faults_of_reset():
    with Node("h100-pcie", "--scale", "0") as n:
        for value, name in ((1, "ENOTTY"), (errno.EIO, "EIO"), (errno.EAGAIN, "EAGAIN")):
            n.ctl("fault", GPU, "reset-error", str(value))
            same(n.write(f"{GPU}/reset", "1"), name)
        n.ctl("clear")
        n.ctl("fault", GPU, "reset-hangs")
        hung = n.background(f"{GPU}/reset", "1")
        until("the reset is under way", lambda: n.locked(GPU))
        behind = n.background(f"{GPU}/power/control", "on")
        time.sleep(0.1)
        same((hung.poll(), behind.poll()), (None, None))
        n.ctl("clear")
        same((hung.wait(60), behind.wait(60)), (0, 0))
        before = js(n, "counters", GPU)["resets"]
        n.ctl("fault", GPU, "reset-early")
        n.ctl("scale", "1000")  # 5 ms become 5 s: this test may be late as well
        same(n.write(f"{GPU}/reset", "1"), 0)
        same(js(n, "counters", GPU)["resets"], before, "nothing happened yet")
        n.ctl("scale", "0")
        n.ctl("advance", "10000")
        until("the reset comes late", lambda: js(n, "counters", GPU)["resets"] == before + 1)
        n.ctl("clear")
        n.ctl("fault", GPU, "reset-noop")
        n.ctl("knobs", GPU, "8", "1")
        same(n.write(f"{GPU}/reset", "1"), 0)
        same(js(n, "modes", GPU)["mode"], "off", "the reset did nothing")


def dead_device():
    with Node("h100-pcie", "--scale", "0.001") as n:
        same(n.bind(GPU), 0)
        n.ctl("fault", GPU, "dead")
        with open(n.path(f"{GPU}/config"), "rb") as f:
            same(f.read(4), b"\xff" * 4)
        start = time.monotonic()
        same(n.write(f"{GPU}/reset", "1"), "ENOTTY")
        took = time.monotonic() - start
        assert 0.131 <= took < 60, f"two methods of 65.5 s each, scaled: {took}"
        same(n.read(f"{GPU}/power_state"), "D3cold")
        same(n.driver(GPU), "vfio-pci")
        n.ctl("clear")
        same(n.read(f"{GPU}/power_state"), "D3hot")
        same(n.write(f"{GPU}/reset", "1"), 0)


def faults_of_power_and_unbind():
    with Node("hgx-h100", "--scale", "0") as n:
        n.ctl("fault", GPU, "no-power-control")
        assert not n.exists(f"{GPU}/power/control")
        n.ctl("clear")
        assert n.exists(f"{GPU}/power/control")
        n.ctl("fault", GPU, "d3cold-stuck")
        same(n.read(f"{GPU}/power_state"), "D3cold")
        same(n.write(f"{GPU}/power/control", "on"), 0)
        same(n.read(f"{GPU}/power_state"), "D3cold", "can't be left")
        same(n.read(f"{GPU}/power/runtime_status"), "suspended")
        n.ctl("clear")
        same(n.read(f"{GPU}/power_state"), "D0")
        n.ctl("fault", GPU, "unbind-blocks")
        unbind = n.background("/sys/bus/pci/drivers/vfio-pci/unbind", GPU)
        until("driver link gone", lambda: n.driver(GPU) is None)
        time.sleep(0.05)
        same(unbind.poll(), None, "unbind blocks")
        same(devices(n)[GPU]["locked"], 1)
        n.ctl("clear")
        same(unbind.wait(60), 0)


def hot_plug():
    with Node("hgx-h100", "--scale", "0") as n:
        gone = "0000:db:00.0"
        n.ctl("unplug", gone)
        assert not n.exists(gone) and len(os.listdir(n.path(""))) == 25
        same(devices(n)[gone]["present"], 0)
        n.ctl("plug", "db:00")
        same(n.driver(gone), None, "a new device has no driver override")
        same(n.bind(gone), 0)
        n.ctl("unplug-surprise", gone)
        assert not n.exists(gone)
        n.ctl("plug", gone)
        same(n.read(f"{gone}/power_state"), "unknown")


def modules():
    with Node("h100-pcie", "--scale", "0") as n:
        same(n.bind(GPU), 0)
        n.ctl("rmmod", "vfio_pci")
        assert not n.exists("/sys/bus/pci/drivers/vfio-pci") and not n.exists("/sys/module/vfio_pci")
        same(n.driver(GPU), None)
        modprobe = n.path("/sbin/modprobe")
        same(subprocess.run([modprobe, "-q", "vfio-pci"]).returncode, 0)
        same(n.driver(GPU), "vfio-pci", "binds again by override")
        same(n.read("/sys/module/vfio_pci/parameters/disable_idle_d3"), "N")
        same(os.path.basename(os.path.realpath(n.path("/sys/bus/pci/drivers/vfio-pci/module"))), "vfio_pci")
        p = subprocess.run(["/sbin/modprobe", "nvgrace_gpu_vfio_pci"], preexec_fn=lambda: os.chroot(n.root))
        same(p.returncode, 0)
        assert n.exists("/sys/bus/pci/drivers/nvgrace-gpu-vfio-pci/bind")
        p = subprocess.run([modprobe, "no-such"], stderr=subprocess.PIPE, text=True)
        same((p.returncode, "not found" in p.stderr), (1, True))
        same(subprocess.run([modprobe], stderr=subprocess.DEVNULL).returncode, 1)
        same(n.ctl("rmmod", "vfio", check=False).returncode, 1, "others need it")
        pid = js(n, "hold", GPU)["pid"]
        p = n.ctl("rmmod", "vfio-pci", check=False)
        same(p.returncode, 1)
        assert "temporarily unavailable" in p.stderr, p.stderr
        os.kill(pid, signal.SIGKILL)
        until("unloaded", lambda: n.ctl("rmmod", "vfio-pci", check=False).returncode == 0)


def holders():
    with Node("hgx-b200", "--scale", "0") as n:
        gpu, other = "0000:1b:00.0", "0000:43:00.0"
        resets = js(n, "counters", gpu)["resets"]
        pid = js(n, "hold", gpu)["pid"]
        same(js(n, "counters", gpu)["resets"], resets + 1, "opening is an FLR")
        same((n.read(f"{gpu}/power_state"), n.read(f"{gpu}/enable")), ("D0", "1"))
        same(n.read(f"{gpu}/power/runtime_status"), "active")
        same(n.write(f"{gpu}/power/control", "auto"), 0)
        same((n.read(f"{gpu}/power_state"), n.read(f"{gpu}/enable")), ("D0", "1"), "its user keeps it awake")
        fds = {os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")}
        assert n.path(f"/dev/vfio/{n.group(gpu)}") in fds and n.path("/dev/vfio/vfio") in fds, fds
        same(devices(n)[gpu]["holder"], pid)
        same(n.ctl("hold", gpu, check=False).returncode, 1, "a group is exclusive")
        n.ctl("hold", other, "group")
        n.ctl("hold", "52:00", "cdev")
        same((n.read("0000:52:00.0/power_state"), js(n, "state", "52:00")["vfio_opens"]), ("D0", 1))
        same(n.ctl("hold", "52:00", check=False).returncode, 1, "the group of a bound character device is busy")
        n.ctl("hold", "9d:00", "cdev-open")
        same((n.read("0000:9d:00.0/power_state"), devices(n)["0000:9d:00.0"]["users"]), ("D3hot", 1), "open, not bound")
        n.ctl("hold", "61:00", "resource0")
        same({h["how"] for h in js(n, "holders")}, {"device", "group", "cdev", "cdev-open", "resource0"})
        same(n.read(f"{other}/power_state"), "D3hot", "only the group is open")
        same(n.unbind(other), 0, "only the group is open: unbind returns")
        unbind = n.background("/sys/bus/pci/drivers/vfio-pci/unbind", gpu)
        until("driver link gone", lambda: n.driver(gpu) is None)
        same(n.write(f"{gpu}/driver_override", "\n"), 0)
        same(n.write("/sys/bus/pci/drivers/vfio-pci/bind", gpu), "ENODEV", "no override during the blocked unbind")
        time.sleep(0.05)
        same(unbind.poll(), None, "unbind of a held device blocks")
        n.ctl("release", gpu)
        same(unbind.wait(60), 0)
        same(js(n, "counters", gpu)["resets"], resets + 2, "so is closing")
        n.ctl("release")
        same(js(n, "holders"), [])
        same(n.bind(gpu), 0)
        same(n.read(f"{gpu}/power_state"), "D3hot")
        pid = js(n, "hold", gpu)["pid"]
        same(n.write(f"{gpu}/power/control", "on"), 0)
        n.ctl("release", gpu)
        same(n.read(f"{gpu}/power_state"), "D0", "on while it was held, so it stays awake afterwards")
        same(n.write(f"{gpu}/power/control", "auto"), 0)
        same(n.read(f"{gpu}/power_state"), "D3hot")
        pid = js(n, "hold", gpu)["pid"]
    until("stop ends holders", lambda: not os.path.exists(f"/proc/{pid}/exe"))


def host_driver_is_kept_out_of_a_claimed_group():
    with Node("rtx-pro-6000", "--scale", "0") as n:
        gpu, audio = "0000:81:00.0", "0000:81:00.1"
        n.ctl("hold", gpu)
        same(n.unbind(audio), 0)
        same(n.write(f"{audio}/driver_override", "snd_hda_intel"), 0)
        same(n.write("/sys/bus/pci/drivers/snd_hda_intel/bind", audio), "EBUSY")
        n.ctl("release")
        same(n.write("/sys/bus/pci/drivers/snd_hda_intel/bind", audio), 0)


def writes_are_logged_and_killed_at():
    with Node("h100-pcie", "--scale", "0") as n:
        n.bind(GPU)
        log = js(n, "writes")
        same([(w["path"], w["text"], w["errno"]) for w in log],
             [(f"/sys/devices/pci0000:17/0000:17:01.0/{GPU}/driver_override", "vfio-pci", 0),
              ("/sys/bus/pci/drivers_probe", GPU, 0)])
        n.write(f"{GPU}/reset", "x")
        same(js(n, "writes")[-1]["errno"], errno.EINVAL)
        n.write(f"{GPU}/config", "\x01\x02")
        same(js(n, "writes")[-1]["text"], "0102")
        n.ctl("kill-at-write", "2")
        same((js(n, "kill-at-write"), js(n, "kill-at")), ({"left": 2}, {"left": 0}))
        code = "import os\nfor i in range(5): os.write(os.open(%r, 1), b'%%d' %% i)" % n.path(f"{GPU}/driver_override")
        p = subprocess.run([sys.executable, "-S", "-c", code])
        same(p.returncode, -signal.SIGKILL)
        same(n.read(f"{GPU}/driver_override"), "1", "the second write took effect")
        same(n.write(f"{GPU}/driver_override", "\n"), 0, "only one process is killed")
        # who started it: a shell that waits for the writer, and is dead before the writer goes on
        for who, last in (("parent", "4"), ("both", "2")):
            n.write(f"{GPU}/driver_override", "none")
            n.ctl("kill-at-write", "3", who)
            p = subprocess.run(["sh", "-c", '"$@"; exit 5', "sh", sys.executable, "-S", "-c", code])
            same(p.returncode, -signal.SIGKILL, who)
            until(f"{who}: its last write was {last}", lambda: n.read(f"{GPU}/driver_override") == last)
        same(n.ctl("kill-at-write", "3", "nobody", check=False).returncode, 1)


def events_tell_the_truth_about_modes():
    with Node("h100-pcie", "--scale", "0.1") as n:
        began = time.time()
        n.ctl("drift", GPU, "on")
        n.write(f"{GPU}/reset", "1")
        drift, reset = js(n, "events")
        same((drift["event"], drift["active"], drift["number"]), ("knob", "on", 1))
        same((reset["event"], reset["bdf"], reset["active"], reset["pending"]), ("reset", GPU, "on", "on"))
        assert began < float(drift["time"]) <= float(reset["time"]) < float(reset["booted"]) < time.time() + 1
        same([e["number"] for e in js(n, "events", "1")], [2])


def trace():
    with Node("h100-pcie", "--scale", "0") as n:
        n.ctl("trace", "on")
        with open(n.path(f"{GPU}/config"), "rb", buffering=0) as f:
            f.read(4)
        n.write(f"{GPU}/reset", "1")
        lines = js(n, "trace", GPU)
        same(lines[0], {"op": "r", "bdf": GPU, "offset": 0, "value": 0x233110de})
        assert {"op": "X", "bdf": GPU, "reset": "flr"} in lines
        n.ctl("trace", "off")
        before = len(js(n, "trace"))
        n.read(f"{GPU}/current_link_speed")
        same(len(js(n, "trace")), before)
        assert re.match(r"r bdf=0000:18:00.0 offset=0x000000 value=0x233110de\n", n.ctl("trace"))


def links_and_errors():
    with Node("h100-pcie", "--scale", "0") as n:
        same(n.read(f"{GPU}/current_link_speed").strip(), "32.0 GT/s PCIe")
        n.ctl("fault", GPU, "link-speed", "4")
        n.ctl("fault", GPU, "link-width", "8")
        same([n.read(f"{GPU}/{f}").strip() for f in ("current_link_speed", "max_link_speed", "current_link_width", "max_link_width")],
             ["16.0 GT/s PCIe", "32.0 GT/s PCIe", "8", "16"])
        n.ctl("fault", GPU, "aer-nonfatal", "3")
        lines = n.read(f"{GPU}/aer_dev_nonfatal").splitlines()
        same((lines[0], "CmpltTO 3" in lines, lines[-1]), ("Undefined 0", True, "TOTAL_ERR_NONFATAL 3"))
        same(n.read(f"{GPU}/aer_dev_correctable").split()[-2:], ["TOTAL_ERR_COR", "0"])
        same(n.read(f"{GPU}/aer_dev_fatal").split()[-2:], ["TOTAL_ERR_FATAL", "0"])


if __name__ == "__main__":
    run([looks, wrong_usage, every_fault_is_reachable, documented, vfio_not_loaded_yet, time_is_ours, drift_and_lockdown, faults_of_reset, dead_device,
         faults_of_power_and_unbind, hot_plug, modules, holders, host_driver_is_kept_out_of_a_claimed_group,
         writes_are_logged_and_killed_at, events_tell_the_truth_about_modes, trace, links_and_errors])
