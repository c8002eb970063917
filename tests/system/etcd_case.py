"""What the tests with a catalog in etcd share: two frontends, a writer, and links that can be cut or lead elsewhere."""

import json
import os
import sys
import threading
import time

import harness
from harness import MIB, ROOT, wait_until

sys.path.append(os.path.join(ROOT, "tests", "chaos"))

import proxy  # noqa: E402

BLOCK = 4096
PAUSE = 0.002  # seconds
BLOCKS = 4096  # that a Writer writes, one after the other, round and round


class Writer(threading.Thread):
    """Writes block after block, reads each back, flushes now and then, until stop(). Any error ends it. Leaves the machine to others between."""

    def __init__(self, cluster):
        super().__init__()
        self.handle = cluster.connect()
        self.ending = threading.Event()
        self.error = None
        self.writes = 0
        self.longest = 0.0
        self.start()

    def run(self):
        try:
            while not self.ending.wait(PAUSE):
                self.write_one()
        except (harness.nbd.Error, AssertionError) as error:
            self.error = error

    @staticmethod
    def data(number):
        return bytes([number % 250 + 1]) * BLOCK

    def write_one(self):
        data = self.data(self.writes)
        offset = self.writes % BLOCKS * BLOCK
        begun = time.monotonic()
        self.handle.pwrite(data, offset)
        assert self.handle.pread(BLOCK, offset) == data
        if self.writes % 64 == 0:
            self.handle.flush()
        self.longest = max(self.longest, time.monotonic() - begun)
        self.writes += 1

    def goes_on(self):
        """Waits for some more writes."""
        before = self.writes
        wait_until(lambda: self.error or self.writes >= before + 50, 30, "I/O goes on")
        assert self.error is None, self.error

    def stop(self):
        self.ending.set()
        self.join(60)
        assert not self.is_alive(), "a request hangs"
        assert self.error is None, self.error

    def expect_all(self, handle):
        """After stop(): what was written last is what is read."""
        wanted = bytearray()
        for block in range(min(self.writes, BLOCKS)):
            wanted += self.data(self.writes - 1 - (self.writes - 1 - block) % BLOCKS)
        for at in range(0, len(wanted), MIB):
            part = bytes(wanted[at:at + MIB])
            assert handle.pread(len(part), at) == part, f"MiB {at // MIB}"


class EtcdCase(harness.ClusterTest):
    """Each test begins with everything running and the volume at frontend `volume`."""

    up_flags = ("--size=64MiB", "--catalog=etcd", "--frontends=2")

    def setUp(self):
        self.cluster.start_all()
        self.weirctl("volume", "attach", "demo", "--frontend=volume")
        self.in_sync()

    def weirctl(self, *arguments, **options):
        return self.cluster.weirctl(*arguments, **options)

    def show(self, *arguments):
        return json.loads(self.weirctl("volume", "show", "demo", "--output=json", *arguments).stdout)

    def in_sync(self):
        wait_until(lambda: all(t["state"] == "in_sync" and t["health"] == "connected"
                               for t in self.show()["table"]["targets"]), 60, "all are in sync")

    def explained(self, frontend="volume"):
        return self.weirctl("explain", "demo", f"--frontend={frontend}").stdout

    def uri_at(self, frontend):
        return harness.cluster_lib.Cluster(self.cluster.dir).nbd_uri(frontend)

    def signal(self, number, *names):
        cluster = harness.cluster_lib.Cluster(self.cluster.dir)
        for name in names:
            cluster.process(name).signal(number)

    def take_over(self, data):
        """Attaches at volume2 and reads block 0 there; the seconds that took."""
        begun = time.monotonic()
        self.weirctl("volume", "attach", "demo", "--frontend=volume2")
        handle = self.cluster.connect(self.uri_at("volume2"))
        self.assertEqual(handle.pread(BLOCK, 0), data)
        taken = time.monotonic() - begun
        handle.pwrite(b"2" * BLOCK, 0)
        handle.flush()
        return taken

    def check_old_refuses(self, old):
        """On a connection from before: neither reads nor writes, ever again."""
        for call in (lambda: old.pread(BLOCK, 0), lambda: old.pwrite(b"1" * BLOCK, 0), old.flush):
            self.assertEqual(self.nbd_error(call), "ESHUTDOWN")
        # New ones are refused too, with words.
        with self.assertRaises(harness.nbd.Error):
            self.cluster.connect(self.uri_at("volume"))
        shown = self.show("--frontend=volume")
        self.assertIn(shown["state"], ("FENCED", "ELSEWHERE"))
        self.assertEqual(shown["frontend"], "volume2")
        self.assertIn("volume2", self.weirctl("explain", "demo", "--frontend=volume").stdout)
        # Without --frontend the one that has it is found.
        self.assertEqual(self.show()["state"], "ACTIVE")


class LinkedEtcdCase(EtcdCase):
    """Frontends reach each replica and each etcd member through a link of tests/chaos/proxy.py: `links`, by name."""

    catalog_parameters = ""
    volume_flags = ()

    @classmethod
    def setUpClass(cls):
        cls.network = proxy.Network()
        cls.addClassCleanup(cls.network.close)
        cls.cluster = harness.RealCluster()
        cls.addClassCleanup(cls.cluster.close)
        cluster = harness.cluster_lib.Cluster(cls.cluster.dir)
        with cluster.locked():
            cluster.configure({"size": "64MiB", "catalog": "etcd", "frontends": 2}, harness.cluster_lib.default_prefix())
        cls.etcds, cls.replicas = cluster.etcd_names(), cluster.replica_names()
        cls.links = {name: cls.network.link("127.0.0.1", int(cluster.address(name).rsplit(":", 1)[1]))
                     for name in cls.etcds + cls.replicas}
        ends = {name: f"127.0.0.1:{link.port}" for name, link in cls.links.items()}
        # The last of two flags counts.
        flags = ["--catalog=etcd:" + ",".join(ends[name] for name in cls.etcds) + cls.catalog_parameters,
                 "--replicas=" + ",".join(f"{name}={ends[name]}" for name in cls.replicas), *cls.volume_flags]
        cls.cluster.up_flags = ("--volume-flags=" + " ".join(flags),)
        cls.cluster.up()

    def tearDown(self):
        self.heal()

    def heal(self):
        for link in self.links.values():
            link.heal()

    def cut_off(self, frontend, *names):
        """From these alone; the other frontend is not."""
        pid = self.cluster.pids()[frontend]
        for name in names:
            self.links[name].cut_off(pid)
