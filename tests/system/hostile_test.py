"""Strangers at every port, while a client's requests go on: none fails or waits long, and no memory or descriptor is kept."""

import os
import ssl
import struct
import subprocess
import tempfile
import threading
import time
import unittest
import urllib.request

import csi_driver
import grpc
import stranger
from harness import FULL, ROOT, ClusterTest, SteadyClient, cluster_lib, run, wait_until
from nbd_tls_port import NbdTlsPort, as_client, certificate
from weir_ops import settings

# A request that waits as long has been hurt. Without an attack the longest is about 0.1 s on a machine that has other work.
REQUEST_SECONDS_MAX = 2.0
# Of resident memory, by one attack. A server's windows and gRPC's buffers fit in that; what the attacks send does not.
GROWTH_MIB_MAX = 64
# Streams by the ten thousand, by whoever is let in: gRPC 1.51 has no bound for that (SECURITY.md says so). What is held to here
# is what each stream costs, and that all of it ends with the flood.
FLOOD_SECONDS_MAX = 20.0
FLOOD_GROWTH_MIB_MAX = 320
# Messages that are never finished count against the process's quota for gRPC, kBuffersBytesMax in proto/wire/transport.cc.
# gRPC takes more and only then ends connections, so what comes meanwhile is beside it. The attack sends 1024 MiB.
QUOTA_MIB_MAX = 512 + 384
# Until descriptors are given back after the strangers have gone.
GIVEN_BACK_SECONDS = 5
FDS_SLACK = 8
# proto/wire/transport.cc
HANDSHAKE_SECONDS = 10
# A call that every server takes, on its first stream.
CALL = (stranger.frame(stranger.HEADERS, stranger.END_HEADERS, 1, stranger.call_headers(stranger.CHECK))
        + stranger.frame(stranger.DATA, stranger.END_STREAM, 1, bytes(5)))


class Watched:
    """What is attacked: the processes that `pids()` tells, of which strangers may cause more."""

    def __init__(self, pids):
        self.pids = pids
        self.before = pids()
        for pid in self.before:
            with open(f"/proc/{pid}/clear_refs", "w") as f:
                f.write("5")  # the peak of resident memory begins anew
        self.before_kib = self.status_kib("VmRSS")
        self.fds_before = self.fds()

    def status_kib(self, name):
        total = 0
        for pid in self.before:
            with open(f"/proc/{pid}/status") as f:
                total += next(int(line.split()[1]) for line in f if line.startswith(name + ":"))
        return total

    def growth_mib(self):
        return (self.status_kib("VmHWM") - self.before_kib) / 1024

    def fds(self):
        count = 0
        for pid in self.pids():
            try:
                count += len(os.listdir(f"/proc/{pid}/fd"))
            except FileNotFoundError:
                pass  # a stranger's, that has ended
        return count

    def alive(self):
        return set(self.before) <= set(self.pids())


class SteadyCaller(threading.Thread):
    """As SteadyClient, of a CSI driver: a call after the other that needs a frontend."""

    def __init__(self, endpoint):
        super().__init__()
        self.driver = csi_driver.Driver(endpoint)
        self.driver.ListVolumes()
        self.lock = threading.Lock()
        self.ending = threading.Event()
        self.error = None
        self.requests, self.longest_seconds = 0, 0.0
        self.start()

    def run(self):
        while not self.ending.wait(0.005):
            begun = time.monotonic()
            try:
                self.driver.ListVolumes(timeout=30)
            except grpc.RpcError as error:
                self.error = error
                continue
            with self.lock:
                self.longest_seconds = max(self.longest_seconds, time.monotonic() - begun)
                self.requests += 1

    def lap(self, may_fail=False):
        """What was called since the last lap; one call at least has ended."""
        wait_until(lambda: self.requests > 0 or self.error, FLOOD_SECONDS_MAX, "a call is answered")
        error, self.error = self.error, None
        if error and not may_fail:
            raise AssertionError("a CSI call has failed") from error
        with self.lock:
            seen = {"requests": self.requests, "longest_seconds": self.longest_seconds}
            self.requests, self.longest_seconds = 0, 0.0
        return seen

    def close(self):
        self.ending.set()
        self.join(60)
        self.driver.close()


