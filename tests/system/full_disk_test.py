"""Disks that fill up: ENOSPC to the writer, nothing corrupted, and on it goes when space returns."""

import os
import unittest

import harness
from harness import MIB, run

BLOCK = 4096
DISK_MIB = 256


@unittest.skipIf(os.geteuid() != 0, "needs root to mount small disks")
class FullDiskTest(unittest.TestCase):
    def setUp(self):
        self.cluster = harness.RealCluster("--data-dirs=1", "--size=1GiB")
        self.addCleanup(self.cluster.close)
        for i in range(3):
            disk = os.path.join(self.cluster.dir, f"replica{i + 1}")
            os.makedirs(disk)
            run("mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m", "tmpfs", disk)
            self.addCleanup(run, "umount", "-l", disk, check=False)
        # Clean-ups run last first: down before the disks go, then the folder.
        self.addCleanup(self.cluster.ops, "down", check=False)
        self.cluster.up()

    def test_writers_get_enospc_nothing_is_corrupted_and_a_discard_brings_space_back(self):
        handle = self.cluster.connect()
        written = 0
        with self.assertRaises(harness.nbd.Error) as caught:
            for i in range(0, 1000):
                handle.pwrite(bytes([i % 251 + 1]) * MIB, i * MIB)
                written = i + 1
        self.assertEqual(caught.exception.errno, "ENOSPC")
        self.assertGreater(written, 20)
        explained = self.cluster.weirctl("explain", "demo").stdout
        self.assertRegex(explained, r"replica replica\d has no space left: until it has, every write is answered with ENOSPC")
        handle.flush()
        for i in range(written):
            self.assertEqual(handle.pread(MIB, i * MIB), bytes([i % 251 + 1]) * MIB, f"MiB {i}")
        self.assertEqual(set(self.cluster.pids()), {"replica1", "replica2", "replica3", "volume"})

        handle.trim(written * MIB, 0)
        handle.flush()

        def can_write():
            try:
                handle.pwrite(b"a" * MIB, 0)
                return True
            except harness.nbd.Error as error:
                self.assertEqual(error.errno, "ENOSPC")
                return False

        harness.wait_until(can_write, 120, "space comes back after a discard")
        self.assertNotIn("no space left", self.cluster.weirctl("explain", "demo").stdout)
        handle.flush()
        self.assertEqual(handle.pread(MIB, 0), b"a" * MIB)
        self.assertEqual(handle.pread(MIB, MIB), bytes(MIB))
