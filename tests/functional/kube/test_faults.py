#!/usr/bin/python3
"""Requests that go wrong, credentials, TLS, and what the client costs while nothing happens."""

import os
import re
import sys
import tempfile
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
import client  # noqa: E402

MODE = "nvidia.com/cc.mode"


class Writes(client.Case):
    def patched(self, *fault):
        self.server.ctl("fault", *fault, "--verb", "patch", "--resource", "nodes")
        c = self.client()
        answer = c.call("patch", f"nvidia.com/a={abs(hash(fault)) % 100000}")
        return c, answer

    def test_what_repeating_cures(self):
        for fault in (["status", "--code", "401"], ["status", "--code", "429", "--retry-after", "1"], ["status", "--code", "500"],
                      ["status", "--code", "503"], ["status", "--code", "504"], ["reset"], ["close", "--bytes", "20"],
                      ["truncate"], ["malformed"], ["empty"], ["html"], ["html", "--code", "502"], ["wrong-node"],
                      ["status", "--code", "406"]):
            with self.subTest(fault):
                _, answer = self.patched(*fault)
                if fault[0] == "wrong-node":
                    self.assertEqual(answer["code"], "EBADMSG", answer)
                    self.assertIn("somebody-else", answer["message"])
                else:
                    self.assertEqual(answer["code"], "", answer)

    def test_what_it_does_not(self):
        for fault, code, words in ((["status", "--code", "403"], "EACCES", 'the verb "patch" on "nodes"'),
                                   (["status", "--code", "409"], "ESTALE", "409"),
                                   (["status", "--code", "415"], "EINVAL", "415"),
                                   (["status", "--code", "422"], "EINVAL", "422"),
                                   (["status", "--code", "404"], "ENOENT", "404"),
                                   (["redirect"], "EREMOTEIO", "302"),
                                   (["huge", "--mib", "12"], "EFBIG", "larger than")):
            with self.subTest(fault):
                c, answer = self.patched(*fault)
                self.assertEqual(answer["code"], code, answer)
                self.assertIn(words, answer["message"])
                self.assertEqual(sum(c.stats()["requests"].values()), 1)

    def test_401_twice_then_told(self):
        self.server.ctl("fault", "status", "--code", "401", "--verb", "patch", "--times", "0")
        c = self.client()
        c.say("deadline", 5000)
        answer = c.call("patch", "nvidia.com/a=1")
        # on a busy machine the last attempt is cut off by the deadline
        self.assertIn((answer["code"], answer["status"]), (("EACCES", 401), ("ETIMEDOUT", 0)), answer)
        self.assertIn("does not accept our credentials (401)", answer["message"])
        self.assertLess(sum(c.stats()["requests"].values()), 40)

    def test_a_deadline_does_not_hide_what_was_said_before(self):
        self.server.ctl("fault", "status", "--code", "503", "--verb", "patch", "--times", "1")
        self.server.ctl("fault", "stall", "--verb", "patch", "--times", "0")
        c = self.client()
        c.say("deadline", 5000)
        answer = c.call("patch", "nvidia.com/a=1")
        self.assertEqual(answer["code"], "ETIMEDOUT", "what became of the last attempt is not known")
        self.assertRegex(answer["message"], "no answer in time.*; before that: .*503")

    def test_slow_answer_ends_at_the_deadline(self):
        self.server.ctl("fault", "drip", "--ms", "200", "--verb", "patch", "--times", "0")
        c = self.client()
        c.say("deadline", 5000)
        answer = c.call("patch", "nvidia.com/a=1")
        self.assertEqual(answer["code"], "ETIMEDOUT")
        self.assertLess(answer["ms"], 7000)

    def test_stalled_answer_ends_at_the_deadline(self):
        self.server.ctl("fault", "stall", "--verb", "patch", "--times", "0")
        c = self.client()
        c.say("deadline", 5000)
        self.assertEqual(c.call("patch", "nvidia.com/a=1")["code"], "ETIMEDOUT")

    def test_closing_answers_everything(self):
        self.server.ctl("fault", "stall", "--times", "0")
        c = self.client()
        c.say("watch")
        c.say("patch", "nvidia.com/a=1")
        c.say("evict", "default", "p", 5000)
        c.say("acquire", "x", 1, 1)
        c.say("event", "Normal", "A", "b")
        c.say("quit")
        codes = {c.next()["code"], c.next()["code"]}
        self.assertEqual(codes, {"ECANCELED"})


