"""Conformance of our CDI files and of our checker with the reference parsers.

Readers, built here from their registries and kept under ${XDG_CACHE_HOME:-~/.cache}/ccnode/cdi:
  newest  Go package tags.cncf.io/container-device-interface, newest     (containerd 2, podman 5)
  kata    the same at v0.6.0 under its path of that time                 (Kata's Go shim)
  rust    crate container-device-interface 1.1.1                         (Kata's Rust shim and agent)

Exit status 77 with the reason when a toolchain or its registry is not there; 1 instead when CCNODE_REQUIRE
names "conformance".
"""
import fcntl
import hashlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "ccnode" / "cdi"
KATA_PATH = "github.com/container-orchestrated-devices/container-device-interface"
failures = []


def cannot(reason):
    required = "conformance" in os.environ.get("CCNODE_REQUIRE", "").replace(",", " ").split()
    print(("FAILED" if required else "SKIPPED") + f": {reason}")
    sys.exit(1 if required else 77)


def tool(name):
    """A toolchain's program: on PATH, or where its own installer puts it."""
    found = shutil.which(name)
    for place in ("/usr/local/go/bin", str(pathlib.Path.home() / ".cargo/bin")):
        found = found or shutil.which(name, path=place)
    return found or cannot(f"no {name} here: install the toolchain to compare with the reference parsers")


def key(*paths):
    h = hashlib.sha256()
    for path in paths:
        h.update(path.read_bytes())
    return h.hexdigest()[:16]


