#!/usr/bin/python3
"""Patches, conditions, Events, pods, evictions, Leases: what arrives at the API server."""

import os
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
import client  # noqa: E402


def pod(name, owner=None, annotations=None, node="n1"):
    meta = {"name": name, "annotations": annotations or {}}
    if owner:
        meta["ownerReferences"] = [{"apiVersion": "apps/v1", "kind": owner, "name": "o", "uid": "u", "controller": True}]
    return {"metadata": meta, "spec": {"nodeName": node, "containers": [{"name": "c", "image": "x"}]}}


class Node(client.Case):
    def test_one_patch_sets_and_deletes(self):
        c = self.client()
        self.label("nvidia.com/old", "x")
        self.server.ctl("reset-counts")
        self.assertEqual(c.call("patch", "nvidia.com/a=1", "nvidia.com/b=2", "nvidia.com/old-")["code"], "")
        labels = self.node()["metadata"]["labels"]
        self.assertEqual((labels["nvidia.com/a"], labels["nvidia.com/b"], labels.get("nvidia.com/old")), ("1", "2", None))
        requests = [r for r in self.server.ctl("requests")["requests"] if r["method"] == "PATCH"]
        self.assertEqual(len(requests), 1)
        self.assertIn("fieldManager=ccnode", str(requests[0]))

    def test_empty_patch_asks_nothing(self):
        c = self.client()
        self.server.ctl("reset-counts")
        answer = c.call("patch")
        self.assertEqual((answer["code"], answer["status"]), ("", 0))
        self.assertEqual([r for r in self.server.ctl("requests")["requests"] if r["method"] == "PATCH"], [])

    def test_conflict(self):
        c = self.client()
        self.assertEqual(c.call("patch-if", "1", "nvidia.com/a=2", what="patch")["code"], "ESTALE")
        c.say("watch")
        c.up()
        self.assertEqual(c.call("patch-now", "nvidia.com/a=3", what="patch")["code"], "")

    def test_invalid_label_value_is_told_not_repeated(self):
        c = self.client()
        answer = c.call("patch", "nvidia.com/a=" + "x" * 64)
        self.assertEqual((answer["code"], answer["status"]), ("EINVAL", 422))
        self.assertEqual(c.stats()["requests"], {"patch 422": 1})

    def test_writers_do_not_disturb(self):
        self.server.ctl("writer", "50", "--node", "n1")
        try:
            c = self.client()
            c.say("watch")
            c.up()
            for i in range(20):
                self.assertEqual(c.call("patch", f"nvidia.com/a={i}")["code"], "")
            self.assertEqual(self.node()["metadata"]["labels"]["nvidia.com/a"], "19")
        finally:
            self.server.ctl("writer", "0")

    def test_condition_is_merged_by_type(self):
        c = self.client()
        before = {x["type"] for x in self.node()["status"]["conditions"]}
        self.assertEqual(c.call("condition", "True", "AllVerified", "fine")["code"], "")
        self.assertEqual(c.call("condition", "False", "Changing", "wait")["code"], "")
        conditions = {x["type"]: x for x in self.node()["status"]["conditions"]}
        self.assertEqual(set(conditions), before | {"ConfidentialGPUsReady"})
        mine = conditions["ConfidentialGPUsReady"]
        self.assertEqual((mine["status"], mine["reason"], mine["message"]), ("False", "Changing", "wait"))

    def test_cluster_policy(self):
        c = self.client()
        self.assertEqual(c.call("policy")["mode"], "devtools")
        for code in (403, 404):
            self.server.ctl("fault", "status", "--code", str(code), "--path", "/apis/nvidia.com/*")
            answer = c.call("policy")
            self.assertEqual((answer["code"], answer.get("mode")), ("", None))


