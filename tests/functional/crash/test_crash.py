#!/usr/bin/python3
"""Kills ccnode-agent and its workers everywhere, starts it again, and looks whether all is as it should be.

A node goes through the modes on, devtools, ppcie, off, round and round. In every step something dies by SIGKILL at one
point: a register access, a write to sysfs, an operation on a file of the agent (journal, CDI, status, sockets), a write to
the API server; it is the agent, the worker, or both. Now and then the agent that was started again dies too, soon after its
start. Then:

  - the node converges to the wanted mode, with at most one reset more than the change needs, of devices that change
  - at every instant cc.ready.state was true only while each device that counts was in its mode, booted, nothing staged, and
    a mode that cc.mode.state named was the one that every device had
  - a device that a process or a pod holds was neither reset nor read nor written to
  - nothing is left: labels, CDI entries, sockets, locks, processes, temporary files are those of a node without a crash
"""
import argparse
import collections
import os
import random
import signal
import sys
import time

HERE = os.path.dirname(os.path.realpath(__file__))
sys.path.insert(0, os.path.join(HERE, "../agent"))
sys.path.insert(0, HERE)
from rig import BUILD, MODE, READY, STATE, Bench, need, same, standin, until  # noqa: E402
import points  # noqa: E402
import truth  # noqa: E402

LIBRARY = os.path.join(BUILD, "lib/libcrashpoint.so")
ROUND = ("on", "devtools", "ppcie", "off")
BRIEF = {"h100-pcie": 16, "hgx-h100": 8}  # points in all, when nobody has said how long
# how many points of a kind for each mode; all: each one, with one of its victims
SAMPLE = {"h100-pcie": {"register": 2, "file": 2, "sysfs": sys.maxsize, "api": sys.maxsize},
          "hgx-h100": {"register": 1, "file": 1, "sysfs": 1, "api": 1}}
HOLDERS, HELD = (points.ProcessHolds(), points.PodHolds()), 5  # at each fifth change somebody holds a GPU, in turn
REASON = {"on": "Ready", "ppcie": "Ready", "off": "NotConfidential", "devtools": "NotConfidential"}
READINESS = {"on": "true", "ppcie": "true", "off": "false", "devtools": None}
FILES, KINDS = points.FileWrite(), {}
KINDS.update({k.name: k for k in (points.Register(), points.SysfsWrite(), FILES, points.ApiWrite())})


class Node(Bench):
    def __init__(self, profile):
        super().__init__(profile, scale="0.01")

    def __enter__(self):
        super().__enter__()
        FILES.prepare(self, LIBRARY)
        self.switches = [d for d in self.modes() if self.sysfs(d, "device") == "0x22a3"]
        self.timeline = truth.Timeline(self, self.switches)
        return self

    def sysfs(self, bdf, name):
        with open(f"{self.root}/sys/bus/pci/devices/{bdf}/{name}", encoding="utf-8") as f:
            return f.read().strip()

    def wanted(self, mode):
        """bdf -> mode when the node is in that mode: switches know ppcie only."""
        return {d: mode if mode == "ppcie" or d not in self.switches else "off" for d in self.modes()}

    def is_in(self, mode):
        labels = self.labels()
        return labels.get(STATE) == mode and (labels.get(READY) or None) == READINESS[mode]

    def settle(self, mode):
        """In that mode, and nothing of the crash is left."""
        until(lambda: f"{mode}: {self.labels()} {self.condition()} {self.modes()}", lambda: self.is_in(mode), 120, 0.02)
        same(self.modes(), self.wanted(mode), "hardware")
        until(lambda: f"nothing left: {self.left()}", lambda: not self.left(), 60, 0.05)

    def left(self):
        """What is not as on a node that never saw a crash."""
        wrong = [f"process {p}" for p in truth.processes(self.root)]
        wrong += [f"lock {n}" for n in truth.locks_held(self.root)]
        wrong += [f"socket {n}" for n in truth.dead_sockets(self.kubelet.plugins)]
        wrong += truth.temporary_files(self.root)
        wrong += [f"{d} on {self.driver(d)}" for d in self.modes() if self.driver(d) != "vfio-pci"]
        offered = {d: h for r in self.kubelet.devices().values() for d, h in r.items()}
        wrong += [f"{d} is {offered.get(d)} at kubelet" for d in self.modes() if offered.get(d) != "Healthy"]
        named = {n for names in self.cdi_names().values() for n in names}
        wrong += [f"{d} has no CDI entry" for d in self.modes() if d not in named]
        wrong += truth.cdi_lies(self, self.timeline.devices())
        return wrong

    def accesses(self):
        """bdf -> (reads, writes) of registers"""
        return {d["bdf"]: (d["reads"], d["writes"]) for d in self.ctl_json("counters")}

    def is_dead(self):
        return self.agent.poll() is not None


