#!/usr/bin/python3
"""Workers that do not come back from the kernel: one device is lost for as long, the others are not."""
import os
import re
import shutil
import signal
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
from rig import BIN, MODE, STATE, Bench, comm, run, same, until  # noqa: E402

GPU = "0000:18:00.0"
RESOURCE = "nvidia.com/GH100_H100_SXM5_80GB"


def worker_of(b, bdf):
    """The process that has the lock of the device. One that has just been started may not have written its number yet: until
    then the file is empty or names the worker before it, which has ended."""
    def alive():
        with open(f"{b.root}/run/ccnode/lock/{bdf}", encoding="utf-8") as f:
            number = f.read().strip()
        return int(number) if number and comm(number) == "ccnode-device" else 0
    return until("a worker has the lock", alive)


def was_killed(pid):
    """A signal that waits for the kernel to let go of the process as well: until then it looks alive."""
    with open(f"/proc/{pid}/status", encoding="utf-8") as f:
        pending = [int(line.split()[1], 16) for line in f if line.startswith(("SigPnd:", "ShdPnd:"))]
    return any(p & 1 << signal.SIGKILL - 1 for p in pending)


def step(b, bdf):
    return next((d["step"] for d in b.status().get("devices", []) if d["bdf"] == bdf), "")


def tries(b):
    """Of that device: workers that a killed agent has left may have others for a moment."""
    return b.log().count(f'"device is in use; looked at again" bdf={GPU}')


def healthy(b):
    return list(b.kubelet.devices().get(RESOURCE, {}).values()).count("Healthy")


def is_named(b, pid):
    condition = b.condition()
    return condition["reason"] == "DeviceFailed" and GPU in condition["message"] and f"pid {pid}" in condition["message"]


def seven_are_served(b, pid, seconds=30):
    b.wait_state("degraded", ready="true", seconds=seconds)
    until("seven are served", lambda: healthy(b) == 7)
    until(lambda: f"{GPU} and pid {pid} are named: {b.condition()}", lambda: is_named(b, pid))


def recovers(b, pid, mode, ready):
    b.ctl("clear", GPU)
    b.wait_state(mode, ready=ready)
    until("eight are served", lambda: healthy(b) == 8)
    until("the stuck process has ended", lambda: comm(pid) == "")


def a_restart_while_a_worker_is_stuck(fault, stuck_in):
    with Bench("hgx-h100") as b:
        b.start_agent()
        b.wait_state("off", ready="false")
        b.ctl("fault", GPU, fault)
        b.label(MODE, "on")
        until("stuck", lambda: step(b, GPU) == stuck_in)
        pid = worker_of(b, GPU)
        b.kill_agent()
        b.start_agent()
        seven_are_served(b, pid)
        b.label(MODE, "devtools")  # whatever is asked for: the seven follow, the stuck one is left alone
        until("they follow", lambda: list(b.modes().values()).count("devtools") == 7)
        b.wait_state("degraded", ready="")
        until(lambda: f"still named: {b.condition()}", lambda: is_named(b, pid))
        same(tries(b), 4, "tries before it counts as failed")
        recovers(b, pid, "devtools", "")


def a_restart_while_a_reset_hangs():
    a_restart_while_a_worker_is_stuck("reset-hangs", "reset")


def a_restart_while_an_unbind_blocks():
    a_restart_while_a_worker_is_stuck("unbind-blocks", "unbind")


def an_overdue_worker_is_abandoned():
    """With the real deadline: 30 s for unbind."""
    with Bench("hgx-h100") as b:
        b.start_agent()
        b.wait_state("off", ready="false")
        b.ctl("fault", GPU, "unbind-blocks")
        b.label(MODE, "on")
        until("stuck", lambda: step(b, GPU) == "unbind")
        pid = worker_of(b, GPU)
        until("abandoned", lambda: "no answer after 30 s" in b.log(), 90)
        same(comm(pid), "ccnode-device", "it is still there")
        seven_are_served(b, pid)
        same(was_killed(pid), False, "somebody has killed it")
        recovers(b, pid, "on", "true")
        assert "the stuck process has ended" in b.log()


WRAPPER = """#!/bin/sh
# ccnode-device, except for what a test plays: {what}
flag={flag} real={device}
for target; do :; done
{body}
"""


