"""preflight and status: what the host says, what the agent says."""
import fcntl
import json
import os
import subprocess
import sys
import tempfile

from rig import BIN, FAILED, OK, SOURCE, Host, main, same

sys.path.insert(0, os.path.join(SOURCE, "tests/functional/standin"))

KATA = "/opt/kata/share/defaults/kata-containers/runtimes/qemu-nvidia-gpu-snp/configuration-qemu-nvidia-gpu-snp.toml"
GOOD_KATA = ('[hypervisor.qemu]\ncold_plug_vfio = "root-port"\n[runtime]\n'
             'pod_resource_api_sock = "/var/lib/kubelet/pod-resources/kubelet.sock"\ncreate_container_timeout = 1200\n'
             '[agent.kata]\ndial_timeout = 1200\n')
RUST_KATA = KATA.replace("/qemu-nvidia-gpu-snp/", "/qemu-nvidia-gpu-snp-runtime-rs/").replace(".toml", "-runtime-rs.toml")


def checks(h, code=None):
    a = h.run("preflight", "-o", "json", code=code).json()
    same(list(a), ["ok", "checks"])
    for c in a["checks"]:
        same(list(c), ["id", "state", "seen", "cure"])
        assert c["cure"] or c["state"] in ("ok", "skipped"), f"no cure: {c}"
    return a["checks"]


def of(found, ident, state):
    return [c for c in found if c["id"] == ident and c["state"] == state]


def test_a_good_host():
    with Host("h100-pcie") as h:
        found = checks(h, code=OK)
        for ident in ("devices", "iommu", "tee", "lockdown", "vfio", "group", "cdi"):
            assert of(found, ident, "ok"), f"{ident}: {found}"
        text = h.run("preflight", code=OK).out
        assert "SEV-SNP guests can be started" in text and "what to do" in text, text
        same(h.counters()["0000:18:00.0"]["reads"], 0, "preflight reads no register")


def test_lockdown_and_groups():
    with Host("mixed") as h:
        h.ctl("lockdown", "integrity")
        found = checks(h, code=FAILED)
        (c,) = of(found, "lockdown", "warning")
        assert "integrity" in c["seen"] and "ccnode bind" in c["cure"], c
        (c,) = of(found, "group", "error")
        assert "0000:ac:00.0 (mlx5_core)" in c["seen"], c
        h.run("unbind", "10de:2bb5")
        assert not any("0000:81" in c["seen"] for c in of(checks(h), "group", "error")), "audio goes along"


def test_lockdown_with_all_bound():
    with Host("h100-pcie") as h:
        h.run("bind", code=OK)
        h.ctl("lockdown", "integrity")
        (c,) = of(checks(h, code=OK), "lockdown", "note")
        assert "VFIO" in c["seen"], c


def test_host_without_tee():
    profile = ('tee: none\ndevices:\n'
               '  - { bdf: "0000:18:00.0", model: h100-pcie, path: "pci0000:17/0000:17:01.0", numa: 0 }\n')
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as f:
        f.write(profile)
        f.flush()
        with Host(f.name) as h:
            (c,) = of(checks(h, code=FAILED), "tee", "error")
            assert "guest" in c["seen"], c


def test_tdx_without_character_devices():
    profile = ('tee: tdx\ncdev: false\ndevices:\n'
               '  - { bdf: "0000:18:00.0", model: h100-pcie, path: "pci0000:17/0000:17:01.0", numa: 0 }\n')
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as f:
        f.write(profile)
        f.flush()
        with Host(f.name) as h:
            (c,) = of(checks(h), "vfio", "warning")
            assert "TDX guests need iommufd" in c["seen"] and "CONFIG_VFIO_DEVICE_CDEV" in c["cure"], c


PREFLIGHT_WITH = 'mount --bind "$1" "$2/proc/cpuinfo" && exec "$3" --host-root "$2" preflight -o json'


def preflight_with(h, cpuinfo):
    """The node's /proc is this machine's: in a mount namespace of its own another file lies over it."""
    with tempfile.NamedTemporaryFile("w") as f:
        f.write(cpuinfo)
        f.flush()
        out = subprocess.run(["unshare", "--mount", "sh", "-c", PREFLIGHT_WITH, "sh", f.name, h.root, os.path.join(BIN, "ccnode")],
                             env=h.env, stdout=subprocess.PIPE, text=True, timeout=120).stdout
        return json.loads(out)["checks"]


