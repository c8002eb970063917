"""Clients that people use, on an export of a running cluster."""

import json
import os
import subprocess
import sys
import tempfile
import time
import unittest

import harness
from harness import FULL, MIB, run

SECTOR = 512
BLOCK = 4096


class NbdClientsTest(harness.ClusterTest):
    def setUp(self):
        self.uri = self.cluster.uri

    def test_who_comes_after_a_clean_disconnect_does_not_wait_in_the_handshake(self):
        """For a name of one letter a meta context is asked for with 28 bytes, as many as a request has; with one of five 4 and 28 may be read."""
        for name in ("v", "other"):
            self.cluster.weirctl("volume", "create", name, "--size=1MiB")
            for _ in range(10):
                begun = time.monotonic()
                self.cluster.connect(self.cluster.uri_of(name)).shutdown()
                self.assertLess(time.monotonic() - begun, 10, name)

    def test_nbdinfo_shows_flush_fua_trim_zero_and_multi_conn(self):
        for capability in ("flush", "fua", "trim", "zero", "fast-zero", "multi-conn"):
            done = run("nbdinfo", "--can", capability, self.uri, check=False)
            self.assertEqual(done.returncode, 0, capability)
        export = json.loads(run("nbdinfo", "--json", self.uri).stdout)["exports"][0]
        self.assertEqual(export["export-size"], 1 << 30)

    def test_nbdcopy_in_and_out_is_identical(self):
        size = (512 if FULL else 128) * MIB
        with tempfile.TemporaryDirectory() as folder:
            source = harness.random_file(os.path.join(folder, "in"), size)
            copy = os.path.join(folder, "out")
            run("nbdcopy", "--flush", "--requests=64", "--connections=4", source, self.uri)
            run("nbdcopy", self.uri, copy)
            run("cmp", f"--bytes={size}", source, copy)

    def test_fio_verifies_random_writes_with_fsync(self):
        size = 256 if FULL else 64
        run("fio", "--name=verify", "--ioengine=nbd", f"--uri={self.uri}", "--rw=randwrite",
            "--bsrange=4k-64k", "--blockalign=4k", "--iodepth=32", f"--size={size}M", "--fsync=32",
            "--verify=crc32c", "--do_verify=1", "--verify_fatal=1", "--verify_state_save=0")

    def test_qemu_io_writes_discards_zeroes_and_reads_back(self):
        commands = [
            "write -P 0x5a 1M 1M", "flush", "read -P 0x5a 1M 1M",
            "write -f -P 1 2M 64k", "read -P 1 2M 64k",
            "discard 1M 1M", "read -P 0 1M 1M",
            "write -P 9 4M 64k", "write -z -u 4M 64k", "read -P 0 4M 64k",
            "aio_write -P 7 8M 1M", "aio_write -P 8 9M 1M", "aio_flush",
            "read -P 7 8M 1M", "read -P 8 9M 1M", "flush",
        ]
        argv = ["qemu-io", "-f", "raw", "-t", "none", "-d", "unmap"]
        for command in commands:
            argv += ["-c", command]
        done = run(*argv, self.uri)
        self.assertNotIn("failed", done.stdout + done.stderr)

    def test_extents_show_what_is_written_and_what_is_not(self):
        handle = self.cluster.connect()
        base = 512 * MIB
        handle.trim(64 * MIB, base)
        handle.pwrite(b"x" * BLOCK, base + BLOCK)
        handle.pwrite(b"x" * 2 * MIB, base + 40 * MIB)
        found = []

        def note(_context, offset, entries, _error):
            for length, flags in zip(entries[::2], entries[1::2]):
                found.append((offset, length, flags))
                offset += length

        at = base
        while at < base + 64 * MIB:
            handle.block_status(base + 64 * MIB - at, at, note)
            at = found[-1][0] + found[-1][1]
        data = [(offset, length) for offset, length, flags in found if flags == 0]
        merged = []
        for offset, length in data:
            if merged and sum(merged[-1]) == offset:
                merged[-1] = (merged[-1][0], merged[-1][1] + length)
            else:
                merged.append((offset, length))
        self.assertEqual(merged, [(base + BLOCK, BLOCK), (base + 40 * MIB, 2 * MIB)])

    def test_requests_smaller_than_a_block_keep_their_neighbours(self):
        handle = self.cluster.connect()
        base = 700 * MIB
        handle.pwrite(b"a" * 3 * BLOCK, base)
        handle.pwrite(b"b" * SECTOR, base + BLOCK - SECTOR)
        handle.pwrite(b"c" * 5000, base + BLOCK + 1)
        expected = bytearray(b"a" * 3 * BLOCK)
        expected[BLOCK - SECTOR:BLOCK] = b"b" * SECTOR
        expected[BLOCK + 1:BLOCK + 5001] = b"c" * 5000
        self.assertEqual(handle.pread(3 * BLOCK, base), bytes(expected))
        self.assertEqual(handle.pread(7, base + BLOCK - 3), bytes(expected[BLOCK - 3:BLOCK + 4]))

    def test_requests_larger_than_the_hosts_are_split(self):
        handle = self.cluster.connect()
        data = os.urandom(MIB) * 20
        handle.pwrite(data, 720 * MIB + BLOCK, harness.nbd.CMD_FLAG_FUA)
        self.assertEqual(handle.pread(len(data), 720 * MIB + BLOCK), data)

    def test_bad_requests_get_an_error_and_the_connection_lives_on(self):
        handle = self.cluster.connect(strict=False)
        end = handle.get_size()
        self.assertEqual(self.nbd_error(lambda: handle.pread(BLOCK, end)), "EINVAL")
        self.assertEqual(self.nbd_error(lambda: handle.pwrite(b"x" * BLOCK, end)), "ENOSPC")
        self.assertEqual(self.nbd_error(lambda: handle.trim(BLOCK, end - SECTOR)), "EINVAL")
        self.assertEqual(self.nbd_error(lambda: handle.flush(1 << 14)), "EINVAL")
        handle.pwrite(b"ok" * 2048, 0)
        self.assertEqual(handle.pread(BLOCK, 0), b"ok" * 2048)

    def test_a_client_that_dies_mid_request_harms_nobody(self):
        dying = (
            "import nbd, os, sys\n"
            "h = nbd.NBD(); h.connect_uri(sys.argv[1])\n"
            "for i in range(64): h.aio_pwrite(nbd.Buffer.from_bytearray(bytearray(1 << 20)), (800 + i) << 20)\n"
            "while h.aio_in_flight() > 60: h.poll(-1)\n"
            "os._exit(0)\n")
        other = self.cluster.connect()
        for _ in range(10):
            run(sys.executable, "-c", dying, self.uri)
            other.pwrite(b"z" * BLOCK, 0)
            other.flush()
            self.assertEqual(other.pread(BLOCK, 0), b"z" * BLOCK)

    def test_every_volume_is_an_export_of_its_own(self):
        self.cluster.weirctl("volume", "create", "second", "--size=64MiB")
        listed = json.loads(run("nbdinfo", "--list", "--json", self.uri).stdout)["exports"]
        self.assertEqual({e["export-name"] for e in listed}, {"demo", "second"})
        handle = self.cluster.connect(self.cluster.uri_of("second"))
        self.assertEqual(handle.get_size(), 64 * MIB)
        demo = self.cluster.connect()
        before = demo.pread(BLOCK, 0)
        handle.pwrite(b"2" * BLOCK, 0)
        self.assertEqual(demo.pread(BLOCK, 0), before)
        handle.shutdown()
        self.cluster.weirctl("volume", "detach", "second")
        self.cluster.weirctl("volume", "delete", "second")

    def test_an_unknown_export_is_refused_and_named(self):
        done = run("nbdinfo", self.cluster.uri_of("no-such-volume"), check=False)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("no-such-volume", self.cluster.log("volume"))

    def test_grpc_reads_what_nbd_wrote(self):
        handle = self.cluster.connect()
        handle.pwrite(b"both ways " * 410 + b"x" * (BLOCK - 4100), 900 * MIB)
        with tempfile.NamedTemporaryFile() as out:
            self.cluster.weirctl("io", "read", "demo", f"--offset={900 * MIB}", f"--length={BLOCK}",
                                 f"--output-file={out.name}")
            with open(out.name, "rb") as f:
                self.assertEqual(f.read(), handle.pread(BLOCK, 900 * MIB))


