"""kill -9, and what must be there afterwards."""

import json
import os
import shutil
import tempfile
import time
import unittest

import harness
from harness import FULL, MIB, run, wait_until
from mounted import MountedExport, checksums, why_no_block_device

BLOCK = 4096


class KillEverythingTest(unittest.TestCase):
    def setUp(self):
        self.cluster = harness.RealCluster()
        self.addCleanup(self.cluster.close)
        self.cluster.up()

    @unittest.skipIf(why_no_block_device(), why_no_block_device() or "")
    def test_ext4_holds_a_synced_source_tree_after_kill_9_of_every_process(self):
        folder = tempfile.mkdtemp(prefix="weir-mount-")
        self.addCleanup(shutil.rmtree, folder, True)
        source = "/usr/include" if FULL else "/usr/include/absl"
        device = MountedExport(self.cluster.uri, folder)
        try:
            run("mkfs.ext4", "-q", "-F", device.device)
            device.mount()
            copy = os.path.join(device.root, "tree")
            shutil.copytree(source, copy, symlinks=True)
            expected = checksums(copy)
            self.assertEqual(expected, checksums(source))
            run("sync", "-f", device.root)
            # Not synced: may be lost, must not harm the rest.
            harness.random_file(os.path.join(device.root, "unsynced"), 8 * MIB)
            self.cluster.kill9()
        finally:
            device.close()
        self.cluster.start_all()
        device = MountedExport(self.cluster.uri, folder)
        try:
            device.mount()
            self.assertEqual(checksums(os.path.join(device.root, "tree")), expected)
            run("umount", device.root)
            run("e2fsck", "-f", "-n", device.device)
        finally:
            device.close()

    def test_flushed_blocks_survive_and_others_are_old_or_new(self):
        blocks = 512
        handle = self.cluster.connect()
        for i in range(blocks):
            handle.pwrite(bytes([i % 250 + 1]) * BLOCK, i * BLOCK)
        handle.flush()
        for i in range(0, blocks, 2):
            handle.pwrite(b"\xff" * BLOCK, i * BLOCK)
        self.cluster.kill9()
        self.cluster.start_all()
        handle = self.cluster.connect()
        first = [handle.pread(BLOCK, i * BLOCK) for i in range(blocks)]
        for i, data in enumerate(first):
            allowed = [bytes([i % 250 + 1]) * BLOCK] + ([b"\xff" * BLOCK] if i % 2 == 0 else [])
            self.assertIn(data, allowed, f"block {i}")
        # What a reader saw once stays, also over one more crash.
        self.cluster.kill9()
        self.cluster.start_all()
        handle = self.cluster.connect()
        self.assertEqual([handle.pread(BLOCK, i * BLOCK) for i in range(blocks)], first)

    def test_fua_writes_survive_without_a_flush(self):
        handle = self.cluster.connect()
        for i in range(64):
            handle.pwrite(bytes([i + 1]) * BLOCK, i * MIB, harness.nbd.CMD_FLAG_FUA)
        self.cluster.kill9()
        self.cluster.start_all()
        handle = self.cluster.connect()
        for i in range(64):
            self.assertEqual(handle.pread(BLOCK, i * MIB), bytes([i + 1]) * BLOCK)


class ReplicaCrashTest(harness.ClusterTest):
    def test_io_waits_while_a_replica_is_away_and_goes_on(self):
        handle = self.cluster.connect()
        for round_number in range(3):
            name = f"replica{round_number + 1}"
            for i in range(64):
                handle.pwrite(bytes([round_number + 1]) * BLOCK, i * BLOCK)
            self.cluster.kill9(name)
            waiting = [handle.aio_pwrite(harness.nbd.Buffer.from_bytearray(
                bytearray(bytes([100 + round_number]) * BLOCK)), i * BLOCK) for i in range(8)]
            flush = handle.aio_flush()
            self.cluster.ops("start", name)
            for cookie in waiting + [flush]:
                while not handle.aio_command_completed(cookie):
                    handle.poll(-1)
            for i in range(64):
                expected = 100 + round_number if i < 8 else round_number + 1
                self.assertEqual(handle.pread(BLOCK, i * BLOCK), bytes([expected]) * BLOCK)

    def test_each_replica_in_turn_is_killed_and_brought_back_while_a_client_writes(self):
        handle = self.cluster.connect()
        longest = 0
        for i in range(3):
            name = f"replica{i + 1}"
            self.cluster.kill9(name)
            for block in range(200):
                start = time.monotonic()
                handle.pwrite(bytes([i + 1]) * BLOCK, block * BLOCK)
                longest = max(longest, time.monotonic() - start)
            handle.flush()
            self.cluster.ops("start", name)
            wait_until(lambda: self.all_in_sync(), 30, f"{name} is in sync again")
        self.assertLess(longest, 2)
        for block in range(200):
            self.assertEqual(handle.pread(BLOCK, block * BLOCK), bytes([3]) * BLOCK)

    def all_in_sync(self):
        shown = json.loads(self.cluster.weirctl("volume", "show", "demo", "--output=json").stdout)
        return all(t["state"] == "in_sync" for t in shown["table"]["targets"])

    def test_a_replica_that_stays_away_ends_in_an_io_error_not_in_silence(self):
        cluster = harness.RealCluster("--min-in-sync=3", "--volume-flags=--hold_deadline=2s --attach_deadline=5s")
        self.addCleanup(cluster.close)
        cluster.up()
        handle = cluster.connect()
        cluster.kill9("replica2")
        self.assertEqual(self.nbd_error(lambda: handle.pwrite(b"x" * BLOCK, 0)), "EIO")