class Credentials(client.Case):
    def edited(self, change):
        with open(self.server.kubeconfig, encoding="utf-8") as f:
            text = change(f.read())
        out = tempfile.NamedTemporaryFile("w", suffix=".kubeconfig", dir=os.path.dirname(self.server.kubeconfig))
        out.write(text)
        out.flush()
        self.addCleanup(out.close)
        return out.name

    def other_authority(self, directory):
        path = os.path.join(directory, "other.crt")
        done = client.subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
                                      "-nodes", "-keyout", "/dev/null", "-out", path, "-subj", "/CN=other", "-days", "2"],
                                     capture_output=True, check=False)
        if done.returncode:
            client.harness.skip("openssl cannot make a certificate")
        return path

    def test_foreign_authority_is_not_trusted(self):
        other = self.other_authority(self.server.dir)
        config = self.edited(lambda t: re.sub(r"certificate-authority(-data)?:.*", f"certificate-authority: {other}", t))
        c = self.client(kubeconfig=config)
        answer = c.call("patch", "nvidia.com/a=1")
        self.assertEqual(answer["code"], "ENETUNREACH")
        self.assertIn("certificate", answer["message"])

    def test_skipping_verification_works_when_asked_for(self):
        config = self.edited(lambda t: re.sub(r"certificate-authority(-data)?:.*", "insecure-skip-tls-verify: true", t))
        c = self.client(kubeconfig=config)
        self.assertEqual(c.call("patch", "nvidia.com/a=1")["code"], "")

    def test_service_account(self):
        with tempfile.TemporaryDirectory() as directory:
            server = client.harness.ApiServer("--token", "t1", "--service-account", directory, "--bookmark", "0.2")
            self.addCleanup(server.stop)
            c = self.client(kubeconfig="-", env={"SERVICE_ACCOUNT_DIR": directory, "KUBERNETES_SERVICE_HOST": "127.0.0.1",
                                                 "KUBERNETES_SERVICE_PORT": str(server.port)})
            c.say("watch")
            c.up()
            # a new authority and a new token, as a kubelet would place them; all connections cut
            server.ctl("rotate-ca", "--drop")
            server.ctl("rotate-token", "--drop")
            c.until(lambda l: l["what"] == "watch", "noticed")
            self.assertEqual(c.call("patch", "nvidia.com/cc.mode.state=on")["code"], "")
            c.until(lambda l: l["what"] == "node" and l["labels"].get("nvidia.com/cc.mode.state") == "on", "watch goes on")

    def test_refused_files(self):
        for change, words in ((lambda t: re.sub(r"token:.*", "exec: {command: aws-iam, apiVersion: v1}", t), 'exec" aws-iam'),
                              (lambda t: t.replace("current-context", "some-context"), "current-context is not set"),
                              (lambda t: re.sub(r"server:.*", "server: http://10.0.0.1:80", t), "plain http"),
                              (lambda t: "\x00\xff" + t, "not YAML")):
            config = self.edited(change)
            done = client.subprocess.run([client.DRIVER, "n1", config, "-", "1000"], capture_output=True, text=True,
                                         stdin=client.subprocess.DEVNULL, check=False)
            self.assertEqual(done.returncode, 1, done.stderr)
            self.assertIn(words, done.stderr)
            self.assertIn(config, done.stderr)


class Cost(client.Case):
    options = ("--token", "secret", "--bookmark", "1")

    def switches(self, pid):
        with open(f"/proc/{pid}/status", encoding="ascii") as f:
            return int(re.search(r"^voluntary_ctxt_switches:\s*(\d+)", f.read(), re.M).group(1))

    def test_idle(self):
        c = self.client()
        c.say("watch")
        c.up()
        c.stats()
        self.server.ctl("set", "bookmark=60")

        def quiet():
            before = self.switches(c.process.pid)
            time.sleep(4)  # a span of time is what is measured
            return self.switches(c.process.pid) - before <= 1
        client.harness.eventually(quiet, "four seconds without wake-ups, when the last bookmark of the old interval has come")

    def test_nothing_grows(self):
        # the address sanitizer keeps freed memory for a while: that is no growth of ours
        options = os.environ.get("ASAN_OPTIONS", "") + ":quarantine_size_mb=0:thread_local_quarantine_size_kb=0"
        c = self.client(env={"ASAN_OPTIONS": options})
        c.say("watch")
        c.up()

        def figures():
            # connections are kept. Two calls at once beside the watch: as many as a round may need, whoever comes first there
            c.say("patch nvidia.com/a=1\ncondition True Test as-before")
            self.assertEqual([c.until(lambda l, w=what: l["what"] in w, what)["code"] for what in (("patch", "condition"),) * 2], ["", ""])
            with open(f"/proc/{c.process.pid}/status", encoding="ascii") as f:
                rss = int(re.search(r"^VmRSS:\s*(\d+)", f.read(), re.M).group(1))
            return len(os.listdir(f"/proc/{c.process.pid}/fd")), rss

        def round_of_faults(n):
            for _ in range(n):
                self.watched()
                self.server.ctl("watches", "reset")
                self.assertEqual(c.call("patch", "nvidia.com/a=1")["code"], "")
            self.watched()  # its socket is one of those counted
        round_of_faults(10)
        fds, rss = figures()
        round_of_faults(20)
        client.harness.eventually(lambda: figures()[0] <= fds, "descriptors as before")
        self.assertLess(figures()[1], rss + 3000)


if __name__ == "__main__":
    unittest.main(verbosity=2)