class Step:
    """One change of mode with one crash in it."""

    def __init__(self, b, mode, point=None, again=None, holder=None, choice=None):
        self.b, self.mode, self.point, self.again, self.holder, self.choice, self.held = b, mode, point, again, holder, choice, None

    def __str__(self):
        where = ":".join(map(str, self.point)) if self.point else "no crash"
        return f"{self.b.profile} to {self.mode}, {where}" + (f", {self.held} held by {self.holder.name}" if self.held else "") \
            + (f", again at {':'.join(map(str, self.again))}" if self.again else "")

    def run(self):
        """Return: whether the point was reached."""
        b = self.b
        if self.holder:
            self.held = self.holder.take(b, sorted(set(b.modes()) - set(b.switches)), self.choice)
        b.timeline.begin()
        before, resets, accesses = b.modes(), b.resets(), b.accesses()
        kind, n, victim = self.point or (None, 0, None)
        if kind:
            KINDS[kind].arm(b, n, victim)
        b.label(MODE, self.mode)
        self.wait_for_the_blow(victim)
        struck = kind and KINDS[kind].disarm(b)
        crashes = 1
        if self.held and not struck:
            b.agent.kill()                      # nothing is done to the only device: it dies while it waits
        if (struck and victim != "worker") or (self.held and not struck):
            self.look_at_the_dead()
            if self.again:
                crashes += self.crash_again()
            b.start_agent(wait=False)
        if self.held:
            self.release(before, accesses)
        b.settle(self.mode)
        b.timeline.check()
        for bdf, count in b.resets().items():
            needed = before[bdf] != b.wanted(self.mode)[bdf]
            allowed = (1 + crashes) * needed + (self.holder.resets if bdf == self.held else 0)
            assert count - resets[bdf] <= allowed, f"{bdf}: {count - resets[bdf]} resets, {allowed} are enough"
        return struck

    def crash_again(self):
        """The successor dies too, or is ended the hard way when it has done all before. Return: 1, a crash more."""
        b, (kind, n, victim) = self.b, self.again
        KINDS[kind].arm(b, n, victim)
        b.start_agent(wait=False)
        self.wait_for_the_blow(victim)
        if not KINDS[kind].disarm(b):
            b.agent.kill()
        self.look_at_the_dead()
        return 1

    def wait_for_the_blow(self, victim):
        b = self.b
        until(lambda: f"{self}: neither dead nor done: {b.labels()} {b.condition()}",
              lambda: (victim != "worker" and b.is_dead()) or self.is_over(), 120, 0.015)

    def is_over(self):
        return self.b.labels().get(STATE) == "waiting-busy" if self.held else self.b.is_in(self.mode) and self.condition_follows()

    def condition_follows(self):
        """It comes after the labels: a point may lie there."""
        return self.b.condition()["reason"] == REASON[self.mode]

    def look_at_the_dead(self):
        """Nobody is there to put anything right: what is said must be true now, and stay so."""
        same(self.b.agent.wait(30), -signal.SIGKILL, f"the agent's end: {self.b.log()[-3000:]}")
        until("orphaned workers end", lambda: not truth.processes(self.b.root), 60)
        self.b.timeline.check()
        same(truth.cdi_lies(self.b, self.b.timeline.devices()), [], "CDI while nobody is there")
        state = self.b.labels().get(STATE)
        if state in ROUND:
            same(self.b.modes(), self.b.wanted(state), f"{STATE} while nobody is there")

    def release(self, before, accesses):
        b, held = self.b, self.held
        until(lambda: f"the others: {b.labels()} {b.modes()}", self.the_others_follow, 120, 0.02)
        touched = b.timeline.devices()[held].states[1:]
        same((touched, b.modes()[held], b.accesses()[held]), ([], before[held], accesses[held]), f"{self}: it is not touched")
        self.holder.give_back(b, held)

    def the_others_follow(self):
        if self.b.labels().get(STATE) != "waiting-busy":
            return False
        modes, wanted = self.b.modes(), self.b.wanted(self.mode)
        return self.mode == "ppcie" or "ppcie" in modes.values() or all(modes[d] == wanted[d] for d in modes if d != self.held)


