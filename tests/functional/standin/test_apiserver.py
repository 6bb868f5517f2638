#!/usr/bin/python3
"""The stand-in API server over plain HTTP: watches, patches, validation, eviction, faults."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
import harness  # noqa: E402

NODE = "/api/v1/nodes/n1"
WATCH = "/api/v1/nodes?watch=1&fieldSelector=metadata.name%3Dn1"
MERGE, STRATEGIC, JSON = ("application/merge-patch+json", "application/strategic-merge-patch+json", "application/json-patch+json")
POD = {"metadata": {"name": "p1"}, "spec": {"containers": [{"name": "c", "image": "x"}], "nodeName": "n1"}}


class Case(unittest.TestCase):
    options = ("--plain", "--bookmark", "0.2")

    @classmethod
    def setUpClass(cls):
        cls.server = harness.ApiServer(*cls.options)

    @classmethod
    def tearDownClass(cls):
        cls.server.stop()

    def tearDown(self):
        self.server.ctl("clear")

    def patch(self, body, content=MERGE, path=NODE):
        return self.server.call("PATCH", path, body, content)

    def version(self):
        return self.server.node()["metadata"]["resourceVersion"]

    def now(self):
        """A version that a watch may start from whatever happened to the history."""
        return self.server.call("GET", "/api/v1/nodes")[1]["metadata"]["resourceVersion"]

    def watch(self, query="", **options):
        w = harness.Watch(self.server, WATCH + query, **options)
        self.addCleanup(w.close)
        return w


class Patches(Case):
    def test_merge_changes_and_deletes(self):
        self.assertEqual(self.patch({"metadata": {"labels": {"a": "1", "b": "2"}}})[0], 200)
        labels = self.patch({"metadata": {"labels": {"a": None}}})[1]["metadata"]["labels"]
        self.assertNotIn("a", labels)
        self.assertEqual(labels["b"], "2")

    def test_nothing_changed_is_no_new_version(self):
        self.patch({"metadata": {"labels": {"same": "1"}}})
        before = self.version()
        self.patch({"metadata": {"labels": {"same": "1"}}})
        self.assertEqual(self.version(), before)

    def test_resource_version_conflict(self):
        before = self.version()
        self.patch({"metadata": {"labels": {"x": before}}})
        code, answer = self.patch({"metadata": {"resourceVersion": before, "labels": {"x": "z"}}})
        self.assertEqual((code, answer["reason"]), (409, "Conflict"))
        self.assertEqual(self.patch({"metadata": {"resourceVersion": self.version(), "labels": {"x": "z"}}})[0], 200)

    def test_label_values_and_all_causes(self):
        for value in ("-x", "a" * 64, "a\nb", "é", "a b"):
            code, answer = self.patch({"metadata": {"labels": {"v": value}}})
            self.assertEqual((code, answer["reason"]), (422, "Invalid"), value)
        code, answer = self.patch({"metadata": {"labels": {"/x": "-", "ok": "ok"}, "annotations": {"a b": "c"}}})
        self.assertEqual(len(answer["details"]["causes"]), 3)
        self.assertNotIn("ok", self.server.node()["metadata"]["labels"])
        self.assertEqual(self.patch({"metadata": {"labels": {"v": ""}}})[0], 200)

    def test_conditions_merge_by_type(self):
        ours = {"type": "ConfidentialGPUsReady", "status": "True", "reason": "R", "message": "m"}
        self.patch({"status": {"conditions": [ours]}}, STRATEGIC, NODE + "/status")
        code, node = self.patch({"status": {"conditions": [{**ours, "status": "False"}]}}, STRATEGIC, NODE + "/status")
        kinds = [c["type"] for c in node["status"]["conditions"]]
        self.assertEqual((kinds.count("ConfidentialGPUsReady"), kinds.count("Ready")), (1, 1))
        self.assertEqual([c["status"] for c in node["status"]["conditions"] if c["type"] == ours["type"]], ["False"])
        self.assertEqual(self.patch({"status": {"conditions": [{"type": ours["type"], "$patch": "delete"}]}}, STRATEGIC, NODE + "/status")[0], 200)
        self.assertNotIn("ConfidentialGPUsReady", [c["type"] for c in self.server.node()["status"]["conditions"]])

    def test_status_only_through_status_and_spec_only_through_the_object(self):
        self.patch({"status": {"phase": "X"}, "metadata": {"labels": {"l": "1"}}})
        self.assertNotIn("phase", self.server.node()["status"])
        self.patch({"spec": {"unschedulable": True}}, path=NODE + "/status")
        self.assertNotIn("unschedulable", self.server.node()["spec"])

    def test_taints_merge_by_key(self):
        for key in ("k1", "k2"):
            self.patch({"spec": {"taints": [{"key": key, "effect": "NoSchedule"}]}}, STRATEGIC)
        self.assertEqual([t["key"] for t in self.server.node()["spec"]["taints"]], ["k1", "k2"])
        self.patch({"spec": {"taints": None}})

    def test_json_patch_with_test(self):
        self.patch({"metadata": {"labels": {"a/b": "1"}}})
        good = [{"op": "test", "path": "/metadata/labels/a~1b", "value": "1"}, {"op": "replace", "path": "/metadata/labels/a~1b", "value": "2"}]
        self.assertEqual(self.patch(good, JSON)[0], 200)
        self.assertEqual(self.patch(good, JSON)[0], 422)
        self.assertEqual(self.server.node()["metadata"]["labels"]["a/b"], "2")
        self.assertEqual(self.patch([{"op": "remove", "path": "/metadata/labels/none"}], JSON)[0], 422)

    def test_bad_requests(self):
        self.assertEqual(self.server.raw("PATCH", NODE, b"{not json", MERGE)[0], 400)
        self.assertEqual(self.patch({}, "application/json")[0], 415)
        self.assertEqual(self.patch([], MERGE)[0], 400)
        self.assertEqual(self.patch({"metadata": {"name": "other"}})[0], 400)
        self.assertEqual(self.patch({}, path="/api/v1/nodes/none")[0], 404)
        self.assertEqual(self.server.call("GET", "/api/v1/nodes?fieldSelector=spec.podCIDR%3Dx")[0], 400)
        self.assertEqual(self.server.raw("POST", "/api/v1/nodes", b"x" * (4 << 20))[0], 413)
        self.assertEqual(self.server.call("GET", "/apis/nothing/v1/things")[0], 404)

    def test_wrong_types_are_not_stored(self):
        before = self.version()
        for body in ({"metadata": {"labels": [1]}}, {"metadata": {"name": 5}}, {"spec": 1}, {"spec": {"taints": {}}}):
            self.assertEqual(self.patch(body)[0], 400, body)
        for conditions in ({}, [1], "x"):
            self.assertEqual(self.patch({"status": {"conditions": conditions}}, path=NODE + "/status")[0], 400, conditions)
        self.assertEqual(self.version(), before)

    def test_apply_creates_and_needs_a_manager(self):
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "cm"}, "data": {"a": "1"}}
        path = "/api/v1/namespaces/default/configmaps/cm"
        self.assertEqual(self.server.call("PATCH", path, body, "application/apply-patch+yaml")[0], 400)
        self.assertEqual(self.server.call("PATCH", path + "?fieldManager=me", body, "application/apply-patch+yaml")[0], 201)
        self.assertEqual(self.server.call("PATCH", path + "?fieldManager=me", {**body, "data": {"b": "2"}}, "application/apply-patch+yaml")[0], 200)
        self.assertEqual(self.server.call("GET", path)[1]["data"], {"a": "1", "b": "2"})


class Watches(Case):
    def test_from_a_version_on(self):
        w = self.watch(f"&resourceVersion={self.now()}")
        self.patch({"metadata": {"labels": {"w": self.version()}}})
        kind, node = w.next()
        self.assertEqual((kind, node["metadata"]["resourceVersion"]), ("MODIFIED", self.version()))

    def test_without_version_begins_with_the_objects(self):
        self.assertEqual(self.watch().next()[0], "ADDED")

    def test_replays_what_was_missed(self):
        before = self.now()
        for i in range(3):
            self.patch({"metadata": {"labels": {"missed": f"{before}-{i}"}}})
        w = self.watch(f"&resourceVersion={before}")
        self.assertEqual([w.next()[1]["metadata"]["labels"]["missed"] for _ in range(3)], [f"{before}-{i}" for i in range(3)])

    def test_other_nodes_are_not_seen(self):
        w = self.watch(f"&resourceVersion={self.now()}")
        self.server.call("POST", "/api/v1/nodes", {"metadata": {"name": "other"}})
        self.patch({"metadata": {"labels": {"n": self.version()}}})
        self.assertEqual(w.next()[1]["metadata"]["name"], "n1")
        self.server.call("DELETE", "/api/v1/nodes/other")

    def test_bookmarks(self):
        w = self.watch(f"&resourceVersion={self.now()}&allowWatchBookmarks=true")
        kind, obj = w.next()
        self.assertEqual(kind, "BOOKMARK")
        self.assertEqual(set(obj), {"kind", "apiVersion", "metadata"})

    def test_timeout_is_a_clean_end(self):
        self.assertIsNone(self.watch(f"&resourceVersion={self.now()}&timeoutSeconds=1").next())

    def test_initial_events(self):
        w = self.watch("&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true")
        self.assertEqual(w.next()[0], "ADDED")
        kind, obj = w.next()
        self.assertEqual((kind, obj["metadata"]["annotations"]), ("BOOKMARK", {"k8s.io/initial-events-end": "true"}))
        self.assertEqual(self.server.call("GET", WATCH + "&sendInitialEvents=true")[0], 422)

    def test_history_too_old_is_an_error_event(self):
        before = self.now()
        self.server.ctl("forget-history")
        kind, status = self.watch(f"&resourceVersion={before}").next()
        self.assertEqual((kind, status["code"], status["reason"]), ("ERROR", 410, "Expired"))
        fresh = self.server.call("GET", "/api/v1/nodes")[1]["metadata"]["resourceVersion"]
        self.assertTrue(self.watch(f"&resourceVersion={fresh}").quiet())

    def test_deleted_carries_a_new_version(self):
        self.server.call("POST", "/api/v1/nodes", {"metadata": {"name": "gone"}})
        w = harness.Watch(self.server, f"/api/v1/nodes?watch=1&fieldSelector=metadata.name%3Dgone&resourceVersion={self.now()}")
        self.addCleanup(w.close)
        before = int(self.server.node("gone")["metadata"]["resourceVersion"])
        self.server.call("DELETE", "/api/v1/nodes/gone")
        kind, obj = w.next()
        self.assertEqual(kind, "DELETED")
        self.assertGreater(int(obj["metadata"]["resourceVersion"]), before)

    def test_label_selector_makes_objects_appear_and_vanish(self):
        w = harness.Watch(self.server, f"/api/v1/nodes?watch=1&labelSelector=sel%3Dyes&resourceVersion={self.now()}")
        self.addCleanup(w.close)
        for value in ("yes", "no", "yes"):
            self.patch({"metadata": {"labels": {"sel": value}}})
        self.assertEqual([w.next()[0] for _ in range(3)], ["ADDED", "DELETED", "ADDED"])

    def test_metadata_only(self):
        form = {"Accept": "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io"}
        kind, obj = self.watch(headers=form).next()
        self.assertEqual((kind, obj["kind"], set(obj)), ("ADDED", "PartialObjectMetadata", {"kind", "apiVersion", "metadata"}))
        listing = {"Accept": "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"}
        self.assertEqual(self.server.call("GET", "/api/v1/nodes", headers=listing)[1]["kind"], "PartialObjectMetadataList")
        self.assertEqual(self.server.call("GET", WATCH, headers=listing)[0], 406)
        self.assertEqual(self.server.call("GET", NODE, headers={"Accept": "application/vnd.kubernetes.protobuf"})[0], 406)

    def test_drop_all_watches_in_every_way(self):
        for how in ("end", "reset", "close", "truncate"):
            w = self.watch(f"&resourceVersion={self.now()}")
            self.assertEqual(self.server.ctl("watches", how)["watches"], 1, how)
            if how in ("end", "close"):     # Python's client does not tell a cut from a clean end here
                self.assertIsNone(w.next())
            else:
                with self.assertRaises((OSError, ValueError, harness.http.client.HTTPException), msg=how):
                    self.assertIsNotNone(w.next(), how)
            harness.eventually(lambda: not self.server.ctl("watches")["watches"], "watch is gone")

    def test_stalled_watch_says_nothing_more(self):
        w = self.watch(f"&resourceVersion={self.now()}&allowWatchBookmarks=true")
        self.server.ctl("watches", "stall")
        known = int(self.now())
        self.patch({"metadata": {"labels": {"stall": self.version()}}})
        self.assertTrue(w.quiet(0.6, known))

    def test_error_event_on_demand(self):
        w = self.watch(f"&resourceVersion={self.now()}")
        self.server.ctl("watches", "error", "--code", "500")
        self.assertEqual(w.next()[1]["code"], 500)
        self.assertIsNone(w.next())


class Faults(Case):
    def test_status_for_the_next_requests_only(self):
        self.server.ctl("fault", "status", "--code", "429", "--retry-after", "2", "--times", "2", "--verb", "patch", "--path", "/api/v1/nodes/*")
        self.assertEqual(self.server.call("GET", NODE)[0], 200)
        for _ in range(2):
            code, headers, _ = self.server.raw("PATCH", NODE, {}, MERGE)
            self.assertEqual((code, headers["Retry-After"]), (429, "2"))
        self.assertEqual(self.patch({})[0], 200)

    def test_every_kind(self):
        self.server.ctl("fault", "html", "--code", "502")
        code, headers, data = self.server.raw("GET", NODE)
        self.assertEqual((code, headers["Content-Type"], data[:9]), (502, "text/html", b"<!DOCTYPE"))
        self.server.ctl("fault", "malformed")
        with self.assertRaises(ValueError):
            self.server.node()
        self.server.ctl("fault", "huge", "--mib", "9")
        self.assertGreater(len(self.server.raw("GET", NODE)[2]), 9 << 20)
        self.server.ctl("fault", "empty")
        self.assertEqual(self.server.raw("GET", NODE)[2], b"")
        self.server.ctl("fault", "wrong-node")
        self.assertEqual(self.server.node()["metadata"]["name"], "somebody-else")
        self.server.ctl("fault", "redirect")
        self.assertEqual(self.server.raw("GET", NODE)[0], 302)
        for kind, error in (("reset", ConnectionResetError), ("close", harness.http.client.RemoteDisconnected),
                            ("truncate", harness.http.client.IncompleteRead)):
            self.server.ctl("fault", kind)
            with self.assertRaises(error, msg=kind):
                self.server.raw("GET", NODE)
        self.server.ctl("fault", "stall")
        with self.assertRaises((TimeoutError, socket.timeout)):
            self.server.raw("GET", NODE, timeout=0.3)
        self.server.ctl("fault", "drip", "--ms", "1", "--bytes", "4000")
        self.assertEqual(self.server.node()["metadata"]["name"], "n1")
        self.server.ctl("fault", "delay", "--ms", "10")
        self.assertEqual(self.server.node()["metadata"]["name"], "n1")
        self.assertEqual([r["left"] for r in self.server.ctl("show")["faults"]], [0] * len(self.server.ctl("show")["faults"]))

    def test_kill_strikes_before_or_after_the_effect(self):
        for commit in (False, True):
            victim = subprocess.Popen(["sleep", "600"])
            self.server.ctl("fault", "kill", "--pid", str(victim.pid), "--verb", "patch", *(["--commit"] if commit else []))
            try:
                self.server.node()
                self.assertIsNone(victim.poll(), "a get is no patch")
                with self.assertRaises(harness.http.client.RemoteDisconnected):
                    self.server.raw("PATCH", NODE, {"metadata": {"labels": {"struck": "yes"}}}, "application/merge-patch+json")
                self.assertEqual(victim.wait(60), -signal.SIGKILL)
                self.assertEqual("struck" in self.server.node()["metadata"].get("labels", {}), commit)
            finally:
                victim.kill()
                victim.wait()

    def test_lost_answer_of_a_write(self):
        self.server.ctl("fault", "reset", "--commit", "--verb", "patch")
        with self.assertRaises(ConnectionResetError):
            self.patch({"metadata": {"labels": {"lost": "yes"}}})
        self.assertEqual(self.server.node()["metadata"]["labels"]["lost"], "yes")
        self.server.ctl("fault", "reset", "--verb", "patch")
        with self.assertRaises(ConnectionResetError):
            self.patch({"metadata": {"labels": {"never": "yes"}}})
        self.assertNotIn("never", self.server.node()["metadata"]["labels"])

    def test_skip_and_forever(self):
        self.server.ctl("fault", "status", "--code", "503", "--skip", "1", "--times", "0", "--resource", "nodes")
        self.assertEqual([self.server.raw("GET", NODE)[0] for _ in range(4)], [200, 503, 503, 503])
        self.server.ctl("clear")
        self.assertEqual(self.server.raw("GET", NODE)[0], 200)

    def test_counts_and_log(self):
        self.server.ctl("reset-counts")
        self.patch({"metadata": {"labels": {"logged": "1"}}})
        self.server.node()
        counts = {(c["method"], c["code"]): c["count"] for c in self.server.ctl("counts")["counts"]}
        self.assertEqual(counts, {("PATCH", 200): 1, ("GET", 200): 1})
        line = self.server.ctl("requests", "--verb", "patch")["requests"][0]
        self.assertEqual(json.loads(line["body"]), {"metadata": {"labels": {"logged": "1"}}})

    def test_writer(self):
        self.server.ctl("writer", "200", "--node", "n1")
        w = self.watch(f"&resourceVersion={self.now()}")
        self.patch({"metadata": {"labels": {"amid": "noise"}}})
        found, ours = [], False
        while not (ours and len(found) > 10):  # however many of the writer's came before ours
            node = w.next()[1]
            if not ours and node["metadata"]["labels"].get("amid") == "noise":
                ours = True
            else:
                found.append(node["metadata"]["annotations"]["standin.ccnode.io/writes"])
        self.server.ctl("writer", "0")
        self.assertEqual(len(set(found)), len(found))

    def test_history_of_a_node(self):
        self.patch({"metadata": {"labels": {"h": "1"}}})
        self.patch({"metadata": {"labels": {"h": "2"}}})
        values = [c["object"]["metadata"]["labels"].get("h") for c in self.server.ctl("history", "nodes", "n1")["changes"]]
        self.assertEqual(values[-2:], ["1", "2"])

    def test_away_and_back(self):
        self.server.ctl("down")
        with self.assertRaises(ConnectionRefusedError):
            self.server.node()
        self.server.ctl("up")
        self.assertEqual(self.server.node()["metadata"]["name"], "n1")

    def test_refused_controls(self):
        with self.assertRaisesRegex(AssertionError, "needs a code"):
            self.server.ctl("fault", "status")


class Objects(Case):
    def test_events_have_two_faces(self):
        event = {"metadata": {"generateName": "e-"}, "eventTime": "2026-01-01T00:00:00.000000Z", "reportingController": "ccnode.io/agent",
                 "reportingInstance": "n1", "action": "Switch", "reason": "ModeChanged", "type": "Normal", "note": "done",
                 "regarding": {"kind": "Node", "name": "n1", "uid": "n1"}}
        path = "/apis/events.k8s.io/v1/namespaces/default/events"
        code, stored = self.server.call("POST", path, event)
        self.assertEqual((code, stored["note"], stored["apiVersion"]), (201, "done", "events.k8s.io/v1"))
        core = self.server.call("GET", "/api/v1/namespaces/default/events?fieldSelector=involvedObject.uid%3Dn1")[1]["items"]
        self.assertEqual((core[0]["message"], core[0]["involvedObject"]["name"]), ("done", "n1"))
        series = {"series": {"count": 2, "lastObservedTime": "2026-01-01T00:00:01.000000Z"}}
        self.assertEqual(self.patch(series, path=f"{path}/{stored['metadata']['name']}")[1]["series"]["count"], 2)
        for key, value in (("eventTime", None), ("reportingController", ""), ("reportingInstance", "x" * 129), ("action", ""),
                           ("reason", ""), ("note", "x" * 1025), ("type", "Bad")):
            self.assertEqual(self.server.call("POST", path, {**event, key: value})[0], 422, key)

    def test_leases(self):
        path = "/apis/coordination.k8s.io/v1/namespaces/default/leases"
        lease = {"metadata": {"name": "ccnode-mode-change-0"}, "spec": {"holderIdentity": "n1"}}
        code, stored = self.server.call("POST", path, lease)
        self.assertEqual(code, 201)
        self.assertEqual(self.server.call("POST", path, lease)[1]["reason"], "AlreadyExists")
        one = f"{path}/ccnode-mode-change-0"
        self.assertEqual(self.server.call("PUT", one, lease)[0], 422)
        self.assertEqual(self.server.call("PUT", one, {**stored, "spec": {"holderIdentity": "n2"}})[0], 200)
        self.assertEqual(self.server.call("PUT", one, stored)[0], 409)

    def test_eviction(self):
        pods = "/api/v1/namespaces/default/pods"
        self.server.call("POST", pods, POD)
        evict = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "p1"}}
        self.server.ctl("pdb", "default/p1", "blocked", "--retry-after", "10")
        code, headers, data = self.server.raw("POST", f"{pods}/p1/eviction", evict)
        self.assertEqual((code, headers["Retry-After"], json.loads(data)["details"]["causes"][0]["reason"]), (429, "10", "DisruptionBudget"))
        self.server.ctl("pdb", "default/p1", "ambiguous")
        self.assertEqual(self.server.call("POST", f"{pods}/p1/eviction", evict)[0], 500)
        self.server.ctl("pdb", "default/p1", "allowed")
        self.assertEqual(self.server.call("POST", f"{pods}/p1/eviction?dryRun=All", evict)[0], 201)
        self.assertNotIn("deletionTimestamp", self.server.call("GET", f"{pods}/p1")[1]["metadata"])
        self.server.ctl("set", "reap=0.1")
        self.assertEqual(self.server.call("POST", f"{pods}/p1/eviction", evict)[0], 201)
        harness.eventually(lambda: self.server.call("GET", f"{pods}/p1")[0] == 404, "pod is gone")
        self.assertEqual(self.server.call("POST", f"{pods}/p1/eviction", evict)[0], 404)

    def test_pods_by_node_and_binding(self):
        pods = "/api/v1/namespaces/default/pods"
        self.server.call("POST", pods, {"metadata": {"name": "free"}, "spec": {"containers": [{"name": "c"}]}})
        query = "/api/v1/pods?fieldSelector=spec.nodeName%3Dn1"
        self.assertEqual([p["metadata"]["name"] for p in self.server.call("GET", query)[1]["items"]], [])
        binding = {"target": {"kind": "Node", "name": "n1"}}
        self.assertEqual(self.server.call("POST", f"{pods}/free/binding", binding)[0], 201)
        self.assertEqual(self.server.call("POST", f"{pods}/free/binding", binding)[0], 409)
        self.assertEqual([p["metadata"]["name"] for p in self.server.call("GET", query)[1]["items"]], ["free"])
        self.server.call("DELETE", f"{pods}/free?gracePeriodSeconds=0")

    def test_pages(self):
        page = self.server.call("GET", "/api/v1/namespaces?limit=3")[1]
        rest = self.server.call("GET", f"/api/v1/namespaces?limit=3&continue={page['metadata']['continue']}")[1]
        self.assertEqual(len({n["metadata"]["name"] for n in page["items"] + rest["items"]}), 4)

    def test_version_of_the_future(self):
        code, headers, data = self.server.raw("GET", "/api/v1/nodes?resourceVersion=999999999")
        self.assertEqual((code, headers["Retry-After"]), (504, "1"))


class Identity(unittest.TestCase):
    def request(self, server, token):
        return server.raw("GET", NODE, headers={"Authorization": f"Bearer {token}"} if token else {})[0]

    def test_tokens_and_service_account(self):
        top = tempfile.mkdtemp()
        account = os.path.join(top, "sa")
        server = harness.ApiServer("--plain", "--token", "t1=system:serviceaccount:ccnode:agent", "--token", "t2=evictor", "--service-account", account)
        try:
            self.assertEqual([self.request(server, t) for t in (None, "bad", "t1", "t2")], [401, 401, 200, 200])

            def token():
                with open(os.path.join(account, "token"), encoding="utf-8") as f:
                    return f.read()
            self.assertEqual(token(), "t1")
            new = server.ctl("rotate-token")["token"]
            self.assertEqual((token(), self.request(server, "t1"), self.request(server, new)), (new, 401, 200))
            self.assertEqual({n for n in os.listdir(account) if n[:2] != ".." or n == "..data"}, {"..data", "namespace", "token"})
            self.assertEqual(os.readlink(os.path.join(account, "token")), "..data/token")
            server.ctl("fault", "status", "--code", "403", "--user", "evictor", "--times", "0")
            self.assertEqual((self.request(server, "t2"), self.request(server, new)), (403, 200))
        finally:
            server.stop()
            shutil.rmtree(top)

    @unittest.skipUnless(shutil.which("curl"), "curl is not installed")
    def test_tls_and_a_new_authority(self):
        server = harness.ApiServer()
        try:
            old = os.path.join(server.dir, "old.crt")
            shutil.copy(os.path.join(server.dir, "ca.crt"), old)

            def get(ca):
                return subprocess.run(["curl", "-s", "--capath", "/nonexistent", "--cacert", ca, f"https://127.0.0.1:{server.port}{NODE}"],
                                      stdout=subprocess.PIPE, check=False).returncode
            self.assertEqual(get(old), 0)
            server.ctl("rotate-ca")
            self.assertEqual((get(old), get(os.path.join(server.dir, "ca.crt"))), (60, 0))
        finally:
            server.stop()

    def test_state_survives_a_restart(self):
        top = tempfile.mkdtemp()
        state = os.path.join(top, "state.json")
        first = harness.ApiServer("--plain", "--state", state)
        first.call("PATCH", NODE, {"metadata": {"labels": {"kept": "yes"}}}, MERGE)
        version = first.node()["metadata"]["resourceVersion"]
        first.stop()
        second = harness.ApiServer("--plain", "--state", state)
        try:
            self.assertEqual((second.node()["metadata"]["labels"]["kept"], second.node()["metadata"]["resourceVersion"]), ("yes", version))
        finally:
            second.stop()
            shutil.rmtree(top)

    def test_cluster_policy(self):
        server = harness.ApiServer("--plain", "--cluster-policy", "on")
        path = "/apis/nvidia.com/v1/clusterpolicies/cluster-policy"
        try:
            self.assertEqual(server.call("GET", path)[1]["spec"]["ccManager"]["defaultMode"], "on")
            self.assertEqual(server.call("PATCH", path, {"spec": {}}, STRATEGIC)[0], 415)
            self.assertEqual(server.call("PATCH", path, {"spec": {"ccManager": {"defaultMode": "off"}}}, MERGE)[0], 200)
        finally:
            server.stop()

    def test_dies_with_its_parent(self):
        script = ("import subprocess,sys,os\np=subprocess.Popen([sys.argv[1],'--plain','--die-with-parent','--dir',sys.argv[2]],stdout=subprocess.PIPE)\n"
                  "p.stdout.readline();print(p.pid,flush=True);os.kill(os.getpid(),9)")
        top = tempfile.mkdtemp()
        done = subprocess.run([sys.executable, "-c", script, os.path.join(harness.STANDIN, "apiserver"), top], stdout=subprocess.PIPE, check=False)
        pid = int(done.stdout)

        def ended():
            try:
                with open(f"/proc/{pid}/stat", encoding="ascii") as f:
                    return f.read().rpartition(")")[2].split()[0] == "Z"
            except FileNotFoundError:
                return True
        try:
            harness.eventually(ended, "orphan ends")
        except AssertionError:
            os.kill(pid, signal.SIGKILL)
            raise
        shutil.rmtree(top)


if __name__ == "__main__":
    unittest.main()
