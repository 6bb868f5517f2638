#!/usr/bin/env python3
"""ccnode-device against NVIDIA's unmodified tool, on twin devices: same knob writes in the same order, same bytes to the
security processor, same number of resets, no register outside the documented set, and from random start states the same
knob table and mode in the end."""
import os
import random
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "../../functional/gpu"))
from worker import SIM, SOURCE, Node, Worker, json, run, same  # noqa: E402

SHARED = os.environ.get("CCNODE_SHARED") or os.path.join(SOURCE, "..", "shared")
TOOL = os.path.join(SHARED, "thirdparty", "gpu-admin-tools", "nvidia_gpu_tools.py")

# model: (the tool's twin, ours, modes)
CC = ["on", "devtools", "off"]
KINDS = {
    "h100-pcie": ("0000:18:00.0", "0000:19:00.0", ["on", "devtools", "ppcie", "on", "ppcie", "off", "devtools", "off"]),
    "b200": ("0000:43:00.0", "0000:44:00.0", ["on", "devtools", "on", "off"]),
    "rtx-pro-6000": ("0000:81:00.0", "0000:82:00.0", CC),
    "ls10": ("0000:07:00.0", "0000:08:00.0", ["ppcie", "off"]),
}
KNOBS = [2, 4, 6, 8, 10, 34, 45]

# REF-S 6.1, and the words that are read when something went wrong
QUEUES = {0x8f2c10, 0x8f2c14, 0x8f2c90, 0x8f2c94, 0x8f2ad0, 0x8f2ad4}
MAILBOX = {0x8f1f04, 0x8f1f08, 0x8f1f84, 0x8f1f88}
DOCUMENTED = {
    "h100-pcie": {0x0, 0x200bc, 0x1182cc, 0x20120, 0x12004c, 0x122204, 0x1458, 0x91288} | QUEUES,
    "b200": {0x0, 0x200bc, 0x590, 0x8aa128} | MAILBOX,
    "rtx-pro-6000": {0x0, 0xad00bc, 0x590, 0x8aa128} | MAILBOX,
    "ls10": {0x0, 0x660bc, 0x66120, 0x28c50, 0xdfe0, 0x91288} | QUEUES,
}


class Twins(Node):
    def knobs(self, bdf):
        return json.loads(self.ctl("--json", "knobs", bdf))["knobs"]

    def mode(self, bdf):
        return json.loads(self.ctl("--json", "modes", bdf))["mode"]

    def traced(self, bdf, do):
        """Accesses to the device while @do runs."""
        self.ctl("trace", "off")
        self.ctl("trace", "on")
        do()
        return json.loads(self.ctl("--json", "trace", bdf))

    def tool(self, bdf, *args):
        p = subprocess.run([SIM, "exec", "--root", self.root, "--", sys.executable, "-B", TOOL, "--devices", bdf, *args],
                           stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=400)
        assert p.returncode == 0, f"{args}: {p.stdout[-2000:]}"

    def tool_switch(self, kind, bdf, mode):
        """Our "off" is two commands of the tool on a device that has both kinds of mode."""
        if mode == "ppcie" or kind == "ls10":
            self.tool(bdf, "--set-ppcie-mode", "on" if mode == "ppcie" else "off", "--reset-after-ppcie-mode-switch")
            return
        if mode == "off" and kind == "h100-pcie":
            self.tool(bdf, "--set-ppcie-mode", "off")
        self.tool(bdf, "--set-cc-mode", mode, "--reset-after-cc-mode-switch")

    def our_switch(self, bdf, mode):
        with Worker(self, bdf) as w:
            w.ok("unbind", "wake", f"stage {mode}", f"check-staged {mode}", "reset", "wait-boot", f"verify {mode}")

    def set_knobs(self, bdf, values):
        for number, value in values.items():
            self.ctl("knobs", bdf, str(number), str(value))


def profile():
    text = "tee: snp\ndevices:\n"
    for kind, (tool, ours, _) in KINDS.items():
        for bdf in (tool, ours):
            text += f'  - {{ bdf: "{bdf}", model: {kind} }}\n'
    f = tempfile.NamedTemporaryFile("w", suffix=".yaml")
    f.write(text)
    f.flush()
    return f


def packets(trace):
    """[(words of a message, all register writes that belong to its exchange)]"""
    out, words, writes = [], [], []
    for a in trace:
        if a["op"] != "W" or a["bar"] != 0:
            continue
        offset, value = a["offset"], a["value"]
        if offset == 0x8f2ad0 and len(writes) > 1 and writes[-1][0] != 0x8f2c10 or \
                offset == 0x8f1f84 and writes:
            out.append((tuple(words), tuple(writes)))
            words, writes = [], []
        if offset in QUEUES or offset in MAILBOX:
            writes.append((offset, value))
        if offset in (0x8f2ad4, 0x8f1f88):
            words.append(value)
    if words:
        out.append((tuple(words), tuple(writes)))
    return out


def knob_writes(trace):
    return [(w[2] >> 16, w[3]) for w, _ in packets(trace) if w[2] & 0xff == 0x0d]


