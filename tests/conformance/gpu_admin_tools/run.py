#!/usr/bin/env python3
"""NVIDIA's unmodified nvidia_gpu_tools.py on simulated devices: it queries, switches and resets every kind, and
touches no register that the model does not know. Then each fault must have the outcome that was seen before.

Scenarios run side by side, each on a device of its own: several of them only wait for the tool's own time limits.
"""
import concurrent.futures
import json
import os
import subprocess
import sys
import time
import traceback

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "..", "functional", "simulator"))
from node import SIM, Node, need_fuse  # noqa: E402

SOURCE = os.path.join(HERE, "..", "..", "..")
SHARED = os.environ.get("CCNODE_SHARED") or os.path.join(SOURCE, "..", "shared")
TOOL = os.path.join(SHARED, "thirdparty", "gpu-admin-tools", "nvidia_gpu_tools.py")

# Accesses of one command with the hardware's delays taken out: reads (boot polls apart), writes. Measured earlier on
# another simulator with 2 ms answers; writes must be the same, reads may be fewer because nobody waits.
COUNTS = {
    ("hopper", "--query-cc-mode"): (21, 2),
    ("hopper", "--query-cc-settings"): (166, 50),
    ("hopper", "--query-prc-knobs"): (986, 378),
    ("hopper", "--set-cc-mode on"): (263, 88),
    ("hopper", "--set-cc-mode off"): (183, 56),
    ("blackwell", "--query-cc-mode"): (17, 0),
    ("blackwell", "--query-cc-settings"): (116, 24),
    ("blackwell", "--query-prc-knobs"): (729, 188),
    ("blackwell", "--set-cc-mode on"): (127, 25),
    ("blackwell", "--set-cc-mode off"): (96, 18),
    ("switch", "--query-ppcie-mode"): (7, 0),
    ("switch", "--set-ppcie-mode on"): (212, 75),
    ("switch", "--set-ppcie-mode off"): (112, 35),
}
BOOT_POLLS = 20  # at most, with scaled boot times: 0.05 × 1.7 s at one each 10 ms, and slack

KINDS = {  # bdf, model, family
    "h100-pcie": ("0000:18:00.0", "hopper"),
    "h100-sxm": ("0000:2a:00.0", "same chip"),
    "h200-sxm": ("0000:3b:00.0", "same chip"),
    "b200": ("0000:43:00.0", "blackwell"),
    "rtx-pro-6000": ("0000:81:00.0", "blackwell"),
    "ls10": ("0000:07:00.0", "switch"),
    "a100": ("0000:9a:00.0", "old"),
}
SPARE = [f"0000:{bus:02x}:00.0" for bus in range(0xa0, 0xb0)]  # H100s to be broken
SPARE_GB202 = "0000:c0:00.0"


def device(bdf, model, path=""):
    path = f', path: "{path}"' if path else ""
    return f'  - {{ bdf: "{bdf}", model: {model}{path} }}\n'


def every_kind():
    text = "description: every kind, and spares to break\ntee: snp\ndriver: vfio-pci\ndevices:\n"
    for model, (bdf, _) in KINDS.items():
        text += device(bdf, model, "pci0000:00/0000:00:05.0/0000:05:00.0/0000:06:00.0" if model == "ls10" else "")
    for bdf in SPARE:
        text += device(bdf, "h100-pcie")
    return text + device(SPARE_GB202, "rtx-pro-6000")


def small_hgx():
    text = "description: two GPUs, two switches\ntee: snp\ndriver: vfio-pci\ndevices:\n"
    for bdf in ("0000:18:00.0", "0000:2a:00.0"):
        text += device(bdf, "h100-sxm")
    for i, bdf in enumerate(("0000:07:00.0", "0000:08:00.0")):
        text += device(bdf, "ls10", f"pci0000:00/0000:00:05.0/0000:05:00.0/0000:06:0{i}.0")
    return text


class Profile:
    def __init__(self, text):
        self.text = text

    def __enter__(self):
        self.path = os.path.join(os.environ.get("TMPDIR", "/tmp"), f"ccnode-tool-{os.getpid()}-{id(self)}.yaml")
        with open(self.path, "w") as f:
            f.write(self.text)
        return self.path

    def __exit__(self, *_):
        os.unlink(self.path)