def wrap_worker(b, what, body):
    """The agent's workers are a script from now on. Returns the flag that the script looks at."""
    b.programs, flag = os.path.join(b.dir, "bin"), os.path.join(b.dir, "flag")
    os.mkdir(b.programs)
    shutil.copy(os.path.join(BIN, "ccnode-agent"), b.programs)
    with open(os.path.join(b.programs, "ccnode-device"), "w", encoding="utf-8") as f:
        f.write(WRAPPER.format(what=what, flag=flag, device=os.path.join(BIN, "ccnode-device"), body=body))
        os.chmod(f.name, 0o755)
    with open(flag, "w", encoding="utf-8"):
        pass
    return flag


BUSY = f"""[ -e $flag ] && [ "$target" = {GPU} ] || exec $real "$@"
while read -r step argument; do
    echo '{{"step":"'$step'","ok":false,"ms":0,"code":"EBUSY","error":"someone has it open through VFIO"}}'
done"""


def in_use_by_nobody_that_can_be_found():
    """The worker says so for ever, the search of the host finds no one: not for ever in between, but failed."""
    with Bench("hgx-h100") as b:
        flag = wrap_worker(b, "one device is always in use", BUSY)
        b.start_agent()
        b.wait_state("degraded", ready="false")
        until("seven are served", lambda: healthy(b) == 7)
        until(lambda: f"it is told: {b.condition()}", lambda: "someone has it open through VFIO" in b.condition()["message"])
        same(tries(b), 4, "tries before it counts as failed")
        until("tried again", lambda: b.log().count('msg="device failed"') >= 2)
        same(b.labels()[STATE], "degraded", "meanwhile")
        os.unlink(flag)
        b.wait_state("off", ready="false")
        until("eight are served", lambda: healthy(b) == 8)


SLOW_SCAN = """[ "$target" = node ] || exec $real "$@"
while read -r step argument; do
    if [ "$step" = rescan ] && [ -e $flag ]; then
        : >$flag.reached
        while [ -e $flag ]; do sleep 0.05; done
        [ -e $flag.lost ] && exit 1
    fi
    echo "$step $argument" | $real "$@"
done"""


def between_remove_and_scan(b):
    """A dead GPU has been taken from the bus, the scan that would find it again has not begun."""
    flag = wrap_worker(b, "a scan of the bus that does not begin before the flag is gone", SLOW_SCAN)
    b.start_agent()
    b.wait_state("off", ready="false")
    b.ctl("fault", GPU, "dead", "1")
    b.label(MODE, "on")
    until("removed", lambda: os.path.exists(flag + ".reached"))
    assert not os.path.exists(f"{b.root}/sys/bus/pci/devices/{GPU}"), "it is off the bus"
    b.ctl("clear", GPU)
    return flag


def killed_between_remove_and_scan():
    with Bench("hgx-h100", config="recovery: { rescan: true }\n") as b:
        flag = between_remove_and_scan(b)
        with open(flag + ".lost", "w", encoding="utf-8"):
            pass
        b.kill_agent()
        os.unlink(flag)
        b.write_config("")  # what was begun is finished, whatever is configured now
        b.start_agent()
        until("eight are served", lambda: healthy(b) == 8)
        b.wait_state("on", ready="true")
        same(b.metric("ccnode_step_seconds_count", step="rescan"), 1, "scans")
        b.kill_agent()
        b.start_agent()
        until("read", lambda: b.status().get("pid") == b.agent.pid and b.status().get("mode_state") == "on")
        same(b.metric("ccnode_step_seconds_count", step="rescan"), 0, "scans of the next")


def asked_to_end_between_remove_and_scan():
    with Bench("hgx-h100", config="recovery: { rescan: true }\n") as b:
        flag = between_remove_and_scan(b)
        b.agent.send_signal(signal.SIGTERM)
        until("heard", lambda: "asked to end" in b.log())
        try:
            b.agent.wait(1)  # as long as an idle one may take
            raise AssertionError("it did not wait for the scan")
        except subprocess.TimeoutExpired:
            os.unlink(flag)
        same(b.agent.wait(30), 0, "exit status")
        b.agent = None
        assert os.path.exists(f"{b.root}/sys/bus/pci/devices/{GPU}"), "it is on the bus again"
        assert re.search('msg="step done" .*step=rescan', b.log()), b.log()[-2000:]


if __name__ == "__main__":
    run(an_overdue_worker_is_abandoned, a_restart_while_a_reset_hangs, a_restart_while_an_unbind_blocks,
        in_use_by_nobody_that_can_be_found, killed_between_remove_and_scan, asked_to_end_between_remove_and_scan, at_once=3)
