"""What listens where an etcd should, and answers garbage: bytes, HTTP/2 or protobuf that are wrong, each in its own way.

KINDS are their names. They are the same bytes each time.
"""

import random
import socket
import struct
import threading

from stranger import ACK, DATA, END_HEADERS, END_STREAM, HEADERS, PING, PREFACE, SETTINGS, WINDOW_UPDATE, field, frame

# Read at most so much before whoever has connected is left alone.
READ_BYTES_MAX = 1 << 20
STATUS_200 = b"\x88"  # of HPACK's static table


def _random(count):
    return random.Random(count).randbytes(count)


def _varint(number):
    out = b""
    while number >= 128:
        out, number = out + bytes([number % 128 + 128]), number // 128
    return out + bytes([number])


def _header(cluster_id, revision):
    """A TxnResponse with this header alone."""
    header = b"\x08" + _varint(cluster_id) + b"\x18" + _varint(revision)
    return b"\x0a" + _varint(len(header)) + header


def _headers():
    return HEADERS, END_HEADERS, STATUS_200 + field(b"content-type", b"application/grpc")


def _trailers(code=0, text=b""):
    return HEADERS, END_HEADERS | END_STREAM, field(b"grpc-status", b"%d" % code) + field(b"grpc-message", text)


def _message(data):
    return DATA, 0, struct.pack(">BI", 0, len(data)) + data


def _answered(message):
    return [_headers(), _message(message), _trailers()]


# To every request: what makes the frames of its stream (kind, flags, payload).
ANSWERS = {
    "bytes that are no protobuf": lambda: _answered(b"\xff" * 64),
    "random bytes as a message": lambda: _answered(_random(256)),
    "an empty message": lambda: _answered(b""),
    "another etcd": lambda: _answered(_header(1, 1000)),
    "a revision below zero": lambda: _answered(_header(1, (1 << 64) - 5)),
    "no message": lambda: [_headers(), _trailers()],
    "a message of 4 GiB": lambda: [_headers(), (DATA, 0, b"\0\xff\xff\xff\xff" + bytes(1000))],
    "half a message": lambda: [_headers(), (DATA, 0, struct.pack(">BI", 0, 1000) + bytes(10)), _trailers()],
    "a code that there is not": lambda: [_headers(), _trailers(4711, b"%ff\x01garbage")],
    "headers that are no HPACK": lambda: [(HEADERS, END_HEADERS, _random(64))],
    "frames of unknown kinds": lambda: [(0x40 + i, 0xff, _random(32)) for i in range(64)],
}
# Instead of HTTP/2, to whoever connects.
BYTES = {
    "HTTP/1": lambda: b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    "random bytes": lambda: _random(4096),
    "random bytes as frames": lambda: frame(SETTINGS, 0, 0) + _random(4096),
}
KINDS = [*ANSWERS, *BYTES]
# What a member that answers so is left for only when an attempt's time is over.
SILENT_KINDS = ("frames of unknown kinds",)


class Impostor:
    """Listens on a port of its own, and answers as `kind` says. close() ends it and all connections."""

    def __init__(self):
        self.kind = None
        self.asked = 0
        self._open = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self):
        for each in [self._listener, *self._open]:
            # Else whoever waits in it is not woken.
            try:
                each.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            each.close()

    def _accept(self):
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._open.append(connection)
            threading.Thread(target=self._speak, args=(connection, self.kind), daemon=True).start()

    def _speak(self, connection, kind):
        try:
            with connection, connection.makefile("rb") as read:
                if kind in BYTES:
                    self.asked += 1
                    connection.sendall(BYTES[kind]())
                    read.read(READ_BYTES_MAX)
                elif read.read(len(PREFACE)) == PREFACE:
                    connection.sendall(frame(SETTINGS, 0, 0))
                    self._answer_requests(connection, read, ANSWERS[kind])
        except OSError:
            pass  # the peer is gone, or has had enough

    def _answer_requests(self, connection, read, answer):
        while head := read.read(9):
            length, kind, flags, stream = int.from_bytes(head[:3], "big"), *struct.unpack(">BBI", head[3:])
            payload = read.read(length)
            if kind in (SETTINGS, PING) and not flags & ACK:
                connection.sendall(frame(kind, ACK, 0, payload if kind == PING else b""))
            elif kind == DATA:
                connection.sendall(frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", max(length, 1))))
                if flags & END_STREAM:
                    self.asked += 1
                    connection.sendall(b"".join(frame(k, f, stream, p) for k, f, p in answer()))
