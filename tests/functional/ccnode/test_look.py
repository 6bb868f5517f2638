"""Commands that only look: list, get-mode, names; selectors; JSON that stays."""
import os
import subprocess

from rig import BIN, FAILED, IN_USE, NO_DEVICE, OK, USAGE, Host, main, same

LIST_KEYS = ["bdf", "vendor_id", "device_id", "kind", "chip", "name", "resource", "driver", "iommu_group", "numa_node",
             "mode", "pending_mode", "capable_modes", "in_use_by", "health", "reason"]
MODE_KEYS = ["bdf", "mode", "pending_mode", "capable_modes", "in_use_by", "health", "reason"]


def test_list_names_everything():
    with Host("mixed") as h:
        devices = h.run("list", "-o", "json", code=OK).json()
        for d in devices:
            same(list(d), LIST_KEYS, "members and their order")
        by_id = {d["device_id"]: d for d in devices}
        h100 = by_id["2331"]
        same((h100["vendor_id"], h100["kind"], h100["chip"], h100["name"]), ("10de", "gpu", "gh100", "H100 PCIe"))
        same(h100["resource"], "nvidia.com/GH100_H100_PCIE")
        same(h100["mode"], h.modes()[h100["bdf"]])
        assert isinstance(h100["iommu_group"], int) and h100["health"] == "healthy", h100
        same(by_id["22a3"]["kind"], "nvswitch")
        same(by_id["22a3"]["numa_node"], None)
        same(by_id["20b0"]["capable_modes"], [])
        same(by_id["2330"]["driver"], None)
        assert set(by_id["2331"]["capable_modes"]) >= {"off", "on", "devtools"}, h100
        assert not any(d["bdf"].endswith(".4") for d in devices), "a virtual function is listed"
        text = h.run("list", code=OK).out
        assert all(d["bdf"] in text and d["resource"] in text for d in devices), text


def test_selectors():
    with Host("hgx-h100") as h:
        gpus = sorted(b for b, d in h.list().items() if d["kind"] == "gpu")
        switches = sorted(b for b, d in h.list().items() if d["kind"] == "nvswitch")
        same((len(gpus), len(switches)), (8, 4))
        for selector, wanted in (
                ("gpus", gpus), ("nvswitches", switches), ("gpus[0]", gpus[:1]), ("gpus[0:4]", gpus[:4]),
                ("gpus[6:]", gpus[6:]), ("10de:2330", gpus), ("10DE:22A3", switches), (gpus[3], gpus[3:4]),
                (gpus[3][5:], gpus[3:4]), (gpus[3][5:10], gpus[3:4]), (f"gpus[0],{gpus[7]},nvswitches[1]",
                                                                       [gpus[0], gpus[7], switches[1]])):
            same(sorted(h.list(selector)), sorted(wanted), selector)
        for selector, code in (("10de:ffff", NO_DEVICE), ("gpus[8]", NO_DEVICE), ("ff:1f.7", NO_DEVICE),
                               ("00.0", USAGE), ("gpus[", USAGE), ("everything", USAGE)):
            a = h.run("list", selector, code=code)
            assert selector in a.err and a.out == "", a.err


def test_managed_by_configuration():
    with Host("hgx-h100") as h:
        h.put("/etc/ccnode/ccnode.yaml", "devices: { include: [gpus], exclude: ['gpus[0]'] }\n")
        same(len(h.list()), 7)
        same(len(h.list("nvswitches")), 4, "a selector names any device")
        h.put("/etc/ccnode/ccnode.yaml", "devices: { exclude: [gpus, nvswitches] }\n")
        assert "devices.exclude" in h.run("list", code=NO_DEVICE).err
        h.put("/etc/ccnode/ccnode.yaml", "devices:\n  exclude: ['gpu[0]']\n")
        a = h.run("set-mode", "on", code=USAGE)
        assert 'ccnode.yaml:2:13: devices.exclude: "gpu[0]"' in a.err and "gpus[0:4]" in a.err, a.err
        h.put("/etc/ccnode/ccnode.yaml", "devices: { exclude: [nvswitches, ':00.0'] }\n")
        a = h.run("set-mode", "on", code=NO_DEVICE)
        assert "devices.exclude: ':00.0' is part of " in a.err and "left alone" in a.err, a.err
        same(set(h.modes().values()), {"off"}, "what a mistake could mean is not switched")
        h.put("/etc/ccnode/ccnode.yaml", "devises: {}\n")
        a = h.run("list", code=USAGE)
        assert "ccnode.yaml:1:1" in a.err and "devices" in a.err, a.err


