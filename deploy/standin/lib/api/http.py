"""HTTP/1.1 by hand on asyncio: the point of this server is to be able to misbehave at every byte."""

import asyncio
import json
import socket
import struct
import urllib.parse

BODY_MAX = 3 * 1024 * 1024          # the real server's limit for a request body
HEAD_MAX = 64 * 1024

PHRASES = {100: "Continue", 200: "OK", 201: "Created", 302: "Found", 400: "Bad Request", 401: "Unauthorized",
           403: "Forbidden", 404: "Not Found", 405: "Method Not Allowed", 406: "Not Acceptable", 409: "Conflict",
           410: "Gone", 413: "Request Entity Too Large", 415: "Unsupported Media Type", 422: "Unprocessable Entity",
           429: "Too Many Requests", 500: "Internal Server Error", 502: "Bad Gateway", 503: "Service Unavailable",
           504: "Gateway Timeout"}


class Hangup(Exception):
    """The connection is over, on purpose or not."""


class Request:
    def __init__(self, method, target, headers, body):
        self.method = method
        parts = urllib.parse.urlsplit(target)
        self.path = urllib.parse.unquote(parts.path)
        self.query_text = parts.query
        self.query = dict(urllib.parse.parse_qsl(parts.query, keep_blank_values=True))
        self.headers = headers
        self.body = body
        self.user = None
        self.route = None
        self.entry = None           # line of the request log

    def flag(self, name):
        return self.query.get(name, "").lower() in ("1", "true")


class Reply:
    def __init__(self, code, body, headers=(), content_type="application/json"):
        self.code = code
        self.body = body if isinstance(body, bytes) else json.dumps(body, separators=(",", ":")).encode()
        self.headers = list(headers)
        self.content_type = content_type


class Stream:
    """An answer without known length; `chunks` is an asynchronous generator of bytes."""

    def __init__(self, chunks, content_type="application/json"):
        self.chunks = chunks
        self.content_type = content_type


class Output:
    """Bytes of one answer on their way out, and what shall go wrong with them."""

    def __init__(self, writer, gone):
        self.writer = writer
        self.gone = gone                # event: the peer has closed
        self.sent = 0
        self.cut = None                 # (after how many bytes, "close" | "reset" | "stall")
        self.drip = None                # (bytes, seconds) per piece

    async def _push(self, data):
        if self.gone.is_set():
            raise Hangup
        self.writer.write(data)
        try:
            await self.writer.drain()
        except (ConnectionError, OSError) as e:
            raise Hangup from e
        self.sent += len(data)

    async def write(self, data):
        end = None
        if self.cut and self.sent + len(data) >= self.cut[0]:
            data, end = data[:max(0, self.cut[0] - self.sent)], self.cut[1]
        if self.drip and data:
            size, pause = self.drip
            for at in range(0, len(data), size):
                await self._push(data[at:at + size])
                try:
                    await asyncio.wait_for(self.gone.wait(), pause)
                except asyncio.TimeoutError:
                    pass
        elif data:
            await self._push(data)
        if end:
            await self.end(end)

    async def end(self, how):
        if how == "reset":
            sock = self.writer.get_extra_info("socket")
            if sock is not None and sock.family != socket.AF_UNIX:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.writer.transport.abort()
        elif how == "stall":
            await self.gone.wait()
        raise Hangup

    async def reply(self, reply, close=False):
        head = [f"HTTP/1.1 {reply.code} {PHRASES.get(reply.code, 'Status')}", f"Content-Type: {reply.content_type}",
                f"Content-Length: {len(reply.body)}", "Cache-Control: no-cache, private"]
        head += [f"{k}: {v}" for k, v in reply.headers]
        if close:
            head.append("Connection: close")
        await self.write("\r\n".join(head).encode() + b"\r\n\r\n" + reply.body)

    async def stream(self, stream):
        await self.write(f"HTTP/1.1 200 OK\r\nContent-Type: {stream.content_type}\r\nTransfer-Encoding: chunked\r\n"
                         "Cache-Control: no-cache, private\r\n\r\n".encode())
        async for piece in stream.chunks:
            await self.write(b"%x\r\n%s\r\n" % (len(piece), piece))
        await self.write(b"0\r\n\r\n")


class BadRequest(Exception):
    def __init__(self, code, text):
        super().__init__(text)
        self.code = code


async def _head(reader):
    """Request line and headers, or None at the end of the connection."""
    try:
        raw = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as e:
        if e.partial.strip():
            raise BadRequest(400, "request ended in its headers") from e
        return None
    except asyncio.LimitOverrunError as e:
        raise BadRequest(413, "headers are too long") from e
    lines = raw[:-4].decode("latin-1").split("\r\n")
    words = lines[0].split(" ")
    if len(words) != 3 or not words[2].startswith("HTTP/1."):
        raise BadRequest(400, "not an HTTP/1.1 request")
    headers = {}
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        if not colon:
            raise BadRequest(400, "malformed header")
        headers[name.strip().lower()] = value.strip()
    return words[0], words[1], headers


async def _body(reader, writer, headers):
    if headers.get("expect", "").lower() == "100-continue":
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    if headers.get("transfer-encoding", "").lower() == "chunked":
        body = b""
        while True:
            size = int((await reader.readuntil(b"\r\n")).split(b";")[0], 16)
            if len(body) + size > BODY_MAX:
                raise BadRequest(413, "request body is too large")
            piece = await reader.readexactly(size + 2)
            if size == 0:
                return body
            body += piece[:-2]
    length = headers.get("content-length", "0")
    if not length.isdigit():
        raise BadRequest(400, "bad Content-Length")
    if int(length) > BODY_MAX:
        left = min(int(length), 64 << 20)       # read it, or the answer is lost in a reset
        while left and (piece := await reader.read(min(left, 1 << 16))):
            left -= len(piece)
        raise BadRequest(413, f"request body of {length} bytes is larger than the limit of {BODY_MAX}")
    return await reader.readexactly(int(length)) if int(length) else b""


async def read_request(reader, writer):
    head = await _head(reader)
    if head is None:
        return None
    method, target, headers = head
    try:
        return Request(method, target, headers, await _body(reader, writer, headers))
    except (asyncio.IncompleteReadError, ValueError) as e:
        raise BadRequest(400, "request ended in its body") from e


class Connection:
    """One client. Reading goes on while an answer is streamed, to notice that the client is gone."""

    def __init__(self, reader, writer, answer):
        self.reader, self.writer, self.answer = reader, writer, answer
        self.gone = asyncio.Event()
        self.next = None

    async def run(self):
        try:
            while not self.gone.is_set():
                request = await (self.next or read_request(self.reader, self.writer))
                self.next = None
                if request is None:
                    break
                self.next = asyncio.ensure_future(read_request(self.reader, self.writer))
                self.next.add_done_callback(self._noticed)
                await self.answer(request, Output(self.writer, self.gone))
                if request.headers.get("connection", "").lower() == "close":
                    break
        except BadRequest as e:
            body = f'{{"kind":"Status","apiVersion":"v1","status":"Failure","code":{e.code},"message":"{e}"}}'
            try:
                await Output(self.writer, self.gone).reply(Reply(e.code, body.encode()), close=True)
            except Hangup:
                pass
        except (Hangup, ConnectionError, OSError):
            pass
        finally:
            self.gone.set()
            if self.next:
                self.next.cancel()
            self.writer.close()

    def _noticed(self, task):
        """The next request has arrived (fine), or the connection ended."""
        if task.cancelled():
            return
        if task.exception() is not None or task.result() is None:
            self.gone.set()