class HostileCase(ClusterTest):
    """`steady`: whose requests may not be hurt."""

    up_flags = ("--tls", "--size=64MiB")

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        folder = os.path.join(cls.cluster.dir, "tls")
        for name, days in (("stranger", 2), ("late", -1)):
            run(os.path.join(ROOT, "ops", "certs"), f"--dir={folder}", f"--name={name}", "--role=viewer", f"--days={days}")
        cls.files = {name: (f"{folder}/{name}.pem", f"{folder}/{name}.key") for name in ("stranger", "late")}
        cls.steady = cls.make_steady()
        cls.addClassCleanup(cls.steady.close)
        cls.steady.lap()

    @classmethod
    def make_steady(cls):
        """The only one who writes to the volume."""
        return SteadyClient(cls.cluster.uri)

    def servers(self):
        """Where each kind of process listens: (name, gRPC, metrics)."""
        cluster = cluster_lib.Cluster(self.cluster.dir)
        return [(name, cluster.address(name), cluster.metrics_url(name)) for name in ("replica1", "volume")]

    def pids(self, name):
        """Those of what is attacked under this name."""
        return [self.cluster.pids()[name]]

    def attack(self, name, address, how, *arguments, tls=None, limits=(REQUEST_SECONDS_MAX, GROWTH_MIB_MAX)):
        with self.subTest(name=name, address=address, how=how):
            self.attack_and_look(name, address, how, arguments, tls, *limits)

    def attack_and_look(self, name, address, how, arguments, tls, seconds_max, growth_mib_max):
        """Attacks process `name`, and looks at it and at the client's requests."""
        watched = Watched(lambda: self.pids(name))
        self.steady.lap()
        attack = stranger.Attack(address, tls)
        begun = time.monotonic()
        try:
            getattr(attack, how)(*arguments)
            self.still_answers(name)
            lap, growth, fds = self.steady.lap(), watched.growth_mib(), watched.fds()
        finally:
            attack.over()
        seconds = time.monotonic() - begun
        what = f"{how} at {address} of {name}"
        print(f"    {what}: {seconds:.1f} s, sent {sum(p.sent for p in attack.open) / stranger.MIB:.1f} MiB, "
              f"requests {lap['requests']}, longest {1000 * lap['longest_seconds']:.0f} ms, "
              f"memory +{growth:.1f} MiB, descriptors +{fds - watched.fds_before}", flush=True)
        self.assertGreater(lap["requests"], 0, what)
        self.assertLess(lap["longest_seconds"], seconds_max, what)
        self.assertLess(growth, growth_mib_max, what)
        wait_until(lambda: watched.fds() <= watched.fds_before + FDS_SLACK, GIVEN_BACK_SECONDS,
                   f"{what}: the descriptors are given back")
        self.assertTrue(watched.alive(), what)

    def still_answers(self, name):
        command = ("replica", "show", "replica1") if name == "replica1" else ("volume", "list")
        self.cluster.weirctl(*command, timeout=60)


