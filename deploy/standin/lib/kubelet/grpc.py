"""gRPC over unix sockets on python3-h2: thin, strict, and independent of the gRPC core library.
Rules: grpc/grpc doc/PROTOCOL-HTTP2.md"""

import asyncio
import contextlib
import os
import struct
import urllib.parse

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
import h2.settings

OK, CANCELLED, UNKNOWN, INVALID_ARGUMENT, DEADLINE, NOT_FOUND = 0, 1, 2, 3, 4, 5
EXHAUSTED, UNIMPLEMENTED, INTERNAL, UNAVAILABLE = 8, 12, 13, 14
NAMES = {0: "OK", 1: "CANCELLED", 2: "UNKNOWN", 3: "INVALID_ARGUMENT", 4: "DEADLINE_EXCEEDED", 5: "NOT_FOUND",
         7: "PERMISSION_DENIED", 8: "RESOURCE_EXHAUSTED", 9: "FAILED_PRECONDITION", 12: "UNIMPLEMENTED", 13: "INTERNAL",
         14: "UNAVAILABLE"}
RECEIVE_MAX = 4 * 1024 * 1024       # grpc-go's default
WINDOW = 1 << 20


@contextlib.contextmanager
def reachable(path):
    """The path, or a shorter one where it does not fit into sun_path (man 7 unix: 107 bytes)."""
    if len(os.fsencode(path)) <= 107:
        yield path
        return
    directory = os.open(os.path.dirname(path), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{directory}/{os.path.basename(path)}"
    finally:
        os.close(directory)


class GrpcError(Exception):
    def __init__(self, code, message):
        super().__init__(message)
        self.code = code

    def describe(self):
        return {"code": self.code, "status": NAMES.get(self.code, str(self.code)), "message": str(self)}


class Stream:
    def __init__(self, number):
        self.number = number
        self.headers = {}
        self.trailers = {}
        self.buffer = bytearray()
        self.ended = False
        self.error = None               # why no more will come
        self.event = asyncio.Event()

    def fail(self, error):
        if self.error is None:
            self.error = error
        self.event.set()


_ALIVE = set()         # asyncio itself holds connections only weakly


class Peer:
    """One HTTP/2 connection, either side."""

    def __init__(self, reader, writer, client):
        self.reader, self.writer, self.client = reader, writer, client
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(
            client_side=client, header_encoding="utf-8", validate_inbound_headers=False, validate_outbound_headers=False))
        self.streams = {}
        self.room = asyncio.Event()     # flow control windows have changed
        self.settled = asyncio.Event()  # the peer's SETTINGS have come
        self.closed = None              # reason
        self.on_request = None
        self.task = None

    def start(self):
        self.h2.initiate_connection()
        settings = {h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: WINDOW}
        if self.client:
            settings[h2.settings.SettingCodes.ENABLE_PUSH] = 0
        self.h2.update_settings(settings)
        self.h2.increment_flow_control_window(WINDOW)
        self.flush()
        self.task = asyncio.ensure_future(self._read())
        _ALIVE.add(self)

    def flush(self):
        data = self.h2.data_to_send()
        if data and self.closed is None:
            self.writer.write(data)

    async def _read(self):
        reason = "connection closed by the peer"
        try:
            while True:
                data = await self.reader.read(1 << 16)
                if not data:
                    break
                for event in self.h2.receive_data(data):
                    self._handle(event)
                self.flush()
        except h2.exceptions.ProtocolError as e:
            reason = f"HTTP/2 protocol error: {e}"
            self.flush()                # the GOAWAY that h2 has prepared
        except (ConnectionError, OSError) as e:
            reason = f"connection lost: {e}"
        except asyncio.CancelledError:
            reason = "connection closed"
        finally:
            self._down(reason)

    def _down(self, reason):
        if self.closed is None:
            self.closed = reason
        _ALIVE.discard(self)
        self.writer.close()
        for stream in self.streams.values():
            stream.fail(GrpcError(UNAVAILABLE, self.closed))
        self.room.set()
        self.settled.set()

    def close(self):
        if self.closed is None:
            try:
                self.h2.close_connection()
                self.flush()
            except h2.exceptions.ProtocolError:
                pass
        if self.task:
            self.task.cancel()
        self._down("closed by us")

    def _handle(self, event):
        if isinstance(event, h2.events.RemoteSettingsChanged):
            self.settled.set()
            self.room.set()
        elif isinstance(event, h2.events.WindowUpdated):
            self.room.set()
        elif isinstance(event, h2.events.RequestReceived):
            stream = self.streams[event.stream_id] = Stream(event.stream_id)
            stream.headers = dict(event.headers)
            self.on_request(stream)
        elif isinstance(event, h2.events.ConnectionTerminated):
            self.closed = self.closed or f"GOAWAY {event.error_code}"
            for number, stream in self.streams.items():
                if number > (event.last_stream_id or 0):
                    stream.fail(GrpcError(UNAVAILABLE, self.closed))
        else:
            if isinstance(event, h2.events.DataReceived):       # also of calls that are over: the connection's window
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            stream = self.streams.get(getattr(event, "stream_id", None))
            if stream:
                self._handle_stream(stream, event)

    def _handle_stream(self, stream, event):
        if isinstance(event, h2.events.ResponseReceived):
            stream.headers = dict(event.headers)
        elif isinstance(event, h2.events.TrailersReceived):
            stream.trailers = dict(event.headers)
        elif isinstance(event, h2.events.DataReceived):
            stream.buffer += event.data
        elif isinstance(event, h2.events.StreamEnded):
            stream.ended = True
        elif isinstance(event, h2.events.StreamReset) and not stream.ended:
            stream.fail(GrpcError(CANCELLED if event.error_code == h2.errors.ErrorCodes.CANCEL else INTERNAL,
                                  f"stream reset by the peer, code {event.error_code}"))
        stream.event.set()
        self.room.set()

    # -- messages

    async def send(self, stream, message, end):
        """One length-prefixed message under flow control."""
        data = struct.pack(">BI", 0, len(message)) + message
        await self.send_raw(stream, data, end)

    async def send_raw(self, stream, data, end):
        rest = memoryview(data)
        while True:
            if stream.error or self.closed is not None:
                raise stream.error or GrpcError(UNAVAILABLE, self.closed)
            if self.client and stream.ended:        # the server has answered without reading all
                self.reset(stream, h2.errors.ErrorCodes.CANCEL)
                return
            size = min(self.h2.local_flow_control_window(stream.number), self.h2.max_outbound_frame_size, len(rest))
            if size or not rest:
                self.h2.send_data(stream.number, bytes(rest[:size]), end_stream=end and size == len(rest))
                rest = rest[size:]
                self.flush()
                await self.writer.drain()
                if not rest:
                    return
            else:
                self.room.clear()
                await self.room.wait()

    def reset(self, stream, code):
        try:
            self.h2.reset_stream(stream.number, code)
            self.flush()
        except h2.exceptions.ProtocolError:
            pass                        # already closed

    async def receive(self, stream, limit=RECEIVE_MAX):
        """The next message, or None at the end."""
        while True:
            if len(stream.buffer) >= 5:
                flag, size = struct.unpack(">BI", stream.buffer[:5])
                if flag != 0:
                    raise GrpcError(INTERNAL, f"compressed flag {flag} without negotiation")
                if size > limit:
                    raise GrpcError(EXHAUSTED, f"received message larger than max ({size} vs. {limit})")
                if len(stream.buffer) >= 5 + size:
                    message = bytes(stream.buffer[5:5 + size])
                    del stream.buffer[:5 + size]
                    return message
            if stream.ended:
                if stream.buffer:
                    raise GrpcError(INTERNAL, "stream ended inside a message")
                return None
            if stream.error:
                raise stream.error
            stream.event.clear()
            await stream.event.wait()


