"""The server: listeners, authentication, log and faults around the API."""

import asyncio
import os
import socket

from . import node as nodes
from .admin import Admin, RequestLog
from .credentials import Credentials
from .faults import Faults
from .http import HEAD_MAX, Connection, Hangup, Reply, Stream
from .resources import Registry
from .rest import Rest, find_route
from .status import ApiError
from .store import Store


class App:
    def __init__(self, options):
        self.options = options
        self.settings = {"bookmark": options.bookmark, "reap": None if options.no_reap else options.reap}
        self.registry = Registry(options.cluster_policy is not None)
        self.store = Store(options.state)
        self.rest = Rest(self.store, self.registry, self.settings)
        self.faults = Faults()
        self.log = RequestLog()
        self.credentials = Credentials(options.dir, not options.plain, options.token, options.service_account)
        self.admin = Admin(self)
        self.connections = set()
        self.server = self.keeper = None
        self.port = options.port
        self._fill()

    @property
    def url(self):
        return f"{'http' if self.options.plain else 'https'}://127.0.0.1:{self.port}"

    @property
    def listening(self):
        return self.server is not None

    def _fill(self):
        nodes.basics(self.store, self.registry)
        labels = dict(item.partition("=")[::2] for item in self.options.label)
        res = self.registry.find("", "v1", "nodes")
        for name in self.options.node:
            if ("", name) not in self.store.objects[res.storage]:
                self.store.create(res, nodes.new_node(name, labels))
        policy = self.registry.find("nvidia.com", "v1", "clusterpolicies")
        if policy and ("", "cluster-policy") not in self.store.objects[policy.storage]:
            self.store.create(policy, {
                "apiVersion": "nvidia.com/v1", "kind": "ClusterPolicy", "metadata": {"name": "cluster-policy"},
                "spec": {"ccManager": {"enabled": True, "defaultMode": self.options.cluster_policy},
                         "sandboxWorkloads": {"enabled": True, "mode": "kata"}},
                "status": {"state": "ready", "namespace": "gpu-operator"}})

    # -- presence

    async def up(self):
        if self.server:
            return
        self._give_port_back()
        self.server = await asyncio.start_server(self._client, "127.0.0.1", self.port, limit=HEAD_MAX,
                                                 ssl=self.credentials.context)
        self.port = self.server.sockets[0].getsockname()[1]

    async def down(self):
        """As if the process were away: nobody listens, every connection is cut."""
        if self.server:
            self.server.close()
            self.server = None
            # nobody else gets the port meanwhile: bound, so that it is no connection's, and not listening
            self.keeper = socket.socket()
            self.keeper.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self.keeper.bind(("127.0.0.1", self.port))
        self.close_connections()

    def _give_port_back(self):
        if self.keeper:
            self.keeper.close()
            self.keeper = None

    def close_connections(self):
        for connection in list(self.connections):
            connection.gone.set()
            connection.writer.transport.abort()

    async def _client(self, reader, writer):
        connection = Connection(reader, writer, self.answer)
        self.connections.add(connection)
        try:
            await connection.run()
        finally:
            self.connections.discard(connection)

    async def _admin_client(self, reader, writer):
        await Connection(reader, writer, self.answer_admin).run()

    async def answer_admin(self, request, output):
        await output.reply(await self.admin.answer(request))

    # -- one request

    async def answer(self, request, output):
        if request.path == "/_standin" or request.path.startswith("/_standin/"):
            await self.answer_admin(request, output)
            return
        request.route = find_route(self.registry, request)
        request.user = self.credentials.user(request.headers.get("authorization"))
        entry = self.log.start(request)
        rule = self.faults.take(request)
        if rule:
            entry["fault"] = rule.kind
            await rule.before(output)
        reply = None
        if rule is None or rule.performs():
            reply = self._perform(request)
        replaced = rule.reply() if rule else None
        if isinstance(reply, Stream) and replaced is None:
            self.log.code(entry, 200)
            rule and rule.shape(output, None)
            request.watch.output = output
            await output.stream(reply)
            return
        reply = replaced or reply or Reply(200, b"")
        if rule:
            rule.shape(output, reply)
        self.log.code(entry, reply.code if output.cut is None else f"cut:{rule.kind}")
        await output.reply(reply)

    def _perform(self, request):
        try:
            if request.user is None and request.path not in ("/healthz", "/readyz", "/livez"):
                raise ApiError(401, "Unauthorized")
            return self.rest.answer(request) if request.route else self.rest.other(request)
        except ApiError as e:
            return Reply(e.code, e.body, e.headers)
        except (KeyError, TypeError, AttributeError, ValueError) as e:
            # a shape that only a real decoder would have refused by name
            return Reply(400, ApiError(400, f"the request could not be decoded: {type(e).__name__}: {e}").body)

    # -- life

    async def run(self, stop):
        os.makedirs(self.options.dir, exist_ok=True)
        admin_path = os.path.join(self.options.dir, "admin.sock")
        if os.path.exists(admin_path):
            os.unlink(admin_path)
        admin = await asyncio.start_unix_server(self._admin_client, admin_path, limit=HEAD_MAX)
        await self.up()
        self.credentials.publish(self.url)
        print(f"ready {self.url} kubeconfig={self.credentials.path('kubeconfig')}", flush=True)
        while not stop.is_set():
            try:
                await asyncio.wait_for(stop.wait(), 1)
            except asyncio.TimeoutError:
                self.store.save()
        self.admin.writer.stop()
        await self.down()
        admin.close()
        os.unlink(admin_path)
        self.store.save()


__all__ = ["App", "Hangup"]