class Events(client.Case):
    def events(self, reason):
        return [e for e in self.api("GET", "/apis/events.k8s.io/v1/namespaces/default/events")[1]["items"] if e["reason"] == reason]

    def one(self, reason, check):
        return client.harness.eventually(lambda: (lambda e: e[0] if len(e) == 1 and check(e[0]) else None)(self.events(reason)),
                                         f"one Event {reason}")

    def test_event_and_its_series(self):
        c = self.client()
        c.say("event", "Normal", "ModeChanged", "on")
        event = self.one("ModeChanged", lambda e: True)
        self.assertEqual(event["regarding"]["uid"], "n1")
        self.assertEqual((event["note"], event["type"], event["action"]), ("on", "Normal", "Test"))
        for _ in range(7):
            c.say("event", "Normal", "ModeChanged", "on")
        self.one("ModeChanged", lambda e: e.get("series", {}).get("count", 0) >= 4)
        self.assertLessEqual(c.stats()["requests"].get("patch 200", 0), 4, "every repetition was written")

    def test_event_that_arrived_although_the_answer_was_lost(self):
        self.server.ctl("fault", "close", "--bytes", "10", "--verb", "create", "--resource", "events", "--commit")
        c = self.client()
        c.say("event", "Warning", "DeviceUnhealthy", "gone")
        client.harness.eventually(lambda: c.stats()["requests"].get("create 409"), "repeated")
        self.assertEqual(len(self.events("DeviceUnhealthy")), 1)

    def test_flood_is_bounded(self):
        self.server.ctl("fault", "delay", "--ms", "500", "--verb", "create", "--times", "0")
        c = self.client()
        c.say("\n".join(f"event Normal Flood note{i}" for i in range(200)))  # at once: none is written in between
        c.stats()
        self.server.ctl("clear")
        client.harness.eventually(lambda: c.stats()["requests"].get("create 201", 0) >= 16, "those that were waiting")
        self.assertLessEqual(len(self.events("Flood")), 16)


class Pods(client.Case):
    options = (*client.Case.options, "--no-reap")

    def create(self, *args, **options):
        p = pod(*args, **options)
        code, answer = self.api("POST", "/api/v1/namespaces/default/pods", p)
        self.assertEqual(code, 201, answer)
        self.addCleanup(self.api, "DELETE", f"/api/v1/namespaces/default/pods/{p['metadata']['name']}?gracePeriodSeconds=0")

    def is_ending(self, name):
        code, p = self.api("GET", f"/api/v1/namespaces/default/pods/{name}")
        return code == 404 or "deletionTimestamp" in p["metadata"]

    def test_eviction(self):
        self.create("victim")
        c = self.client()
        self.assertEqual(c.call("evict", "default", "victim", 20000)["code"], "")
        self.assertTrue(self.is_ending("victim"))
        self.assertEqual(c.call("evict", "default", "no-such-pod", 20000)["code"], "")

    def test_some_are_never_evicted(self):
        self.create("of-daemonset", owner="DaemonSet")
        self.create("static", annotations={"kubernetes.io/config.mirror": "x"})
        self.create("of-node", owner="Node")
        c = self.client()
        for name in ("of-daemonset", "static", "of-node"):
            answer = c.call("evict", "default", name, 20000)
            self.assertEqual(answer["code"], "EPERM")
            self.assertIn(name, answer["message"])
            self.assertFalse(self.is_ending(name))

    def test_budget(self):
        self.create("guarded")
        self.server.ctl("pdb", "default/guarded", "blocked")
        c = self.client()
        answer = c.call("evict", "default", "guarded", 4000)  # long enough for an answer of a busy machine
        self.assertEqual((answer["code"], answer["status"]), ("EBUSY", 429))
        self.assertIn("disruption budget", answer["message"])
        self.assertFalse(self.is_ending("guarded"))
        self.server.ctl("pdb", "default/guarded", "blocked", "--retry-after", "1")
        c.say("evict", "default", "guarded", 60000)
        client.harness.eventually(lambda: c.stats()["requests"].get("create 429", 0) >= 3, "asked again")
        self.server.ctl("pdb", "default/guarded", "allowed")
        self.assertEqual(c.until(lambda l: l["what"] == "evict", "evicted")["code"], "")

    def test_second_credentials(self):
        self.create("victim2")
        with tempfile.NamedTemporaryFile("w") as token:
            token.write("another\n")
            token.flush()
            c = self.client(evict_token=token.name)
            self.assertEqual(c.call("evict", "default", "victim2", 4000)["code"], "EACCES")
            self.assertEqual(c.call("patch", "nvidia.com/a=1")["code"], "")
            token.seek(0)
            token.write("secret \n")
            token.flush()
            self.assertEqual(c.call("evict", "default", "victim2", 20000)["code"], "", "the token file was not read again")


