"""What is deleted gives its bytes on the replicas' disks back: trimmed files, also while degraded, and snapshots."""

import json
import os
import shutil
import tempfile
import unittest

import harness
from harness import MIB, run, wait_until
from mounted import MountedExport, why_no_block_device

# What a replica's files take beside the data: logs, tables, the file system's own blocks. Up to 56 MiB were seen with nothing else there.
OVERHEAD = 56 * MIB
WITHIN_SECONDS = 60


class SpaceTest(unittest.TestCase):
    def setUp(self):
        self.cluster = harness.RealCluster("--size=512MiB")
        self.addCleanup(self.cluster.close)
        self.cluster.up()

    def bytes_on_disk(self, name):
        found = run("du", "-s", "--block-size=1", os.path.join(self.cluster.dir, name), check=False)
        return int(found.stdout.split()[0])

    def await_bytes(self, below, what):
        for name in ("replica1", "replica2", "replica3"):
            wait_until(lambda: self.bytes_on_disk(name) < below, WITHIN_SECONDS,
                       f"{what}: {name} holds less than {below // MIB} MiB")

    def members(self):
        shown = json.loads(self.cluster.weirctl("volume", "show", "demo", "--output=json").stdout)
        return shown["table"]["targets"]

    def write_file(self, device, size):
        path = harness.random_file(os.path.join(device.root, "file"), size)
        run("sync", "-f", device.root)
        return path

    def delete_and_trim(self, device, path):
        os.unlink(path)
        run("sync", "-f", device.root)
        trimmed = run("fstrim", "-v", device.root).stdout
        self.assertNotIn(" 0 bytes", trimmed)
        run("sync", "-f", device.root)

    @unittest.skipIf(why_no_block_device(), why_no_block_device() or "")
    def test_a_trimmed_file_gives_its_bytes_back_also_while_a_replica_is_away(self):
        folder = tempfile.mkdtemp(prefix="weir-mount-")
        self.addCleanup(shutil.rmtree, folder, True)
        device = MountedExport(self.cluster.uri, folder)
        self.addCleanup(device.close)
        run("mkfs.ext4", "-q", "-F", device.device)
        device.mount()
        path = self.write_file(device, 160 * MIB)
        for name in ("replica1", "replica2", "replica3"):
            self.assertGreater(self.bytes_on_disk(name), 150 * MIB)
        self.delete_and_trim(device, path)
        self.await_bytes(OVERHEAD + 16 * MIB, "trimmed")

        path = self.write_file(device, 120 * MIB)
        self.cluster.kill9("replica2")
        self.delete_and_trim(device, path)
        self.cluster.ops("start", "replica2")
        wait_until(lambda: all(t["state"] == "in_sync" for t in self.members()), 90, "in sync again")
        # A replica that was started anew is told what all have synced with the next flush that covers a write.
        self.write_file(device, MIB)
        self.await_bytes(OVERHEAD + 16 * MIB, "trimmed while replica2 was away")

    def test_the_only_snapshot_of_overwritten_blocks_gives_their_space_back(self):
        handle = self.cluster.connect()
        self.addCleanup(handle.shutdown)
        blocks = 10000
        data = os.urandom(4096 * 250)
        for at in range(0, blocks * 4096, len(data)):
            handle.pwrite(data, at)
        self.cluster.weirctl("snapshot", "create", "demo@only")
        for at in range(0, blocks * 4096, len(data)):
            handle.pwrite(data[::-1], at)
        handle.flush()
        with_both = min(self.bytes_on_disk(f"replica{i}") for i in (1, 2, 3))
        self.assertGreater(with_both, 2 * blocks * 4096)
        shown = json.loads(self.cluster.weirctl("snapshot", "show", "demo@only", "--output=json").stdout)
        self.assertEqual(int(shown["changed_bytes"]), blocks * 4096)
        self.assertIn("snapshots", self.cluster.weirctl("explain", "demo").stdout)
        self.cluster.weirctl("snapshot", "delete", "demo@only")
        self.await_bytes(with_both - blocks * 4096 // 2, "the snapshot is deleted")
        self.assertEqual(handle.pread(len(data), 0), data[::-1])


if __name__ == "__main__":
    unittest.main()
