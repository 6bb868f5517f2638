"""The API itself: routes, verbs, content negotiation, watches."""

import asyncio
import base64
import copy
import fnmatch
import json
import random

from . import discovery, events, patch, selectors, validate
from .http import Reply, Stream
from .status import ApiError, conflict, invalid, status_object
from .store import now, suffix
from .table import partial, table

_PATCHES = ("application/json-patch+json", "application/merge-patch+json", "application/strategic-merge-patch+json",
            "application/apply-patch+yaml")


class Route:
    """A path and method, understood."""

    def __init__(self, res, verb, namespace, name, sub):
        self.res, self.verb, self.namespace, self.name, self.sub = res, verb, namespace, name, sub

    @property
    def resource_path(self):
        return self.res.plural + (f"/{self.sub}" if self.sub else "")


def find_route(registry, request):
    """None for paths that are no resource."""
    parts = [p for p in request.path.split("/") if p]
    if parts[:2] == ["api", "v1"]:
        group, version, rest = "", "v1", parts[2:]
    elif parts[:1] == ["apis"] and len(parts) >= 4:
        group, version, rest = parts[1], parts[2], parts[3:]
    else:
        return None
    namespace = ""
    if len(rest) >= 3 and rest[0] == "namespaces" and registry.find(group, version, rest[2]):
        namespace, rest = rest[1], rest[2:]
    if not rest or len(rest) > 3:
        return None
    res = registry.find(group, version, rest[0])
    if res is None:
        return None
    name = rest[1] if len(rest) > 1 else None
    sub = rest[2] if len(rest) > 2 else None
    if sub and not (sub == "status" and res.status) and sub not in [n for n, _ in res.extra]:
        return None
    verb = {"GET": "get" if name else "list", "POST": "create", "PUT": "update", "PATCH": "patch",
            "DELETE": "delete" if name else "deletecollection"}.get(request.method)
    if verb == "list" and request.flag("watch"):
        verb = "watch"
    return Route(res, verb, namespace, name, sub) if verb else None


def _accepted(request, is_list):
    """Form of the answer: "full", "partial" or "table"."""
    header = request.headers.get("accept", "*/*")
    for item in header.split(","):
        kind, *params = [p.strip() for p in item.split(";")]
        options = dict(p.split("=", 1) for p in params if "=" in p)
        if kind not in ("application/json", "application/*", "*/*", "application/json;stream=watch"):
            continue
        form = options.get("as")
        if form is None:
            return "full"
        if form == "Table" and options.get("g") == "meta.k8s.io" and options.get("v") == "v1":
            return "table"
        if form in ("PartialObjectMetadata", "PartialObjectMetadataList"):
            # apiserver pkg/endpoints/handlers/response.go refuses the form that does not fit the object
            if form.endswith("List") != is_list:
                raise ApiError(406, f"you requested {form}, but the requested object is "
                                    f"{'a list' if is_list else 'not a list'}")
            return "partial"
    raise ApiError(406, "only the following media types are accepted: application/json (also as Table, PartialObjectMetadata)")


def _json_body(request):
    try:
        body = json.loads(request.body)
    except ValueError as e:
        raise ApiError(400, f"the object provided is unrecognized (must be of type JSON): {e}") from e
    return body


