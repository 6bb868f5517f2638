"""cdi print, write, check, and files that stay true while devices change."""
import json
import os
import threading

from rig import FAILED, IMPOSSIBLE, OK, USAGE, Host, main, same, until

DIR = "/var/run/cdi"


def spec(h, name, directory=DIR):
    with open(h.root + f"{directory}/nvidia.com-{name}.yaml") as f:
        first, _, rest = f.read().partition("\n")
    assert first.startswith("# Written by ccnode"), first
    return json.loads(rest)


def names(h, name):
    return {d["name"]: [n["path"] for n in d["containerEdits"]["deviceNodes"]] for d in spec(h, name)["devices"]}


def files(h, directory=DIR):
    return sorted(os.listdir(h.root + directory)) if os.path.isdir(h.root + directory) else []


def test_the_guides_device():
    with Host("h100-pcie") as h:
        (bdf,) = h.list()
        same(h.run("cdi", "print", "-o", "json", code=OK).json(), [])
        h.run("bind", code=OK)
        same(files(h), [], "bind alone writes no CDI file")
        printed = h.run("cdi", "print", "-o", "json", code=OK).json()
        a = h.run("cdi", "write", "-o", "json", code=OK).json()
        same((a["written"], a["removed"], a["directory"]), (2, 0, DIR))
        same(files(h), ["nvidia.com-GH100_H100_PCIE.yaml", "nvidia.com-pgpu.yaml"])
        same(printed, [{"file": f, "spec": spec(h, f[11:-5])} for f in files(h)], "print shows what write writes")
        node = names(h, "GH100_H100_PCIE")[bdf]
        same(len(node), 1)
        assert h.exists(node[0]), node
        same(names(h, "pgpu")["0"], node, "nvidia.com/pgpu=0 of the 2023 guide")
        same(spec(h, "pgpu")["cdiVersion"], "0.5.0")
        same(h.run("cdi", "write", "-o", "json", code=OK).json()["unchanged"], 2)
        h.run("unbind", code=OK)
        same(files(h), [], "entries go with their device")


def test_dry_run_and_directory():
    with Host("h100-pcie") as h:
        h.run("bind", code=OK)
        h.run("cdi", "write", "--dry-run", code=OK)
        same(files(h), [])
        h.run("cdi", "write", "--dir", "/etc/cdi", code=OK)
        same(len(files(h, "/etc/cdi")), 2)
        h.run("cdi", "write", "--dir", "relative", code=USAGE)


def test_switches_and_eight_gpus():
    with Host("hgx-h100") as h:
        h.run("bind", code=OK)
        h.run("cdi", "write", code=OK)
        gpus, switches = sorted(h.list("gpus")), sorted(h.list("nvswitches"))
        by_model, indexed, fabric = names(h, "GH100_H100_SXM5_80GB"), names(h, "pgpu"), names(h, "GH100_H100_NVSWITCH")
        for i, bdf in enumerate(gpus):
            same(indexed[str(i)], by_model[bdf])
        same(len({tuple(n) for n in by_model.values()}), 8)
        assert all(bdf in fabric for bdf in switches)
        h.run("unbind", gpus[0], code=OK)
        without = names(h, "pgpu")
        assert "0" not in without, without
        for i, bdf in enumerate(gpus[1:], 1):
            same(without[str(i)], by_model[bdf], "a number stays with its device")
        h.run("cdi", "write", code=OK)
        same(names(h, "pgpu"), without, "write agrees with what unbind left")


def test_entries_go_while_the_mode_changes():
    """Somebody who reads the directory all the time never finds an entry whose node does not exist."""
    with Host("hgx-h100", scale="0.2") as h:
        h.run("bind", code=OK)
        h.run("cdi", "write", code=OK)
        stop, wrong = threading.Event(), []

        def entries():
            try:
                return names(h, "GH100_H100_SXM5_80GB")
            except FileNotFoundError:
                return {}

        def lies(found):
            return {name: node for name, node in found.items() if not h.exists(node[0])}

        def read():
            while not stop.is_set():
                # an entry may have gone, and its node after it, since it was read: only what is read once more is a lie
                again = lies(entries()) and lies(entries())
                wrong.extend(again.items())
                stop.wait(0.005)

        full = len(entries())
        gpus = sorted(h.list("gpus"))[:4]
        for bdf in gpus:
            h.ctl("fault", bdf, "reset-hangs")  # so that the middle of the change can be seen
        reader = threading.Thread(target=read)
        reader.start()
        try:
            p = h.start("set-mode", "on", "gpus[0:4]")
            until("the entries of those four are gone", lambda: len(entries()) == full // 2)
            same([bdf for bdf in gpus if bdf in entries()], [])
            h.ctl("clear")
            out, err = p.communicate(timeout=120)
            same(p.returncode, OK, out + err)
        finally:
            stop.set()
            reader.join()
        same(wrong, [], "entries without a node")
        same(len(entries()), full)
        for node in names(h, "GH100_H100_SXM5_80GB").values():
            assert h.exists(node[0]), node


def test_foreign_files():
    with Host("h100-pcie") as h:
        h.run("bind", code=OK)
        h.put(DIR + "/other.yaml", "cdiVersion: 0.5.0\nkind: nvidia.com/pgpu\ndevices:\n- name: x\n  containerEdits:\n"
                                   "    env: [A=b]\n")
        a = h.run("cdi", "write", code=IMPOSSIBLE)
        assert "other.yaml" in a.err and "nvidia.com/pgpu" in a.err, a.err
        same(files(h), ["nvidia.com-GH100_H100_PCIE.yaml", "other.yaml"])
        os.unlink(h.root + DIR + "/other.yaml")
        h.run("cdi", "write", code=OK)


def test_check():
    with Host("h100-pcie") as h:
        h.run("bind", code=OK)
        h.run("cdi", "write", code=OK)
        os.makedirs(h.root + "/etc/cdi", exist_ok=True)
        same(h.run("cdi", "check", "-o", "json", code=OK).json()["findings"], [])
        h.put("/etc/cdi/nvidia.yaml", "cdiVersion: 0.7.0\nkind: nvidia.com/gpu\ndevices:\n- name: all\n"
                                      "  containerEdits:\n    additionalGids: [44]\n")
        report = h.run("cdi", "check", "-o", "json", code=OK).json()
        (f,) = report["findings"]
        same((f["severity"], f["file"], f["line"], f["ours"]), ("warning", "/etc/cdi/nvidia.yaml", 1, False))
        assert "Kata" in f["cause"] and f["cure"], f
        h.put("/etc/cdi/vendor.json", '{"cdiVersion": "0.5.0",\n "kind": "vendor.com/net",\n "device": []}')
        a = h.run("cdi", "check", code=FAILED)
        assert '/etc/cdi/vendor.json:3: error: a CDI specification has no member "device"' in a.out, a.out
        assert "cure:" in a.out
        h.run("cdi", "check", "--dir", DIR, code=OK)
        # the node vanishes behind our back
        h.ctl("unplug-surprise", next(iter(h.list())))
        report = h.run("cdi", "check", "--dir", DIR, "-o", "json", code=FAILED).json()
        assert all(f["ours"] and "does not exist" in f["cause"] for f in report["findings"]), report
        h.run("cdi", "write", code=OK)
        same(files(h), [])


main(test_the_guides_device, test_dry_run_and_directory, test_switches_and_eight_gpus,
     test_entries_go_while_the_mode_changes, test_foreign_files, test_check)
