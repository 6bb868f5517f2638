"""Objects, their history, and who watches them.

Objects are never changed in place: a write puts a new dictionary, so that history, watchers and answers may share
them. One counter gives every write its resourceVersion, as etcd does."""

import collections
import datetime
import json
import os
import random
import string
import time
import uuid

from .status import ApiError, conflict, expired, not_found

HISTORY = 2000                 # events kept per kind of object for watchers that come back
WATCHER_BACKLOG = 5000         # a watcher that is further behind is dropped


def now():
    return datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def now_micro():
    return datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def suffix(n=5):
    return "".join(random.choices(string.digits + "bcdfghjklmnpqrstvwxz", k=n))


Change = collections.namedtuple("Change", "rv type obj old at")


class Watcher:
    """Queue of changes of one storage; `wake` is called on every push."""

    def __init__(self):
        self.queue = collections.deque()
        self.wake = lambda: None
        self.overrun = False

    def push(self, change):
        if len(self.queue) >= WATCHER_BACKLOG:
            self.overrun = True
        else:
            self.queue.append(change)
        self.wake()


class Store:
    def __init__(self, path=None):
        self.path = path
        self.rv = 100
        self.objects = collections.defaultdict(dict)        # storage -> {(namespace, name): object}
        self.history = collections.defaultdict(lambda: collections.deque(maxlen=HISTORY))
        self.floor = collections.defaultdict(lambda: self.start)   # storage -> oldest rv a watch may start from
        self.watchers = collections.defaultdict(set)
        self.dirty = False
        if path and os.path.exists(path):
            with open(path, encoding="utf-8") as f:
                saved = json.load(f)
            self.rv = saved["resourceVersion"]
            for storage, items in saved["objects"].items():
                for obj in items:
                    self.objects[storage][self.key(obj)] = obj
        self.start = self.rv

    def save(self):
        if not self.path or not self.dirty:
            return
        with open(self.path + ".new", "w", encoding="utf-8") as f:
            json.dump({"resourceVersion": self.rv, "objects": {s: list(o.values()) for s, o in self.objects.items()}}, f)
        os.replace(self.path + ".new", self.path)
        self.dirty = False

    @staticmethod
    def key(obj):
        return (obj["metadata"].get("namespace", ""), obj["metadata"]["name"])

    # -- reading

    def get(self, res, namespace, name):
        obj = self.objects[res.storage].get((namespace or "", name))
        if obj is None:
            raise not_found(res, name)
        return obj

    def list(self, res, namespace=None):
        items = self.objects[res.storage]
        return [items[k] for k in sorted(items) if not namespace or k[0] == namespace]

    def require_rv(self, text):
        """A list may not be answered from a past or future that is not there."""
        if not text or text == "0":
            return
        if not text.isdigit():
            raise ApiError(400, f'invalid resource version "{text}"')
        if int(text) > self.rv:
            raise ApiError(504, f"Too large resource version: {text}, current: {self.rv}", details={
                "retryAfterSeconds": 1,
                "causes": [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}]},
                headers=[("Retry-After", "1")])

    # -- writing

    def _commit(self, res, kind, obj, old):
        self.rv += 1
        self.dirty = True
        meta = dict(obj["metadata"])
        meta["resourceVersion"] = str(self.rv)
        obj = {**obj, "metadata": meta}
        key = self.key(obj)
        if kind == "DELETED":
            del self.objects[res.storage][key]
        else:
            self.objects[res.storage][key] = obj
        line = self.history[res.storage]
        if len(line) == HISTORY:
            self.floor[res.storage] = line[0].rv
        change = Change(self.rv, kind, obj, old, time.time())
        line.append(change)
        for watcher in list(self.watchers[res.storage]):
            watcher.push(change)
        return obj

    def create(self, res, obj, dry_run=False):
        meta = dict(obj["metadata"])
        meta.pop("resourceVersion", None)
        meta.setdefault("uid", str(uuid.uuid4()))
        meta["creationTimestamp"] = meta.get("creationTimestamp") or now()
        obj = {**obj, "metadata": meta}
        if self.key(obj) in self.objects[res.storage]:
            qualified = res.plural + ("." + res.group if res.group else "")
            raise ApiError(409, f'{qualified} "{meta["name"]}" already exists', reason="AlreadyExists",
                           details={"name": meta["name"], "group": res.group, "kind": res.plural})
        return obj if dry_run else self._commit(res, "ADDED", obj, None)

    def update(self, res, old, obj, dry_run=False):
        """Replace old by obj. The caller read old in the same step of the loop, so nothing lies between."""
        name = old["metadata"]["name"]
        meta = dict(obj.get("metadata") or {})
        wanted = meta.get("resourceVersion")
        if wanted and wanted != old["metadata"]["resourceVersion"]:
            raise conflict(res, name)
        if meta.get("uid") not in (None, "", old["metadata"]["uid"]):
            raise conflict(res, name, f"Precondition failed: UID in precondition: {meta['uid']}, "
                                      f"UID in object meta: {old['metadata']['uid']}")
        for key in ("name", "namespace", "uid", "creationTimestamp", "resourceVersion", "deletionTimestamp",
                    "deletionGracePeriodSeconds"):
            if key in old["metadata"]:
                meta[key] = old["metadata"][key]
            else:
                meta.pop(key, None)
        for key in ("labels", "annotations", "finalizers", "ownerReferences"):
            if not meta.get(key):
                meta.pop(key, None)
        obj = {**obj, "apiVersion": old["apiVersion"], "kind": old["kind"], "metadata": meta}
        if obj == old:
            return old                  # the real server writes nothing and counts nothing either
        return obj if dry_run else self._commit(res, "MODIFIED", obj, old)

    def mark_deleted(self, res, old, grace):
        meta = {**old["metadata"], "deletionTimestamp": now(), "deletionGracePeriodSeconds": grace}
        return self._commit(res, "MODIFIED", {**old, "metadata": meta}, old)

    def delete(self, res, old):
        return self._commit(res, "DELETED", old, old)

    # -- watching

    def forget_history(self):
        """From now on every resourceVersion before this one is too old."""
        self.rv += 1
        for storage in {*self.history, *self.objects}:
            self.history[storage].clear()
            self.floor[storage] = self.rv
        self.start = self.rv

    def since(self, res, rv):
        """Changes after rv, or 410."""
        if rv < self.floor[res.storage]:
            raise expired(rv, self.floor[res.storage])
        return [c for c in self.history[res.storage] if c.rv > rv]

    def watch(self, res):
        watcher = Watcher()
        self.watchers[res.storage].add(watcher)
        return watcher

    def unwatch(self, res, watcher):
        self.watchers[res.storage].discard(watcher)