def _status(stream):
    """The outcome a finished stream declares."""
    source = stream.trailers or stream.headers
    if "grpc-status" not in source:
        return GrpcError(INTERNAL, f"no grpc-status at the end (:status {stream.headers.get(':status')})")
    code = source["grpc-status"]
    if not code.isdigit():
        return GrpcError(INTERNAL, f"grpc-status is {code!r}")
    return None if code == "0" else GrpcError(int(code), urllib.parse.unquote(source.get("grpc-message", "")))


class Client:
    """A connection to a server on a unix socket, as grpc-go dials it: blocking until SETTINGS have come."""

    def __init__(self, peer, authority):
        self.peer, self.authority = peer, authority

    @classmethod
    async def dial(cls, path, authority="localhost", timeout=10):
        async def connect():
            with reachable(path) as short:
                reader, writer = await asyncio.open_unix_connection(short)
            peer = Peer(reader, writer, True)
            peer.start()
            try:
                await peer.settled.wait()
            except asyncio.CancelledError:
                peer.close()
                raise
            if peer.closed is not None:
                raise ConnectionError(peer.closed)
            return cls(peer, authority)
        try:
            return await asyncio.wait_for(connect(), timeout)
        except asyncio.TimeoutError as e:
            raise GrpcError(UNAVAILABLE, f"failed to dial {path}: no SETTINGS within {timeout} s") from e
        except (OSError, ConnectionError) as e:
            raise GrpcError(UNAVAILABLE, f"failed to dial {path}: {e}") from e

    def _open(self, method, timeout=None):
        if self.peer.closed is not None:
            raise GrpcError(UNAVAILABLE, self.peer.closed)
        number = self.peer.h2.get_next_available_stream_id()
        headers = [(":method", "POST"), (":scheme", "http"), (":path", method), (":authority", self.authority),
                   ("content-type", "application/grpc"), ("user-agent", "grpc-standin/1.0"), ("te", "trailers")]
        if timeout is not None:
            headers.append(("grpc-timeout", f"{max(1, int(timeout * 1000))}m"))
        stream = self.peer.streams[number] = Stream(number)
        self.peer.h2.send_headers(number, headers)
        return stream

    async def start(self, method, message, timeout=None):
        """Send the one request of a call; None: half-close without any message."""
        stream = self._open(method, timeout)
        await self._request(stream, message)
        return stream

    async def _request(self, stream, message):
        if message is None:
            self.peer.h2.end_stream(stream.number)
            self.peer.flush()
        else:
            await self.peer.send(stream, message, True)

    async def unary(self, method, message, timeout=None, limit=RECEIVE_MAX):
        stream = self._open(method, timeout)
        try:
            return await asyncio.wait_for(self._exchange(stream, message, limit), timeout)
        except asyncio.TimeoutError as e:
            self.cancel(stream)
            raise GrpcError(DEADLINE, f"no answer to {method} within {timeout} s") from e
        finally:
            self.peer.streams.pop(stream.number, None)

    async def _exchange(self, stream, message, limit):
        await self._request(stream, message)
        message = await self.peer.receive(stream, limit)
        while not stream.ended and not stream.error:
            if stream.buffer:
                raise GrpcError(INTERNAL, "more than one message in a unary answer")
            stream.event.clear()
            await stream.event.wait()
        if stream.error and not stream.ended:
            raise stream.error
        self._check_headers(stream)
        status = _status(stream)
        if status:
            raise status
        if message is None:
            raise GrpcError(INTERNAL, "OK without a message")
        return message

    @staticmethod
    def _check_headers(stream):
        if stream.headers.get(":status") != "200":
            raise GrpcError(UNKNOWN, f":status {stream.headers.get(':status')}")
        if not stream.headers.get("content-type", "").startswith("application/grpc"):
            raise GrpcError(UNKNOWN, f"content-type {stream.headers.get('content-type')!r}")

    async def messages(self, stream, limit=RECEIVE_MAX):
        """Messages of a streamed answer; ends normally or with the call's status."""
        while True:
            message = await self.peer.receive(stream, limit)
            if message is None:
                break
            yield message
        self._check_headers(stream)
        status = _status(stream)
        if status:
            raise status

    def cancel(self, stream):
        if self.peer.closed is None and not stream.ended:
            self.peer.reset(stream, h2.errors.ErrorCodes.CANCEL)

    def close(self):
        self.peer.close()


