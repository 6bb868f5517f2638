"""standin-apiserver ctl: the controls on the command line."""

import argparse
import http.client
import json
import os
import socket
import sys
import urllib.parse

from .faults import KINDS


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("localhost", timeout=30)
        self.unix_path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.unix_path)


def call(directory, method, path, body=None):
    """One control request; returns the decoded answer, raises SystemExit with a reason."""
    connection = _UnixConnection(os.path.join(directory, "admin.sock"))
    try:
        connection.request(method, f"/_standin/{path}", None if body is None else json.dumps(body))
        answer = connection.getresponse()
        result = json.loads(answer.read())
    except (OSError, ValueError) as e:
        raise SystemExit(f"standin-apiserver ctl: no server answers at {directory}/admin.sock: {e}") from e
    finally:
        connection.close()
    if answer.status >= 300:
        raise SystemExit(f"standin-apiserver ctl: {result.get('error', result)}")
    return result


def _fault(a):
    spec = {"kind": a.kind}
    for key in ("verb", "method", "path", "resource", "user", "agent", "times", "skip", "code", "message", "reason", "retry_after",
                "bytes", "ms", "mib", "location", "body", "content_type", "name", "mode", "pid"):
        value = getattr(a, key)
        if value is not None:
            spec[key] = value
    if a.commit:
        spec["commit"] = True
    return call(a.dir, "POST", "faults", spec)


def _query(**values):
    return "?" + urllib.parse.urlencode({k: v for k, v in values.items() if v})


def parser():
    p = argparse.ArgumentParser(prog="standin-apiserver ctl", description="Controls of a running stand-in API server.")
    p.add_argument("--dir", default=os.environ.get("STANDIN_APISERVER_DIR", "."),
                   help="directory of the server (default: $STANDIN_APISERVER_DIR, then the current one)")
    sub = p.add_subparsers(dest="command", required=True)

    def add(name, text, run):
        one = sub.add_parser(name, help=text, description=text)
        one.set_defaults(run=run)
        return one
    add("show", "what the server holds and does", lambda a: call(a.dir, "GET", ""))
    f = sub.add_parser("fault", help="let the next requests go wrong", formatter_class=argparse.RawDescriptionHelpFormatter,
                       epilog="\n".join(f"  {k:12} {v}" for k, v in KINDS.items()))
    f.set_defaults(run=_fault)
    f.add_argument("kind", choices=list(KINDS))
    f.add_argument("--times", type=int, default=1, help="so many requests (0: until cleared; default 1)")
    f.add_argument("--skip", type=int, help="let so many matching requests pass first")
    f.add_argument("--verb", help="get, list, watch, create, update, patch, delete, deletecollection (comma list)")
    f.add_argument("--method", help="GET, POST, ...")
    f.add_argument("--path", help="shell pattern of the path")
    f.add_argument("--resource", help="nodes, nodes/status, pods/eviction, events, ... (comma list)")
    f.add_argument("--user", help="only requests of this user")
    f.add_argument("--agent", help="shell pattern of the User-Agent")
    f.add_argument("--code", type=int)
    f.add_argument("--message")
    f.add_argument("--reason")
    f.add_argument("--retry-after", type=int)
    f.add_argument("--bytes", type=int)
    f.add_argument("--ms", type=int)
    f.add_argument("--mib", type=int)
    f.add_argument("--location")
    f.add_argument("--body")
    f.add_argument("--content-type")
    f.add_argument("--name", help="name of the wrong node")
    f.add_argument("--mode", help="nvidia.com/cc.mode of the wrong node")
    f.add_argument("--pid", type=int, help="of the client to kill")
    f.add_argument("--commit", action="store_true", help="the request has its effect, only the answer is bad")
    c = add("clear", "remove fault rules", lambda a: call(a.dir, "DELETE", f"faults/{a.id}" if a.id else "faults"))
    c.add_argument("id", nargs="?", type=int)
    w = add("watches", "do something to every open watch; without an argument: list them",
            lambda a: call(a.dir, "POST", "watches", {k: v for k, v in (("how", a.how), ("resource", a.resource), ("code", a.code),
                                                                       ("data", a.data), ("stay", a.stay)) if v})
            if a.how else call(a.dir, "GET", "watches"))
    w.add_argument("how", nargs="?", choices=["end", "reset", "close", "truncate", "stall", "error", "bytes"])
    w.add_argument("--resource")
    w.add_argument("--code", type=int, help="of the ERROR event (default 410)")
    w.add_argument("--data", help="raw bytes to send")
    w.add_argument("--stay", action="store_true", help="keep the watch open after an ERROR event")
    r = add("requests", "the request log", lambda a: call(a.dir, "GET", "requests" + _query(verb=a.verb, path=a.path)))
    r.add_argument("--verb")
    r.add_argument("--path")
    add("counts", "requests counted by method, path and code", lambda a: call(a.dir, "GET", "counts"))
    add("reset-counts", "empty log and counts", lambda a: call(a.dir, "DELETE", "requests"))
    h = add("history", "every version of an object since the start",
            lambda a: call(a.dir, "GET", "history" + _query(resource=a.resource, name=a.name)))
    h.add_argument("resource", nargs="?", default="nodes")
    h.add_argument("name", nargs="?")
    t = add("rotate-token", "a new token; the old one is refused",
            lambda a: call(a.dir, "POST", "tokens", {"publish": not a.secret, "drop": a.drop}))
    t.add_argument("--secret", action="store_true", help="do not write it where clients look")
    t.add_argument("--drop", action="store_true", help="close all connections")
    ca = add("rotate-ca", "a new certificate authority", lambda a: call(a.dir, "POST", "ca", {"drop": a.drop}))
    ca.add_argument("--drop", action="store_true", help="close all connections")
    add("forget-history", "older resource versions are gone (410) from now on", lambda a: call(a.dir, "POST", "forget-history", {}))
    add("down", "stop listening and cut all connections", lambda a: call(a.dir, "POST", "listen", {"up": False}))
    add("up", "listen again", lambda a: call(a.dir, "POST", "listen", {"up": True}))
    wr = add("writer", "somebody who writes the Node HZ times a second (0: stop)",
             lambda a: call(a.dir, "POST", "writer", {"hz": a.hz, **({"node": a.node} if a.node else {})}))
    wr.add_argument("hz", type=float)
    wr.add_argument("--node")
    pdb = add("pdb", "verdict on evictions of pods that match NAMESPACE/POD",
              lambda a: call(a.dir, "PUT", "pdb", [[a.pattern, {"verdict": a.verdict,
                                                                **({"retry_after": a.retry_after} if a.retry_after else {})}]]))
    pdb.add_argument("pattern")
    pdb.add_argument("verdict", choices=["allowed", "blocked", "ambiguous"])
    pdb.add_argument("--retry-after", type=int)
    s = add("set", "change a setting: bookmark=SECONDS, reap=SECONDS",
            lambda a: call(a.dir, "PUT", "settings", dict(item.split("=", 1) for item in a.item)))
    s.add_argument("item", nargs="+", metavar="NAME=VALUE")
    return p


def main(argv):
    a = parser().parse_args(argv)
    try:
        result = a.run(a)
    except ValueError as e:
        sys.exit(f"standin-apiserver ctl: {e}")
    print(json.dumps(result, indent=2))
    return 0