def build(name, *how):
    """One at a time: another checkout's run uses the same cache."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with open(CACHE / f"{name}.lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return build_alone(name, *how)


def build_alone(name, files, command, product, env):
    """Copies files {target: (source, replacements)} into the cache and builds once per content."""
    place = CACHE / f"{name}-{key(*(source for source, _ in files.values()))}"
    program = place / product
    if program.exists():
        return program
    for target, (source, changes) in files.items():
        text = source.read_text()
        for old, new in changes:
            text = text.replace(old, new)
        (place / target).parent.mkdir(parents=True, exist_ok=True)
        (place / target).write_text(text)
    print(f"building reader {name} in {place}", flush=True)
    result = subprocess.run(["nice", "-n", "15", *command], cwd=place, env={**os.environ, **env}, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if result.returncode != 0:
        text = result.stdout.strip()
        away = ("dial tcp", "no such host", "403 Forbidden", "i/o timeout", "Could not resolve", "failed to download",
                "unable to update registry", "failed to get `", "connection refused",
                "lookup disabled by GOPROXY")
        if any(sign in text for sign in away):
            shutil.rmtree(place, ignore_errors=True)
            cannot(f"the registry does not answer for reader {name}: {text.splitlines()[-1]}")
        print(text)
        print(f"FAILED: reader {name} does not build")
        sys.exit(1)
    return program


def readers():
    go, cargo = tool("go"), tool("cargo")
    path = os.pathsep.join([os.path.dirname(go), os.path.dirname(cargo), os.environ["PATH"]])
    go_env = {"PATH": path, "GOFLAGS": "-mod=readonly", "CGO_ENABLED": "0", "GOTOOLCHAIN": "local"}
    main = HERE / "go" / "main.go"
    result = {}
    for name, changes in (("newest", []), ("kata", [("tags.cncf.io/container-device-interface", KATA_PATH)])):
        files = {"main.go": (main, changes)}
        files.update({f: (HERE / "go" / name / f, []) for f in ("go.mod", "go.sum")})
        result[name] = build(f"go-{name}", files, [go, "build", "-o", "cdiread", "."], "cdiread", go_env)
    files = {f: (HERE / "rust" / f, []) for f in ("Cargo.toml", "Cargo.lock", "src/main.rs")}
    result["rust"] = build("rust", files, [cargo, "build", "--locked"], "target/debug/cdiread",
                           {"PATH": path, "CARGO_TARGET_DIR": "target"})
    return result


def read(program, *args):
    out = subprocess.run([program, *map(str, args)], stdout=subprocess.PIPE, text=True, timeout=300, check=True)
    return json.loads(out.stdout)


def check(condition, what):
    if not condition:
        failures.append(what)
        print(f"not right: {what}")


def device(bdf, group, cls="GH100_H100_PCIE", indexed="pgpu", ident="-", cdev="-"):
    return f"{bdf} {ident} {cls} {indexed} {group} {cdev}"


def nodes():
    """Device layouts of a node, by name."""
    gpus = [f"0000:{bus:02x}:00.0" for bus in (0x18, 0x2a, 0x3a, 0x5d, 0x9a, 0xab, 0xba, 0xdb)]
    switches = [f"0000:{bus:02x}:00.0" for bus in (0x05, 0x06, 0x07, 0x08)]
    hgx = [device(b, 10 + i, "GH100_H100_SXM5_80GB") for i, b in enumerate(gpus)]
    hgx += [device(b, 50 + i, "GH100_H100_NVSWITCH", "nvswitch") for i, b in enumerate(switches)]
    return {
        "one": [device("0000:41:00.0", 65)],
        "hgx": hgx,
        "hgx-cdev": [line.rsplit(" ", 1)[0] + f" vfio{i}" for i, line in enumerate(hgx)],
        "numbers": [device(b, 3 + i, "pgpu", "pgpu", 3 + i) for i, b in enumerate(gpus)],
        "group-equals-index": [device(b, 7 - i) for i, b in enumerate(gpus)],
        "cdev-equals-index": [device(b, 40 + i, cdev=f"vfio{7 - i}") for i, b in enumerate(gpus)],
        "shared-group": [device(gpus[0], 7), device(gpus[1], 7)],
        "long-name": [device(gpus[0], 1, "GB202GL_RTX_PRO_6000_BLACKWELL_MAX-Q_WORKSTATION_EDITION")],
        "odd-name": [device(gpus[0], 1, "GH100_GH200_120GB___480GB")],
        "unlisted": [device(gpus[0], 1, "GPU_10DE_2FFF")],
    }


def every_model(names_program):
    """One GPU or switch of every model of the frozen table, as ccnode names them."""
    table = json.loads(subprocess.run([names_program, "names", "-o", "json"], stdout=subprocess.PIPE, check=True).stdout)
    return [device(f"0000:{i // 32:02x}:{i % 32:02x}.0", 100 + i, row["resource"].partition("/")[2],
                   "-" if "NVSWITCH" in row["resource"] else "pgpu") for i, row in enumerate(table)]


def names_of(lines):
    """What must resolve at least: the advertised id in its class, the index in the indexed one."""
    wanted, count = {}, {}
    for line in sorted(lines):
        bdf, ident, cls, indexed, group, cdev = line.split()
        node = f"/dev/vfio/{group}" if cdev == "-" else f"/dev/vfio/devices/{cdev}"
        name = bdf if ident == "-" else ident
        wanted[f"nvidia.com/{cls}={name}"] = [node]
        if indexed == "-":
            continue
        wanted[f"nvidia.com/{indexed}={name}"] = [node]
        if ident == "-":
            wanted[f"nvidia.com/{indexed}={count.setdefault(indexed, 0)}"] = [node]
        count[indexed] = count.setdefault(indexed, 0) + 1
    return wanted


def test_ours_are_accepted(cdi_tool, programs, ccnode):
    layouts = {**nodes(), "every-model": every_model(ccnode)}
    for name, lines in layouts.items():
        with tempfile.TemporaryDirectory() as root:
            out = subprocess.run([cdi_tool, "write", root, "/cdi"], input="\n".join(lines) + "\n", text=True,
                                 stdout=subprocess.PIPE, check=True).stdout
            entries = sum(int(line.split()[1]) for line in out.splitlines())
            answers = {}
            for reader, program in programs.items():
                answers[reader] = answer = read(program, f"{root}/cdi")
                check(answer["errors"] == {}, f"{name}: {reader} refuses: {answer['errors']}")
                check(len(answer["devices"]) == entries, f"{name}: {reader} sees {len(answer['devices'])} of {entries}")
                check(all(len(n) == 1 for n in answer["devices"].values()), f"{name}: more than one node per entry")
                for wanted, node in names_of(lines).items():
                    check(answer["devices"].get(wanted) == node,
                          f"{name}: {reader} resolves {wanted} to {answer['devices'].get(wanted)}, not {node}")
            check(answers["newest"]["devices"] == answers["kata"]["devices"] == answers["rust"]["devices"],
                  f"{name}: the readers differ")
    print(f"{len(layouts)} nodes: every file accepted by {', '.join(programs)}")


GOOD = "cdiVersion: {version}\nkind: {kind}\ndevices:\n- name: {name}\n  containerEdits:\n    {edits}\n{more}"


def variants():
    """Files around the rules, with the severity that our checker must give."""
    def one(version="0.5.0", kind="vendor.com/class", name="dev", edits="env: [A=b]", more=""):
        return GOOD.format(version=version, kind=kind, name=name, edits=edits, more=more)
    yield "plain", "fine", one()
    yield "json", "fine", ('{"cdiVersion":"0.5.0","kind":"vendor.com/class","devices":[{"name":"dev",'
                           '"containerEdits":{"env":["A=b"]}}]}')
    for version in ("0.3.0", "0.4.0", "0.6.0"):
        yield "version " + version, "fine", one(version)
    for version in ("0.7.0", "0.8.0", "1.0.0", "1.1.0"):
        yield "version " + version, "warning", one(version)
    for version in ("0.9.0", "2.0.0", "5", "''", "0.5"):
        yield "version " + version, "error", one(version)
    for kind in ("vendor", "vendor.com/", "vendor.com/10de", "vendor.com/a_", "9.com/a", '"vendor.com/a b"'):
        yield "kind " + kind, "error", one(kind=kind)
    yield "dot in class", "error", one(kind="vendor.com/a.b")
    yield "dot in class, 0.6.0", "fine", one("0.6.0", kind="vendor.com/a.b")
    for name in ('"a b"', '"_a"', '"a_"', '""', '"a/b"'):
        yield "name " + name, "error", one(name=name)
    yield "name with colon and dot", "fine", one(name='"0000:41:00.0"')
    yield "name with digit, 0.4.0", "error", one("0.4.0", name='"0a"')
    yield "number as name", "fine", one(name="0")
    yield "host path, 0.4.0", "error", one("0.4.0", edits="deviceNodes: [{path: /dev/a, hostPath: /dev/b}]")
    yield "host path", "fine", one(edits="deviceNodes: [{path: /dev/a, hostPath: /dev/b}]")
    yield "mount type, 0.3.0", "error", one("0.3.0", edits="mounts: [{hostPath: /a, containerPath: /b, type: bind}]")
    yield "annotations, 0.5.0", "error", one(more="annotations: {a.b/c: d}\n")
    yield "annotations", "fine", one("0.6.0", more="annotations: {a.b/c: d}\n")
    yield "gids, 0.6.0", "error", one("0.6.0", edits="additionalGids: [1]")
    yield "gids", "warning", one("0.7.0", edits="additionalGids: [1]")
    yield "rdt, 0.6.0", "error", one("0.6.0", edits="intelRdt: {closID: a}")
    yield "net, 1.0.0", "error", one("1.0.0", edits="netDevices: [{hostInterfaceName: a, name: b}]")
    yield "net", "warning", one("1.1.0", edits="netDevices: [{hostInterfaceName: a, name: b}]")
    for edits in ("env: [A]", "env: ['=b']", "env: []", "deviceNodes: [{path: ''}]", "deviceNodes: [{type: c}]",
                  "deviceNodes: [{path: /dev/a, type: x}]", "deviceNodes: [{path: /dev/a, permissions: q}]",
                  "hooks: [{hookName: nope, path: /a}]", "hooks: [{hookName: prestart, path: ''}]",
                  "hooks: [{hookName: prestart, path: /a, env: [B]}]", "mounts: [{hostPath: /a}]", "nonsense: 1",
                  "deviceNodes: [{path: /dev/a, nonsense: 1}]", "deviceNodes: [{path: /dev/a, major: x}]",
                  "deviceNodes: {path: /dev/a}", "env: A=b"):
        yield "edits " + edits, "error", one(edits=edits)
    yield "unknown member", "error", one(more="nonsense: 1\n")
    yield "member twice", "error", one(more="kind: vendor.com/class\n")
    yield "device twice", "error", one(more="- name: dev\n  containerEdits:\n    env: [A=b]\n")
    yield "no devices", "error", "cdiVersion: 0.5.0\nkind: vendor.com/class\ndevices: []\n"
    yield "devices left away", "error", "cdiVersion: 0.5.0\nkind: vendor.com/class\n"
    yield "empty", "error", ""
    yield "words", "error", "just words\n"
    yield "cut", "error", one()[:-20] + "[\n"
    yield "tab", "error", "cdiVersion: 0.5.0\n\tkind: vendor.com/class\n"
    yield "flag as name", "fine", one(name="true")
    yield "two documents", "warning", one(more="---\n" + one())
    yield "anchor", "fine", one().replace("containerEdits:", "containerEdits: &e", 1) + "- {name: b, containerEdits: *e}\n"


def test_checker_agrees(cdi_tool, programs):
    """error = every reader refuses it; warning = some reader does, or a known older one; fine = none does."""
    total = 0
    for name, severity, text in variants():
        total += 1
        with tempfile.TemporaryDirectory() as directory:
            suffix = ".json" if text.startswith("{") else ".yaml"
            path = pathlib.Path(directory) / ("vendor" + suffix)
            path.write_text(text)
            out = subprocess.run([cdi_tool, "check", path], stdout=subprocess.PIPE, text=True, check=True).stdout
            check(out.split("\n")[0] == severity, f"{name}: our checker says {out.strip()}, not {severity}")
            refused = {r for r, program in programs.items() if read(program, directory)["errors"]}
            if severity == "fine":
                check(not refused, f"{name}: fine for us, refused by {refused}")
            elif severity == "error":
                check(refused, f"{name}: an error for us, refused by nobody")
            else:
                check(refused and refused != set(programs), f"{name}: a warning, refused by {refused or 'nobody'}")
    print(f"{total} files around the rules: our checker and the readers agree")


def test_broken_neighbour(cdi_tool, programs):
    """What preflight warns of is real: one broken file of another vendor, and Kata's crate reads nothing at all."""
    with tempfile.TemporaryDirectory() as root:
        subprocess.run([cdi_tool, "write", root, "/cdi"], input=device("0000:41:00.0", 65) + "\n", text=True,
                       stdout=subprocess.DEVNULL, check=True)
        pathlib.Path(root, "cdi", "vendor.yaml").write_text("cdiVersion: 0.5.0\nkind: broken\n")
        for reader, program in programs.items():
            answer = read(program, f"{root}/cdi")
            check(answer["errors"], f"{reader} says nothing about a broken neighbour")
        check(not read(programs["rust"], f"{root}/cdi")["devices"], "the crate no longer stops at the first broken file")


def main():
    cdi_tool = sys.argv[1]
    programs = readers()
    test_ours_are_accepted(cdi_tool, programs, sys.argv[2])
    test_checker_agrees(cdi_tool, programs)
    test_broken_neighbour(cdi_tool, programs)
    if failures:
        print(f"{len(failures)} things are not right")
        sys.exit(1)


if __name__ == "__main__":
    main()
