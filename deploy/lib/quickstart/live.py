"""Watches a change happen: a table that moves on a terminal, and a list of what was seen when."""

import time

from screen import bar
from stage import Failed

# step of a worker (node-agent/gpu/worker.h) -> what it means, share of the whole at its begin
STEPS = {
    "query": ("reading registers", 0.02), "wake": ("waking up", 0.05), "unbind": ("leaving VFIO", 0.08),
    "stage": ("writing mode knobs", 0.10), "check-staged": ("reading knobs back", 0.15), "reset": ("resetting", 0.18),
    "wait-boot": ("firmware boots", 0.25), "verify": ("verifying mode bits", 0.92), "sleep": ("back to sleep", 0.94),
    "bind": ("binding to VFIO", 0.96),
}
BOOT_SHARE_PER_MS = 0.65 / 1900  # estimate, for the length of the bar only


class Live:
    def __init__(self, screen, stage, sight):
        self.screen, self.stage, self.sight = screen, stage, sight
        self.began, self.seen, self.lines, self.quiet = 0.0, {}, [], True

    def arm(self):
        """Before the operator acts: what is so now is no news later."""
        self.began, self.seen = time.monotonic(), {"node": max(0, len(self.sight.changes) - 1), "kubelet": 0.0}
        self.quiet = True
        self.look()
        self.quiet, self.lines = False, []

    def follow(self, done, seconds, what, began=None):
        """Shows and records until done() is true, with times since `began` (else since arm()). Returns the seconds it took."""
        self.began = began or self.began
        while True:
            finished = done()
            self.look()
            self.screen.draw(self.table())
            if finished:
                break
            if time.monotonic() - self.began > seconds:
                self.screen.keep()
                raise Failed(f"not within {seconds} s: {what}")
            time.sleep(0.03)
        took = time.monotonic() - self.began
        self.screen.keep()
        if self.screen.terminal:
            self.screen.say()
            for line in self.lines:
                self.screen.say(line)
        return took

    # ---- the list ----

    def news(self, topic, text, at=None):
        if self.seen.get(topic) == text:
            return
        self.seen[topic] = text
        if self.quiet:
            return
        after = max(0.0, (at or time.monotonic()) - self.began)
        line = self.screen.paint("dim", f"   +{after:6.3f} s  ") + text
        self.lines.append(line)
        if not self.screen.terminal:
            self.screen.say(line)

    def look(self):
        changes = list(self.sight.changes)
        for at, node in changes[self.seen["node"]:]:
            state, ready = node.state()
            if not state:
                continue  # the agent has not written yet
            self.news("labels", f"labels     cc.mode.state={state or '(none)'}  cc.ready.state={ready or '(empty)'}", at)
            if node.condition["reason"]:
                self.news("condition", f"condition  {node.condition['status']} {node.condition['reason']}: "
                                       f"{node.condition['message']}", at)
        self.seen["node"] = len(changes)
        for at, name, healthy, total in self.sight.lists(self.seen["kubelet"]):
            self.seen["kubelet"] = max(self.seen["kubelet"], at)
            before = self.seen.get("healthy " + name, 0)
            self.seen["healthy " + name] = healthy
            # devices come back one by one: worth a line are the begin of a way down and the end of a way up
            if total and (healthy == total or healthy < before):
                self.news("kubelet " + name, f"kubelet    {name}: {healthy} of {total} healthy", at)
        for kind, names in self.sight.cdi().items():
            before = self.seen.get("cdi names " + kind)
            self.seen["cdi names " + kind] = len(names)
            if before is not None and before != len(names) and len(names) in (0, self.total(kind)):
                self.news("cdi " + kind, f"CDI        {kind}: {len(names)} devices")
        for device in self.sight.devices().values():
            step = device["step"]
            if step in STEPS and "step " + step not in self.seen:
                self.news("step " + step, f"devices    {STEPS[step][0]}")

    def total(self, kind):
        switches = sum(d["kind"] == "nvswitch" for d in self.sight.devices().values())
        return switches if "NVSWITCH" in kind.upper() else len(self.sight.devices()) - switches

    # ---- the table ----

    def table(self):
        now = time.monotonic() - self.began
        node = self.sight.node()
        state, ready = node.state()
        lines = ["", f"   {now:5.1f} s   cc.mode.state={self.screen.paint('bold', state):<10} cc.ready.state="
                     f"{self.screen.paint('bold', ready)}"]
        for device in sorted(self.sight.devices().values(), key=lambda d: (d["kind"], d["bdf"])):
            lines.append(self.row(device))
        offered = "   ".join(f"{name} {healthy}/{total}" for name, (healthy, total) in self.sight.offered().items())
        lines.append(f"   resources  {offered}")
        lines.append("   CDI        " + "   ".join(f"{kind} {len(names)}" for kind, names in self.sight.cdi().items()))
        lines.append(f"   condition  {node.condition['reason']}: {node.condition['message']}"[:110])
        return lines

    def row(self, device):
        paint, step, mode, want = self.screen.paint, device["step"], device["mode"], device["wanted_mode"]
        acting = device["decision"] == "acting" or step
        if acting:
            text, share = STEPS.get(step, ("", 0.0))
            if step == "wait-boot":
                share = min(0.9, share + device["acting_ms"] * BOOT_SHARE_PER_MS)
            gauge, text = paint("busy", bar(share)), text or "next in line"
        else:
            gauge = paint("good" if device["offered"] else "bad", bar(1.0) if device["offered"] else bar(0.0))
            text = device["reason"] or ("offered" if device["offered"] else device["health"])
        modes = f"{mode} → {want}" if mode != want else mode
        return f"   {device['kind']:<8} {device['bdf']}  {device['name']:<16.16} {gauge}  {modes:<13} {text[:44]}"
