"""A whole node for tests: simulated hardware, API server and kubelet stand-ins, and the real ccnode-agent between them.

    with Bench("hgx-h100") as b:
        b.start_agent()
        b.label("nvidia.com/cc.mode", "on")
        b.wait_state("on", ready="true")

One Bench serves many assertions: starting one costs half a second. Stand-ins are asked over their sockets, not through
their command lines, which would cost an interpreter each.
"""
import datetime
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback

HERE = os.path.dirname(os.path.realpath(__file__))
SOURCE = os.environ.get("CCNODE_SOURCE") or os.path.realpath(os.path.join(HERE, "../../.."))
BUILD = os.environ.get("CCNODE_BUILD") or os.path.join(SOURCE, "build/dev")
os.environ["CCNODE_SOURCE"] = SOURCE
sys.path.insert(0, os.path.join(SOURCE, "tests/functional/standin"))
import harness as standin  # noqa: E402  (this file's namesake over there)
sys.path.insert(0, os.path.join(SOURCE, "tests/lib"))
from together import all_pass  # noqa: E402

BIN = os.path.join(BUILD, "bin")
NODE = "n1"
MODE, STATE, READY = "nvidia.com/cc.mode", "nvidia.com/cc.mode.state", "nvidia.com/cc.ready.state"


def need(*programs):
    """Skips, saying why, where the machine cannot run this."""
    standin.need_h2()
    if os.geteuid() != 0:
        standin.skip("needs root to mount the simulated node")
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        standin.skip("/dev/fuse is absent, the simulated node can't be mounted")
    for program in programs or ("ccnode-agent", "ccnode-device", "ccnode-sim"):
        if not os.access(os.path.join(BIN, program), os.X_OK):
            standin.skip(f"{program} is not built in {BIN}")


def until(what, check, seconds=90, step=0.01):
    """Polls for what another process does; the time is a limit, not a wait. Returns what check returned."""
    end = time.monotonic() + seconds
    while True:
        late = time.monotonic() > end  # before the look: one that began in time counts, however long we were kept waiting
        result = check()
        if result:
            return result
        if late:
            raise AssertionError(f"not within {seconds} s: {what if isinstance(what, str) else what()}")
        time.sleep(step)


def same(got, want, what=""):
    assert got == want, f"{what}: {got!r}, not {want!r}"


