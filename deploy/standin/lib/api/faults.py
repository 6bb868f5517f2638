"""What goes wrong on demand. A rule matches requests and says what happens to the next N of them."""

import asyncio
import fnmatch
import itertools
import json
import os
import signal

from .http import Hangup, Reply
from .status import status_object

# kind -> what it does; the text is shown by `ctl fault --help`
KINDS = {
    "status": "answer `code` with a Status object (`message`, `reason`, `retry_after` in seconds)",
    "reset": "TCP reset after `bytes` bytes of the answer (default 0)",
    "close": "close the connection after `bytes` bytes of the answer (default 0)",
    "stall": "send `bytes` bytes of the answer (default 0), then nothing more",
    "truncate": "send half of the answer (or `bytes`), then close",
    "drip": "send the answer byte by byte, `ms` apart (default 50; `bytes` at a time)",
    "delay": "answer `ms` later",
    "malformed": "200 with broken JSON",
    "huge": "200 with one JSON object of `mib` MiB (default 64)",
    "html": "`code` (default 200) with an HTML page, as a proxy would",
    "empty": "200 with an empty body",
    "redirect": "302 to `location`",
    "wrong-node": "200 with the Node of another name",
    "kill": "SIGKILL to process `pid`, `ms` after the request has arrived (default 0; `commit`: when it has had its effect), no answer",
    "body": "`code` (default 200) with the given `body` and `content_type`",
}
_REPLACES = {"status", "malformed", "huge", "html", "empty", "redirect", "wrong-node", "body"}
_CUTS = {"reset": "reset", "close": "close", "stall": "stall"}


class Rule:
    ids = itertools.count(1)

    def __init__(self, spec):
        if spec.get("kind") not in KINDS:
            raise ValueError(f"unknown fault {spec.get('kind')!r}: one of {', '.join(KINDS)}")
        if spec["kind"] == "status" and not isinstance(spec.get("code"), int):
            raise ValueError("a fault of kind status needs a code")
        if spec["kind"] == "kill" and (not isinstance(spec.get("pid"), int) or spec["pid"] <= 1):
            raise ValueError("a fault of kind kill needs the pid of a process")
        self.id = next(self.ids)
        self.spec = spec
        self.kind = spec["kind"]
        self.left = int(spec.get("times", 1))           # 0: until removed
        self.endless = self.left == 0
        self.skip = int(spec.get("skip", 0))
        self.hits = 0

    def matches(self, request):
        s, route = self.spec, request.route
        verb = route.verb if route else request.method.lower()
        if s.get("verb") and verb not in s["verb"].split(","):
            return False
        if s.get("method") and request.method != s["method"].upper():
            return False
        if s.get("path") and not fnmatch.fnmatchcase(request.path, s["path"]):
            return False
        if s.get("resource") and (not route or route.resource_path not in s["resource"].split(",")):
            return False
        if s.get("user") and not fnmatch.fnmatchcase(request.user or "", s["user"]):
            return False
        if s.get("agent") and not fnmatch.fnmatchcase(request.headers.get("user-agent", ""), s["agent"]):
            return False
        return True

    def take(self):
        """True when this request is one of those it happens to."""
        if self.skip > 0:
            self.skip -= 1
            return False
        self.hits += 1
        self.left -= 1
        return True

    def describe(self):
        return {**self.spec, "id": self.id, "hits": self.hits, "left": None if self.endless else max(0, self.left)}

    def performs(self):
        """Whether the request has its effect although the answer goes wrong."""
        if "commit" in self.spec:
            return bool(self.spec["commit"])
        if self.kind in _CUTS:
            return int(self.spec.get("bytes", 0)) > 0
        return self.kind not in _REPLACES and self.kind != "kill"

    def reply(self):
        """The answer instead of the true one, or None."""
        s = self.spec
        if self.kind == "status":
            code = s["code"]
            details = {"retryAfterSeconds": s["retry_after"]} if "retry_after" in s else None
            headers = [("Retry-After", str(s["retry_after"]))] if "retry_after" in s else []
            return Reply(code, status_object(code, s.get("message", f"injected by the stand-in: {code}"), s.get("reason"),
                                             details), headers)
        if self.kind == "malformed":
            return Reply(200, b'{"kind":"Node","apiVersion":"v1","metadata":{"name":"a","labels":{"x":"y",}}]]\n')
        if self.kind == "huge":
            return Reply(200, b'{"kind":"Node","apiVersion":"v1","metadata":{"name":"huge","annotations":{"a":"'
                         + b"x" * (int(s.get("mib", 64)) << 20) + b'"}}}\n')
        if self.kind == "html":
            return Reply(s.get("code", 200), b"<!DOCTYPE html><html><body><h1>Welcome to the proxy</h1></body></html>\n",
                         content_type="text/html")
        if self.kind == "empty":
            return Reply(200, b"")
        if self.kind == "redirect":
            return Reply(302, b"", [("Location", s.get("location", "http://127.0.0.1:1/"))])
        if self.kind == "wrong-node":
            return Reply(200, self._other_node())
        if self.kind == "body":
            return Reply(s.get("code", 200), s.get("body", "").encode(), content_type=s.get("content_type", "application/json"))
        return None

    def _other_node(self):
        node = {"kind": "Node", "apiVersion": "v1", "metadata": {
            "name": self.spec.get("name", "somebody-else"), "resourceVersion": "1", "uid": "0",
            "labels": {"nvidia.com/cc.mode": self.spec.get("mode", "off")}}}
        verbs = self.spec.get("verb", "")
        if "list" in verbs:
            return {"kind": "NodeList", "apiVersion": "v1", "metadata": {"resourceVersion": "1"}, "items": [node]}
        if "watch" in verbs:
            return json.dumps({"type": "MODIFIED", "object": node}).encode() + b"\n"
        return node

    async def before(self, output):
        """Set up the way out; may end the connection at once."""
        s = self.spec
        if self.kind == "delay":
            try:
                await asyncio.wait_for(output.gone.wait(), int(s.get("ms", 1000)) / 1000)
                raise Hangup
            except asyncio.TimeoutError:
                pass
        elif self.kind == "drip":
            output.drip = (int(s.get("bytes", 1)), int(s.get("ms", 50)) / 1000)
        elif self.kind in _CUTS:
            output.cut = (int(s.get("bytes", 0)), _CUTS[self.kind])
        elif self.kind == "kill":
            await asyncio.sleep(int(s.get("ms", 0)) / 1000)
            if not self.performs():
                self._strike()

    def shape(self, output, reply):
        """Faults that need to know the answer's size."""
        if self.kind == "truncate":
            size = int(self.spec.get("bytes", 0)) or (200 + len(reply.body) // 2 if reply else 400)
            output.cut = (size, "close")
        elif self.kind == "kill":
            if self.performs():
                self._strike()
            output.cut = (0, "close")

    def _strike(self):
        """Crash tests: the client dies at this very request, not some milliseconds later."""
        try:
            os.kill(int(self.spec["pid"]), signal.SIGKILL)
        except ProcessLookupError:
            pass


class Faults:
    def __init__(self):
        self.rules = []

    def add(self, spec):
        rule = Rule(spec)
        self.rules.append(rule)
        return rule

    def remove(self, rule_id=None):
        self.rules = [r for r in self.rules if rule_id is not None and r.id != rule_id]

    def take(self, request):
        for rule in self.rules:
            if (rule.endless or rule.left > 0) and rule.matches(request) and rule.take():
                return rule
        return None