class Rest:
    def __init__(self, store, registry, settings):
        self.store, self.registry, self.settings = store, registry, settings
        self.pdb = []               # (pattern, verdict) pairs, first match wins
        self.open_watches = {}      # id -> Watch

    # -- entry

    def answer(self, request):
        route = request.route
        handler = {"get": self._get, "list": self._list, "watch": self._watch, "create": self._create,
                   "update": self._update, "patch": self._patch, "delete": self._delete,
                   "deletecollection": self._delete_collection}[route.verb]
        if route.sub == "eviction":
            handler = self._evict
        elif route.sub == "binding":
            handler = self._bind
        elif route.verb == "create" and route.name:
            raise ApiError(405, "the server does not allow this method on the requested resource")
        return handler(request, route)

    def other(self, request):
        """Paths that are no resource: discovery and health."""
        parts = [p for p in request.path.split("/") if p]
        if request.method != "GET":
            raise ApiError(405, "the server does not allow this method on the requested resource")
        if parts in (["healthz"], ["readyz"], ["livez"]):
            return Reply(200, b"ok", content_type="text/plain")
        if parts == ["version"]:
            return Reply(200, discovery.VERSION)
        if parts == ["api"]:
            return Reply(200, discovery.api_versions(request.headers.get("host", "")))
        if parts == ["apis"]:
            return Reply(200, discovery.api_groups(self.registry))
        if parts == ["api", "v1"]:
            return Reply(200, discovery.resource_list(self.registry, "", "v1"))
        if parts == ["openapi", "v2"]:
            return Reply(200, discovery.openapi_v2(), content_type="application/com.github.proto-openapi.spec.v2.v1.0+protobuf")
        if parts == ["openapi", "v3"]:
            return Reply(200, discovery.openapi_index(self.registry))
        if parts == ["openapi", "v3", "api", "v1"]:
            return Reply(200, discovery.openapi(self.registry, "", "v1"))
        groups = self.registry.groups()
        if parts[:1] == ["apis"] and len(parts) == 2 and parts[1] in dict(groups):
            return Reply(200, discovery.api_group(parts[1], dict(groups)[parts[1]]))
        if parts[:1] == ["apis"] and tuple(parts[1:]) in groups:
            return Reply(200, discovery.resource_list(self.registry, *parts[1:]))
        if parts[:3] == ["openapi", "v3", "apis"] and tuple(parts[3:]) in groups:
            return Reply(200, discovery.openapi(self.registry, *parts[3:]))
        raise ApiError(404, "the server could not find the requested resource")

    # -- forms

    @staticmethod
    def _face(res, obj):
        return events.to_new(obj) if res.group == "events.k8s.io" else obj

    def _one(self, request, route, obj, code=200):
        form = _accepted(request, False)
        obj = self._face(route.res, obj)
        if form == "partial":
            obj = partial(obj)
        elif form == "table":
            obj = table(route.res, [obj], {"resourceVersion": obj["metadata"]["resourceVersion"]},
                        request.query.get("includeObject", "Metadata"))
        return Reply(code, obj)

    def _filter(self, request, route):
        labels = selectors.label_selector(request.query.get("labelSelector"))
        fields, _ = selectors.field_selector(request.query.get("fieldSelector"), route.res)

        def matches(obj):
            return ((not route.namespace or obj["metadata"].get("namespace") == route.namespace)
                    and (labels is None or labels(obj)) and (fields is None or fields(obj)))
        return matches

    # -- reading

    def _get(self, request, route):
        self.store.require_rv(request.query.get("resourceVersion"))
        return self._one(request, route, self.store.get(route.res, route.namespace, route.name))

    def _list(self, request, route):
        form = _accepted(request, True)
        self.store.require_rv(request.query.get("resourceVersion"))
        matches = self._filter(request, route)
        items = [o for o in self.store.list(route.res, route.namespace) if matches(o)]
        meta = {"resourceVersion": str(self.store.rv)}
        items, meta = self._page(request, items, meta)
        faces = [self._face(route.res, o) for o in items]
        if form == "table":
            return Reply(200, table(route.res, items, meta, request.query.get("includeObject", "Metadata")))
        if form == "partial":
            return Reply(200, {"kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1", "metadata": meta,
                               "items": [partial(o) for o in faces]})
        # items of a typed list carry neither kind nor apiVersion in the real server
        bare = faces if route.res.custom else [{k: v for k, v in o.items() if k not in ("kind", "apiVersion")} for o in faces]
        return Reply(200, {"kind": route.res.list_kind, "apiVersion": route.res.api_version, "metadata": meta, "items": bare})

    def _page(self, request, items, meta):
        limit = request.query.get("limit", "0")
        limit = int(limit) if limit.isdigit() else 0
        start = 0
        if request.query.get("continue"):
            try:
                rv, start = json.loads(base64.urlsafe_b64decode(request.query["continue"]))
            except (ValueError, TypeError) as e:
                raise ApiError(400, "continue key is not valid") from e
            if rv < self.store.start:
                raise ApiError(410, "The provided continue parameter is too old to display a consistent list result.",
                               reason="Expired")
        if limit and len(items) > start + limit:
            token = base64.urlsafe_b64encode(json.dumps([self.store.rv, start + limit]).encode()).decode()
            meta = {**meta, "continue": token, "remainingItemCount": len(items) - start - limit}
        return items[start:start + limit] if limit else items[start:], meta

    # -- watching

    def _watch(self, request, route):
        form = _accepted(request, False)
        initial = request.query.get("sendInitialEvents")
        if initial is not None and request.query.get("resourceVersionMatch") != "NotOlderThan":
            raise ApiError(422, 'ListOptions.meta.k8s.io "" is invalid: resourceVersionMatch: Forbidden: '
                                "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan", reason="Invalid")
        if initial is None and request.query.get("resourceVersionMatch"):
            raise ApiError(422, 'ListOptions.meta.k8s.io "" is invalid: resourceVersionMatch: Forbidden: '
                                "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
                           reason="Invalid")
        rv = request.query.get("resourceVersion", "")
        if rv and not rv.isdigit():
            raise ApiError(400, f'invalid resource version "{rv}"')
        watch = Watch(self, request, route, form, self._filter(request, route))
        return Stream(watch.chunks())

    # -- writing

    def _dry(self, request):
        value = request.query.get("dryRun")
        if value not in (None, "", "All"):
            raise ApiError(400, f'dryRun: Unsupported value: "{value}": supported values: "All"')
        if len(request.query.get("fieldManager", "")) > 128:
            raise ApiError(422, 'fieldManager: Too long: may not be more than 128 bytes', reason="Invalid")
        return value == "All"

    def _checked(self, route, obj):
        """Kind, version and metadata of what a client wants stored."""
        res = route.res
        if not isinstance(obj, dict) or not isinstance(obj.get("metadata", {}), dict):
            raise ApiError(400, "the object provided is not an API object")
        for key, want in (("apiVersion", res.api_version), ("kind", res.kind)):
            if obj.get(key, want) != want:
                raise ApiError(400, f"the {key} in the data ({obj[key]}) does not match the expected one ({want})")
        meta = {k: v for k, v in obj.get("metadata", {}).items() if v is not None}
        if res.namespaced:
            if route.namespace and meta.get("namespace", route.namespace) != route.namespace:
                raise ApiError(400, f"the namespace of the provided object does not match the namespace sent on the "
                                    f"request: {meta['namespace']!r} and {route.namespace!r}")
            meta["namespace"] = route.namespace
        else:
            meta.pop("namespace", None)
        if route.name and meta.get("name", route.name) != route.name:
            raise ApiError(400, f"the name of the object ({meta['name']}) does not match the name on the URL ({route.name})")
        obj = {k: v for k, v in obj.items() if v is not None}
        obj.update(apiVersion=res.api_version, kind=res.kind, metadata=meta)
        if res.kind in ("Node", "Pod"):
            obj.setdefault("spec", {})
        validate.check(res, obj)
        if res.kind == "Event":
            obj = events.to_core(obj)
        return obj

    def _create(self, request, route):
        dry = self._dry(request)
        obj = _json_body(request)
        return self._one(request, route, self._create_object(route, obj, dry), 201)

    def _create_object(self, route, obj, dry):
        if isinstance(obj, dict) and isinstance(obj.get("metadata"), dict):
            meta = obj["metadata"]
            if not meta.get("name") and meta.get("generateName"):
                obj = {**obj, "metadata": {**meta, "name": f"{meta['generateName']}{suffix()}"}}
        obj = self._checked(route, obj)
        if route.res.namespaced:
            self.store.get(self.registry.find("", "v1", "namespaces"), "", route.namespace)
        if route.res.kind == "Pod":
            obj = _new_pod(obj)
        elif route.res.kind == "Namespace":
            obj = {**obj, "status": {"phase": "Active"}}
        return self.store.create(route.res, obj, dry)

    def _store(self, request, route, old, new):
        """Common end of PUT and PATCH: what the endpoint may change, then the write."""
        new = dict(new)
        res = route.res
        if res.status:
            keep = "spec" if route.sub == "status" else "status"
            if keep in old:
                new[keep] = old[keep]
            else:
                new.pop(keep, None)
        new = self._checked(route, self._face(res, new) if res.kind == "Event" else new)
        if res.kind == "Pod" and route.sub is None and (old["spec"].get("nodeName") != new["spec"].get("nodeName")):
            raise ApiError(422, f'Pod "{route.name}" is invalid: spec: Forbidden: pod updates may not change fields other '
                                "than the image, activeDeadlineSeconds, tolerations", reason="Invalid")
        return self._one(request, route, self.store.update(res, old, new, self._dry(request)))

    def _update(self, request, route):
        old = self.store.get(route.res, route.namespace, route.name)
        body = _json_body(request)
        if not isinstance(body, dict):
            raise ApiError(400, "the object provided is not an API object")
        if route.res.kind == "Event":
            body = events.to_core(body)
        else:
            for key, want in (("apiVersion", route.res.api_version), ("kind", route.res.kind)):
                if body.get(key, want) != want:
                    raise ApiError(400, f"the {key} in the data ({body[key]}) does not match the expected one ({want})")
        if route.res.kind == "Lease" and not (body.get("metadata") or {}).get("resourceVersion"):
            raise invalid("Lease", route.name, [("metadata.resourceVersion",
                                                 "Invalid value: 0x0: must be specified for an update")])
        return self._store(request, route, old, body)

    def _patch(self, request, route):
        content = request.headers.get("content-type", "").split(";")[0].strip()
        if content not in _PATCHES or (route.res.custom and content == _PATCHES[2]):
            raise ApiError(415, "the body of the request was in an unknown format - accepted media types include: "
                           + ", ".join(p for p in _PATCHES if not (route.res.custom and p == _PATCHES[2])))
        body = _json_body(request)
        if content == _PATCHES[3]:
            return self._apply(request, route, body)
        old = self.store.get(route.res, route.namespace, route.name)
        face = self._face(route.res, old)
        if content == _PATCHES[0]:
            new = patch.json_patch(face, body)
        elif not isinstance(body, dict):
            raise ApiError(400, "error decoding patch: a JSON object is needed")
        elif content == _PATCHES[1]:
            new = patch.merge(face, body)
        else:
            new = patch.strategic(face, body, route.res.kind)
        if not isinstance(new, dict) or not isinstance(new.get("metadata"), dict):
            raise ApiError(422, "the patched object is no API object", reason="Invalid")
        asked = (body.get("metadata") or {}).get("resourceVersion") if isinstance(body, dict) else None
        if asked and asked != old["metadata"]["resourceVersion"]:
            raise conflict(route.res, route.name)
        new["metadata"].setdefault("resourceVersion", old["metadata"]["resourceVersion"])
        return self._store(request, route, old, events.to_core(new) if route.res.kind == "Event" else new)

    def _apply(self, request, route, body):
        """Server-side apply without ownership: a strategic merge that creates what is missing."""
        if not request.query.get("fieldManager"):
            raise ApiError(400, "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: is required for apply patch")
        if not isinstance(body, dict):
            raise ApiError(400, "error decoding patch: a JSON object is needed")
        key = (route.namespace, route.name)
        old = self.store.objects[route.res.storage].get(key)
        if old is None:
            return self._one(request, route, self._create_object(route, body, self._dry(request)), 201)
        return self._store(request, route, old, patch.strategic(old, body, route.res.kind))

    # -- deleting

    def _delete(self, request, route):
        old = self.store.get(route.res, route.namespace, route.name)
        options = _json_body(request) if request.body else {}
        if not isinstance(options, dict):
            raise ApiError(400, "DeleteOptions: a JSON object is needed")
        for key in ("uid", "resourceVersion"):
            want = (options.get("preconditions") or {}).get(key)
            if want and want != old["metadata"][key]:
                raise conflict(route.res, route.name, f"the {key} in the precondition ({want}) does not match")
        grace = request.query.get("gracePeriodSeconds", options.get("gracePeriodSeconds"))
        if request.query.get("dryRun") == "All" or options.get("dryRun") == ["All"]:
            return self._one(request, route, old)
        return self._one(request, route, self.remove(route.res, old, None if grace is None else int(grace)))

    def remove(self, res, old, grace=None):
        """Pods that a node runs get their grace period; the kubelet's (or our own) second delete ends them."""
        if res.kind == "Pod" and old["spec"].get("nodeName") and grace != 0:
            if old["metadata"].get("deletionTimestamp"):
                return old
            if grace is None:
                grace = old["spec"].get("terminationGracePeriodSeconds", 30)
            if grace > 0:
                marked = self.store.mark_deleted(res, old, grace)
                self._reap_later(res, marked, grace)
                return marked
        return self.store.delete(res, old)

    def _reap_later(self, res, marked, grace):
        reap = self.settings["reap"]
        if reap is None:
            return                      # a kubelet does it

        def reap_now():
            current = self.store.objects[res.storage].get(self.store.key(marked))
            if current and current["metadata"]["uid"] == marked["metadata"]["uid"]:
                self.store.delete(res, current)
        asyncio.get_running_loop().call_later(min(grace, reap), reap_now)

    def _delete_collection(self, request, route):
        matches = self._filter(request, route)
        for obj in [o for o in self.store.list(route.res, route.namespace) if matches(o)]:
            self.remove(route.res, obj)
        return Reply(200, status_object(200, ""))

    def _evict(self, request, route):
        """policy/v1 Eviction: kubernetes pkg/registry/core/pod/storage/eviction.go"""
        pod = self.store.get(route.res, route.namespace, route.name)
        body = _json_body(request)
        if not isinstance(body, dict) or body.get("kind", "Eviction") != "Eviction":
            raise ApiError(400, "an Eviction of policy/v1 is needed")
        options = body.get("deleteOptions") or {}
        verdict = next((v for p, v in self.pdb if fnmatch.fnmatchcase(f"{route.namespace}/{route.name}", p)), None)
        done = pod.get("status", {}).get("phase") in ("Succeeded", "Failed")
        if verdict and not done and not pod["metadata"].get("deletionTimestamp"):
            if verdict.get("verdict") == "ambiguous":
                raise ApiError(500, "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.")
            if verdict.get("verdict") == "blocked":
                after = verdict.get("retry_after")
                raise ApiError(429, "Cannot evict pod as it would violate the pod's disruption budget.", details={
                    "causes": [{"reason": "DisruptionBudget",
                                "message": "The disruption budget standin needs 1 healthy pods and has 1 currently"}],
                    **({"retryAfterSeconds": after} if after else {})},
                    headers=[("Retry-After", str(after))] if after else [])
        if request.query.get("dryRun") != "All" and options.get("dryRun") != ["All"]:
            self.remove(route.res, pod, options.get("gracePeriodSeconds"))
        return Reply(201, status_object(200, ""))

    def _bind(self, request, route):
        pod = self.store.get(route.res, route.namespace, route.name)
        node = (_json_body(request).get("target") or {}).get("name")
        if not node:
            raise ApiError(400, "a Binding needs target.name")
        if pod["spec"].get("nodeName"):
            raise conflict(route.res, route.name, f"pod {route.name} is already assigned to node {pod['spec']['nodeName']!r}")
        new = {**pod, "spec": {**pod["spec"], "nodeName": node}}
        conditions = [c for c in pod["status"].get("conditions", []) if c["type"] != "PodScheduled"]
        new["status"] = {**pod["status"], "conditions": conditions + [
            {"type": "PodScheduled", "status": "True", "lastProbeTime": None, "lastTransitionTime": now()}]}
        self.store.update(route.res, pod, new)
        return Reply(201, status_object(201, ""))