def count_points(b):
    """{mode: {kind: number of points of a change to it}}: one round without a crash."""
    totals = {}
    for mode in ROUND:
        before = {name: kind.count(b) for name, kind in KINDS.items()}
        Step(b, mode).run()
        time.sleep(0.3)                         # condition and Events follow the labels
        totals[mode] = {name: kind.count(b) - before[name] for name, kind in KINDS.items()}
    return totals


def all_points(totals, choice):
    """{mode: [points]} in the order of the seed."""
    queues = {}
    for mode, counts in totals.items():
        queue = [(kind, n, victim) for kind, count in counts.items() for n in range(1, count + 1) for victim in KINDS[kind].victims]
        choice.shuffle(queue)
        queues[mode] = queue
    return queues


def in_turn(queue):
    """The queue with its kinds and victims in turn: the rare ones would else come last."""
    groups = collections.defaultdict(list)
    for point in queue:
        groups[point[0], point[2]].append(point)
    while groups:
        for key in list(groups):
            yield groups[key].pop()
            if not groups[key]:
                del groups[key]


def sample(queues, sizes):
    """({mode: points of the sample}, {mode: the rest}): other places of each kind, with each victim in turn."""
    picked, rest = {}, {}
    for m, (mode, queue) in enumerate(queues.items()):
        chosen = []
        for kind in KINDS.values():
            places = list(dict.fromkeys(n for name, n, _ in queue if name == kind.name))[:sizes[kind.name]]
            chosen += [(kind.name, n, kind.victims[(i + m) % len(kind.victims)]) for i, n in enumerate(places)]
        picked[mode] = list(in_turn(chosen))
        rest[mode] = list(in_turn([point for point in queue if point not in chosen]))
    return picked, rest


