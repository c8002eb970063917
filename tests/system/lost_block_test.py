"""Blocks that nobody can read any more: a new replica gets all others, and these once they are written."""

import glob
import json
import os
import shutil
import unittest

import harness
from harness import MIB, wait_until

BLOCK = 4096
DATA_BYTES = 16 * MIB


class LostBlockTest(harness.ClusterTest):
    up_flags = ("--replicas=2", "--size=64MiB", "--min-in-sync=1", "--volume-flags=--leave_after=1s")

    def target(self, name):
        shown = json.loads(self.cluster.weirctl("volume", "show", "demo", "--output=json").stdout)
        return next((t for t in shown["table"]["targets"] if t["replica"] == name), None)

    def await_in_sync(self, name):
        wait_until(lambda: (self.target(name) or {}).get("state") == "in_sync" and self.target(name)["health"] == "connected",
                   90, f"{name} is in sync")

    def flip_bits(self, name):
        """One bit a file of data, in its middle."""
        flipped = 0
        for path in glob.glob(os.path.join(self.cluster.dir, name, "**", "*.blob"), recursive=True):
            if os.path.getsize(path) < MIB:
                continue
            with open(path, "r+b") as f:
                f.seek(os.path.getsize(path) // 2)
                byte = f.read(1)[0]
                f.seek(-1, os.SEEK_CUR)
                f.write(bytes([byte ^ 0x10]))
                flipped += 1
        self.assertGreater(flipped, 0)

    def read_each(self, handle):
        """The blocks that cannot be read, and those that can."""
        lost, read = set(), {}
        for at in range(0, DATA_BYTES, BLOCK):
            try:
                read[at] = bytes(handle.pread(BLOCK, at))
            except Exception as error:  # pylint: disable=broad-except
                self.assertIn("Input/output error", str(error))
                lost.add(at)
        return lost, read

    def test_a_replica_is_rebuilt_from_one_that_has_blocks_damaged(self):
        cluster = self.cluster
        handle = cluster.connect()
        self.addCleanup(handle.shutdown)
        content = os.urandom(DATA_BYTES)
        for at in range(0, DATA_BYTES, MIB):
            handle.pwrite(content[at:at + MIB], at)
        handle.flush()
        # Its disk is gone, and the only one that is left gives back other bytes than were written.
        cluster.ops("stop", "replica2")
        wait_until(lambda: self.target("replica2")["state"] != "in_sync", 60, "replica2 has left")
        shutil.rmtree(os.path.join(cluster.dir, "replica2"))
        for damages in (False, True):  # what was in the log lies in files of data after a start
            cluster.ops("stop", "replica1")
            if damages:
                self.flip_bits("replica1")
            cluster.ops("start", "replica1")
            self.await_in_sync("replica1")
        damaged, read = self.read_each(handle)
        self.assertTrue(damaged)
        self.assertLess(len(damaged), 64)
        cluster.ops("start", "replica2")
        cluster.weirctl("replica", "replace", "demo", "replica2", "--wait")
        self.await_in_sync("replica2")
        explained = cluster.weirctl("explain", "demo").stdout
        self.assertIn("replica2 was brought back without", explained)
        # The new one has all else, and shows nothing else for what nobody has.
        cluster.ops("stop", "replica1")
        wait_until(lambda: self.target("replica1")["state"] != "in_sync", 60, "replica1 has left")
        lost, read = self.read_each(handle)
        self.assertEqual(lost, damaged)
        for at, data in read.items():
            self.assertEqual(data, content[at:at + BLOCK], at)
        # Once they are written they are there.
        for at in lost:
            handle.pwrite(content[at:at + BLOCK], at)
        handle.flush()
        self.assertEqual(b"".join(bytes(handle.pread(MIB, at)) for at in range(0, DATA_BYTES, MIB)), content)
        cluster.ops("start", "replica1")
        self.await_in_sync("replica1")


if __name__ == "__main__":
    unittest.main()