def _new_pod(obj):
    spec = copy.deepcopy(obj["spec"])
    spec.setdefault("restartPolicy", "Always")
    spec.setdefault("terminationGracePeriodSeconds", 30)
    spec.setdefault("schedulerName", "default-scheduler")
    for container in spec.get("containers", []) + spec.get("initContainers", []):
        resources = container.setdefault("resources", {})
        for kind in ("limits", "requests"):         # quantities are strings, however they were written
            if kind in resources:
                resources[kind] = {name: str(amount) for name, amount in resources[kind].items()}
        for name, amount in (resources.get("limits") or {}).items():
            resources.setdefault("requests", {}).setdefault(name, amount)
    status = {"phase": "Pending", "qosClass": "Burstable"}
    return {**obj, "spec": spec, "status": {**status, **(obj.get("status") or {})}}


class Watch:
    """One open watch and the order in which it tells what it sees."""

    ids = iter(range(1, 1 << 62))

    def __init__(self, rest, request, route, form, matches):
        self.rest, self.request, self.route, self.form, self.matches = rest, request, route, form, matches
        self.id = next(self.ids)
        self.injected = []              # ("bytes", data) | ("end", None) | ("reset"/"truncate"/"stall", None)
        self.event = asyncio.Event()
        self.output = None              # set by the server: where the stream goes
        self.first_row = True
        request.watch = self

    def describe(self):
        return {"id": self.id, "path": self.request.path, "query": self.request.query, "user": self.request.user,
                "agent": self.request.headers.get("user-agent", "")}

    def inject(self, what, data=None):
        self.injected.append((what, data))
        self.event.set()

    def _line(self, kind, obj):
        return json.dumps({"type": kind, "object": obj}, separators=(",", ":")).encode() + b"\n"

    def _event(self, kind, obj):
        if self.form == "partial":
            obj = partial(self.rest._face(self.route.res, obj))
        elif self.form == "table":
            obj = table(self.route.res, [obj], {"resourceVersion": obj["metadata"]["resourceVersion"]},
                        self.request.query.get("includeObject", "Metadata"), columns=self.first_row)
            self.first_row = False
        else:
            obj = self.rest._face(self.route.res, obj)
        return self._line(kind, obj)

    def _change(self, change):
        """A selector may make an object appear or vanish; None when the watcher sees nothing of it."""
        is_in = self.matches(change.obj)
        was_in = change.old is not None and self.matches(change.old)
        if change.type == "DELETED":
            return self._event("DELETED", change.obj) if was_in else None
        if is_in:
            return self._event("MODIFIED" if was_in else "ADDED", change.obj)
        if was_in:
            meta = {**change.old["metadata"], "resourceVersion": str(change.rv)}
            return self._event("DELETED", {**change.old, "metadata": meta})
        return None

    def _bookmark(self, initial_end=False):
        meta = {"resourceVersion": str(self.rest.store.rv), "creationTimestamp": None}
        if initial_end:
            meta["annotations"] = {"k8s.io/initial-events-end": "true"}
        kind = ({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1"} if self.form == "partial" else
                {"kind": "Table", "apiVersion": "meta.k8s.io/v1", "columnDefinitions": None, "rows": []} if self.form == "table"
                else {"kind": self.route.res.kind, "apiVersion": self.route.res.api_version})
        return self._line("BOOKMARK", {**kind, "metadata": meta})

    def _start(self):
        """Lines that bring the watcher up to now."""
        query, store = self.request.query, self.rest.store
        rv = query.get("resourceVersion", "")
        wants_list = self.request.flag("sendInitialEvents")
        lines = []
        if wants_list or rv in ("", "0") and "sendInitialEvents" not in query:
            lines += [self._event("ADDED", o) for o in store.list(self.route.res, self.route.namespace) if self.matches(o)]
            if wants_list and self.request.flag("allowWatchBookmarks"):
                lines.append(self._bookmark(initial_end=True))
        elif rv not in ("", "0"):
            lines += [line for line in map(self._change, store.since(self.route.res, int(rv))) if line]
        return lines

    async def chunks(self):
        store, settings = self.rest.store, self.rest.settings
        loop = asyncio.get_running_loop()
        limit = self.request.query.get("timeoutSeconds", "")
        end = loop.time() + (int(limit) if limit.isdigit() and int(limit) else random.randint(1800, 3600))
        bookmarks = self.request.flag("allowWatchBookmarks")
        watcher = store.watch(self.route.res)
        watcher.wake = self.event.set
        self.rest.open_watches[self.id] = self
        try:
            try:
                lines = self._start()
            except ApiError as e:       # as the real watch cache does: 200, then an ERROR event
                yield self._line("ERROR", e.body)
                return
            for line in lines:
                yield line
            next_bookmark = loop.time() + settings["bookmark"]
            while True:
                while watcher.queue:
                    line = self._change(watcher.queue.popleft())
                    if line:
                        yield line
                while self.injected:
                    what, data = self.injected.pop(0)
                    if what == "bytes":
                        yield data
                    elif what == "end":
                        return
                    elif what == "truncate":
                        await self.output.write(b'2000\r\n{"type":"MODIFIED","object":{"kind":"Node","metadata":{"na')
                        await self.output.end("close")
                    else:
                        await self.output.end(what)
                if watcher.overrun or loop.time() >= end:
                    return
                if bookmarks and loop.time() >= next_bookmark:
                    yield self._bookmark()
                    next_bookmark = loop.time() + settings["bookmark"]
                self.event.clear()
                if watcher.queue or self.injected:
                    continue
                until = min(end, next_bookmark) if bookmarks else end
                await self._wait(until - loop.time())
                if self.output.gone.is_set():
                    return
        finally:
            store.unwatch(self.route.res, watcher)
            self.rest.open_watches.pop(self.id, None)

    async def _wait(self, seconds):
        gone = asyncio.ensure_future(self.output.gone.wait())
        news = asyncio.ensure_future(self.event.wait())
        try:
            await asyncio.wait({gone, news}, timeout=max(0, seconds), return_when=asyncio.FIRST_COMPLETED)
        finally:
            gone.cancel()
            news.cancel()