def children(pid):
    try:
        with open(f"/proc/{pid}/task/{pid}/children", encoding="utf-8") as f:
            return [int(x) for x in f.read().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


def queued(pid):
    """How long its first thread has waited for a processor so far, in seconds; also of one that has just ended."""
    try:
        with open(f"/proc/{pid}/schedstat", encoding="ascii") as f:
            return int(f.read().split()[1]) / 1e9
    except (OSError, IndexError):
        return 0.0


def comm(pid):
    try:
        with open(f"/proc/{pid}/comm", encoding="utf-8") as f:
            return f.read().strip()
    except (FileNotFoundError, ProcessLookupError):
        return ""


class Kubelet(standin.Kubelet):
    """Its directories are those of the simulated node."""

    def __init__(self, root, *options):
        self.root = root
        super().__init__("--root", root, *options)
        self.plugins = os.path.join(root, "var/lib/kubelet/device-plugins")
        self.pod_resources = os.path.join(root, "var/lib/kubelet/pod-resources/kubelet.sock")

    def ask(self, command, **request):
        if command == "wait":
            request.setdefault("timeout", 50)
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as s:
            s.settimeout(60)
            s.connect(self.socket)
            s.sendall(json.dumps({"command": command, **request}).encode() + b"\n")
            answer = b""
            while not answer.endswith(b"\n"):
                data = s.recv(1 << 16)
                if not data:
                    raise AssertionError("the kubelet stand-in hung up")
                answer += data
        answer = json.loads(answer)
        assert command != "wait" or "error" not in answer, answer
        return answer

    def give(self, resource, pod):
        """As ask("allocate"), when it must succeed. A device that the Node vouches for may not have arrived here yet."""
        def given():
            self.answer = self.ask("allocate", resource=resource, pod=pod)
            return "error" not in self.answer and self.answer
        return until(lambda: f"a device for {pod}: {self.answer}", given)["ids"][0]

    def devices(self):
        """resource -> {id: "Healthy" or "Unhealthy"}"""
        out = {}
        for name, resource in self.ask("list")["resources"].items():
            out[name] = {d["id"]: d["health"] for d in resource["devices"]}
        return out


class Bench:
    def __init__(self, profile="h100-pcie", *sim_options, scale="0.05", config="", kubelet=True, api=True, pods=False,
                 api_options=()):
        self.profile, self.sim_options, self.scale, self.config_text = profile, sim_options, scale, config
        self.want_kubelet, self.want_api, self.pods, self.api_options = kubelet, api, pods, api_options
        self.api = self.kubelet = self.agent = None
        self.dir = tempfile.mkdtemp(prefix="ccnode-agent-")
        self.root = os.path.join(self.dir, "node")
        self.config = os.path.join(self.dir, "ccnode.yaml")
        self.log_path = os.path.join(self.dir, "agent.log")
        self.extra_env = {}
        self.programs = BIN

    # ---- life ----

    def __enter__(self):
        try:
            self.run_sim("--profile", self.profile, "--scale", self.scale, *self.sim_options)
            self.env = dict(line.split("=", 1) for line in self.sim_tool("env").splitlines())
            if self.want_api:
                self.api = standin.ApiServer("--plain", *self.api_options)
            if self.want_kubelet:
                self.start_kubelet()
            self.write_config(self.config_text)
            return self
        except BaseException:
            self.__exit__(*sys.exc_info())
            raise

    def __exit__(self, kind, *_):
        if kind:
            self.print_log()
        self.kill_agent()
        for part in (self.kubelet, self.api):
            if part:
                try:
                    part.stop()
                except Exception:  # noqa: BLE001 - the test's own failure matters more
                    if not kind:
                        raise
        subprocess.run([os.path.join(BIN, "ccnode-sim"), "stop", "--root", self.root], check=False, timeout=60)
        subprocess.run(["rm", "-rf", "--one-file-system", self.dir], check=True)

    def run_sim(self, *args):
        done = subprocess.run([os.path.join(BIN, "ccnode-sim"), "--root", self.root, *args], stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True, check=False, timeout=60)
        assert done.returncode == 0, done.stderr

    def sim_tool(self, command, *args):
        done = subprocess.run([os.path.join(BIN, "ccnode-sim"), command, "--root", self.root, *args],
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False, timeout=60)
        assert done.returncode == 0, f"ccnode-sim {command} {' '.join(args)}: {done.stderr}"
        return done.stdout

    def ctl(self, *args):
        return self.sim_tool("ctl", *args)

    def ctl_json(self, *args):
        return json.loads(self.sim_tool("ctl", "--json", *args))

    def start_kubelet(self, *options):
        pods = ("--kubeconfig", self.api.kubeconfig, "--node", NODE) if self.api else ()
        pods += ("--pods",) if self.pods else ()
        self.kubelet = Kubelet(self.root, *pods, *options)

    def write_config(self, text):
        """As an editor saves it: another file renamed over the old one."""
        base = 'http: { listen: "127.0.0.1:0" }\nlog: { level: debug }\n'
        with open(self.config + ".new", "w", encoding="utf-8") as f:
            f.write(base + text)
        os.rename(self.config + ".new", self.config)

    def agent_command(self, *options):
        command = [os.path.join(self.programs, "ccnode-agent"), "--config", self.config, "--host-root", self.root, *options]
        if self.api:
            command += ["--kubeconfig", self.api.kubeconfig, "--node-name", NODE]
        return command

    def start_agent(self, *options, wait=True):
        log = open(self.log_path, "ab")
        env = {**os.environ, **self.env, **self.extra_env}
        env.pop("KUBECONFIG", None)
        self.log_start = os.path.getsize(self.log_path)
        self.agent = subprocess.Popen(self.agent_command(*options), stdout=log, stderr=log, env=env, cwd=self.dir)
        log.close()
        if wait:
            until("the agent has started", lambda: "sentence=started" in self.log() or 'started' in self.log() or
                  self.agent.poll() is not None)
            assert self.agent.poll() is None, self.log()
        return self.agent

    def run_agent(self, *options):
        """One that ends by itself (--explain)."""
        return subprocess.run(self.agent_command(*options), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                              env={**os.environ, **self.env, **self.extra_env}, cwd=self.dir, check=False, timeout=60)

    def stop_agent(self, seconds=60, meanwhile=None):
        """SIGTERM, and when it is heard what else is to happen; returns how long it took, as took_to_end() says. The exit status
        must be 0, nothing may be leaked."""
        pid, waited = self.agent.pid, queued(self.agent.pid)
        self.agent.send_signal(signal.SIGTERM)
        if meanwhile:
            until("heard", lambda: "asked to end" in self.log())
            meanwhile()
        try:
            until("the end", lambda: os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT), seconds)
            waited = queued(pid) - waited
        except AssertionError:
            raise AssertionError(f"SIGTERM did not end the agent within {seconds} s") from None
        status = self.agent.wait()
        took = self.took_to_end() - waited
        self.agent = None
        assert status == 0, f"exit status {status}: {self.log()[-4000:]}"
        return took

    def took_to_end(self, since="asked to end"):
        """From the signal, as the agent's log has it, or another line there, to the moment when its status file went: what it
        said and did itself, so nobody who is slow to ask or to be told counts. (After it come free() and the sanitizer.)"""
        line = [x for x in self.log().splitlines() if since in x][-1]
        return os.stat(os.path.join(self.root, "run/ccnode")).st_mtime - self.stamp(line)

    @staticmethod
    def stamp(line):
        """When a line of the log was written, in s since 1970"""
        text = line.split("time=", 1)[1].split("Z", 1)[0]
        return datetime.datetime.fromisoformat(text).replace(tzinfo=datetime.timezone.utc).timestamp()

    def kill_agent(self):
        """kill -9, as a crash. Under strace the agent is its child, and lives on when only strace is killed."""
        if self.agent:
            for pid in children(self.agent.pid):
                if comm(pid) == "ccnode-agent":
                    os.kill(pid, signal.SIGKILL)
            self.agent.kill()
            self.agent.wait()
            self.agent = None

    # ---- what it says ----

    def log(self):
        try:
            with open(self.log_path, "rb") as f:
                f.seek(getattr(self, "log_start", 0))
                return f.read().decode(errors="replace")
        except FileNotFoundError:
            return ""

    def print_log(self):
        print("--- agent log", self.log()[-12000:], "---", sep="\n", flush=True)

    def http_port(self):
        line = until("the agent listens", lambda: [x for x in self.log().splitlines() if "http=127.0.0.1:" in x or
                                                   'http="127.0.0.1:' in x])[0]
        return int(line.split("127.0.0.1:", 1)[1].split('"')[0].split()[0])

    def get(self, path):
        connection = http.client.HTTPConnection("127.0.0.1", self.http_port(), timeout=10)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def metric(self, name, **labels):
        """Sum of all series of that name with these labels."""
        total = 0.0
        for line in self.get("/metrics")[1].splitlines():
            series, _, value = line.rpartition(" ")
            if series.split("{")[0] == name and all(f'{k}="{v}"' in series for k, v in labels.items()):
                total += float(value)
        return total

    def status(self):
        """{} while there is none yet"""
        try:
            with open(os.path.join(self.root, "run/ccnode/status.json"), encoding="utf-8") as f:
                return json.load(f)
        except FileNotFoundError:
            return {}

    # ---- the Node ----

    def patch(self, body, kind="application/merge-patch+json", sub=""):
        code, answer = self.api.call("PATCH", f"/api/v1/nodes/{NODE}{sub}", body, content=kind)
        assert code == 200, answer

    def label(self, key, value):
        self.patch({"metadata": {"labels": {key: value}}})

    def annotate(self, key, value):
        self.patch({"metadata": {"annotations": {key: value}}})

    def node(self):
        return self.api.node(NODE)

    def labels(self):
        return self.node()["metadata"].get("labels", {})

    def annotation_status(self):
        return json.loads(self.node()["metadata"]["annotations"]["ccnode.io/status"])

    def condition(self):
        for c in self.node()["status"].get("conditions", []):
            if c["type"] == "ConfidentialGPUsReady":
                return c
        return {"status": "", "reason": "", "message": ""}

    def wait_state(self, state, ready=None, seconds=90):
        def there():
            labels = self.labels()
            return labels.get(STATE) == state and (ready is None or labels.get(READY) == ready)
        until(lambda: f"state {state}, ready {ready}: {self.labels()} {self.condition()}", there, seconds)

    def wait_condition(self, reason, seconds=90):
        return until(lambda: f"condition {reason}: {self.condition()}",
                     lambda: self.condition()["reason"] == reason and self.condition(), seconds)

    def events(self, reason=None):
        code, answer = self.api.call("GET", "/apis/events.k8s.io/v1/namespaces/default/events")
        assert code == 200, answer
        return [e for e in answer["items"] if reason is None or e["reason"] == reason]

    def history(self):
        """Every version of the Node's labels that anybody could have seen: [(wall clock in s, labels)]."""
        code, answer = self.api.call("GET", f"/_standin/history?resource=nodes&name={NODE}")
        assert code == 200, answer
        return [(c["time"], c["object"]["metadata"].get("labels", {})) for c in answer["changes"]]

    # ---- the semaphore "turn" of concurrency.lease, with one place ----

    LEASES = "/apis/coordination.k8s.io/v1/namespaces/default/leases"

    def whose_turn(self):
        return self.api.call("GET", f"{self.LEASES}/turn-0")[1].get("spec", {}).get("holderIdentity")

    def give_turn_to(self, holder, seconds=3600):
        """"" = nobody"""
        now = time.strftime("%Y-%m-%dT%H:%M:%S.000000Z", time.gmtime())
        spec = {"holderIdentity": holder, "leaseDurationSeconds": seconds, "acquireTime": now, "renewTime": now}
        code, lease = self.api.call("GET", f"{self.LEASES}/turn-0")
        if code == 200:
            code, lease = self.api.call("PUT", f"{self.LEASES}/turn-0", {**lease, "spec": spec})
        else:
            code, lease = self.api.call("POST", self.LEASES, {"metadata": {"name": "turn-0", "labels": {"ccnode.io/semaphore": "turn"}}, "spec": spec})
        assert code in (200, 201), lease

    # ---- the hardware ----

    def modes(self):
        """bdf -> active mode, as the hardware has it."""
        return {d["bdf"]: d["mode"] for d in self.ctl_json("modes")}

    def wait_modes(self, mode, seconds=90):
        until(lambda: f"all in {mode}: {self.modes()}", lambda: set(self.modes().values()) == {mode}, seconds)

    def resets(self):
        """bdf -> number of resets so far"""
        return {d["bdf"]: d["resets"] for d in self.ctl_json("counters")}

    def driver(self, bdf):
        try:
            return os.path.basename(os.readlink(f"{self.root}/sys/bus/pci/devices/{bdf}/driver"))
        except FileNotFoundError:
            return None

    def cdi_names(self):
        """kind -> names of its devices"""
        out = {}
        directory = os.path.join(self.root, "var/run/cdi")
        for name in sorted(os.listdir(directory)) if os.path.isdir(directory) else ():
            if not name.endswith((".json", ".yaml")):
                continue
            try:
                with open(os.path.join(directory, name), encoding="utf-8") as f:
                    text = "".join(line for line in f if not line.startswith("#"))
            except FileNotFoundError:
                continue  # withdrawn since the listing
            spec = json.loads(text)
            out[spec["kind"]] = sorted(d["name"] for d in spec["devices"])
        return out


def passes(test):
    began = time.monotonic()
    try:
        test()
        print(f"ok   {test.__name__} ({time.monotonic() - began:.1f} s)", flush=True)
        return True
    except Exception:  # noqa: BLE001 - a report for people
        traceback.print_exc()
        print(f"FAIL {test.__name__} ({time.monotonic() - began:.1f} s)", flush=True)
        return False


def run(*tests, at_once=1):
    """Every test on its own; all are run, the exit status tells. A name on the command line picks. Tests that wait for timers
    of the agent most of their time are run several at once, the long ones first."""
    need()
    chosen = [t for t in tests if not sys.argv[1:] or t.__name__ in sys.argv[1:]]
    good = all_pass(chosen, passes, at_once) if at_once > 1 and len(chosen) > 1 else all([passes(t) for t in chosen])
    sys.exit(0 if good else 1)
