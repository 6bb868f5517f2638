"""What was true, beside what was said.

The simulated hardware tells every reset and every change of a mode with its time (`ccnode-sim ctl events`); the API server
stand-in tells every version of the Node that anybody could have seen (`history`). Both clocks are this machine's.
"""
import fcntl
import json
import os
import socket
import stat

from rig import READY, STATE

STATUS = "ccnode.io/status"
CONFIDENTIAL = ("on", "ppcie")
MODES = ("on", "off", "devtools", "ppcie")


class Device:
    """One device over time: (since, active, pending, booted)."""

    def __init__(self, mode):
        self.states = [(0.0, mode, mode, 0.0)]

    def at(self, moment):
        return [s for s in self.states if s[0] <= moment][-1]

    def changes(self, since, until):
        return [s for s in self.states if since <= s[0] < until]


class Timeline:
    """From a quiet node on: begin(), let things happen, check()."""

    def __init__(self, b, switches):
        self.b, self.switches = b, switches

    def begin(self):
        events = self.b.ctl_json("events")
        self.number = events[-1]["number"] if events else 0
        self.modes = self.b.modes()
        self.node = self.b.node()

    def devices(self):
        devices = {bdf: Device(mode) for bdf, mode in self.modes.items()}
        for e in self.b.ctl_json("events", str(self.number)):
            devices[e["bdf"]].states.append((float(e["time"]), e["active"], e["pending"], float(e["booted"])))
        return devices

    def versions(self):
        """[(from, until, metadata)] of the Node since begin()."""
        rv = self.node["metadata"]["resourceVersion"]
        code, answer = self.b.api.call("GET", f"/_standin/history?resource=nodes&name={self.node['metadata']['name']}&since={rv}")
        assert code == 200, answer
        seen = [(0.0, self.node["metadata"])] + [(c["time"], c["object"]["metadata"]) for c in answer["changes"]]
        return [(at, until, meta) for (at, meta), (until, _) in zip(seen, seen[1:] + [(float("inf"), None)])]

    def check(self):
        """At every instant a mode that cc.mode.state names was that of every device, booted, with nothing staged; and
        cc.ready.state was true only while that was so for each device that counts."""
        devices = self.devices()
        for since, until, meta in self.versions():
            labels = meta.get("labels", {})
            state, ready = labels.get(STATE), labels.get(READY) == "true"
            told = [f"{d['bdf']} {d['health']}: {d['reason']}" for d in json.loads(meta.get("annotations", {}).get(STATUS, "[]")) if d["reason"]]
            what = f"from {since:.6f} to {until:.6f} in state {state}, ready {labels.get(READY)}, saying {told}"
            for bdf in self.modes if state in MODES else ():
                want = "off" if state != "ppcie" and bdf in self.switches else state
                self.check_device(devices[bdf], f"{what}, but {bdf}", (want,), since, until)
            if ready:
                counting = self.counting(state, json.loads(meta.get("annotations", {}).get(STATUS, "[]")))
                assert counting, f"{what}, without a device: {meta}"
                for bdf in counting:
                    self.check_device(devices[bdf], f"{what}, but {bdf}", (state,) if state in CONFIDENTIAL else CONFIDENTIAL, since, until)

    def counting(self, state, told):
        """Devices that cc.ready.state vouches for."""
        gpus = [d for d in self.modes if d not in self.switches]
        if state == "on":
            return gpus
        if state == "ppcie":
            return list(self.modes)
        healthy = {d["bdf"] for d in told if d["health"] == "healthy"}
        return [d for d in gpus if d in healthy]

    @staticmethod
    def check_device(device, what, want, since, until):
        _, active, pending, booted = device.at(since)
        assert active in want and pending == active, f"{what} was {active}, pending {pending}: {device.states}"
        assert since == 0.0 or booted <= since, f"{what} had booted at {booted:.6f} only"
        touched = device.changes(max(since, device.states[0][0] + 1e-9), until)
        assert not touched, f"{what} was touched: {touched}"


# ---- what is left ----

def processes(root):
    """ccnode-device processes of this node: [pid]"""
    found = []
    for pid in os.listdir("/proc"):
        if not pid.isdigit():
            continue
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as f:
                words = f.read().split(b"\0")
        except OSError:
            continue
        if words[0].endswith(b"/ccnode-device") and root.encode() in words:
            found.append(int(pid))
    return found


def locks_held(root):
    directory = os.path.join(root, "run/ccnode/lock")
    held = []
    for name in os.listdir(directory) if os.path.isdir(directory) else ():
        try:
            with open(os.path.join(directory, name), "rb") as f:
                fcntl.flock(f, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except FileNotFoundError:
            continue  # the record of a power state was removed since the listing
        except BlockingIOError:
            held.append(name)
    return held


def dead_sockets(directory):
    """Sockets behind which nobody listens."""
    dead = []
    for name in sorted(os.listdir(directory)):
        try:
            if not stat.S_ISSOCK(os.stat(os.path.join(directory, name)).st_mode):
                continue
        except FileNotFoundError:
            continue  # removed since the listing
        fd = os.open(directory, os.O_PATH)
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as s:
            try:
                s.connect(f"/proc/self/fd/{fd}/{name}")
            except ConnectionRefusedError:
                dead.append(name)
            except FileNotFoundError:
                pass  # removed since then
            finally:
                os.close(fd)
    return dead


def temporary_files(root):
    """Half-written files, and journals that were set aside."""
    places = ("var/lib/ccnode", "run/ccnode", "var/run/cdi", "run/nvidia/validations", "var/lib/kubelet/device-plugins")
    found = []
    for place in places:
        directory = os.path.join(root, place)
        for name in sorted(os.listdir(directory)) if os.path.isdir(directory) else ():
            if name.endswith(".tmp") or ".bad-" in name or (name.startswith(".") and place != "run/nvidia/validations"):
                found.append(f"{place}/{name}")
    return found


def cdi_lies(b, devices):
    """CDI entries of devices that are not bound to VFIO, or whose staged mode is not active yet."""
    lies = []
    for kind, names in b.cdi_names().items():
        for name in names:
            if name not in devices:
                continue                        # an index or group name
            _, active, pending, _ = devices[name].states[-1]
            if b.driver(name) != "vfio-pci" or active != pending:
                lies.append(f"{kind}={name} ({b.driver(name)}, {active}, pending {pending})")
    return lies