def first(queues, size):
    """That many points in all, spread over the modes."""
    return {mode: list(in_turn(queue))[:size // len(queues) + (m < size % len(queues))] for m, (mode, queue) in enumerate(queues.items())}


def walk(b, queues, choice, options, done, deadline=None):
    """Round and round until every queue is empty or the time is over."""
    began = said = time.monotonic()
    while any(queues.values()) and (deadline is None or time.monotonic() < deadline):
        for mode in ROUND:
            point = queues[mode].pop(0) if queues[mode] else None
            if not point and not any(queues.values()):
                break
            done["changes"] += 1
            holder = HOLDERS[done["changes"] // HELD % len(HOLDERS)] if done["changes"] % HELD == 0 else None
            kind, victim = choice.choice((("register", "agent"), ("register", "both"), ("file", "before"), ("file", "after")))
            again = (kind, choice.randrange(1, 60), victim) if choice.random() < 0.25 else None
            step = Step(b, mode, point, again, holder, choice)
            at = time.monotonic()
            try:
                struck = step.run()
            except BaseException:
                print(f"FAIL {step} (to see it again: CCNODE_CRASH_SEED={options.seed}, or --point {mode}:{':'.join(map(str, point or ()))})", flush=True)
                raise
            done["held"] += bool(holder)
            if point and holder and not struck:
                queues[mode].append(point)      # it lies behind the waiting
            elif point:
                done[point[0], point[2], struck] += 1
                done["again"] += bool(struck and again and point[2] != "worker")
            if options.verbose:
                print(f"{time.monotonic() - at:6.2f} s {'struck' if struck else 'passed'} {step}", flush=True)
            elif time.monotonic() - said > 60:
                said = time.monotonic()
                print(f"{points_of(done)} points, {said - began:.0f} s", flush=True)


def points_of(done):
    return sum(n for key, n in done.items() if isinstance(key, tuple))


def report(done, totals):
    print("points of a change:", "; ".join(f"to {m}: " + ", ".join(f"{k} {n}" for k, n in c.items()) for m, c in totals.items()))
    for kind in KINDS.values():
        print(f"{kind.name:9}", ", ".join(f"{v}: {done[kind.name, v, True]} struck, {done[kind.name, v, False]} not reached" for v in kind.victims))
    struck = sum(n for key, n in done.items() if isinstance(key, tuple) and key[2])
    print(f"{struck} crashes of {points_of(done)} points, {done['again']} of them twice, {done['held']} changes with a device that somebody "
          "holds; all converged, nothing left")
    assert 2 * struck >= points_of(done), "most points were not reached: this shows little"


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, epilog="""
environment:
  CCNODE_CRASH_SEED=N     which points are drawn (default: a new one each time; it is printed)
  CCNODE_CRASH_SECONDS=N  a larger sample, and after it more points until that time is over (default: a few points only)
  CCNODE_CRASH_ALL=1      every point, in the order of the seed: one to two hours for h100-pcie, a day for hgx-h100
""")
    p.add_argument("profile", nargs="?", choices=sorted(SAMPLE), default="h100-pcie")
    p.add_argument("--sample", type=int, metavar="N", help="that many points (default, with CCNODE_CRASH_SECONDS: on h100-pcie every write to sysfs and to the "
                   "API server and a sample of the register accesses and file operations, on hgx-h100 a sample of all)")
    p.add_argument("--point", action="append", metavar="MODE:KIND:N:VICTIM",
                   help="only this one, for example on:register:123:agent; kinds and victims: "
                   + "; ".join(f"{k.name} {', '.join(k.victims)}" for k in KINDS.values()))
    p.add_argument("--verbose", action="store_true", help="a line for each point")
    return p.parse_args()


def main():
    options = arguments()
    need()
    if not os.path.exists(LIBRARY):
        standin.skip(f"{LIBRARY} is not built")
    options.seed = int(os.environ.get("CCNODE_CRASH_SEED") or random.SystemRandom().randrange(1 << 32))
    print(f"CCNODE_CRASH_SEED={options.seed}", flush=True)
    choice = random.Random(options.seed)
    began, done = time.monotonic(), collections.Counter()
    with Node(options.profile) as b:
        b.start_agent()
        b.timeline.begin()
        b.settle("off")
        totals = count_points(b)
        queues = all_points(totals, choice)
        rest, deadline = None, began + float(os.environ.get("CCNODE_CRASH_SECONDS") or 0)
        if options.point:
            queues = {mode: [] for mode in ROUND}
            for mode, kind, n, victim in (p.split(":") for p in options.point):
                queues[mode].append((kind, int(n), victim))
        elif options.sample:
            queues = first(queues, options.sample)
        elif os.environ.get("CCNODE_CRASH_SECONDS"):
            queues, rest = sample(queues, SAMPLE[options.profile])
        elif not os.environ.get("CCNODE_CRASH_ALL"):
            queues = first(queues, BRIEF[options.profile])
        walk(b, queues, choice, options, done)
        if rest:
            walk(b, rest, choice, options, done, deadline)
        b.stop_agent()
        same([n for n in os.listdir(b.kubelet.plugins) if n.endswith(".sock")], ["kubelet.sock"], "sockets after the end")
    report(done, totals)
    print(f"{time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