class Raw:
    """A handler's answer that is no well-formed message: bytes as they shall appear in DATA."""

    def __init__(self, data):
        self.data = data


class Server:
    """Methods on a unix socket: path -> async function(bytes) -> bytes or Raw, or an asynchronous generator of
    bytes for a streamed answer; either may raise GrpcError."""

    def __init__(self, methods):
        self.methods, self.peers, self.tasks, self.listener = methods, set(), set(), None

    async def listen(self, path):
        with reachable(path) as short:
            self.listener = await asyncio.start_unix_server(self._client, short)

    async def _client(self, reader, writer):
        peer = Peer(reader, writer, False)
        def serve(stream):
            task = asyncio.ensure_future(self._serve(peer, stream))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)
        peer.on_request = serve
        self.peers.add(peer)
        peer.start()
        try:
            await asyncio.wait({peer.task})
        finally:
            self.peers.discard(peer)

    async def _serve(self, peer, stream):
        try:
            try:
                handler = self.methods.get(stream.headers.get(":path"))
                if handler is None:
                    raise GrpcError(UNIMPLEMENTED, f"unknown method {stream.headers.get(':path')}")
                message = await peer.receive(stream)
                if message is None:
                    raise GrpcError(INTERNAL, "a unary call needs one message")
                answer = handler(message)
                streamed = hasattr(answer, "__aiter__")
                if not streamed:
                    answer = await answer
            except GrpcError as e:
                self._trailers_only(peer, stream, e)
                return
            peer.h2.send_headers(stream.number, [(":status", "200"), ("content-type", "application/grpc")])
            peer.flush()
            if streamed:
                async for piece in answer:
                    await peer.send(stream, piece, False)
            elif isinstance(answer, Raw):
                await peer.send_raw(stream, answer.data, False)
            else:
                await peer.send(stream, answer, False)
            peer.h2.send_headers(stream.number, [("grpc-status", "0")], end_stream=True)
            peer.flush()
        except (GrpcError, h2.exceptions.ProtocolError, ConnectionError):
            pass                        # the caller has left
        finally:
            peer.streams.pop(stream.number, None)

    @staticmethod
    def _trailers_only(peer, stream, error):
        peer.h2.send_headers(stream.number, [
            (":status", "200"), ("content-type", "application/grpc"), ("grpc-status", str(error.code)),
            ("grpc-message", urllib.parse.quote(str(error), safe=" !\"#$&'()*+,-./:;<=>?@[\\]^_`{|}~"))], end_stream=True)
        peer.flush()
        if not stream.ended:
            peer.reset(stream, h2.errors.ErrorCodes.NO_ERROR)

    def close(self):
        """Cut every connection; the socket file is the caller's."""
        if self.listener:
            self.listener.close()
            self.listener = None
        for peer in list(self.peers):
            peer.close()