class HostileTest(HostileCase):
    def test_grpc_from_whom_has_no_certificate(self):
        for name, address, _ in self.servers():
            self.attack(name, address, "random_bytes")
            self.attack(name, address, "silent_connections")
            self.attack(name, address, "half_open_handshakes")
            self.attack(name, address, "a_byte_a_second", stranger.client_hello())

    def test_grpc_from_whose_certificate_lets_it_in(self):
        tls = stranger.context(self.files["stranger"])
        for name, address, _ in self.servers():
            for how in ("garbage_after_the_preface", "frames_of_unknown_kind", "a_message_of_a_gib", "metadata_without_end",
                        "pings_whose_answers_are_not_read"):
                self.attack(name, address, how, tls=tls)
            self.attack(name, address, "messages_without_end", tls=tls, limits=(REQUEST_SECONDS_MAX, QUOTA_MIB_MAX))

    def test_grpc_calls_that_the_role_may_not_make(self):
        """Two thousand of them; tls_test looks at every method and role."""
        tls = stranger.context(self.files["stranger"])
        pem = [open(path, "rb").read() for path in (os.path.join(self.cluster.dir, "tls", "ca.pem"), *self.files["stranger"][::-1])]
        methods = {"replica1": "/weir.v1.ReplicaService/Io", "volume": "/weir.v1.VolumeService/CreateVolume"}
        for name, address, _ in self.servers():
            self.attack(name, address, "calls_that_it_may_not_make", methods[name].encode(), tls=tls)
            with grpc.secure_channel(address, grpc.ssl_channel_credentials(*pem)) as channel:
                call = channel.stream_stream(methods[name])(iter([b""]), timeout=10)
                self.assertEqual(call.code(), grpc.StatusCode.PERMISSION_DENIED, call.details())
                self.assertIn("certificate has viewer", call.details())

    def test_grpc_a_byte_a_second_of_http2(self):
        tls = stranger.context(self.files["stranger"])
        begun = stranger.PREFACE + stranger.frame(stranger.SETTINGS, 0, 0)
        for name, address, _ in self.servers():
            self.attack(name, address, "a_byte_a_second", stranger.PREFACE, tls=tls)
            self.attack(name, address, "a_byte_a_second", CALL, 5, 50, begun, tls=tls)
            # Until all but a call's last bytes are there.
            self.attack(name, address, "a_byte_a_second", CALL[-5:], 4, 50, begun + CALL[:-5], tls=tls)

    def test_grpc_floods_of_streams_end_with_who_sent_them(self):
        tls = stranger.context(self.files["stranger"])
        for name, address, _ in self.servers():
            for how in ("ten_thousand_streams", "rapid_reset"):
                self.attack(name, address, how, tls=tls, limits=(FLOOD_SECONDS_MAX, FLOOD_GROWTH_MIB_MAX))
            wait_until(self.requests_are_fast, FLOOD_SECONDS_MAX, "requests are as fast as before")

    def requests_are_fast(self):
        lap = self.steady.lap()
        return lap["requests"] > 0 and lap["longest_seconds"] < REQUEST_SECONDS_MAX

    def test_who_does_not_end_the_handshake_is_put_out(self):
        """Neither that of TLS nor, with a good certificate, that of HTTP/2."""
        peers = []
        for _, address, _ in self.servers():
            peers.append(stranger.Stranger(address))
            peers.append(stranger.Stranger(address, stranger.context(self.files["stranger"])))
            peers[-1].send(stranger.PREFACE[:-1])
        for peer in peers:
            self.addCleanup(peer.close)
        for peer in peers:
            self.assertTrue(peer.hung_up(HANDSHAKE_SECONDS + 5))

    def test_no_certificate_or_an_expired_one_is_not_let_in(self):
        for name, address, _ in self.servers():
            for files in (None, self.files["late"]):
                self.attack(name, address, "handshakes_that_are_refused", tls=stranger.context(files))

    def test_metrics(self):
        for name, _, url in self.servers():
            address = url.removeprefix("http://").removesuffix("/metrics")
            self.attack(name, address, "random_bytes")
            self.attack(name, address, "silent_connections", 100)
            self.attack(name, address, "a_byte_a_second", b"GET /metrics HTTP/1.1\r\n")
            self.attack(name, address, "a_request_without_end")
            # While they were there others had to wait; now nobody has.
            wait_until(lambda url=url: b"weir_build_info" in self.page(url), GIVEN_BACK_SECONDS, f"{url} answers")

    def page(self, url):
        try:
            with urllib.request.urlopen(url, timeout=1) as answer:
                return answer.read()
        except OSError:
            return b""

    def test_nbd(self):
        path = os.path.join(self.cluster.dir, "nbd.sock")
        for how, arguments in (("random_bytes", ()), ("silent_connections", (100,)), ("a_byte_a_second", (bytes(8),)),
                               ("nbd_requests_of_a_gib", (b"demo",))):
            self.attack("volume", path, how, *arguments)


class NbdTlsPortTest(HostileCase):
    """A process a connection, so what is watched is the listener and the process of the client that may not be hurt."""

    @classmethod
    def make_steady(cls):
        cls.folder = tempfile.mkdtemp(dir=cls.cluster.dir)
        certificate(cls.folder, "server", "--host=127.0.0.1")
        certificate(cls.folder, "me")
        certificate(cls.folder, "late", "--days=-1")
        cls.port = NbdTlsPort(cls.folder, cls.cluster.dir)
        cls.addClassCleanup(cls.port.close)
        return SteadyClient(cls.port.uri(as_client(cls.folder, "me")))

    def pids(self, name):
        return self.port.processes()

    def attack(self, *arguments, **limits):
        wait_until(lambda: len(self.port.processes()) == 2, GIVEN_BACK_SECONDS, "the strangers' processes have ended")
        super().attack(*arguments, **limits)

    def still_answers(self, name):
        run("nbdinfo", self.port.uri(os.path.join(self.folder, "me")))

    def test_strangers(self):
        address = f"127.0.0.1:{self.port.port}"
        for how, arguments in (("random_bytes", ()), ("silent_connections", (30,)), ("half_open_nbd_handshakes", ()),
                               ("random_bytes_for_an_nbd_handshake", ()), ("a_byte_a_second", (struct.pack(">I", 3),))):
            self.attack("the NBD port", address, how, *arguments)
        mine = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        mine.check_hostname, mine.verify_mode = False, ssl.CERT_NONE
        mine.load_cert_chain(os.path.join(self.folder, "me.pem"), os.path.join(self.folder, "me.key"))
        self.attack("the NBD port", address, "nbd_requests_of_a_gib", b"demo", tls=mine)

    def test_no_certificate_or_an_expired_one_is_not_let_in(self):
        self.steady.lap()
        for uri in (self.port.uri(), self.port.uri(as_client(self.folder, "late"))):
            for _ in range(10):
                done = run("nbdinfo", uri, check=False)
                self.assertEqual(done.returncode, 1, done.stdout)
        lap = self.steady.lap()
        self.assertGreater(lap["requests"], 0)
        self.assertLess(lap["longest_seconds"], REQUEST_SECONDS_MAX)


