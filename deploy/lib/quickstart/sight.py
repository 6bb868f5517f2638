"""What an outsider can see of the node, with times: the Node object by a watch, kubelet's resources, CDI files, and the
status file that `ccnode status` reads. Nothing here is told by the agent's own log."""

import base64
import json
import os
import re
import ssl
import threading
import time
import http.client

from stage import NODE, Failed

PREFIX = "nvidia.com/"
CONDITION = "ConfidentialGPUsReady"


class Node:
    """One version of the Node object."""

    def __init__(self, body):
        self.labels = {key[len(PREFIX):]: value for key, value in body["metadata"].get("labels", {}).items()
                       if key.startswith(PREFIX)}
        status = body.get("status", {})
        self.allocatable = {key[len(PREFIX):]: int(value) for key, value in status.get("allocatable", {}).items()
                            if key.startswith(PREFIX)}
        self.condition = next((c for c in status.get("conditions", []) if c["type"] == CONDITION),
                              {"status": "Unknown", "reason": "", "message": ""})

    def state(self):
        return self.labels.get("cc.mode.state", ""), self.labels.get("cc.ready.state", "")


class Sight:
    def __init__(self, stage):
        self.stage = stage
        self.changes = []  # (monotonic seconds, Node), every one that the watch brought
        self.ended, self.trouble = False, None
        self.server, self.headers, self.context = self.credentials()
        threading.Thread(target=self.watch, daemon=True).start()

    def credentials(self):
        with open(self.stage.kubeconfig, encoding="utf-8") as file:
            text = file.read()

        def value(key):
            found = re.search(rf'^\s*(?:- )?{key}:\s*"?([^"\s]+)"?\s*$', text, re.M)
            return found.group(1) if found else None

        context = ssl.create_default_context(cadata=base64.b64decode(value("certificate-authority-data")).decode())
        token = value("token")
        return value("server"), {"Authorization": f"Bearer {token}"} if token else {}, context

    def connect(self, path, timeout):
        host = self.server.split("://", 1)[1]
        connection = http.client.HTTPSConnection(host, timeout=timeout, context=self.context)
        connection.request("GET", path, headers=self.headers)
        return connection, connection.getresponse()

    def watch(self):
        path = f"/api/v1/nodes?watch=1&fieldSelector=metadata.name%3D{NODE}"
        while not self.ended:
            try:
                connection, answer = self.connect(path, 3600)
                for line in answer:
                    event = json.loads(line)
                    if event["type"] in ("ADDED", "MODIFIED"):
                        self.changes.append((time.monotonic(), Node(event["object"])))
                connection.close()
            except (OSError, ValueError, http.client.HTTPException) as error:
                self.trouble = error
                time.sleep(0.1)

    def node(self):
        if not self.changes:
            raise Failed(f"the Node could not be watched: {self.trouble}")
        return self.changes[-1][1]

    def since(self, moment):
        return [(at, node) for at, node in list(self.changes) if at >= moment]

    def devices(self):
        """bdf -> what `ccnode status` would say of it; the last known while the file is being replaced."""
        try:
            with open(os.path.join(self.stage.root, "run/ccnode/status.json"), encoding="utf-8") as file:
                self.known = {device["bdf"]: device for device in json.load(file)["devices"]}
        except (OSError, ValueError):
            pass
        return getattr(self, "known", {})

    def offered(self):
        """resource -> (healthy, all) as kubelet has it"""
        resources = self.stage.kubelet("list")["resources"]
        return {name[len(PREFIX):]: (sum(d["health"] == "Healthy" for d in entry["devices"]), len(entry["devices"]))
                for name, entry in sorted(resources.items())}

    def lists(self, since):
        """Every list of devices that kubelet received after `since`: (monotonic seconds, resource, healthy, all)"""
        offset = time.time() - time.monotonic()
        for entry in self.stage.kubelet("log", since=since + offset if since else 0, what="list")["log"]:
            if entry["time"] - offset > since + 1e-4:
                healthy = sum(health == "Healthy" for health in entry["devices"].values())
                yield entry["time"] - offset, entry["resource"][len(PREFIX):], healthy, len(entry["devices"])

    def cdi(self):
        """kind -> BDF names of its devices"""
        found, folder = {}, os.path.join(self.stage.root, "var/run/cdi")
        for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else ():
            if not name.endswith((".json", ".yaml")) or name.startswith("."):
                continue
            try:
                with open(os.path.join(folder, name), encoding="utf-8") as file:
                    spec = json.loads("".join(line for line in file if not line.startswith("#")))
            except OSError:
                continue  # replaced or removed in between
            found[spec["kind"][len(PREFIX):]] = {d["name"] for d in spec["devices"] if ":" in d["name"]}
        return found
