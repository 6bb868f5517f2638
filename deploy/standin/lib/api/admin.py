"""/_standin/: faults, counts, watches, tokens and time, as JSON. `ctl` speaks it; so may any test with curl."""

import asyncio
import collections
import fnmatch
import json
import time

from .faults import KINDS
from .http import Reply
from .status import ApiError

LOG = 20000                     # lines of the request log that are kept


class RequestLog:
    def __init__(self):
        self.lines = collections.deque(maxlen=LOG)
        self.counts = collections.Counter()

    def start(self, request):
        entry = {"time": time.time(), "method": request.method, "verb": request.route.verb if request.route else "",
                 "path": request.path, "query": request.query_text, "code": None,
                 "agent": request.headers.get("user-agent", ""), "user": request.user}
        if request.body:
            entry["content_type"] = request.headers.get("content-type", "")
            entry["body"] = request.body[:8192].decode("utf-8", "replace")
        self.lines.append(entry)
        return entry

    def code(self, entry, code):
        entry["code"] = code
        self.counts[(entry["method"], entry["verb"], entry["path"], code)] += 1

    def clear(self):
        self.lines.clear()
        self.counts.clear()


class Writer:
    """Somebody else who patches the Node all the time: an annotation, or a heartbeat in the status."""

    def __init__(self, rest):
        self.rest, self.task, self.spec, self.writes = rest, None, {}, 0

    def start(self, spec):
        self.stop()
        self.spec = spec
        if float(spec.get("hz", 50)) > 0:
            self.task = asyncio.ensure_future(self._run())

    def stop(self):
        if self.task:
            self.task.cancel()
            self.task = None

    async def _run(self):
        res = self.rest.registry.find("", "v1", "nodes")
        pause = 1 / float(self.spec.get("hz", 50))
        while True:
            for key, old in list(self.rest.store.objects[res.storage].items()):
                if self.spec.get("node") and key[1] != self.spec["node"]:
                    continue
                self.writes += 1
                meta = {**old["metadata"], "annotations": {**(old["metadata"].get("annotations") or {}),
                                                           "standin.ccnode.io/writes": str(self.writes)}}
                if self.spec.get("labels"):
                    meta["labels"] = {**(meta.get("labels") or {}), **self.spec["labels"]}
                self.rest.store.update(res, old, {**old, "metadata": meta})
            await asyncio.sleep(pause)

    def describe(self):
        return {**self.spec, "running": self.task is not None, "writes": self.writes}


