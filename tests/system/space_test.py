"""What is deleted gives its bytes on the replicas' disks back: trimmed files, also while degraded and rebuilding, and snapshots."""

import json
import os
import shutil
import tempfile
import threading
import time
import unittest

import harness
from harness import MIB, run, wait_until
from mounted import MountedExport, why_no_block_device

SECONDS = 60  # about; see run
# What a replica's files take beside the data: logs, tables, the file system's own blocks. Up to 56 MiB were seen with nothing else there.
OVERHEAD = 56 * MIB
# 10 to 21 were seen on a busy machine, once more than 60 on one with far more to do than it could.
WITHIN_SECONDS = 180
REPLICAS = ("replica1", "replica2", "replica3")


class SpaceCase(unittest.TestCase):
    up_flags = ("--size=512MiB",)

    def setUp(self):
        self.cluster = harness.RealCluster(*self.up_flags)
        self.addCleanup(self.cluster.close)
        self.cluster.up()

    def bytes_on_disk(self, name):
        found = run("du", "-s", "--block-size=1", os.path.join(self.cluster.dir, name), check=False)
        return int(found.stdout.split()[0])

    def await_bytes(self, below, what, names=REPLICAS):
        begun = time.monotonic()
        for name in names:
            wait_until(lambda: self.bytes_on_disk(name) < below, WITHIN_SECONDS,
                       f"{what}: {name} holds less than {below // MIB} MiB")
        print(f"{what}: the bytes went within {time.monotonic() - begun:.1f} s on {', '.join(names)}")

    def members(self):
        shown = json.loads(self.cluster.weirctl("volume", "show", "demo", "--output=json").stdout)
        return shown["table"]["targets"]

    def states(self):
        return {t["replica"]: t["state"] for t in self.members()}

    def await_in_sync(self):
        wait_until(lambda: set(self.states().values()) == {"in_sync"}, 90, "in sync again")

    def mounted(self):
        folder = tempfile.mkdtemp(prefix="weir-mount-")
        self.addCleanup(shutil.rmtree, folder, True)
        device = MountedExport(self.cluster.uri, folder)
        self.addCleanup(device.close)
        run("mkfs.ext4", "-q", "-F", device.device)
        device.mount()
        return device

    def write_file(self, device, size, name="file"):
        path = harness.random_file(os.path.join(device.root, name), size)
        run("sync", "-f", device.root)
        return path

    def delete_and_trim(self, device, path):
        os.unlink(path)
        run("sync", "-f", device.root)
        trimmed = run("fstrim", "-v", device.root).stdout
        self.assertNotIn(" 0 bytes", trimmed)
        run("sync", "-f", device.root)


class SpaceTest(SpaceCase):
    @unittest.skipIf(why_no_block_device(), why_no_block_device() or "")
    def test_a_trimmed_file_gives_its_bytes_back_also_while_a_replica_is_away(self):
        device = self.mounted()
        path = self.write_file(device, 160 * MIB)
        for name in REPLICAS:
            self.assertGreater(self.bytes_on_disk(name), 150 * MIB)
        self.delete_and_trim(device, path)
        self.await_bytes(OVERHEAD + 16 * MIB, "trimmed")

        path = self.write_file(device, 160 * MIB)
        self.cluster.kill9("replica2")
        self.delete_and_trim(device, path)
        self.await_bytes(OVERHEAD + 16 * MIB, "trimmed while replica2 is away", ("replica1", "replica3"))
        self.assertGreater(self.bytes_on_disk("replica2"), 150 * MIB)
        self.assertNotEqual(self.states()["replica2"], "in_sync")
        self.cluster.ops("start", "replica2")
        self.await_in_sync()
        # A replica that was started anew is told what all have synced with the next flush that covers a write.
        self.write_file(device, MIB)
        self.await_bytes(OVERHEAD + 16 * MIB, "replica2 is back")

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
        for what in ("changed_bytes", "kept_bytes", "own_bytes"):
            self.assertEqual(int(shown[what]), blocks * 4096, what)
        self.assertIn("snapshots", self.cluster.weirctl("explain", "demo").stdout)
        self.cluster.weirctl("snapshot", "delete", "demo@only")
        self.await_bytes(with_both - blocks * 4096 // 2, "the snapshot is deleted")
        self.assertEqual(handle.pread(len(data), 0), data[::-1])


class SpaceRebuildTest(SpaceCase):
    """A rebuild so slow, beside a client, that all of it happens while a replica is joining."""

    up_flags = ("--size=512MiB", "--volume-flags=--join_bytes_per_second=256KiB")

    def keep_reading(self):
        """A client that is always there: the limit is for the time beside one. It writes nothing: what is overwritten
        lies there until the next compaction, and is not to be taken for what was trimmed."""
        done = threading.Event()
        handle = self.cluster.connect()
        self.addCleanup(handle.shutdown)

        def work():
            while not done.wait(0.005):
                handle.pread(4096, 0)

        thread = threading.Thread(target=work)
        thread.start()

        def end():
            done.set()
            thread.join()

        self.addCleanup(end)
        return end

    @unittest.skipIf(why_no_block_device(), why_no_block_device() or "")
    def test_a_file_that_is_trimmed_while_a_replica_is_rebuilt_gives_its_bytes_back(self):
        device = self.mounted()
        everywhere = self.write_file(device, 120 * MIB, "everywhere")
        self.cluster.kill9("replica2")
        wait_until(lambda: self.states()["replica2"] != "in_sync", 30, "the volume goes on without replica2")
        missed = self.write_file(device, 60 * MIB, "missed")
        kept = self.write_file(device, 40 * MIB, "kept")
        with open(kept, "rb") as f:
            content = f.read()
        end_reading = self.keep_reading()
        self.cluster.ops("start", "replica2")
        wait_until(lambda: self.states()["replica2"] == "joining", 30, "replica2 is joining")
        self.assertGreater(self.bytes_on_disk("replica2"), 110 * MIB)
        for path in (everywhere, missed):
            self.delete_and_trim(device, path)
        # Who is rebuilt gives them back as the rebuild comes to them.
        self.await_bytes(OVERHEAD + (40 + 16) * MIB, "trimmed during a rebuild", ("replica1", "replica3"))
        self.assertEqual(self.states()["replica2"], "joining", "it is being rebuilt still")
        end_reading()
        self.await_in_sync()
        self.write_file(device, MIB, "after")
        self.await_bytes(OVERHEAD + (40 + 16) * MIB, "rebuilt")
        self.assertGreater(min(self.bytes_on_disk(name) for name in REPLICAS), 40 * MIB)
        scrub = json.loads(self.cluster.weirctl("scrub", "demo", "--wait", "--output=json").stdout)
        self.assertEqual((scrub["state"], scrub["bad_blocks"]), ("finished", "0"))
        with open(kept, "rb") as f:
            self.assertEqual(f.read(), content)


if __name__ == "__main__":
    unittest.main()