class Bench(Node):
    def counters(self, bdf):
        return json.loads(self.ctl("--json", "counters", bdf))

    def mode(self, bdf):
        return json.loads(self.ctl("--json", "modes", bdf))["mode"]

    def knob(self, bdf, number):
        return json.loads(self.ctl("--json", "knobs", bdf))["knobs"].get(str(number))

    def start(self, devices, *args):
        return subprocess.Popen([SIM, "exec", "--root", self.root, "--", sys.executable, "-B", TOOL,
                                 "--devices", devices, *args], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def tool(self, devices, *args):
        p = self.start(devices, *args)
        out = p.communicate(timeout=400)[0]
        return p.returncode, out

    def good(self, devices, *args, says=""):
        rc, out = self.tool(devices, *args)
        assert rc == 0 and says in out, f"{devices} {args}: exit {rc}, wanted {says!r}\n{out[-3000:]}"
        return out

    def bad(self, devices, *args, says=""):
        rc, out = self.tool(devices, *args)
        assert rc == 1 and says in out, f"{devices} {args}: exit {rc}, wanted 1 and {says!r}\n{out[-3000:]}"
        return out

    def no_unknown(self, bdf):
        c = self.counters(bdf)
        assert c["unknown"] == 0, f"{bdf}: the tool touched a register the model does not know: {c}"
        assert c["reads"] > 0, f"{bdf}: the model saw no access at all"


# --- the tool's commands, on every kind of device ----------------------------------------------------------------------

measured = []


def counted(node, bdf, family, *args, says=""):
    """A command, its accesses compared with what is known of it."""
    before = node.counters(bdf)
    node.good(bdf, *args, says=says)
    after = node.counters(bdf)
    reads, writes = after["reads"] - before["reads"], after["writes"] - before["writes"]
    name = " ".join(args[:2]) if args[0].startswith("--set") else args[0]
    known = COUNTS.get((family, name))
    measured.append((family, bdf, name, reads, writes, known))
    if known:
        polls = BOOT_POLLS if args[0].startswith("--set") else 0
        assert writes == known[1], f"{bdf} {name}: {writes} writes, known are {known[1]}"
        assert 0.85 * known[0] <= reads <= known[0] + polls, f"{bdf} {name}: {reads} reads, known are {known[0]}"


def asleep(node, bdf):
    """vfio-pci had put it to sleep; the tool woke it and put it back"""
    assert node.read(f"{bdf}/power/control") == "auto" and node.read(f"{bdf}/power_state") == "D3hot", bdf


def cc_gpu(node, bdf, family):
    asleep(node, bdf)
    counted(node, bdf, family, "--query-cc-mode", says="CC mode is off")
    counted(node, bdf, family, "--query-cc-settings", says="enable-allow-inband-control = 1")
    counted(node, bdf, family, "--query-prc-knobs", says="PRC_KNOB_ID_CECA 47")
    for mode in ("on", "devtools", "off"):
        counted(node, bdf, family, "--set-cc-mode", mode, "--reset-after-cc-mode-switch", says=f"CC mode set to {mode}")
        assert node.mode(bdf) == mode
    asleep(node, bdf)
    for how in ("--reset-with-flr", "--reset-with-sbr", "--reset-with-os", "--debug-dump",
                "--knobs-reset-to-defaults-list"):
        node.good(bdf, how)
    assert node.counters(bdf)["flr"] == 5 and node.counters(bdf)["sbr"] == 1, node.counters(bdf)


def ppcie(node, bdf, family):
    for mode in ("on", "off"):
        counted(node, bdf, family, "--set-ppcie-mode", mode, "--reset-after-ppcie-mode-switch",
                says=f"PPCIe mode set to {mode}")
        assert node.mode(bdf) == ("ppcie" if mode == "on" else "off")
        counted(node, bdf, family, "--query-ppcie-mode", says=f"PPCIe mode is {mode}")
    node.good(bdf, "--query-ppcie-settings", says="enable = 0")


def same_chip(node, bdf):
    """another board with the chip of h100-pcie: what depends on ids, and one switch of each kind"""
    counted(node, bdf, "hopper", "--query-cc-mode", says="CC mode is off")
    counted(node, bdf, "hopper", "--set-cc-mode", "on", "--reset-after-cc-mode-switch", says="CC mode set to on")
    assert node.mode(bdf) == "on"
    counted(node, bdf, "hopper", "--set-ppcie-mode", "on", "--reset-after-ppcie-mode-switch", says="PPCIe mode set to on")
    assert node.mode(bdf) == "ppcie"
    node.good(bdf, "--query-module-name", says="SXM")
    asleep(node, bdf)


def hopper(node, bdf):
    cc_gpu(node, bdf, "hopper")
    ppcie(node, bdf, "hopper")
    node.good(bdf, "--set-next-sbr-to-fundamental-reset", says="configured next SBR to fundamental reset")
    node.bad(bdf, "--query-bar0-firewall-mode", says="not supported")


def blackwell(node, bdf):
    cc_gpu(node, bdf, "blackwell")
    node.good(bdf, "--set-bar0-firewall-mode", "on")
    assert node.knob(bdf, 10) == 2
    node.good(bdf, "--reset-with-os")
    node.good(bdf, "--query-bar0-firewall-mode", says="BAR0 firewall mode is on")
    node.bad(bdf, "--set-ppcie-mode", "on", says="Configuring PPCIe not supported")


def switch(node, bdf):
    asleep(node, bdf)
    counted(node, bdf, "switch", "--query-ppcie-mode", says="PPCIe mode is off")
    ppcie(node, bdf, "switch")
    for how in ("--query-prc-knobs", "--reset-with-flr", "--reset-with-sbr", "--reset-with-os", "--debug-dump",
                "--query-module-name"):
        node.good(bdf, how)


def old(node, bdf):
    node.bad(bdf, "--query-cc-mode", says="Querying CC mode is not supported")
    node.bad(bdf, "--set-cc-mode", "on", says="Configuring CC not supported")
    for how in ("--reset-with-flr", "--reset-with-sbr", "--reset-with-os", "--debug-dump"):
        node.good(bdf, how)


FAMILIES = {"hopper": hopper, "same chip": same_chip, "blackwell": blackwell, "switch": switch, "old": old}


def kind(model):
    def scenario(node):
        bdf, family = KINDS[model]
        FAMILIES[family](node, bdf)
        node.no_unknown(bdf)
    scenario.__name__ = f"commands_on_{model}"
    return scenario


def own_test_of_switching(node):
    node.good(SPARE[0], "--test-cc-mode-switch")
    assert node.counters(SPARE[0])["resets"] >= 15
    node.no_unknown(SPARE[0])


def own_test_of_ppcie(node):
    node.good(SPARE[1], "--test-ppcie-mode-switch")
    node.no_unknown(SPARE[1])


# --- faults: what the tool makes of them ---------------------------------------------------------------------------------

def an_fsp_error(node):
    node.ctl("fault", SPARE[2], "fsp-error", "0x202")
    node.bad(SPARE[2], "--set-cc-mode", "on", says="0x202")


def a_mute_fsp(node):
    node.good(SPARE[3], "--query-cc-settings")  # a queue that was used rests at its channel's base
    node.ctl("fault", SPARE[3], "fsp-mute")
    start = time.monotonic()
    node.bad(SPARE[3], "--set-cc-mode", "on", says="head 2048 == tail 2048")
    assert time.monotonic() - start > 5


def an_unread_answer(node):
    node.ctl("fault", SPARE[4], "stale-answer")
    node.good(SPARE[4], "--query-cc-settings", says="enable = 0")


def an_untaken_command(node):
    node.ctl("fault", SPARE[5], "stale-command")
    start = time.monotonic()
    node.good(SPARE[5], "--query-cc-settings", says="enable = 0")
    assert time.monotonic() - start > 5


def a_boot_that_never_ends(node):
    node.ctl("fault", SPARE[6], "boot-never")
    node.bad(SPARE[6], "--query-cc-mode", says="Timed out polling register boot_complete")


def a_dead_device(node):
    node.ctl("fault", SPARE[7], "dead")
    out = node.bad(SPARE[7], "--query-cc-mode", says="AttributeError")
    assert "roken" in out, out


def old_firmware(node):
    node.ctl("fault", SPARE[8], "ppcie-invalid")
    node.good(SPARE[8], "--set-cc-mode", "on", "--reset-after-cc-mode-switch")
    assert node.mode(SPARE[8]) == "on"
    node.bad(SPARE[8], "--set-ppcie-mode", "on", says="FW update is required")


def no_inband_control(node):
    node.ctl("fault", SPARE[9], "inband-off")
    node.bad(SPARE[9], "--set-cc-mode", "on", says="0x1e5")
    assert node.knob(SPARE[9], 8) == 0


def a_reset_that_does_nothing(node):
    node.ctl("fault", SPARE[10], "reset-noop")
    node.bad(SPARE[10], "--set-cc-mode", "on", "--reset-after-cc-mode-switch", says="failed to switch")
    assert node.mode(SPARE[10]) == "off"


def a_reset_that_returns_early(node):
    node.ctl("scale", "1000")  # 5 s late: the tool reads the old mode even on a busy machine
    node.ctl("fault", "0000:2a:00.0", "reset-early")
    node.ctl("delays", "rpc_ms", "0")
    node.bad("0000:2a:00.0", "--set-cc-mode", "on", "--reset-after-cc-mode-switch", says="failed to switch")


def two_generations_in_one_process(node):
    """the tool's last chip wins: a Hopper is then asked for a register that only GB20x has"""
    rc, out = node.tool(f"{SPARE[12]},{SPARE_GB202}", "--query-cc-mode")
    assert rc == 1, out
    c = node.counters(SPARE[12])
    assert c["unknown"] > 0 and c["last_unknown"] in (0xad00bc, "0xad00bc"), c


def two_tools_on_one_device(node):
    """neither locks: they take each other's answers"""
    node.ctl("fault", SPARE[13], "fsp-slow", "30")
    both = [node.start(SPARE[13], "--query-prc-knobs") for _ in range(2)]
    out = [p.communicate(timeout=400)[0] for p in both]
    assert any(p.returncode != 0 for p in both), "both succeeded\n" + out[0][-500:]


ON_EVERY_KIND = [kind(model) for model in KINDS] + [
    own_test_of_switching, own_test_of_ppcie, an_fsp_error, a_mute_fsp, an_unread_answer, an_untaken_command,
    a_boot_that_never_ends, a_dead_device, old_firmware, no_inband_control, a_reset_that_does_nothing,
    two_generations_in_one_process, two_tools_on_one_device]


# --- a whole machine ---------------------------------------------------------------------------------------------------------

def gpus_and_switches_together(node):
    everything = ("0000:18:00.0", "0000:2a:00.0", "0000:07:00.0", "0000:08:00.0")
    for mode in ("on", "off"):
        node.good("gpus,nvswitches", "--set-ppcie-mode", mode, "--reset-after-ppcie-mode-switch")
        assert {node.mode(bdf) for bdf in everything} == {"ppcie" if mode == "on" else "off"}
    for bdf in everything:
        node.no_unknown(bdf)


def killed_between_knobs_and_reset(node):
    bdf, twin = "0000:18:00.0", "0000:2a:00.0"
    # how many accesses there are before the reset depends on how often the tool asks again: firmware that answers at once
    # leaves one number, which the twin tells
    node.ctl("delays", "rpc_ms", "0")
    node.ctl("trace", "on")
    node.good(twin, "--set-cc-mode", "on", "--reset-after-cc-mode-switch")
    node.ctl("trace", "off")
    node.ctl("drift", twin, "off")
    seen = [a["op"] for a in json.loads(node.ctl("--json", "trace", twin))]
    before_reset = sum(op in "RW" for op in seen[:seen.index("X")])
    node.ctl("kill-at", str(before_reset - 8))  # behind the last knob
    rc, out = node.tool(bdf, "--set-cc-mode", "on", "--reset-after-cc-mode-switch")
    assert rc in (-9, 137), f"exit {rc}\n{out}"
    assert node.mode(bdf) == "off" and node.knob(bdf, 8) == 1, (node.mode(bdf), node.knob(bdf, 8))
    node.good(bdf, "--query-cc-mode", says="CC mode is off")
    node.good(bdf, "--query-cc-settings", says="enable = 1")
    node.good(bdf, "--set-cc-mode", "on", "--reset-after-cc-mode-switch")
    assert node.mode(bdf) == "on"


def attempt(scenario, node):
    start = time.monotonic()
    try:
        scenario(node)
        return f"ok   {scenario.__name__} ({time.monotonic() - start:.1f} s)"
    except Exception:  # noqa: BLE001 - a report for people
        return f"FAIL {scenario.__name__}\n{traceback.format_exc()}"


def main():
    if not os.access(TOOL, os.R_OK):
        print(f"SKIPPED: {TOOL} is absent (CCNODE_SHARED names the folder of shared data)")
        sys.exit(77)
    need_fuse()
    results = []
    with Profile(every_kind()) as profile, Bench(profile, "--scale", "0.05") as node:
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            # those that wait first
            order = sorted(ON_EVERY_KIND, key=lambda s: s not in (a_mute_fsp, an_untaken_command, a_boot_that_never_ends,
                                                                 two_tools_on_one_device))
            results += pool.map(lambda s: attempt(s, node), order)
    with Profile(small_hgx()) as profile, Bench(profile, "--scale", "0.05") as node:
        results += [attempt(s, node) for s in (gpus_and_switches_together, killed_between_knobs_and_reset,
                                                  a_reset_that_returns_early)]
    print("accesses of one command: reads, writes (known)")
    for family, bdf, name, reads, writes, known in measured:
        print(f"  {bdf} {family:9} {name:24} {reads:5} R {writes:4} W   {known or ''}")
    print("\n".join(results))
    sys.exit(any(r.startswith("FAIL") for r in results))


main()