def test_a_virtual_machine_is_said():
    with Host("h100-pcie") as h:
        for flags, inside in (("fpu hypervisor svm", True), ("fpu svm", False), ("fpu svm hypervisor_x", False)):
            found = preflight_with(h, f"processor\t: 0\nvendor_id\t: AuthenticAMD\nflags\t\t: {flags}\nbugs\t\t: hypervisor\n")
            same(bool(of(found, "machine", "warning")), inside, flags)


def test_foreign_cdi_files():
    """A version that old consumers refuse is a warning, and an error where Kata's Go shim is installed."""
    with Host("h100-pcie") as h:
        h.put("/etc/cdi/nvidia.yaml", "cdiVersion: 0.7.0\nkind: nvidia.com/gpu\ndevices:\n- name: all\n"
                                      "  containerEdits:\n    additionalGids: [44]\n")
        (c,) = of(checks(h, code=OK), "cdi", "warning")
        assert "/etc/cdi/nvidia.yaml line 1" in c["seen"], c
        h.put("/opt/kata/bin/containerd-shim-kata-v2", "")
        h.put(KATA, GOOD_KATA)
        (c,) = of(checks(h, code=FAILED), "cdi", "error")
        os.unlink(h.root + "/etc/cdi/nvidia.yaml")
        checks(h, code=OK)


def test_kata_configuration():
    with Host("h100-pcie") as h:
        assert of(checks(h, code=OK), "kata", "note")
        h.put("/opt/kata/runtime-rs/bin/containerd-shim-kata-v2", "")
        assert of(checks(h, code=OK), "kata", "warning"), "installed without a configuration for GPUs"
        h.put(KATA, GOOD_KATA)
        (c,) = of(checks(h, code=OK), "kata", "ok")
        assert KATA in c["seen"], c
        h.put(KATA, GOOD_KATA.replace("root-port", "no-port"))
        (c,) = of(checks(h, code=FAILED), "kata", "error")
        assert "root-port" in c["cure"], c
        h.put(KATA, GOOD_KATA.replace("/var/lib/kubelet", "/data/kubelet"))
        (c,) = of(checks(h, code=FAILED), "kata", "error")
        assert "/data/kubelet/pod-resources/kubelet.sock" in c["seen"], c


def test_kata_timeouts():
    with Host("h100-pcie") as h:
        h.put("/opt/kata/bin/containerd-shim-kata-v2", "")
        h.put(KATA, GOOD_KATA.replace("create_container_timeout = 1200", "create_container_timeout = 60"))
        (c,) = of(checks(h, code=OK), "kata", "warning")
        assert "create_container_timeout is 60;" in c["seen"] and "create_container_timeout = 1200" in c["cure"], c
        drop_in = os.path.dirname(KATA) + "/config.d/50-ours.toml"
        h.put(drop_in, "[runtime]\ncreate_container_timeout = 1_800\n")
        assert of(checks(h, code=OK), "kata", "ok"), "a drop-in is the documented way"
        h.put(os.path.dirname(KATA) + "/config.d/60-last.toml", "[runtime]\ncreate_container_timeout = \"20m\"\n")
        (c,) = of(checks(h, code=OK), "kata", "warning")
        assert 'create_container_timeout is "20m", which is no number' in c["seen"], c
        os.unlink(h.root + os.path.dirname(KATA) + "/config.d/60-last.toml")
        h.put(KATA, GOOD_KATA.replace("dial_timeout = 1200", ""))
        (c,) = of(checks(h, code=OK), "kata", "warning")
        assert "dial_timeout is absent, which means 90 s" in c["seen"], c
        os.unlink(h.root + KATA)
        h.put(RUST_KATA, GOOD_KATA.replace("dial_timeout = 1200", "dial_timeout_ms = 10\nreconnect_timeout_ms = 3000"))
        (c,) = of(checks(h, code=OK), "kata", "warning")
        assert "reconnect_timeout_ms is 3000" in c["seen"] and "reconnect_timeout_ms = 1200000" in c["cure"], c
        h.put(RUST_KATA, GOOD_KATA.replace("dial_timeout = 1200", "dial_timeout_ms = 10\nreconnect_timeout_ms = 1200000"))
        assert of(checks(h, code=OK), "kata", "ok")


