"""The simulated node and everything that runs on it, started and ended."""

import ctypes
import json
import os
import secrets
import signal
import socket
import stat
import subprocess
import time

SOURCE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
NODE = "hgx-1"
PR_SET_PDEATHSIG = 1  # prctl(2)


class Failed(Exception):
    """A step that was not as it should be; the text is for the person at the terminal."""


def die_with_parent():
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def until(what, check, seconds):
    end = time.monotonic() + seconds
    while True:
        result = check()
        if result:
            return result
        if time.monotonic() > end:
            raise Failed(f"not within {seconds} s: {what}")
        time.sleep(0.01)


class Stage:
    def __init__(self, run, build, profile):
        self.run, self.build, self.profile = run, build, profile
        self.bin = os.path.join(build, "bin")
        self.root = os.path.join(run, "node")
        self.api_dir, self.kubelet_ctl = os.path.join(run, "api"), os.path.join(run, "kubelet.sock")
        self.kubeconfig = os.path.join(self.api_dir, "kubeconfig")
        self.config, self.log = os.path.join(run, "ccnode.yaml"), os.path.join(run, "agent.log")
        self.processes, self.agent, self.environment = [], None, {}

    # ---- start ----

    def start_node(self):
        if not os.access(os.path.join(self.bin, "ccnode-sim"), os.X_OK):
            raise Failed(f"there is no ccnode-sim in {self.bin}: build it, or leave --build away")
        self.tool("ccnode-sim", "--profile", self.profile, "--root", self.root)
        for line in self.tool("ccnode-sim", "env", "--root", self.root).splitlines():
            key, _, value = line.partition("=")
            self.environment[key] = value

    def start_api(self):
        os.mkdir(self.api_dir)
        self.start("apiserver", "--dir", self.api_dir, "--node", NODE, "--token", secrets.token_hex(16))

    def start_kubelet(self):
        self.start("kubelet", "--root", self.root, "--kubeconfig", self.kubeconfig, "--node", NODE, "--pods", "--ctl",
                   self.kubelet_ctl, "--status-interval", "1")

    def start_agent(self):
        if not os.path.exists(self.config):
            with open(self.config, "w", encoding="utf-8") as file:
                file.write('# the defaults of the product; only the port is any free one\nhttp: { listen: "127.0.0.1:0" }\n')
        command = [os.path.join(self.bin, "ccnode-agent"), "--config", self.config, "--host-root", self.root, "--kubeconfig",
                   self.kubeconfig, "--node-name", NODE]
        with open(self.log, "ab") as log:
            self.agent = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd=self.run,
                                          env={**os.environ, **self.environment}, preexec_fn=die_with_parent)
        self.remember(self.agent)
        return self.agent

    def start(self, program, *options):
        """A stand-in; it says when it is ready."""
        errors = open(os.path.join(self.run, f"{program}.log"), "w+", encoding="utf-8")
        process = subprocess.Popen([os.path.join(SOURCE, "deploy/standin", program), "--die-with-parent", *options],
                                   stdout=subprocess.PIPE, stderr=errors, stdin=subprocess.DEVNULL, text=True, cwd=self.run)
        self.processes.append(process)
        self.remember(process)
        if not process.stdout.readline().startswith("ready"):
            process.wait()
            errors.seek(0)
            raise Failed(f"the {program} stand-in did not start: {errors.read().strip()[-400:]}")

    def remember(self, process):
        """For the shell that cleans up after us when we cannot."""
        with open(os.path.join(self.run, "pids"), "a", encoding="utf-8") as file:
            file.write(f"{process.pid}\n")

    def write_tools(self):
        """Commands for people: the same names as on a real node, already pointed at this one."""
        folder = os.path.join(self.run, "bin")
        os.mkdir(folder)
        export = "".join(f"export {key}='{value}'\n" for key, value in self.environment.items())
        node_env = f"export CCNODE_SIM_ROOT='{self.root}'\n"
        tools = {
            "ccnode": f"{export}exec '{self.bin}/ccnode' --host-root '{self.root}' \"$@\"\n",
            "ccnode-sim": f"{node_env}exec '{self.bin}/ccnode-sim' \"$@\"\n",
            "kubelet-ctl": f"exec '{SOURCE}/deploy/standin/kubelet' ctl --socket '{self.kubelet_ctl}' \"$@\"\n",
            "api-ctl": f"exec '{SOURCE}/deploy/standin/apiserver' ctl --dir '{self.api_dir}' \"$@\"\n",
            "kubectl": f"export KUBECONFIG='{self.kubeconfig}' CCNODE_KUBECTL='{self.find_kubectl()}'\n"
                       f". '{SOURCE}/deploy/lib/kubectl.sh'\nkubectl_find '{self.run}' && kubectl_run \"$@\"\n",
        }
        for name, text in tools.items():
            if name == "ccnode" and not os.path.exists(os.path.join(self.bin, name)):
                continue
            path = os.path.join(folder, name)
            with open(path, "w", encoding="utf-8") as file:
                file.write("#!/bin/sh\n" + text)
            os.chmod(path, stat.S_IRWXU)

    def find_kubectl(self):
        """Decided once, as deploy/lib/kubectl.sh does; an unpacked one is kept in build/ for the next time."""
        cache = os.path.join(SOURCE, "build")
        os.makedirs(cache, exist_ok=True)
        script = f". '{SOURCE}/deploy/lib/kubectl.sh'; kubectl_find '{cache}' && echo \"$KUBECTL\""
        done = subprocess.run(["/bin/sh", "-c", script], capture_output=True, text=True, stdin=subprocess.DEVNULL)
        if done.returncode:
            raise Failed(done.stderr.strip())
        self.kubectl_name = done.stdout.strip()
        return self.kubectl_name

    # ---- use ----

    def tool(self, program, *words):
        done = subprocess.run([os.path.join(self.bin, program), *words], capture_output=True, text=True, timeout=60,
                              stdin=subprocess.DEVNULL, env={**os.environ, "CCNODE_SIM_ROOT": self.root})
        if done.returncode:
            raise Failed(f"{program} {' '.join(words)}: {(done.stderr or done.stdout).strip()}")
        return done.stdout

    def hardware(self, what):
        """What the simulated hardware itself says of GPUs and NVSwitches, past the agent: bdf -> its record."""
        entries = json.loads(self.tool("ccnode-sim", "ctl", "--json", what))
        return {entry["bdf"]: entry for entry in entries if not self.is_audio(entry["bdf"])}

    def driver(self, bdf):
        link = os.path.join(self.root, "sys/bus/pci/devices", bdf, "driver")
        return os.path.basename(os.readlink(link)) if os.path.islink(link) else None

    def is_audio(self, bdf):
        """The companion function of a graphics board."""
        try:
            with open(os.path.join(self.root, "sys/bus/pci/devices", bdf, "class"), encoding="ascii") as file:
                return file.read().startswith("0x0403")
        except OSError:
            return False

    def kubectl(self, *words):
        """The operator. Returns what it printed; the requests that curl shows come with it."""
        done = subprocess.run([os.path.join(self.run, "bin/kubectl"), *words], capture_output=True, text=True, timeout=60,
                              stdin=subprocess.DEVNULL)
        if done.returncode:
            raise Failed(f"kubectl {' '.join(words)}: {done.stderr.strip()}")
        return done.stderr + done.stdout

    def kubelet(self, command, **request):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(30)
            connection.connect(self.kubelet_ctl)
            connection.sendall(json.dumps({"command": command, **request}).encode() + b"\n")
            answer = b""
            while not answer.endswith(b"\n"):
                data = connection.recv(1 << 16)
                if not data:
                    raise Failed("the kubelet stand-in hung up")
                answer += data
        return json.loads(answer)

    # ---- end ----

    def kill_agent(self):
        self.agent.kill()
        self.agent.wait()

    def stop(self):
        """Everything, whatever state it is in. Returns what did not end as it should."""
        wrong = []
        if self.agent and self.agent.poll() is None:
            self.agent.terminate()
            try:
                if self.agent.wait(10) != 0:
                    wrong.append(f"ccnode-agent ended with status {self.agent.returncode}")
            except subprocess.TimeoutExpired:
                self.kill_agent()
                wrong.append("ccnode-agent did not end within 10 s of SIGTERM")
        for process in reversed(self.processes):
            process.terminate()
        for process in self.processes:
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
        if os.path.isdir(self.root):
            done = subprocess.run([os.path.join(self.bin, "ccnode-sim"), "stop", "--root", self.root], capture_output=True,
                                  text=True, timeout=60)
            if done.returncode:
                wrong.append(f"ccnode-sim stop: {done.stderr.strip()}")
        return wrong
