"""Each alert of ops/prometheus fires for a real fault, and is over when that is. prometheus_test has those of a rule that is set for
an answer and of a replica that is killed; alerts_disk_test those of disks."""

import json
import os
import shutil
import signal
import threading
import time
import unittest

import grpc

import harness
from alerting import AlertTest, with_full
from harness import FULL, MIB, ROOT, cluster_lib, run, wait_until

BLOCK = 4096


class Writer(threading.Thread):
    """Writes blocks and flushes, a little at a time, until stop(). An error ends it, and is stop()'s."""

    def __init__(self, handle, size=BLOCK, blocks=64, flushes=True):
        super().__init__()
        self.handle = handle
        self.size = size
        self.blocks = blocks
        self.flushes = flushes
        self.ending = threading.Event()
        self.error = None
        self.writes = 0
        self.start()

    def run(self):
        try:
            while not self.ending.wait(0.01):
                self.handle.pwrite(os.urandom(self.size), self.writes % self.blocks * self.size)
                self.writes += 1
                if self.flushes and self.writes % 16 == 0:
                    self.handle.flush()
        except harness.nbd.Error as error:
            self.error = error

    def stop(self):
        self.ending.set()
        self.join(60)
        assert not self.is_alive(), "a request hangs"
        if self.error:
            raise self.error


class ReplicasFailTest(AlertTest):
    up_flags = ("--size=64MiB", "--replica-flags=--enable_fault_injection",
                "--volume-flags=--leave_after=1s --attach_deadline=3s")

    def setUp(self):
        # Whatever the test before has left.
        self.cluster.start_all()
        self.cluster.connect().shutdown()
        self.fault("clear")
        self.await_in_sync()

    def fault(self, *arguments):
        self.cluster.weirctl("fault", *arguments)

    def test_a_replica_cannot_flush(self):
        handle = self.cluster.connect()
        self.fault("set", "replica2", "--op=flush", "--error=EOPNOTSUPP")
        handle.pwrite(b"f" * BLOCK, 0)
        self.assertEqual(self.nbd_error(handle.flush), "ENOTSUP")
        self.fires("WeirFlushNotSupported", volume="demo")
        self.fault("clear", "replica2")
        handle.pwrite(b"f" * BLOCK, 0)
        self.is_over("WeirFlushNotSupported")
        handle.flush()

    def test_a_replica_fails_while_one_is_out_and_leaves_once_that_is_back(self):
        handle = self.cluster.connect()
        self.cluster.kill9("replica3")
        handle.pwrite(b"l" * BLOCK, 0)
        wait_until(lambda: self.targets()["replica3"]["state"] != "in_sync", 30, "replica3 has left")
        self.fault("set", "replica2", "--op=flush", "--error=EIO", "--count=1")
        flush = handle.aio_flush()
        self.fires("WeirLastGoodReplicaFailed", volume="demo", replica="replica2")
        self.cluster.ops("start", "replica3")
        self.finish(handle, flush)
        self.is_over("WeirLastGoodReplicaFailed")
        self.await_in_sync()

    def test_two_replicas_are_lost_then_the_frontend_too(self):
        writer = Writer(self.cluster.connect(), flushes=False)
        wait_until(lambda: self.prometheus.series('weir_volume_requests_total{kind="write"} > 64'), 30, "it writes")
        # What is answered from here on is on no stable storage of its.
        self.fault("set", "replica2", "--op=flush", "--error=DELAY=60000")
        before = writer.writes
        wait_until(lambda: writer.writes > before + 8, 30, "it goes on writing")
        self.cluster.kill9("replica2", "replica3")
        self.fires("WeirRequestsHeld", volume="demo", reason="member_away")
        self.fires("WeirDurablePointOld", volume="demo")
        for name in ("replica2", "replica3"):
            self.cluster.ops("start", name)
        self.is_over("WeirRequestsHeld")
        self.is_over("WeirDurablePointOld")
        writer.stop()
        self.await_in_sync()
        # The next one begins with the one that is left.
        self.cluster.kill9("replica2", "replica3", "volume")
        self.cluster.ops("start", "volume")
        handle = self.cluster.connect()
        read = handle.aio_pread(harness.nbd.Buffer(BLOCK), 0)
        self.fires("WeirVolumeHeld", volume="demo")
        for name in ("replica2", "replica3"):
            self.cluster.ops("start", name)
        self.finish(handle, read)
        self.is_over("WeirVolumeHeld")
        self.await_in_sync()

    @with_full
    def test_a_replica_is_killed_again_and_again(self):
        writer = Writer(self.cluster.connect())
        deadline = time.monotonic() + 180
        while "WeirSessionsFlapping" not in self.prometheus.firing() and time.monotonic() < deadline:
            self.cluster.kill9("replica2")
            self.cluster.ops("start", "replica2")
            self.await_in_sync()
        self.fires("WeirSessionsFlapping", volume="demo", replica="replica2")
        writer.stop()
        self.is_over("WeirSessionsFlapping")

    def test_the_frontend_is_killed_before_it_has_flushed(self):
        handle = self.cluster.connect()
        handle.flush()
        for i in range(64):
            handle.pwrite(b"s" * BLOCK, i * BLOCK)
        self.cluster.kill9("volume")
        self.fires("WeirDurablePointStuck")
        self.cluster.ops("start", "volume")
        self.cluster.connect().flush()
        self.is_over("WeirDurablePointStuck")

    def test_a_stranger_sends_what_is_no_frame(self):
        address = self.cluster.env["REPLICA_ADDRS"].strip("'").split()[0]
        with grpc.insecure_channel(address) as channel:
            io = channel.stream_stream("/weir.v1.ReplicaService/Io")
            with self.assertRaises(grpc.RpcError) as caught:
                next(io(iter([b"\xff" * 16]), timeout=10))
        self.assertEqual(caught.exception.code(), grpc.StatusCode.INVALID_ARGUMENT)
        self.fires("WeirMalformedStreams")
        if FULL:
            self.is_over("WeirMalformedStreams")