class Leases(client.Case):
    PATH = "/apis/coordination.k8s.io/v1/namespaces/default/leases"

    def clients(self, n):
        for i in range(n):
            self.api("POST", "/api/v1/nodes", {"metadata": {"name": f"n{i}"}})
        return [self.client(node=f"n{i}") for i in range(n)]

    def test_two_of_three(self):
        a, b, c = self.clients(3)
        self.assertEqual(a.call("acquire", "s1", 2, 60, what="lease")["code"], "")
        self.assertEqual(b.call("acquire", "s1", 2, 60, what="lease")["code"], "")
        c.say("acquire", "s1", 2, 60)
        client.harness.eventually(lambda: c.stats()["requests"].get("list 200", 0) >= 2, "waits and looks again")
        self.assertEqual(sorted(x["spec"]["holderIdentity"] for x in self.held("s1")), ["n0", "n1"])
        a.say("release")
        self.assertEqual(c.until(lambda l: l["what"] == "lease", "granted")["code"], "")
        self.assertEqual(sorted(x["spec"]["holderIdentity"] for x in self.held("s1")), ["n1", "n2"])

    def held(self, name):
        return [x for x in self.api("GET", self.PATH)[1]["items"]
                if x["metadata"]["name"].startswith(name + "-") and x["spec"]["holderIdentity"]]

    def test_race_for_one_slot(self):
        clients = self.clients(4)
        for c in clients:
            c.say("acquire", "s2", 1, 60)
        for _ in range(4):
            client.harness.eventually(lambda: self.held("s2"), "somebody holds it")
            holder = int(self.held("s2")[0]["spec"]["holderIdentity"][1:])
            self.assertEqual(clients[holder].until(lambda l: l["what"] == "lease", "told")["code"], "")
            for c in clients:
                if c is not clients[holder]:
                    self.assertTrue(c.lines.empty(), "two hold the only slot")
            clients[holder].say("release")
            client.harness.eventually(
                lambda: [x["spec"]["holderIdentity"] for x in self.held("s2")] != [f"n{holder}"], "given back")

    def test_after_a_crash_the_own_slot_at_once(self):
        first = self.client()
        first.call("acquire", "s3", 2, 60, what="lease")
        first.kill()
        again = self.client()
        self.assertEqual(again.call("acquire", "s3", 2, 60, what="lease")["code"], "")
        self.assertEqual(len(self.held("s3")), 1)

    def test_dead_holder_runs_out(self):
        a, b = self.clients(2)
        a.call("acquire", "s4", 1, 1, what="lease")
        a.kill()
        self.assertEqual(b.call("acquire", "s4", 1, 1, what="lease")["code"], "")

    def test_renewed_as_long_as_it_is_held(self):
        a, b = self.clients(2)
        a.call("acquire", "s5", 1, 9, what="lease")  # renewed every 3 s: a pause of the machine may be as long
        b.say("acquire", "s5", 1, 9)
        client.harness.eventually(lambda: a.stats()["requests"].get("update 200", 0) >= 4, "renewed for longer than it lasts")
        self.assertTrue(b.lines.empty(), "taken away from a living holder")

    def test_lost_and_regained(self):
        a = self.client()
        a.call("acquire", "s6", 1, 1, what="lease")
        self.server.ctl("fault", "status", "--code", "503", "--resource", "leases", "--times", "0")
        self.assertEqual(a.until(lambda l: l["what"] == "lease", "lost")["code"], "ESTALE")
        self.server.ctl("clear")
        self.assertEqual(a.until(lambda l: l["what"] == "lease", "regained")["code"], "")

    def test_forbidden_is_told_once(self):
        self.server.ctl("fault", "status", "--code", "403", "--resource", "leases", "--times", "3")
        a = self.client()
        self.assertEqual(a.call("acquire", "s7", 1, 60, what="lease")["code"], "EACCES")
        self.assertEqual(a.until(lambda l: l["what"] == "lease", "granted")["code"], "")


if __name__ == "__main__":
    unittest.main(verbosity=2)