def test_get_mode():
    with Host("h100-pcie") as h:
        (bdf,) = h.list()
        (d,) = h.run("get-mode", "-o", "json", code=OK).json()
        same(list(d), MODE_KEYS)
        same((d["mode"], d["pending_mode"]), ("off", "off"))
        h.set_mode("on", "--no-reset")
        (d,) = h.run("get-mode", bdf, "-o", "json", code=OK).json()
        same((d["mode"], d["pending_mode"]), ("off", "on"))
        (d,) = h.run("get-mode", "--knobs", "-o", "json", code=OK).json()
        same(list(d), MODE_KEYS + ["knobs"])
        knobs = {k["id"]: k for k in d["knobs"]}
        same(len(knobs), 47)
        same((knobs[8]["value"], knobs[6]["value"], knobs[10]["value"]), (1, 0, 2))
        text = h.run("get-mode", "--knobs", code=OK).out
        assert "PENDING" in text and "STATUS" in text, text


def test_device_in_use():
    with Host("h100-pcie") as h:
        (bdf,) = h.list()
        h.run("bind", code=OK)
        before = h.counters()[bdf]
        pid = h.hold(bdf)
        after_hold = h.counters()[bdf]
        d = h.list()[bdf]
        same((d["health"], d["mode"]), ("busy", "unknown"))
        assert any(f"pid {pid}" in user for user in d["in_use_by"]), d
        (d,) = h.run("get-mode", "-o", "json", code=IN_USE).json()
        assert any(f"pid {pid}" in user for user in d["in_use_by"]), d
        assert f"pid {pid}" in h.run("get-mode", code=IN_USE).out
        same({k: h.counters()[bdf][k] for k in ("reads", "writes", "resets")},
             {k: after_hold[k] for k in ("reads", "writes", "resets")}, "a held device is not touched")
        h.ctl("release", bdf)
        h.run("get-mode", code=OK)
        assert h.counters()[bdf]["reads"] > before["reads"]


def test_broken_device():
    with Host("hgx-h100") as h:
        bdf = sorted(h.list("gpus"))[2]
        h.ctl("fault", bdf, "dead")
        d = h.list()[bdf]
        same(d["health"], "failed")
        assert d["reason"], d
        codes = {x["bdf"]: x["mode"] for x in h.run("get-mode", "gpus", "-o", "json", code=FAILED).json()}
        same(sorted(b for b, m in codes.items() if m == "off"), sorted(set(codes) - {bdf}))


def test_no_device():
    with Host("h100-pcie") as h:
        (bdf,) = h.list()
        h.ctl("unplug-surprise", bdf)
        a = h.run("list", code=NO_DEVICE)
        assert "no NVIDIA GPU" in a.err, a.err


def test_names():
    with Host("h100-pcie") as h:
        names = {n["device_id"]: n for n in h.run("names", "-o", "json", code=OK).json()}
        same(list(names["10de:2331"]), ["device_id", "name", "resource"])
        same(names["10de:2331"]["resource"], "nvidia.com/GH100_H100_PCIE")
        same(names["10de:22a3"]["resource"], "nvidia.com/GH100_H100_NVSWITCH")
        same(len({n["resource"] for n in names.values()}), len(names), "no two models share a name")
        h.put("/etc/ccnode/ccnode.yaml", "devicePlugin: { naming: alias, names: { '10de:2331': MY_H100 } }\n")
        names = {n["device_id"]: n["resource"] for n in h.run("names", "-o", "json", code=OK).json()}
        same((names["10de:2331"], names["10de:2330"], names["10de:22a3"]),
             ("nvidia.com/MY_H100", "nvidia.com/pgpu", "nvidia.com/nvswitch"))


def test_help_and_version():
    run = [os.path.join(BIN, "ccnode")]
    text = subprocess.run(run + ["--help"], stdout=subprocess.PIPE, text=True, check=True).stdout
    for word in ("list", "get-mode", "set-mode", "bind", "unbind", "cdi print", "cdi write", "cdi check", "names",
                 "preflight", "status", "--dry-run", "--when-busy", "Exit status"):
        assert word in text, word
    assert "ccnode" in subprocess.run(run + ["--version"], stdout=subprocess.PIPE, text=True, check=True).stdout
    same(subprocess.run(run + ["list", "--host-root", "/nonexistent"], stderr=subprocess.DEVNULL).returncode, USAGE)
    one = subprocess.run(run + ["set-mode", "--help"], stdout=subprocess.PIPE, text=True, check=True).stdout
    assert "--when-busy" in one and "--knobs" not in one, one


main(test_list_names_everything, test_selectors, test_managed_by_configuration, test_get_mode, test_device_in_use,
     test_broken_device, test_no_device, test_names, test_help_and_version)