ETCDS = ("etcd1", "etcd2", "etcd3")


class CatalogTest(AlertTest):
    # It is slow once three windows of 2 s have said so, of 8 answers or more each.
    up_flags = ("--size=64MiB", "--catalog=etcd", "--frontends=2", "--replica-flags=--enable_fault_injection",
                "--volume-flags=--slow_after=6s")

    def setUp(self):
        self.cluster.start_all()
        self.cluster.weirctl("fault", "clear")
        self.attach("volume")
        self.await_in_sync()

    def attach(self, frontend):
        self.cluster.weirctl("volume", "attach", "demo", f"--frontend={frontend}")

    def await_epoch(self, epoch):
        """Until Prometheus has seen it: what comes and goes between two scrapes is not counted."""
        wait_until(lambda: self.prometheus.series(f"weir_volume_epoch == {epoch}"), 20, f"epoch {epoch} is seen")

    def test_a_replica_is_killed_while_etcd_is_away(self):
        writer = Writer(self.cluster.connect())
        self.cluster.kill9(*ETCDS, "replica2")
        self.fires("WeirCatalogUnreachable", volume="demo")
        # Also of the frontend that nobody uses.
        unused = cluster_lib.Cluster(self.cluster.dir).metrics_address("volume2")
        self.fires("WeirCatalogSilent", instance=unused)
        for name in ETCDS:
            self.cluster.ops("start", name)
        self.is_over("WeirCatalogUnreachable")
        self.is_over("WeirCatalogSilent")
        writer.stop()
        self.cluster.ops("start", "replica2")
        self.await_in_sync()

    def test_a_replica_is_slow_and_may_not_leave(self):
        self.cluster.weirctl("volume", "create", "strict", "--size=16MiB", "--min-in-sync=3")
        writer = Writer(self.cluster.connect(self.cluster.uri_of("strict")))
        self.cluster.weirctl("fault", "set", "replica3", "--op=write", "--error=DELAY=300")
        self.fires("WeirTargetSlow", volume="strict", replica="replica3")
        self.cluster.weirctl("fault", "clear", "replica3")
        self.is_over("WeirTargetSlow")
        # Again, and another frontend takes the volume: this one's last word does not count.
        self.cluster.weirctl("fault", "set", "replica3", "--op=write", "--error=DELAY=300")
        self.fires("WeirTargetSlow", volume="strict", replica="replica3")
        self.cluster.weirctl("volume", "attach", "strict", "--frontend=volume2")
        self.is_over("WeirTargetSlow", 15)
        with self.assertRaises(harness.nbd.Error):
            writer.stop()

    @with_full
    def test_two_frontends_take_a_volume_from_each_other(self):
        for _ in range(4):
            for frontend in ("volume2", "volume"):
                self.attach(frontend)
                self.await_epoch(json.loads(self.cluster.weirctl("volume", "show", "demo", "--output=json").stdout)["epoch"])
        self.fires("WeirEpochFlapping", volume="demo")
        self.is_over("WeirEpochFlapping")


@with_full
class ResyncTest(AlertTest):
    up_flags = ("--size=64MiB", "--data-dirs=1", "--volume-flags=--leave_after=1s --join_bytes_per_second=1MiB")
    deadlines = (*AlertTest.deadlines, "hold_deadline")  # 5 min; the alert comes after 15

    def signal(self, number):
        cluster = harness.cluster_lib.Cluster(self.cluster.dir)
        for name in ("replica1", "replica2"):
            cluster.process(name).signal(number)

    def test_those_it_is_copied_from_are_frozen(self):
        handle = self.cluster.connect()
        for i in range(32):
            handle.pwrite(os.urandom(MIB), i * MIB)
        writer = Writer(handle)
        self.cluster.ops("stop", "replica3")
        shutil.rmtree(os.path.join(self.cluster.dir, "replica3"))
        self.cluster.ops("start", "replica3")
        self.cluster.weirctl("replica", "replace", "demo", "replica3")
        wait_until(lambda: self.prometheus.series("weir_volume_join_copied_bytes > 0"), 30, "it is being copied")
        self.addCleanup(self.signal, signal.SIGCONT)
        self.signal(signal.SIGSTOP)
        self.fires("WeirResyncStuck")
        self.signal(signal.SIGCONT)
        self.is_over("WeirResyncStuck")
        with self.assertRaises(harness.nbd.Error):
            writer.stop()  # after --hold_deadline


class CertificateTest(AlertTest):
    up_flags = ("--size=16MiB", "--tls")

    def certificate(self, days):
        run(os.path.join(ROOT, "ops", "certs"), f"--dir={self.cluster.dir}/tls", "--name=replica1", "--role=replica",
            "--host=127.0.0.1", f"--days={days}")

    def test_a_certificate_is_good_for_six_days_more(self):
        self.certificate(6)
        self.fires("WeirCertificateExpiring", which="own")
        self.certificate(8)
        self.is_over("WeirCertificateExpiring")


if __name__ == "__main__":
    unittest.main()