class NbdFlushTest(harness.ClusterTest):
    # Nothing becomes durable but by a client's flush, or a detach.
    up_flags = ("--size=64MiB", "--volume-flags=--flush_interval=1h")

    def points(self):
        """By lane, what is answered and what is durable on every replica."""
        shown = json.loads(self.cluster.weirctl("volume", "show", "demo", "--output=json").stdout)
        return shown["activity"]["completed"], shown["activity"]["durable"]

    def write_without_flush(self, handle, first):
        for i in range(16):
            handle.pwrite(bytes([first + i]) * BLOCK, i * MIB)
        completed, durable = self.points()
        self.assertNotEqual(completed, durable)

    def test_a_flush_on_one_connection_covers_writes_answered_on_another(self):
        first, second = self.cluster.connect(), self.cluster.connect()
        self.write_without_flush(first, 1)
        second.flush()
        completed, durable = self.points()
        self.assertEqual(completed, durable)
        for i in range(16):
            self.assertEqual(second.pread(BLOCK, i * MIB), bytes([1 + i]) * BLOCK)

    def lanes_of(self, replica):
        shown = json.loads(self.cluster.weirctl("replica", "show", replica, "--output=json").stdout)
        return [(lane["position"], lane["durable_position"]) for lane in shown["volumes"][0]["lanes"]]

    def test_sigterm_flushes_and_detaches_under_connected_clients(self):
        clients = [self.cluster.connect() for _ in range(2)]
        self.write_without_flush(clients[0], 100)
        clients[1].pwrite(b"last" * (BLOCK // 4), 32 * MIB)
        for replica in ("replica1", "replica2", "replica3"):
            self.assertTrue(any(position != durable for position, durable in self.lanes_of(replica)))
        before = len(self.cluster.log("volume"))
        said = self.cluster.ops("stop", "volume").stdout  # SIGTERM
        self.assertNotIn("killed", said)
        log = self.cluster.log("volume")[before:]
        self.assertRegex(log, r"volume=demo epoch=\d+ detached\n")
        for word in ("by force", "not detached cleanly"):
            self.assertNotIn(word, log)
        for replica in ("replica1", "replica2", "replica3"):
            for position, durable in self.lanes_of(replica):
                self.assertEqual(position, durable, replica)
        self.cluster.ops("start", "volume")
        self.assertIn("is detached: it was flushed and let go", self.cluster.weirctl("explain", "demo").stdout)
        again = self.cluster.connect()
        for i in range(16):
            self.assertEqual(again.pread(BLOCK, i * MIB), bytes([100 + i]) * BLOCK)
        self.assertEqual(again.pread(BLOCK, 32 * MIB), b"last" * (BLOCK // 4))


class PluginByHandTest(unittest.TestCase):
    """The plugin under nbdkit itself, as the README of client/nbd says."""

    def test_nbdkit_r_makes_every_export_read_only(self):
        cluster = harness.RealCluster()
        self.addCleanup(cluster.close)
        cluster.up()
        cluster.ops("stop", "volume")
        names = [f"replica{i + 1}={a}" for i, a in enumerate(cluster.env["REPLICA_ADDRS"].split())]
        plugin = [os.path.join(cluster.env["BIN"], "nbdkit-weir-plugin.so"),
                  f"catalog=embedded:{cluster.dir}/catalog", "replicas=" + ",".join(names)]
        shown = run("nbdkit", "-U", "-", "-r", *plugin, "--run", 'nbdinfo --json "$uri"')
        export = json.loads(shown.stdout)["exports"][0]
        self.assertTrue(export["is_read_only"])
        self.assertEqual(export["block_size_minimum"], BLOCK)
        # Without a name the only volume is meant.
        self.assertEqual(export["export-size"], 1 << 30)

    def test_help_lists_the_keys(self):
        prefix = harness.cluster_lib.default_prefix()
        plugin = os.path.join(prefix, "bin", "nbdkit-weir-plugin.so")
        shown = subprocess.run(["nbdkit", plugin, "--help"], text=True, capture_output=True, check=True)
        for key in ("catalog=", "replicas=", "default_volume=", "metrics_listen="):
            self.assertIn(key, shown.stdout)