class CsiDriverTest(HostileCase):
    """The driver's socket, for whoever may open it, and its metrics, beside a CSI client."""

    @classmethod
    def make_steady(cls):
        cls.socket = os.path.join(cls.cluster.dir, "own-csi.sock")
        cls.metrics = f"127.0.0.1:{settings.free_port_base(1)}"
        cls.driver = subprocess.Popen(
            [os.path.join(cls.cluster.env["BIN"], "weir-csi"), "--mode=controller", f"--endpoint=unix:{cls.socket}",
             f"--frontends={cls.cluster.env['VOLUME_ADDR']}", f"--metrics_listen={cls.metrics}",
             *(f"--{flag}={cls.cluster.dir}/tls/{file}"
               for flag, file in (("tls_cert", "admin.pem"), ("tls_key", "admin.key"), ("tls_ca", "ca.pem")))],
            stderr=subprocess.DEVNULL)
        cls.addClassCleanup(cls.driver.wait)
        cls.addClassCleanup(cls.driver.terminate)
        wait_until(lambda: os.path.exists(cls.socket), 30, "weir-csi serves")
        return SteadyCaller(f"unix:{cls.socket}")

    def pids(self, name):
        return [self.driver.pid] if self.driver.poll() is None else []

    def still_answers(self, name):
        other = csi_driver.Driver(f"unix:{self.socket}")
        try:
            self.assertTrue(other.Probe().ready.value)
        finally:
            other.close()

    def test_the_socket(self):
        begun = stranger.PREFACE + stranger.frame(stranger.SETTINGS, 0, 0)
        for how, arguments in (("random_bytes", ()), ("silent_connections", (100,)), ("a_byte_a_second", (stranger.PREFACE,)),
                               ("a_byte_a_second", (CALL, 5, 50, begun)),
                               ("garbage_after_the_preface", ()), ("a_message_of_a_gib", ())):
            self.attack("the driver", self.socket, how, *arguments)

    @unittest.skipUnless(FULL, "takes up to a minute; --full")
    def test_a_flood_of_streams_ends_with_who_sent_it(self):
        """Meanwhile calls may fail as if no frontend were there, which CSI's callers try again: only who runs as the driver's user gets in."""
        for how in ("ten_thousand_streams", "rapid_reset"):
            with self.subTest(how=how):
                watched = Watched(lambda: self.pids("the driver"))
                flood = stranger.Attack(self.socket)
                try:
                    getattr(flood, how)()
                finally:
                    flood.over()
                wait_until(self.calls_succeed, FLOOD_SECONDS_MAX, f"after {how} the driver works as before")
                self.assertLess(watched.growth_mib(), FLOOD_GROWTH_MIB_MAX, how)
                self.assertTrue(watched.alive(), how)

    def calls_succeed(self):
        self.steady.lap(may_fail=True)
        try:
            self.steady.lap()
        except AssertionError:
            return False
        return True

    def test_metrics(self):
        for how, arguments in (("random_bytes", ()), ("silent_connections", (100,)), ("a_byte_a_second", (b"GET /metrics HTTP/1.1\r\n",)),
                               ("a_request_without_end", ())):
            self.attack("the driver", self.metrics, how, *arguments)

    def test_health(self):
        with grpc.insecure_channel(f"unix:{self.socket}") as channel:
            for service in (b"", b"csi.v1.Identity"):
                asked = bytes([0x0a, len(service)]) + service if service else b""
                answer = channel.unary_unary("/grpc.health.v1.Health/Check")(asked, timeout=10)
                self.assertEqual(answer, b"\x08\x01")  # SERVING
