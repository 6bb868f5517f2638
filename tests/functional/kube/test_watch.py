#!/usr/bin/python3
"""The watch of the own Node: what is told, what is not, and that nothing ends it."""

import os
import sys
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
import client  # noqa: E402

MODE = "nvidia.com/cc.mode"


class Watch(client.Case):
    def watching(self, **options):
        c = self.client(**options)
        c.say("watch")
        c.up()
        return c

    def both(self, c):
        """An order still arrives, whatever was done to the watch."""
        self.label(MODE, "on")
        c.mode("on")
        self.label(MODE, "off")
        c.mode("off")

    def test_first_node_then_changes_only(self):
        c = self.client()
        c.say("watch")
        first = c.until(lambda l: l["what"] == "node", "node")
        self.assertTrue(first["exists"])
        c.up()
        before = c.stats()["changes"]
        for i in range(5):
            self.label("example.com/not-ours", str(i))
        self.label(MODE, "devtools")
        c.mode("devtools")
        stats = c.stats()
        self.assertEqual(stats["changes"], before + 1, "changes of labels that nobody asked for were told")
        self.assertGreaterEqual(stats["documents"], 6)
        self.label(MODE, None)
        c.until(lambda l: l["what"] == "node" and MODE not in l["labels"], "label gone")

    def test_reaction_of_the_steady_state_needs_no_list(self):
        c = self.watching()
        self.both(c)
        self.assertEqual(c.stats()["requests"]["list 200"], 1)

    def test_ended_reset_closed_truncated(self):
        c = self.watching()
        for how in ("end", "reset", "close", "truncate"):
            with self.subTest(how):
                self.watched()
                self.server.ctl("watches", how)
                self.both(c)

    def test_order_given_while_the_watch_is_down_is_not_lost(self):
        c = self.watching()
        self.server.ctl("fault", "status", "--code", "503", "--verb", "watch,list", "--times", "3")
        self.server.ctl("watches", "reset")
        self.label(MODE, "ppcie")
        c.mode("ppcie")

    def test_stalled_watch_is_ended(self):
        c = self.watching(stall_ms=1000)
        self.server.ctl("watches", "stall")
        self.label(MODE, "on")
        c.mode("on")
        self.assertIn("stalled", c.stats()["restarts"])

    def test_410_as_event_and_as_status(self):
        c = self.watching()
        self.server.ctl("watches", "error", "--code", "410")
        self.both(c)
        self.assertGreaterEqual(c.stats()["restarts"]["expired"], 1)
        self.watched()
        self.server.ctl("fault", "status", "--code", "410", "--reason", "Expired", "--verb", "watch", "--times", "2")
        self.server.ctl("watches", "end")
        self.both(c)

    def test_410_for_ever_does_not_spin(self):
        self.server.ctl("fault", "status", "--code", "410", "--reason", "Expired", "--verb", "watch", "--times", "0")
        c = self.client()
        c.say("watch")
        c.until(lambda l: l["what"] == "node", "node")
        c.down()
        start = time.monotonic()
        self.server.ctl("reset-counts")
        time.sleep(1)  # a span of time is what is measured

        def tries():
            return sum(r["verb"] == "watch" for r in self.server.ctl("requests")["requests"])
        client.harness.eventually(tries, "tried again")
        seen = tries()
        self.assertLess(seen, 12 * (time.monotonic() - start), "the backoff of 40 to 400 ms is not kept")
        self.server.ctl("clear")
        c.up()

    def test_error_event_of_another_kind(self):
        c = self.watching()
        self.server.ctl("watches", "error", "--code", "500")
        self.both(c)
        self.assertEqual(c.stats()["restarts"].get("error"), 1)

    def test_garbage_in_the_stream(self):
        c = self.watching()
        for data in ("}{", '{"type":"MODIFIED"}', '{"type":"WHAT","object":{}}', "[1]", '{"type":"BOOKMARK","object":{}}'):
            with self.subTest(data):
                self.watched()
                self.server.ctl("watches", "bytes", "--data", data)
                self.both(c)
        self.assertEqual(c.stats()["restarts"]["bad_data"], 5)

    def test_other_node_is_refused(self):
        c = self.watching()
        self.server.ctl("fault", "wrong-node", "--verb", "watch", "--mode", "on")
        self.server.ctl("watches", "end")
        down = c.until(lambda l: l["what"] == "node" or (l["what"] == "watch" and not l["up"]), "refused")
        self.assertEqual(down["what"], "watch", "the other Node's label was believed")
        self.assertIn("somebody-else", down["reason"])
        self.server.ctl("fault", "wrong-node", "--verb", "list", "--mode", "on")
        c.say("refresh")
        self.both(c)

    def test_answers_to_the_list(self):
        c = self.watching()
        for fault in (["malformed"], ["html"], ["html", "--code", "502"], ["empty"], ["huge", "--mib", "12"], ["truncate"],
                      ["reset"], ["close", "--bytes", "100"], ["redirect"], ["status", "--code", "401"],
                      ["status", "--code", "429", "--retry-after", "1"], ["status", "--code", "500"]):
            with self.subTest(fault):
                self.server.ctl("fault", *fault, "--verb", "list", "--resource", "nodes")
                c.say("refresh")
                self.both(c)
                self.watched()

    def test_forbidden_is_named(self):
        self.server.ctl("fault", "status", "--code", "403", "--verb", "list", "--message", "no such right")
        c = self.client()
        c.say("watch")
        reason = c.down()["reason"]
        for part in ('"list"', '"nodes"', "no such right"):
            self.assertIn(part, reason)
        c.up()

    def test_metadata_only_and_full_objects_after_406(self):
        c = self.watching()
        self.server.ctl("fault", "status", "--code", "406", "--verb", "list")
        c.say("refresh")
        self.both(c)

    def test_rotated_token_and_authority(self):
        c = self.watching()
        self.server.ctl("rotate-token", "--drop")
        self.both(c)
        self.assertGreaterEqual(c.stats()["requests"].get("watch 401", 0) + c.stats()["requests"].get("list 401", 0), 1)

    def test_server_away_and_back(self):
        c = self.watching()
        self.server.ctl("down")
        c.down()
        self.server.ctl("up")
        c.up()
        self.both(c)

    def test_node_that_comes_later(self):
        c = self.client(node="later")
        c.say("watch")
        self.assertFalse(c.until(lambda l: l["what"] == "node", "no node")["exists"])
        c.up()
        self.assertEqual(self.api("POST", "/api/v1/nodes", {"metadata": {"name": "later", "labels": {MODE: "on"}}})[0], 201)
        self.assertTrue(c.mode("on")["exists"])
        self.assertEqual(self.api("DELETE", "/api/v1/nodes/later")[0], 200)
        c.until(lambda l: l["what"] == "node" and not l["exists"], "node gone")

    def test_history_forgotten(self):
        c = self.watching()
        self.server.ctl("forget-history")
        self.server.ctl("watches", "reset")
        self.both(c)


if __name__ == "__main__":
    unittest.main(verbosity=2)
