"""The story that deploy/quickstart tells: a node boots, is made confidential, serves a pod, survives a crash."""

import argparse
import json
import os
import signal
import subprocess
import sys
import time

from live import Live
from screen import Screen
from sight import Sight
from stage import NODE, Failed, Stage, until

MODE = "nvidia.com/cc.mode"


class Story:
    def __init__(self, args):
        self.args = args
        self.screen = Screen(sys.stdout.isatty() and not args.once)
        self.stage = Stage(args.run, args.build, args.profile)
        self.sight = self.live = None
        self.figures = []

    # ---- helpers ----

    def verify(self, good, what, detail=""):
        self.screen.check(good, what, detail)
        if not good:
            raise Failed(f"{what}: {detail}")

    def operator(self, *words):
        self.screen.command("kubectl " + " ".join(words))
        for line in self.stage.kubectl(*words).strip().splitlines():
            self.screen.note(line)

    def modes(self, kind=None):
        """The set of modes that the hardware itself is in."""
        kinds = {bdf: device["kind"] for bdf, device in self.sight.devices().items()}
        return {entry["mode"] for bdf, entry in self.stage.hardware("modes").items() if kind in (None, kinds[bdf])}

    def resets(self):
        return {bdf: entry["resets"] for bdf, entry in self.stage.hardware("counters").items()}

    def is_settled(self, state, ready, reason):
        """The labels, the condition and kubelet all say the same."""
        node = self.sight.node()
        return (node.state() == (state, ready) and node.condition["reason"] == reason and
                all(healthy == total == node.allocatable.get(name) for name, (healthy, total) in self.sight.offered().items()))

    def figure(self, what, value):
        self.figures.append((what, value))

    def count(self, kind):
        return sum(device["kind"] == kind for device in self.sight.devices().values())

    def inventory(self):
        names = {}
        for device in self.sight.devices().values():
            names[device["name"]] = names.get(device["name"], 0) + 1
        return ", ".join(f"{count} × {name}" for name, count in names.items())

    # ---- chapters ----

    def prepare(self):
        stage, screen = self.stage, self.screen
        screen.say(screen.paint("bold", "ccnode quickstart") + "  a confidential-GPU node: the hardware is simulated, the "
                                                               "programs are the real ones")
        screen.say()
        screen.check(True, "Debian packages", f"{os.environ.get('CCNODE_QUICKSTART_PACKAGES', '0')} s")
        screen.check(True, "ccnode", f"built in {os.path.relpath(stage.build)}, "
                                     f"{os.environ.get('CCNODE_QUICKSTART_BUILD', '0')} s")
        began = time.monotonic()
        stage.start_node()
        total = len(stage.hardware("modes"))
        screen.check(total > 0, "simulated node", f"{stage.profile}: {total} devices below {stage.root}, "
                                                  f"{time.monotonic() - began:.2f} s")
        stage.start_api()
        self.sight = Sight(stage)
        screen.check(True, "API server stand-in", self.sight.server)
        stage.start_kubelet()
        screen.check(True, "kubelet stand-in", "device plugins, PodResources, pods")
        stage.write_tools()
        screen.check(True, "kubectl", {"curl": "none to be had: the same requests by curl, shown"}.get(stage.kubectl_name,
                                                                                                    stage.kubectl_name))

    def boot(self):
        self.screen.title(1, "The agent takes the node over")
        self.screen.command(f"ccnode-agent --config ccnode.yaml --kubeconfig kubeconfig --node-name {NODE}")
        self.live = Live(self.screen, self.stage, self.sight)
        self.live.arm()
        began = time.monotonic()
        self.stage.start_agent()

        def is_up():
            return (self.is_settled("off", "false", "NotConfidential") and self.sight.offered() and
                    set(self.sight.devices()) == set(self.stage.hardware("modes")))  # its status file comes last
        self.live.follow(is_up, 30, "the agent has registered its devices with kubelet and labelled the node")
        registered = max(entry["time"] for entry in self.stage.kubelet("log")["log"] if entry["what"] == "register")
        started = time.time() - (time.monotonic() - began)
        self.figure("start of the agent → registered with kubelet", f"{registered - started:.2f} s")
        self.verify(self.modes() == {"off"}, "hardware", f"{self.inventory()}: all in mode off, no reset was needed")
        self.verify(not any(self.resets().values()), "resets", "none")
        drivers = {self.stage.driver(bdf) for bdf in self.sight.devices()}
        self.verify(drivers == {"vfio-pci"}, "drivers", "every device is bound to vfio-pci")
        self.verify_offer()

    def verify_offer(self):
        """kubelet, the Node and CDI agree on every device."""
        bdfs, cdi = set(self.sight.devices()), self.sight.cdi()
        offered, node = self.sight.offered(), self.sight.node()
        good = sum(total for _, total in offered.values()) == len(bdfs)
        self.verify(good, "resources", "   ".join(f"nvidia.com/{name}: {node.allocatable.get(name)}" for name in offered))
        self.verify(set().union(*cdi.values()) == bdfs and all(name in cdi for name in offered), "CDI",
                    f"{len(cdi)} kinds resolve {len(bdfs)} devices: {', '.join(sorted(cdi))}")

    def turn_on(self):
        self.screen.title(2, "Confidential Computing on: one label")
        before, began = self.resets(), time.time()
        moment = self.order("on")
        self.live.follow(lambda: self.is_settled("on", "true", "Ready"), 60, "all GPUs are verified in mode on and offered", moment)
        done = next(at for at, node in self.sight.since(moment) if node.state() == ("on", "true"))
        gone = next((entry["time"] for entry in self.stage.kubelet("log", since=began)["log"]
                     if entry["what"] == "list" and "Unhealthy" in entry["devices"].values()), None)
        self.verify(self.modes("gpu") == {"on"}, "hardware", f"{self.count('gpu')} GPUs read back in mode on")
        after = self.resets()
        changed = {after[bdf] - before[bdf] for bdf, device in self.sight.devices().items() if device["kind"] == "gpu"}
        self.verify(changed == {1}, "resets", "one per GPU, all at the same time")
        self.verify_never_early(moment)
        self.verify_offer()
        self.figure(f"label → {self.count('gpu')} GPUs verified in mode on", f"{done - moment:.2f} s")
        if gone:
            offset = time.time() - time.monotonic()
            self.figure("label → withdrawn from kubelet", f"{max(0.0, gone - (moment + offset)) * 1000:.0f} ms")

    def order(self, mode):
        """The operator's label. Returns when the watch brought it."""
        self.live.arm()
        self.operator("label", "node", NODE, f"{MODE}={mode}", "--overwrite")

        def arrived():
            return [at for at, node in self.sight.changes if node.labels.get("cc.mode") == mode]
        return until(f"the label {MODE}={mode} is on the Node", arrived, 10)[-1]

    def verify_never_early(self, moment):
        """cc.ready.state was true only while the state was a verified one."""
        versions = [node.state() for _, node in self.sight.since(moment)]
        early = [state for state, ready in versions if ready == "true" and state not in ("on", "ppcie", "degraded")]
        self.verify(not early, "cc.ready.state", "never true before the mode was verified" if not early else str(early))

    def hold(self):
        self.screen.title(3, "A GPU that somebody uses is never touched")
        resource = next(name for name in self.sight.offered() if "NVSWITCH" not in name.upper())
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "train"}, "spec": {"restartPolicy": "Never", "containers": [
            {"name": "main", "image": "train", "resources": {"limits": {f"nvidia.com/{resource}": "1"}}}]}}
        with open(os.path.join(self.stage.run, "pod.json"), "w", encoding="utf-8") as file:
            json.dump(pod, file)
        self.operator("create", "-f", os.path.join(self.stage.run, "pod.json"))
        held = until("kubelet has given the pod a GPU", lambda: [entry["ids"] for entry in self.stage.kubelet("log")["log"]
                                                                 if entry["what"] == "allocate"], 20)[0][0]
        self.verify(True, "pod", f"train holds {held} (nvidia.com/{resource})")
        before = self.resets()
        moment = self.order("off")
        others = {bdf for bdf, device in self.sight.devices().items() if device["kind"] == "gpu"} - {held}

        def waiting():
            modes = self.stage.hardware("modes")
            return self.sight.node().state()[0] == "waiting-busy" and all(modes[bdf]["mode"] == "off" for bdf in others) and \
                not any(device["step"] for device in self.sight.devices().values())
        self.live.follow(waiting, 60, "the idle GPUs are off, and the node waits for the pod", moment)
        condition = self.sight.node().condition
        self.verify(held in condition["message"] or "train" in condition["message"], "the node says why", condition["message"])
        self.verify(self.stage.hardware("modes")[held]["mode"] == "on" and self.resets()[held] == before[held], held,
                    "still in mode on, not reset")
        self.live.arm()
        self.operator("delete", "pod", "train")
        self.live.follow(lambda: self.is_settled("off", "false", "NotConfidential"), 60, "the released GPU follows")
        self.verify(self.modes("gpu") == {"off"}, "hardware", "the GPU that was held has followed by itself")
        self.verify_never_early(moment)

    def mistype(self):
        self.screen.title(4, "A typing error touches nothing")
        before = self.stage.hardware("counters")
        self.operator("label", "node", NODE, f"{MODE}=fast", "--overwrite")
        node = until("the condition names the wrong value",
                     lambda: "fast" in self.sight.node().condition["message"] and self.sight.node(), 10)
        self.verify("ppcie" in node.condition["message"], node.condition["reason"], node.condition["message"])
        self.verify(node.labels["cc.mode.state"] == "off", "labels", "cc.mode.state still tells what is: off")
        after = self.stage.hardware("counters")
        touched = [bdf for bdf in after if after[bdf]["writes"] != before[bdf]["writes"]]
        self.verify(not touched, "hardware", "not one register was written")

    def crash(self):
        whole = self.count("nvswitch") > 0
        mode = "ppcie" if whole else "on"
        self.screen.title(5, f"kill -9 in the middle of a change to {mode}")
        before = self.resets()
        moment = self.order(mode)
        until("the devices are being reset", lambda: any(device["step"] in ("reset", "wait-boot")
                                                         for device in self.sight.devices().values()), 20)
        self.screen.command(f"kill -9 {self.stage.agent.pid}   # ccnode-agent")
        self.stage.kill_agent()
        time.sleep(0.3)
        state, ready = self.sight.node().state()
        self.verify(ready != "true", "labels", f"cc.mode.state={state} cc.ready.state={ready}: no lie is left behind")
        self.screen.command(f"ccnode-agent --config ccnode.yaml --kubeconfig kubeconfig --node-name {NODE}")
        self.live.arm()
        self.stage.start_agent()
        took = self.live.follow(lambda: self.is_settled(mode, "true", "Ready"), 60, f"all devices are verified in mode {mode}")
        self.verify(self.modes(None if whole else "gpu") == {mode}, "hardware", f"{self.inventory()}: all in mode {mode}")
        after = self.resets()
        most = max(after[bdf] - before[bdf] for bdf in after)
        self.verify(most <= 2, "resets", f"{most} at most per device")
        self.verify_never_early(moment)
        self.verify_offer()
        self.figure(f"restart after kill -9 → everything verified in mode {mode}", f"{took:.2f} s")

    # ---- end ----

    def summary(self):
        screen = self.screen
        screen.title(6, "What was measured")
        with open(f"/proc/{self.stage.agent.pid}/status", encoding="utf-8") as file:
            resident = next(int(line.split()[1]) for line in file if line.startswith("VmRSS"))
        self.figure("memory of the agent just after a change (RSS)", f"{resident / 1024:.1f} MiB")
        for what, value in self.figures:
            screen.say(f"   {what:<58} {screen.paint('bold', value):>12}")
        screen.note("on simulated hardware: delays of resets and firmware are estimates, see docs/developer.md")
        screen.say()
        self.operator("get", "node", NODE, "-L", f"{MODE},nvidia.com/cc.mode.state,nvidia.com/cc.ready.state")

    def commands(self):
        switch = next(iter(sorted(self.sight.devices())))
        rows = [
            (f"kubectl get node {NODE} -L nvidia.com/cc.mode.state,nvidia.com/cc.ready.state", ""),
            (f"kubectl label node {NODE} {MODE}=devtools --overwrite", "or on, off, ppcie"),
            (f"kubectl describe node {NODE}", "condition and Events"),
            ("ccnode list", "the devices, as the host sees them"),
            ("ccnode status", "what the agent is doing"),
            ("ccnode set-mode off --dry-run", "the plan, touching nothing"),
            (f"ccnode-sim ctl hold {switch}", "a process opens a device"),
            ("ccnode-sim ctl faults", "what can be broken, and: ccnode-sim ctl help"),
            ("kubelet-ctl restart", "the agent registers again"),
            (f"tail -f {self.stage.log}", "the agent's log"),
        ]
        if not os.path.exists(os.path.join(self.stage.run, "bin/ccnode")):
            rows = [row for row in rows if not row[0].startswith("ccnode ")]
        self.screen.say()
        for command, what in rows:
            self.screen.say(f"   {self.screen.paint('name', f'{command:<78}')} {what}".rstrip())

    def play(self):
        """A shell in which the commands mean this node; its end is the end of everything."""
        self.screen.title(7, "The node is yours")
        self.commands()
        self.screen.say()
        self.screen.say(f"   in another terminal first:  export PATH={self.stage.run}/bin:$PATH")
        self.screen.say("   this shell knows them already; " + self.screen.paint("bold", "exit") + " ends it and cleans up")
        self.screen.say()
        rc = os.path.join(self.stage.run, "bashrc")
        with open(rc, "w", encoding="utf-8") as file:
            file.write(f"export PATH='{self.stage.run}/bin':$PATH KUBECONFIG='{self.stage.kubeconfig}'\nPS1='(ccnode) \\w\\$ '\n")
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        subprocess.run(["bash", "--rcfile", rc, "-i"], preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))

    def tell(self):
        self.prepare()
        for chapter in (self.boot, self.turn_on, self.hold, self.mistype, self.crash, self.summary):
            chapter()

    def log_end(self):
        try:
            with open(self.stage.log, encoding="utf-8", errors="replace") as file:
                return file.readlines()[-15:]
        except OSError:
            return []


def leave(*_):
    raise KeyboardInterrupt


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--run", required=True)
    parser.add_argument("--build", required=True)
    parser.add_argument("--profile", required=True)
    parser.add_argument("--once", action="store_true")
    story, status = Story(parser.parse_args()), 1
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, leave)
    began = time.monotonic()
    try:
        story.tell()
        if not story.args.once:
            story.play()
        else:
            story.screen.say()
            story.screen.note("without --once you would now get a shell in which these commands work:")
            story.commands()
        status = 0
    except KeyboardInterrupt:
        status = 130
        story.screen.say("\ninterrupted")
    except (Failed, subprocess.TimeoutExpired) as failure:
        story.screen.say(f"\nquickstart: {failure}")
        for line in story.log_end():
            story.screen.note(line.rstrip())
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        if story.sight:
            story.sight.ended = True
        wrong = story.stage.stop()
    story.screen.say()
    story.screen.check(not wrong, "cleaned up", "; ".join(wrong) or "processes, mounts and files are gone")
    if status == 0 and not wrong:
        story.screen.say(story.screen.paint("good", f"   every step was verified, {time.monotonic() - began:.1f} s"))
    return status or bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
