"""Files that clients need: certificates made by openssl for this run, kubeconfig, a service account directory."""

import base64
import os
import secrets
import ssl
import subprocess


def _run(*words):
    done = subprocess.run(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"standin-apiserver: {' '.join(words[:3])} failed: {done.stdout.strip()}")


class Credentials:
    def __init__(self, directory, tls, tokens, service_account):
        self.dir, self.tls, self.service_account = directory, tls, service_account
        self.accepted = {}                       # token -> user name; empty: everybody may
        self.context = None
        self.generation = 0
        for item in tokens:
            token, _, user = item.partition("=")
            self.accepted[token] = user or "standin-admin"
        self.published = next(iter(self.accepted), None)
        if tls:
            self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.context.set_alpn_protocols(["http/1.1"])
            self.new_certificate()

    def path(self, name):
        return os.path.join(self.dir, name)

    def _write(self, path, text, mode=0o600):
        with open(os.open(path + ".new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "w", encoding="utf-8") as f:
            f.write(text)
        os.replace(path + ".new", path)

    def new_certificate(self):
        """A new authority and a server certificate of it; new connections see it at once."""
        for name in ("ca", "server"):
            _run("openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", self.path(name + ".key"))
        self.generation += 1
        _run("openssl", "req", "-x509", "-new", "-key", self.path("ca.key"), "-days", "30", "-subj",
             f"/CN=standin-ca-{self.generation}", "-addext", "keyUsage=critical,keyCertSign",
             "-out", self.path("ca.crt"))
        _run("openssl", "req", "-new", "-key", self.path("server.key"), "-subj", "/CN=standin-apiserver", "-out", self.path("server.csr"))
        self._write(self.path("server.ext"), "subjectAltName=IP:127.0.0.1,IP:::1,DNS:localhost,DNS:kubernetes.default.svc\n"
                                             "basicConstraints=CA:FALSE\nextendedKeyUsage=serverAuth\n")
        _run("openssl", "x509", "-req", "-in", self.path("server.csr"), "-CA", self.path("ca.crt"), "-CAkey", self.path("ca.key"),
             "-set_serial", str(secrets.randbits(63)), "-days", "30", "-extfile", self.path("server.ext"), "-out", self.path("server.crt"))
        self.context.load_cert_chain(self.path("server.crt"), self.path("server.key"))

    def accept(self, tokens, publish=True):
        """Replace the accepted tokens; the first is handed to clients when publish."""
        self.accepted = dict(tokens)
        if publish:
            self.published = next(iter(self.accepted), None)

    def rotate(self, publish=True):
        """A new token for the same user; the old one is refused from now on."""
        user = self.accepted.pop(self.published, "standin-admin")
        token = secrets.token_urlsafe(24)
        self.accepted = {token: user, **self.accepted}
        if publish:
            self.published = token
        return token

    def user(self, header):
        """User of an Authorization header; None: not authenticated."""
        if not self.accepted:
            return "system:anonymous"
        scheme, _, token = (header or "").partition(" ")
        return self.accepted.get(token.strip()) if scheme.lower() == "bearer" else None

    def publish(self, url, namespace="default"):
        """Write kubeconfig and service account directory; the kubeconfig's presence says that the server is up."""
        if self.service_account:
            self._write_service_account(namespace)
        cluster = f"    server: {url}\n"
        if self.tls:
            with open(self.path("ca.crt"), "rb") as f:
                cluster += f"    certificate-authority-data: {base64.b64encode(f.read()).decode()}\n"
        user = f"    token: {self.published}\n" if self.published else "    {}\n"
        self._write(self.path("kubeconfig"), "apiVersion: v1\nkind: Config\ncurrent-context: standin\nclusters:\n- name: standin\n"
                    f"  cluster:\n{cluster}users:\n- name: standin\n  user:\n{user}"
                    "contexts:\n- name: standin\n  context:\n    cluster: standin\n    user: standin\n    namespace: default\n")

    def _write_service_account(self, namespace):
        """As kubelet lays out a projected volume: files are links into ..data, which is replaced as a whole."""
        top = self.service_account
        os.makedirs(top, exist_ok=True)
        version = f"..{secrets.token_hex(6)}"
        os.makedirs(os.path.join(top, version))
        files = {"token": self.published or "", "namespace": namespace}
        if self.tls:
            with open(self.path("ca.crt"), encoding="utf-8") as f:
                files["ca.crt"] = f.read()
        for name, text in files.items():
            self._write(os.path.join(top, version, name), text, 0o644)
        old = os.readlink(os.path.join(top, "..data")) if os.path.islink(os.path.join(top, "..data")) else None
        os.symlink(version, os.path.join(top, "..data_tmp"))
        os.replace(os.path.join(top, "..data_tmp"), os.path.join(top, "..data"))
        for name in files:
            if not os.path.islink(os.path.join(top, name)):
                os.symlink(os.path.join("..data", name), os.path.join(top, name))
        if old:
            for name in os.listdir(os.path.join(top, old)):
                os.unlink(os.path.join(top, old, name))
            os.rmdir(os.path.join(top, old))
