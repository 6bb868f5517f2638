#!/usr/bin/python3
"""Configuration, journal, signals, capabilities, what is left behind."""
import contextlib
import os
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
from rig import BIN, BUILD, MODE, Bench, children, comm, run, same, until  # noqa: E402

GPU = "0000:18:00.0"
PCIE = "nvidia.com/GH100_H100_PCIE"
NEEDED = {"CAP_DAC_OVERRIDE": 1, "CAP_DAC_READ_SEARCH": 2, "CAP_SYS_MODULE": 16, "CAP_SYS_PTRACE": 19,
          "CAP_SYS_ADMIN": 21}
GROWTH_KB = 1024  # malloc's and AddressSanitizer's pages come and go: some 500 kB either way, also over 300 switches


def configuration_is_read_again():
    with Bench("h100-pcie") as b:
        b.start_agent()
        b.wait_state("off", ready="false")
        b.write_config("mode: { default: devtools }\n")
        b.wait_state("devtools", ready="")
        resets = b.resets()
        for bad in ("mode: { default: maybe }\n", "moode: {}\n", "mode: [1]\n", "\x01\x02\n", "state: { directory: /elsewhere }\n"):
            b.write_config(bad)
            until("told", lambda: b.events("InvalidConfiguration"))
        time.sleep(0.2)
        same(b.resets(), resets, "a bad file changes nothing")
        b.write_config('mode: { default: "on" }\n')
        b.wait_state("on", ready="true")


def configuration_from_a_config_map():
    """kubelet swaps ..data; the file itself is a link that never changes."""
    with Bench("h100-pcie") as b:
        volume = os.path.join(b.dir, "volume")
        text = open(b.config, encoding="utf-8").read()
        for name, mode in (("..1", "off"), ("..2", "devtools")):
            os.makedirs(os.path.join(volume, name))
            with open(os.path.join(volume, name, "ccnode.yaml"), "w", encoding="utf-8") as f:
                f.write(text + f'mode: {{ default: "{mode}" }}\n')
        os.symlink("..1", os.path.join(volume, "..data"))
        os.symlink("..data/ccnode.yaml", os.path.join(volume, "ccnode.yaml"))
        b.config = os.path.join(volume, "ccnode.yaml")
        b.start_agent()
        b.wait_state("off")
        os.symlink("..2", os.path.join(volume, "..data_tmp"))
        os.rename(os.path.join(volume, "..data_tmp"), os.path.join(volume, "..data"))
        b.wait_state("devtools", ready="")


def a_bad_start_says_why():
    with Bench("h100-pcie", api=False, kubelet=False) as b:
        for text, words in (("moode: {}\n", "moode"), ("mode: { default: maybe }\n", "ccnode.yaml:3:"), ("x" * 300000, "ccnode.yaml")):
            b.write_config(text)
            done = b.run_agent()
            same(done.returncode, 2, done.stderr[:300])
            assert words in done.stderr, done.stderr[:300]
        b.write_config("")
        for options, status, words in ((("--host-root", "/nonexistent"), 1, "/nonexistent"), (("--nonsense",), 2, "nonsense"),
                                       (("--kubeconfig", "/nonexistent"), 1, "/nonexistent"), (("extra",), 2, "extra"),
                                       (("--log-level", "loud"), 2, "loud")):
            done = b.run_agent(*options)
            same(done.returncode, status, done.stderr)
            assert words in done.stderr, done.stderr
        for option in ("--help", "--help-config", "--version"):
            same(subprocess.run([os.path.join(BIN, "ccnode-agent"), option], stdout=subprocess.DEVNULL, check=False).returncode, 0)


