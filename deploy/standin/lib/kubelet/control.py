"""The control socket: one JSON object per line in, one out."""

import asyncio
import collections
import json
import os
import time

from . import podresources
from .devices import GENERATIONS, AdmissionError

LOG = 20000


class Log:
    """What happened, with times on the clock all processes share."""

    def __init__(self, path=None):
        self.lines = collections.deque(maxlen=LOG)
        self.file = open(path, "a", encoding="utf-8") if path else None

    def __call__(self, what, **fields):
        line = {"time": round(time.time(), 6), "what": what, **fields}
        self.lines.append(line)
        if self.file:
            self.file.write(json.dumps(line) + "\n")
            self.file.flush()


class Control:
    def __init__(self, path, manager, resources, settings, log):
        self.path, self.manager, self.resources, self.settings, self.log = path, manager, resources, settings, log
        self.server = None

    async def start(self):
        if os.path.exists(self.path):
            os.unlink(self.path)
        self.server = await asyncio.start_unix_server(self._client, self.path, limit=1 << 20)

    async def _client(self, reader, writer):
        try:
            while line := await reader.readline():
                try:
                    request = json.loads(line)
                    handler = getattr(self, "do_" + str(request.pop("command", "")).replace("-", "_"), None)
                    if handler is None:
                        raise ValueError("unknown command")
                    answer = await handler(**request)
                except (ValueError, KeyError, TypeError, OSError, AdmissionError) as e:
                    answer = {"error": str(e) or type(e).__name__}
                writer.write(json.dumps(answer).encode() + b"\n")
                await writer.drain()
        except (ConnectionError, OSError):
            pass
        finally:
            writer.close()

    async def do_list(self):
        return self.manager.describe()

    async def do_endpoint(self, resource):
        """Where a resource is served, for calls that do not go through the manager."""
        plugin = self.manager.plugin(resource)
        return {"path": plugin.path, "ids": sorted(set(self.manager.devices[resource]) - self.manager.unhealthy[resource])}

    async def do_allocate(self, resource, count=1, pod="default/standin", container="main"):
        namespace, _, name = pod.rpartition("/")
        return await self.manager.allocate(resource, int(count), namespace or "default", name, container, f"uid-{pod}")

    async def do_release(self, pod):
        namespace, _, name = pod.rpartition("/")
        return {"released": self.manager.release(namespace or "default", name)}

    async def do_stop(self, kill=False):
        self.manager.stop(leave_socket=kill)
        self.resources.stop()
        return {"running": False}

    async def do_start(self):
        if self.manager.server is None:
            await self.manager.start()
            await self.resources.start()
        return {"running": True}

    async def do_restart(self, kill=False, delay=0):
        await self.do_stop(kill)
        if delay:
            await asyncio.sleep(float(delay))
        return await self.do_start()

    async def do_disconnect(self, resource):
        """Cut the connection to a plugin, as when it is half dead; the kubelet itself goes on."""
        self.manager.plugin(resource).client.close()
        return {}

    async def do_set(self, **values):
        choices = {"podresources": podresources.MODES, "generation": GENERATIONS, "authority": ("localhost", "path")}
        for key, value in values.items():
            if key in choices and value not in choices[key]:
                raise ValueError(f"{key} is one of {', '.join(choices[key])}")
            if key not in self.settings:
                raise ValueError(f"unknown setting {key!r}: one of {', '.join(self.settings)}")
            self.settings[key] = float(value) if key == "grace" else value
        return self.settings

    async def do_log(self, since=0, what=None):
        return {"log": [e for e in self.log.lines if e["time"] >= float(since) and (not what or e["what"] == what)]}

    async def do_wait(self, resource, capacity=None, allocatable=None, gone=False, timeout=10):
        """Until the node has so many of a resource; an error says what it has instead."""
        loop = asyncio.get_running_loop()
        end = loop.time() + float(timeout)
        while True:
            changed = self.manager.changed
            have = self.manager.capacity().get(resource)
            if gone and have is None:
                return {}
            if not gone and have and capacity in (None, have[0]) and allocatable in (None, have[1]):
                return {"capacity": have[0], "allocatable": have[1]}
            left = end - loop.time()
            if left <= 0:
                raise ValueError(f"{resource} after {timeout} s: " + (f"capacity {have[0]}, allocatable {have[1]}" if have else "unknown"))
            try:
                # forgetting a resource is a matter of time, not of news
                await asyncio.wait_for(changed.wait(), min(left, 0.2 if gone else left))
            except asyncio.TimeoutError:
                pass
