"""Allocate, many times, on a blocking socket with frames made once: the client must cost less than what it measures.
Frames: RFC 9113 section 6; header block: RFC 7541 literals without indexing, so that it is the same every time."""

import os
import socket
import struct
import time

import hpack

from . import pb
from .grpc import reachable


class BenchError(Exception):
    pass


def _frame(kind, flags, stream, payload):
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def _literal(name, value):
    return b"\0" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()


class Connection:
    def __init__(self, path):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(10)
        with reachable(path) as short:
            self.sock.connect(short)
        self.pid = struct.unpack("3i", self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0]
        # SETTINGS: initial window 2^30; then the same for the connection
        self.sock.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + _frame(4, 0, 0, struct.pack(">HI", 4, 1 << 30))
                          + _frame(8, 0, 0, struct.pack(">I", (1 << 30) - 65536)))
        self.buffer = b""
        self.decoder = hpack.Decoder()
        self.known = {}                 # header blocks that do not touch the dynamic table
        self.stream = 1
        head = [(":method", "POST"), (":scheme", "http"), (":path", "/v1beta1.DevicePlugin/Allocate"), (":authority", "localhost"),
                ("content-type", "application/grpc"), ("user-agent", "grpc-standin/1.0"), ("te", "trailers")]
        self.head = b"".join(_literal(n, v) for n, v in head)

    def _next(self):
        while len(self.buffer) < 9 or len(self.buffer) < 9 + int.from_bytes(self.buffer[:3], "big"):
            data = self.sock.recv(65536)
            if not data:
                raise BenchError("the plugin closed the connection")
            self.buffer += data
        size = int.from_bytes(self.buffer[:3], "big")
        kind, flags, stream = struct.unpack(">BBI", self.buffer[3:9])
        payload, self.buffer = self.buffer[9:9 + size], self.buffer[9 + size:]
        return kind, flags, stream, payload

    def _headers(self, block):
        if block in self.known:
            return self.known[block]
        headers = dict(self.decoder.decode(block))
        if all(byte & 0x80 for byte in block):
            self.known[block] = headers
        else:
            self.known.clear()          # the dynamic table may have moved
        return headers

    def call(self, message):
        """One Allocate; returns the answer's message."""
        number, self.stream = self.stream, self.stream + 2
        self.sock.sendall(_frame(1, 4, number, self.head)
                          + _frame(0, 1, number, struct.pack(">BI", 0, len(message)) + message))
        body, headers = b"", {}
        while True:
            kind, flags, stream, payload = self._next()
            if kind == 4 and not flags & 1:
                self.sock.sendall(_frame(4, 1, 0, b""))
            elif kind == 6 and not flags & 1:
                self.sock.sendall(_frame(6, 1, 0, payload))
            elif kind == 7:
                raise BenchError("the plugin sent GOAWAY")
            elif stream != number:
                continue
            elif kind == 3:
                raise BenchError("the plugin reset the stream")
            elif kind in (0, 1):
                if flags & 0x28:
                    raise BenchError("padding and priority are not expected here")
                if kind == 0:
                    body += payload
                elif not flags & 4:
                    raise BenchError("CONTINUATION is not expected here")
                else:
                    headers.update(self._headers(payload))
                if flags & 1:
                    break
        if headers.get("grpc-status") != "0":
            raise BenchError(f"grpc-status {headers.get('grpc-status')}: {headers.get('grpc-message', '')}")
        return body[5:]


def cpu_seconds(pid):
    """Time on a processor of all threads, in nanosecond resolution where the kernel offers it."""
    total = 0
    for task in os.listdir(f"/proc/{pid}/task"):
        try:
            with open(f"/proc/{pid}/task/{task}/schedstat", encoding="ascii") as f:
                total += int(f.read().split()[0])
        except FileNotFoundError:
            pass
    if total:
        return total / 1e9
    with open(f"/proc/{pid}/stat", encoding="ascii") as f:
        fields = f.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def run(path, ids, calls):
    connection = Connection(path)
    message = pb.encode("AllocateRequest", {"container_requests": [{"devices_ids": ids}]})
    answer = pb.decode("AllocateResponse", connection.call(message))
    if len(answer["container_responses"]) != 1:
        raise BenchError(f"{len(answer['container_responses'])} container responses")
    for _ in range(min(200, calls)):
        connection.call(message)
    times, before, started = [], cpu_seconds(connection.pid), time.perf_counter()
    for _ in range(calls):
        at = time.perf_counter_ns()
        connection.call(message)
        times.append(time.perf_counter_ns() - at)
    wall = time.perf_counter() - started
    cpu = cpu_seconds(connection.pid) - before
    times.sort()

    def percentile(p):
        return round(times[min(calls - 1, int(calls * p))] / 1000, 1)
    return {"calls": calls, "devices": len(ids), "p50_us": percentile(0.5), "p90_us": percentile(0.9), "p99_us": percentile(0.99),
            "max_us": round(times[-1] / 1000, 1), "calls_per_second": round(calls / wall),
            "plugin_cpu_us_per_call": round(cpu / calls * 1e6, 1), "plugin_pid": connection.pid}
