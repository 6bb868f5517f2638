"""bind and unbind: whole groups, drivers, refusals."""
from rig import FAILED, IMPOSSIBLE, IN_USE, OK, Host, main, same


def results(answer):
    return {d["bdf"]: d for d in answer.json()}


def test_bind_and_unbind():
    with Host("hgx-h100") as h:
        first = results(h.run("bind", "-o", "json", code=OK))
        same(len(first), 12)
        for bdf, d in h.list().items():
            same((d["driver"], first[bdf]["to"]), ("vfio-pci", "vfio-pci"))
            assert h.exists(f"/dev/vfio/{d['iommu_group']}"), d
        same({d["result"] for d in results(h.run("bind", "-o", "json", code=OK)).values()}, {"unchanged"})
        gpu = sorted(h.list("gpus"))[0]
        d = results(h.run("unbind", gpu, "-o", "json", code=OK))[gpu]
        same((d["result"], d["from"]), ("changed", "vfio-pci"))
        assert h.driver(gpu) != "vfio-pci"
        same(h.read(f"{gpu}/driver_override"), "(null)", "nothing keeps the host's driver away")
        same(sum(c["resets"] for c in h.counters().values()), 0, "binding resets nothing")


def test_companions_and_foreign_functions():
    with Host("mixed") as h:
        h.run("unbind", "10de:2bb5")
        h.run("bind", "10de:2bb5", code=OK)
        same((h.driver("0000:81:00.0"), h.driver("0000:81:00.1")), ("vfio-pci", "vfio-pci"))
        # the network card in its group has a driver that is in use: not ours to take away
        d = results(h.run("bind", "ab:00.0", "-o", "json", code=IMPOSSIBLE))["0000:ab:00.0"]
        same(d["result"], "refused")
        assert "0000:ac:00.0 (mlx5_core)" in d["error"] and "put back" not in d["error"], d
        same((h.driver("0000:ab:00.0"), h.driver("0000:ac:00.0")), (None, "mlx5_core"))


def test_a_named_driver():
    with Host("h100-pcie") as h:
        h.run("bind", "--driver", "vfio-pci", code=OK)
        (d,) = h.list().values()
        same(d["driver"], "vfio-pci")
        (d,) = results(h.run("bind", "--driver", "no_such_vfio_pci", "-o", "json", code=FAILED)).values()
        assert "no_such_vfio_pci" in d["error"] and d["error"].endswith("; its driver is put back"), d
        same(next(iter(h.list().values()))["driver"], "vfio-pci", "what was bound is bound again")


def test_in_use():
    with Host("h100-pcie") as h:
        (bdf,) = h.list()
        h.run("bind", code=OK)
        pid = h.hold(bdf)
        d = results(h.run("unbind", "-o", "json", code=IN_USE))[bdf]
        same(d["result"], "refused")
        assert f"pid {pid}" in d["error"], d
        same(h.driver(bdf), "vfio-pci")
        h.ctl("release", bdf)
        h.run("unbind", code=OK)


def test_the_hosts_driver():
    """nvidia holds it: idle, so it is taken from it, and given back."""
    with Host("mixed") as h:
        bdf = "0000:3b:00.0"
        same(h.driver(bdf), "nvidia")
        d = results(h.run("bind", bdf, "-o", "json", code=OK))[bdf]
        same((d["from"], d["to"]), ("nvidia", "vfio-pci"))
        with open(f"{h.root}/sys/bus/pci/drivers/vfio-pci/new_id", "w", encoding="ascii") as f:
            f.write(" ".join(h.read(f"{bdf}/{name}")[2:] for name in ("vendor", "device")))  # as vfio-pci ids=
        d = results(h.run("unbind", bdf, "-o", "json", code=OK))[bdf]
        same((d["from"], d["to"]), ("vfio-pci", "nvidia"), "to whom it was, not to whom a probe would give it")
        h.hold(bdf, "nvidia")
        h.run("bind", bdf, code=IN_USE)


main(test_bind_and_unbind, test_companions_and_foreign_functions, test_a_named_driver, test_in_use, test_the_hosts_driver)