def resets(trace):
    return [a["reset"] for a in trace if a["op"] == "X"]


def same_traces_for_every_change():
    """From a common state through every mode: what one writes the other writes."""
    with profile() as f, Twins(f.name, "--scale", "0") as n:
        for kind, (tool, ours, modes) in KINDS.items():
            known = dict(packets(n.traced(tool, lambda: n.tool(tool, "--query-prc-knobs"))))
            assert len(known) == 47, f"{kind}: {len(known)} knobs in the tool's dump"
            for mode in modes:
                was = n.mode(tool)
                his = n.traced(tool, lambda: n.tool_switch(kind, tool, mode))
                mine = n.traced(ours, lambda: n.our_switch(ours, mode))
                what = f"{kind} {was} to {mode}"
                same(knob_writes(mine), knob_writes(his), f"{what}: knob writes")
                assert knob_writes(mine), what
                same(resets(mine), resets(his), f"{what}: resets")
                known.update(packets(his))
                for words, writes in packets(mine):
                    assert words in known, f"{what}: message {[hex(w) for w in words]} is none of the tool's"
                    same(writes, known[words], f"{what}: register writes of message {[hex(w) for w in words]}")
                used = {a["offset"] for a in mine if a["op"] in "RW"}
                assert used <= DOCUMENTED[kind], f"{what}: {[hex(x) for x in used - DOCUMENTED[kind]]}"
                same([a for a in mine if a["op"] == "w"], [], f"{what}: configuration writes to a device that is fit")
                same({k: v for k, v in n.knobs(ours).items()}, n.knobs(tool), f"{what}: knobs")
                same(n.mode(ours), mode, what)


def nothing_before_the_device_is_fit():
    """Power state, memory decoding and firewall are looked at before the first register."""
    with profile() as f, Twins(f.name, "--scale", "0.01") as n:
        for kind, (_, ours, modes) in KINDS.items():
            trace = n.traced(ours, lambda: n.our_switch(ours, modes[0]))
            first = next(i for i, a in enumerate(trace) if a["op"] in "RW")
            before = {a["offset"] for a in trace[:first] if a["op"] == "r"}
            want = {0x34, 0xf0, 0x44, 0x04} | ({0xaf8} if kind in ("b200", "rtx-pro-6000") else set())
            assert want <= before, f"{kind}: only {[hex(x) for x in sorted(before)]} before the first register"
            same(trace[first]["offset"], 0, f"{kind}: first register")
            same([a for a in trace[:first] if a["op"] == "w"], [], f"{kind}: configuration writes to a device that is fit")


def configuration_writes_are_two():
    """Power state and memory decoding, and only where they are not as they must be; from the first access to the last."""
    with profile() as f, Twins(f.name, "--scale", "0.01") as n:
        for kind, (_, ours, modes) in KINDS.items():
            n.ctl("fault", ours, "no-power-control")  # nobody else wakes it
            same(n.bind(ours), 0, "bind")
            same(n.read(f"{ours}/power_state"), "D3hot", "asleep")
            n.ctl("trace", "off")
            with open(n.path(f"{ours}/config"), "r+b", buffering=0) as config:
                os.pwrite(config.fileno(), b"\0\0", 4)

            def query_and_switch(ours=ours, mode=modes[0]):
                with Worker(n, ours) as w:
                    w.ok("query")
                n.our_switch(ours, mode)
            trace = n.traced(ours, query_and_switch)
            writes = [(a["offset"], a["value"] & 3) for a in trace if a["op"] == "w"]
            same(writes, [(0x44, 0), (4, 2)], f"{kind}: configuration writes")


def same_end_from_random_starts():
    seed = int(os.environ.get("CCNODE_SEED", "20"))
    rounds = int(os.environ.get("CCNODE_ROUNDS", "5"))
    rnd = random.Random(seed)
    with profile() as f, Twins(f.name, "--scale", "0") as n:
        for i in range(rounds):
            for kind, (tool, ours, modes) in KINDS.items():
                knobs = {k: rnd.randrange(3) for k in KNOBS if k != 45 or kind in ("h100-pcie", "ls10")}
                mode, drift = rnd.choice(modes), rnd.choice(modes + [None])
                for bdf in (tool, ours):
                    if drift:
                        n.ctl("drift", bdf, drift)
                    n.set_knobs(bdf, knobs)
                n.tool_switch(kind, tool, mode)
                n.our_switch(ours, mode)
                what = f"seed {seed} round {i}: {kind} from {knobs} ({drift}) to {mode}"
                same(n.knobs(ours), n.knobs(tool), what)
                same((n.mode(ours), n.mode(tool)), (mode, mode), what)


if __name__ == "__main__":
    if not os.path.exists(TOOL):
        print(f"SKIPPED: NVIDIA's tool is not there ({TOOL}); set CCNODE_SHARED")
        sys.exit(77)
    run([same_traces_for_every_change, nothing_before_the_device_is_fit, configuration_writes_are_two, same_end_from_random_starts])