def test_kubelet_configuration():
    with Host("h100-pcie") as h:
        (c,) = of(checks(h, code=OK), "kubelet", "skipped")
        h.put("/var/lib/kubelet/pod-resources/kubelet.sock", "")
        h.put("/var/lib/kubelet/config.yaml", "kind: KubeletConfiguration\n")
        found = checks(h)
        assert any("cannot be asked" in c["seen"] for c in of(found, "kubelet", "warning")), found
        assert any("2m, the default" in c["seen"] for c in of(found, "kubelet", "warning")), found
        for value, state, words in (("20m", "ok", "is 20m"), ("20m0s", "ok", "is 20m0s"), ("1h30m", "ok", "is 1h30m"),
                                    ("1.5h", "ok", "is 1.5h"), ("500ms", "warning", "is 500ms; "), ("15m0s", "warning", "is 15m0s; "),
                                    ("0s", "warning", "is 2m, the default that 0s stands for"),
                                    ("20", "warning", 'is "20", which is no duration'),
                                    ("soon", "warning", 'is "soon", which is no duration')):
            h.put("/var/lib/kubelet/config.yaml", f"runtimeRequestTimeout: {value}\n")
            found = checks(h)
            assert any(f"runtimeRequestTimeout {words}" in c["seen"] for c in of(found, "kubelet", state)), (value, found)


STATUS = {
    "version": 1, "pid": 0, "agent": "0.1.0", "updated_ms": 1, "node": "n1", "kubernetes": "watching",
    "mode_state": "changing", "ready_state": "false",
    "condition": {"status": "False", "reason": "ChangingMode", "message": "1 of 1 devices is being changed"},
    "devices": [{"bdf": "0000:18:00.0", "kind": "gpu", "name": "H100 PCIe", "resource": "nvidia.com/GH100_H100_PCIE",
                 "mode": "off", "pending_mode": "on", "wanted_mode": "on", "source": "label", "driver": "vfio-pci",
                 "decision": "acting", "health": "changing", "reason": "", "step": "wait-boot", "acting_ms": 1200,
                 "failures": 0, "offered": False, "in_use_by": []}],
}


def test_status():
    with Host("h100-pcie") as h:
        assert "no agent runs" in h.run("status", code=FAILED).err
        # the running agent's lock, which tells across pid namespaces that it lives
        h.put("/run/ccnode/agent.lock", "")
        with open(h.root + "/run/ccnode/agent.lock", "r+", encoding="utf-8") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            h.put("/run/ccnode/status.json", json.dumps({**STATUS, "pid": 4242}))
            text = h.run("status", code=OK).out
            for word in ("cc.mode.state=changing", "wait-boot 1.2 s", "ChangingMode", "0000:18:00.0", "node n1"):
                assert word in text, text
            same(h.run("status", "-o", "json", code=OK).json()["devices"], STATUS["devices"])
            assert "ccnode-agent (pid 4242)" in h.run("set-mode", "off").err, "a running agent is told of"
            h.run("cdi", "write", code=4)
            h.put("/run/ccnode/status.json", json.dumps({**STATUS, "pid": 4242, "version": 99}))
            assert "version 99" in h.run("status", code=FAILED).err
            for garbage in ("", "[]", "{", '{"version": "x"}', "\0\1\2"):
                h.put("/run/ccnode/status.json", garbage)
                h.run("status", code=FAILED)
            h.put("/run/ccnode/status.json", '{"version":1,"pid":1,"devices":[1,null,{}]}')
            h.run("status", code=OK)
        h.put("/run/ccnode/status.json", json.dumps({**STATUS, "pid": 4242}))
        assert "no longer runs" in h.run("status", code=FAILED).err


main(test_a_good_host, test_lockdown_and_groups, test_lockdown_with_all_bound, test_host_without_tee,
     test_tdx_without_character_devices, test_a_virtual_machine_is_said, test_foreign_cdi_files,
     test_kata_configuration, test_kata_timeouts, test_kubelet_configuration, test_status)
