"""As much API client as the stand-in needs: JSON requests and a watch, with the kubeconfig standin-apiserver writes."""

import base64
import http.client
import json
import re
import ssl
import threading
import urllib.parse


class Answer(Exception):
    def __init__(self, code, body):
        super().__init__(f"{code}: {body.get('message', '') if isinstance(body, dict) else body}")
        self.code, self.body = code, body


class KubeApi:
    def __init__(self, kubeconfig):
        self.path = kubeconfig

    def _connection(self, timeout):
        """The file is read anew each time: tokens, certificates and ports change."""
        with open(self.path, encoding="utf-8") as f:
            text = f.read()

        def value(key):
            m = re.search(rf"^\s*{key}:\s*\"?([^\"\s]+)\"?\s*$", text, re.M)
            return m and m[1]
        url = urllib.parse.urlsplit(value("server") or "")
        token = value("token")
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        if url.scheme == "https":
            ca = value("certificate-authority-data")
            context = ssl.create_default_context(cadata=base64.b64decode(ca).decode() if ca else None,
                                                 cafile=value("certificate-authority"))
            return http.client.HTTPSConnection(url.hostname, url.port, timeout=timeout, context=context), headers
        return http.client.HTTPConnection(url.hostname, url.port, timeout=timeout), headers

    def call(self, method, path, body=None, content="application/json"):
        connection, headers = self._connection(10)
        try:
            headers.update({"Accept": "application/json", "User-Agent": "standin-kubelet"})
            if body is not None:
                headers["Content-Type"] = content
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            answer = connection.getresponse()
            data = json.loads(answer.read() or b"{}")
        finally:
            connection.close()
        if answer.status >= 300:
            raise Answer(answer.status, data)
        return data

    def watch(self, path, deliver, stop):
        """List, then watch, for ever; deliver(type, object) in this thread. SYNC marks a complete list."""
        pause = threading.Event()
        while not stop.is_set():
            try:
                listing = self.call("GET", path)
                deliver("SYNC", listing["items"])
                self._stream(path, listing["metadata"]["resourceVersion"], deliver, stop)
            except (OSError, ValueError, KeyError, Answer, http.client.HTTPException):
                pause.wait(0.2)

    def _stream(self, path, version, deliver, stop):
        connection, headers = self._connection(70)
        try:
            connection.request("GET", f"{path}?watch=1&allowWatchBookmarks=true&timeoutSeconds=60&resourceVersion={version}",
                               headers={**headers, "Accept": "application/json", "User-Agent": "standin-kubelet"})
            answer = connection.getresponse()
            if answer.status != 200:
                raise Answer(answer.status, {})
            while not stop.is_set():
                line = answer.readline()
                if not line:
                    return
                event = json.loads(line)
                if event["type"] == "ERROR":
                    return
                if event["type"] != "BOOKMARK":
                    deliver(event["type"], event["object"])
        finally:
            connection.close()