class Admin:
    def __init__(self, app):
        self.app = app
        self.writer = Writer(app.rest)

    async def answer(self, request):
        parts = [p for p in request.path.split("/") if p][1:]
        try:
            body = json.loads(request.body) if request.body else {}
            handler = getattr(self, f"_{request.method.lower()}_{parts[0].replace('-', '_')}", None) if parts else self._overview
            if handler is None:
                raise ApiError(404, f"no such control: {request.method} {request.path}")
            result = handler(request, parts[1:], body)
            if asyncio.iscoroutine(result):
                result = await result
            return Reply(200, result)
        except (ValueError, KeyError, TypeError) as e:
            return Reply(400, {"error": f"{type(e).__name__}: {e}"})
        except ApiError as e:
            return Reply(e.code, {"error": str(e)})

    def _overview(self, *_):
        app = self.app
        return {"url": app.url, "resourceVersion": str(app.store.rv), "listening": app.listening,
                "watches": len(app.rest.open_watches), "faults": [r.describe() for r in app.faults.rules],
                "requests": sum(app.log.counts.values()), "writer": self.writer.describe(), "settings": app.settings,
                "objects": {s: len(o) for s, o in app.store.objects.items() if o}}

    # -- faults

    def _get_faults(self, *_):
        return {"rules": [r.describe() for r in self.app.faults.rules], "kinds": KINDS}

    def _post_faults(self, _request, _parts, body):
        return self.app.faults.add(body).describe()

    def _delete_faults(self, _request, parts, _body):
        self.app.faults.remove(int(parts[0]) if parts else None)
        return {}

    # -- log

    def _get_requests(self, request, *_):
        q = request.query
        lines = [e for e in self.app.log.lines
                 if (not q.get("verb") or e["verb"] in q["verb"].split(","))
                 and (not q.get("path") or fnmatch.fnmatchcase(e["path"], q["path"]))
                 and (not q.get("user") or e["user"] == q["user"])
                 and (not q.get("since") or e["time"] >= float(q["since"]))]
        return {"requests": lines, "total": len(lines)}

    def _get_counts(self, *_):
        return {"counts": [{"method": m, "verb": v, "path": p, "code": c, "count": n}
                           for (m, v, p, c), n in sorted(self.app.log.counts.items(), key=str)]}

    def _delete_requests(self, *_):
        self.app.log.clear()
        return {}

    _delete_counts = _delete_requests

    def _get_history(self, request, *_):
        """Every version of the objects of a kind, oldest first: what anybody could have seen, and when; ?since=RV: later ones."""
        since = int(request.query.get("since", "0"))
        plural, name = request.query.get("resource", "nodes"), request.query.get("name")
        res = next((r for r in self.app.registry.all if r.plural == plural), None)
        if res is None:
            raise ApiError(404, f"no such resource: {plural}")
        return {"changes": [{"rv": c.rv, "time": c.at, "type": c.type, "object": c.obj}
                            for c in self.app.store.history[res.storage]
                            if int(c.rv) > since and (not name or c.obj["metadata"]["name"] == name)]}

    # -- watches

    def _get_watches(self, *_):
        return {"watches": [w.describe() for w in self.app.rest.open_watches.values()]}

    def _post_watches(self, _request, _parts, body):
        """how: end, reset, close, truncate, stall, error (code, message), bytes (data)"""
        how = body.get("how", "end")
        if how not in ("end", "reset", "close", "truncate", "stall", "error", "bytes"):
            raise ValueError(f"unknown how {how!r}: end, reset, close, truncate, stall, error, bytes")
        data = None
        if how == "error":
            code = int(body.get("code", 410))
            text = body.get("message", "too old resource version: 1 (2)" if code == 410 else f"injected by the stand-in: {code}")
            data = json.dumps({"type": "ERROR", "object": ApiError(code, text).body}).encode() + b"\n"
        elif how == "bytes":
            data = body.get("data", '{"type":"MODIFIED","object":{]}').encode()
        hit = 0
        for watch in list(self.app.rest.open_watches.values()):
            if body.get("resource") in (None, watch.route.res.plural):
                hit += 1
                watch.inject("bytes" if data is not None else how, data)
                if how == "error" and not body.get("stay"):
                    watch.inject("end")
        return {"watches": hit}

    # -- identity

    def _put_tokens(self, _request, _parts, body):
        """{"accept": {"token": "user"} , "publish": true}"""
        self.app.credentials.accept(body["accept"], body.get("publish", True))
        return self._republish(body)

    def _post_tokens(self, _request, _parts, body):
        """A new token for the published user; {"publish": false} keeps it from the clients' files."""
        token = self.app.credentials.rotate(body.get("publish", True))
        return {"token": token, **self._republish(body)}

    def _post_ca(self, _request, _parts, body):
        if not self.app.credentials.tls:
            raise ValueError("this server speaks plain HTTP")
        self.app.credentials.new_certificate()
        return self._republish(body)

    def _republish(self, body):
        if body.get("publish", True):
            self.app.credentials.publish(self.app.url)
        if body.get("drop", False):
            self.app.close_connections()
        return {"published": bool(body.get("publish", True))}

    # -- time and presence

    def _post_forget_history(self, *_):
        self.app.store.forget_history()
        return {"resourceVersion": str(self.app.store.rv)}

    async def _post_listen(self, _request, _parts, body):
        await (self.app.up() if body["up"] else self.app.down())
        return {"listening": self.app.listening}

    def _put_settings(self, _request, _parts, body):
        for key, value in body.items():
            if key not in self.app.settings:
                raise ValueError(f"unknown setting {key!r}: one of {', '.join(self.app.settings)}")
            self.app.settings[key] = None if value is None else float(value)
        return self.app.settings

    def _post_writer(self, _request, _parts, body):
        self.writer.start(body)
        return self.writer.describe()

    def _get_writer(self, *_):
        return self.writer.describe()

    def _put_pdb(self, _request, _parts, body):
        """[["namespace/pod pattern", {"verdict": "blocked"|"ambiguous"|"allowed", "retry_after": s}], ...]"""
        self.app.rest.pdb = [(str(p), dict(v)) for p, v in body]
        return {"pdb": self.app.rest.pdb}

    def _get_pdb(self, *_):
        return {"pdb": self.app.rest.pdb}

    def _get_state(self, *_):
        return {"objects": {s: list(o.values()) for s, o in self.app.store.objects.items()}}