def a_damaged_journal_is_set_aside():
    with Bench("h100-pcie") as b:
        path = os.path.join(b.root, "var/lib/ccnode")
        b.start_agent()
        b.label(MODE, "on")
        b.wait_state("on", ready="true")
        b.stop_agent()
        good = open(path + "/journal.json", "rb").read()
        resets = b.resets()
        assert b'"version": 2,' in good and b'"on"' in good, good
        for bad in (good[:len(good) // 2], good.replace(b'"on"', b'"of"'), good.replace(b'"version": 2', b'"version": 99'), b"\0" * 100):
            with open(path + "/journal.json", "wb") as f:
                f.write(bad)
            with open(path + "/last-node.json", "wb") as f:
                f.write(bad)
            b.start_agent()
            until("told", lambda: "journal is not trusted" in b.log())
            until("an Event", lambda: b.events("JournalNotTrusted"))
            b.wait_state("on", ready="true")
            until("read", lambda: b.status().get("mode_state") == "on")
            b.stop_agent()
        same(b.resets(), resets, "nothing was believed, nothing was reset")
        assert any(".bad-" in n for n in os.listdir(path)), os.listdir(path)


def begin_reset(b):
    """The order, up to a step that cannot be cut short: it lasts until the fault is cleared."""
    b.ctl("fault", GPU, "reset-hangs")
    b.label(MODE, "on")
    until("the reset runs", lambda: b.status().get("devices", [{}])[0].get("step") == "reset", step=0.02)


def signals():
    with Bench("h100-pcie", scale="1") as b:
        b.start_agent()
        b.wait_state("off", ready="false")
        begin_reset(b)
        b.stop_agent(meanwhile=lambda: b.ctl("clear", GPU))
        took = b.took_to_end('msg="step done"')
        assert took < 5, f"{took:.1f} s"
        same(b.resets()[GPU], 1, "one reset")
        b.start_agent()
        b.wait_state("on", ready="true")
        assert b.resets()[GPU] <= 2, "at most one extra reset"
        b.agent.send_signal(signal.SIGHUP)
        b.agent.send_signal(signal.SIGPIPE)
        time.sleep(0.2)
        same(b.agent.poll(), None, "alive")


def leaves_orphans(pid, pipes):
    """Processes in the namespace of @pid that lose their parent, as a killed worker leaves its modprobe. Each ends when its pipe
    is opened and closed."""
    for pipe in pipes:
        os.mkfifo(pipe)
    subprocess.run(["nsenter", "--pid", "--target", str(pid), "sh", "-c", 'for pipe; do cat "$pipe" & done', "sh", *pipes],
                   check=True, stdout=subprocess.DEVNULL, timeout=60)
    until("they are children of process 1", lambda: [comm(c) for c in children(pid)].count("cat") == len(pipes))


@contextlib.contextmanager
def process_1(b):
    """The agent as process 1 of a namespace. Yields the process around it, which has its exit status."""
    log = open(b.log_path, "ab")
    env = {**os.environ, **b.env, **b.extra_env}
    b.log_start = 0
    unshare = subprocess.Popen(["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", *b.agent_command()],
                               stdout=log, stderr=log, env=env)
    try:
        yield unshare
    finally:
        if unshare.poll() is None:
            unshare.kill()
            unshare.wait()
        log.close()


@contextlib.contextmanager
def api_that_is_away(b):
    """Connections are made and nothing ever comes: the worst way to be away."""
    b.api.process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        b.api.process.send_signal(signal.SIGCONT)


def the_end_without_api_server():
    """The chart's agent asks whether it is uninstalled: not for long."""
    with Bench("h100-pcie") as b:
        b.extra_env["CCNODE_DAEMONSET"] = "ccnode/ccnode-agent"
        b.start_agent()
        b.wait_state("off", ready="false")
        until("kubelet has it", lambda: b.kubelet.devices().get(PCIE))
        with api_that_is_away(b):
            took = b.stop_agent()
        assert "it is not known whether ccnode is being uninstalled" in b.log(), b.log()[-3000:]
        assert took < 1, f"{took:.2f} s"


def the_end_as_pid_1_in_the_middle_of_a_step():
    with Bench("h100-pcie", scale="1") as b:
        b.extra_env["CCNODE_DAEMONSET"] = "ccnode/ccnode-agent"
        with process_1(b) as unshare:
            b.wait_state("off", ready="false")
            begin_reset(b)
            with api_that_is_away(b):
                os.kill(children(unshare.pid)[0], signal.SIGTERM)
                until("heard", lambda: "asked to end" in b.log())
                b.ctl("clear", GPU)
                same(unshare.wait(60), 0, "exit status")
            assert b.took_to_end('msg="step done"') < 5
            assert "step done\" bdf=0000:18:00.0 step=reset" in b.log(), "the step was finished"
            assert "step=wait-boot" not in b.log(), "and no other begun"
        same(b.resets()[GPU], 1, "one reset")
        b.extra_env.clear()
        b.start_agent()
        b.wait_state("on", ready="true")


def as_pid_1():
    with Bench("h100-pcie") as b:
        with process_1(b) as unshare:
            b.wait_state("off", ready="false")
            child = children(unshare.pid)[0]
            pipes = [os.path.join(b.dir, f"orphan{i}") for i in range(5)]
            leaves_orphans(child, pipes)
            b.label(MODE, "on")  # workers end meanwhile, and their answers must not be lost
            for pipe in pipes:
                with open(pipe, "w", encoding="utf-8"):
                    time.sleep(0.1)
            b.wait_state("on", ready="true")
            until("they have ended and are gone", lambda: "cat" not in [comm(c) for c in children(child)])
            os.kill(child, signal.SIGTERM)
            same(unshare.wait(60), 0, "exit status")
            assert b.took_to_end() < 1.5


def capabilities(pid):
    with open(f"/proc/{pid}/status", encoding="utf-8") as f:
        return {k: int(v, 16) for k, v in (line.split(":\t") for line in f if line.startswith("Cap"))}


def the_agent_runs_without_capabilities():
    with Bench("h100-pcie", scale="1") as b:
        b.start_agent()
        b.wait_state("off", ready="false")
        caps = capabilities(b.agent.pid)
        allowed = sum(1 << bit for bit in NEEDED.values())
        same(caps["CapEff"], 0, "in effect")
        same(caps["CapPrm"] & ~allowed, 0, "permitted")
        for task in os.listdir(f"/proc/{b.agent.pid}/task"):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has ended since the listing
                same(capabilities(f"{b.agent.pid}/task/{task}")["CapEff"], 0, f"thread {task}")
        b.ctl("fault", GPU, "reset-hangs")  # so that a worker is there to be seen
        b.label(MODE, "on")

        def worker():
            for pid in os.listdir("/proc"):
                try:
                    with open(f"/proc/{pid}/stat", encoding="utf-8") as f:
                        text = f.read()
                    if "(ccnode-device)" in text and int(text.rpartition(")")[2].split()[1]) == b.agent.pid:
                        return capabilities(pid)
                except (OSError, ValueError):
                    pass
            return None
        caps = until("a worker", worker)
        same(caps["CapEff"] & ~allowed, 0, "a worker has no more than it needs")
        b.ctl("clear", GPU)
        b.wait_state("on", ready="true")


def descriptors(b):
    """What each is"""
    found = []
    for n in os.listdir(f"/proc/{b.agent.pid}/fd"):
        with contextlib.suppress(FileNotFoundError):  # closed since the listing
            found.append(os.readlink(f"/proc/{b.agent.pid}/fd/{n}"))
    return found


def nothing_can_be_watched():
    """Others have used up inotify: kubelet's restarts and VFIO nodes are found out about all the same, only later."""
    with Bench("h100-pcie", "--device-nodes") as b:
        library = os.path.join(BUILD, "lib/libno_inotify.so")
        b.extra_env = {"LD_PRELOAD": f"{b.env['LD_PRELOAD']}:{library}"}
        b.start_agent()
        same(descriptors(b).count("anon_inode:inotify"), 0, "the library does its work")
        b.label(MODE, "on")
        b.wait_state("on", ready="true")

        def registered_by(order, **more):
            before = len(b.kubelet.ask("log", what="register")["log"])
            b.kubelet.ask(order, **more)
            until("registered again", lambda: len(b.kubelet.ask("log", what="register")["log"]) > before)
            b.kubelet.ask("wait", resource=PCIE, allocatable=1)
        for kill in (False, True):
            registered_by("restart", kill=kill)
        b.kubelet.ask("stop")
        b.wait_condition("UsersUnknown")  # nobody is left to say which pods have devices
        registered_by("start")
        b.wait_state("on", ready="true")
        node = f"{b.root}/dev/vfio/{b.ctl_json('devices')[0]['group']}"
        was = os.stat(node)
        os.unlink(node)
        until("withdrawn", lambda: b.kubelet.devices() == {PCIE: {GPU: "Unhealthy"}}, 60)  # by the poll
        os.mknod(node, was.st_mode, was.st_rdev)
        until("back", lambda: b.kubelet.devices() == {PCIE: {GPU: "Healthy"}}, 60)
        b.wait_state("on", ready="true")


def resident_kb(pid):
    with open(f"/proc/{pid}/status", encoding="utf-8") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("VmRSS"))


def nothing_grows():
    """CCNODE_SWITCHES says how many (120); the tier bench has its own count, with watch events and restarts of kubelet."""
    switches = int(os.environ.get("CCNODE_SWITCHES") or 120)
    with Bench("h100-pcie", scale="0") as b:
        # a sanitizer that keeps freed memory aside would look like growth
        b.extra_env = {"ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "") + ":quarantine_size_mb=1:malloc_context_size=2"}
        b.start_agent()
        b.wait_state("off", ready="false")

        def use():
            pid = b.agent.pid
            until("no worker runs", lambda: not children(pid))
            return {"descriptors": len(os.listdir(f"/proc/{pid}/fd")), "threads": len(os.listdir(f"/proc/{pid}/task"))}

        def quiet():
            """use() when nothing is under way: no file is being written, no connection made"""
            seen = [use()]

            def same_again():
                time.sleep(0.1)
                seen.append(use())
                return seen[-20:] == seen[-1:] * 20
            until(lambda: f"quiet: {seen[-20:]}", same_again)
            return seen[-1]

        def rounds(n):
            for _ in range(n // 2):
                for mode in ("on", "off"):
                    b.label(MODE, mode)
                    b.wait_state(mode, ready="true" if mode == "on" else "false")
        rounds(20)
        before = quiet()
        for _ in range(3):  # what grows does so every time
            memory = resident_kb(b.agent.pid)
            rounds(switches - 20)
            grown = resident_kb(b.agent.pid) - memory
            if grown < GROWTH_KB:
                break
        # an answer of the API server or of a worker may be under way: at a quiet moment it is no more than before
        until(lambda: f"{before} after 20 switches, {use()} after {switches}", lambda: all(n <= before[what] for what, n in use().items()))
        assert grown < GROWTH_KB, f"{grown} kB more after each {switches - 20} switches"
        state = os.listdir(os.path.join(b.root, "var/lib/ccnode"))
        assert state and not [n for n in state if n.startswith(".")], f"temporary files: {state}"
        until("healthy", lambda: b.status()["devices"][0]["health"] == "healthy")
        b.stop_agent()  # a leak would be its exit status


if __name__ == "__main__":
    run(configuration_is_read_again, configuration_from_a_config_map, a_bad_start_says_why, a_damaged_journal_is_set_aside,
        signals, the_end_without_api_server, the_end_as_pid_1_in_the_middle_of_a_step, as_pid_1, the_agent_runs_without_capabilities, nothing_can_be_watched, nothing_grows)
