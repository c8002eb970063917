"""A replica's disk breaks under it: its file system turns read-only, as ext4 does when it has found damage (errors=remount-ro), or hangs."""

import json
import os
import signal
import unittest

import harness
from etcd_case import BLOCK, BLOCKS, Writer
from harness import run, wait_until

DISK_MIB = 512
CLONE_DEADLINE = 10  # seconds; the frontend's default


def why_no_disk():
    """None if a file system can be mounted and broken here, else why not."""
    if os.geteuid() != 0:
        return "needs root to mount a small disk"
    if not os.path.exists("/dev/loop-control"):
        return "needs /dev/loop-control"
    if not os.path.isdir("/sys/fs/ext4"):
        return "needs a kernel with ext4"
    return None


class DiskOfItsOwnCase(unittest.TestCase):
    """replica2's data lies on a small ext4 of its own, at `disk`."""

    def setUp(self):
        # The place is not given away meanwhile: what the old store is worth is the question.
        self.cluster = harness.RealCluster("--data-dirs=1", "--size=64MiB", "--volume-flags=--replace_after=10m")
        self.addCleanup(self.cluster.close)
        self.disk = os.path.join(self.cluster.dir, "replica2")
        self.image = os.path.join(self.cluster.dir, "image")
        run("truncate", "-s", f"{DISK_MIB}M", self.image)
        run("mkfs.ext4", "-q", "-F", self.image)
        os.makedirs(self.disk)
        self.mount()
        # Clean-ups run last first: down before the disk goes, then the folder.
        self.addCleanup(run, "umount", "-l", self.disk, check=False)
        self.addCleanup(self.cluster.ops, "down", check=False)
        self.cluster.up()

    def mount(self):
        run("mount", "-o", "loop,errors=remount-ro", self.image, self.disk)
        os.chmod(self.disk, 0o700)

    def mounted_again(self):
        """As an administrator would: checked before."""
        run("umount", self.disk)
        self.assertLessEqual(run("e2fsck", "-f", "-y", self.image, check=False).returncode, 1, "errors are corrected")
        self.mount()

    def targets(self):
        shown = json.loads(self.cluster.weirctl("volume", "show", "demo", "--output=json").stdout)
        return {t["replica"]: t for t in shown["table"]["targets"]}

    def all_in_sync(self):
        return all(t["state"] == "in_sync" and t["health"] == "connected" for t in self.targets().values())

    def await_left(self, replica):
        wait_until(lambda: self.targets()[replica]["state"] != "in_sync", 30, f"{replica} has left")

    def expect_all_are_equal(self):
        told = json.loads(self.cluster.weirctl("scrub", "demo", "--wait", "--output=json").stdout)
        self.assertEqual((told["state"], int(told.get("bad_blocks", 0))), ("finished", 0), told)

    def begin_writing(self):
        writer = Writer(self.cluster)
        self.addCleanup(writer.ending.set)
        writer.goes_on()
        return writer


@unittest.skipIf(why_no_disk(), why_no_disk())
class ReadOnlyDiskTest(DiskOfItsOwnCase):
    def turn_read_only(self):
        device = os.path.basename(run("findmnt", "-n", "-o", "SOURCE", self.disk).stdout.strip())
        with open(f"/sys/fs/ext4/{device}/trigger_fs_error", "w") as f:
            f.write("1")
        with self.assertRaises(OSError):
            open(os.path.join(self.disk, "probe"), "w").close()

    def expect_start_is_refused(self, why):
        done = self.cluster.ops("start", "replica2", check=False)
        self.assertNotEqual(done.returncode, 0)
        self.assertRegex(done.stdout + done.stderr, why)

    def test_its_store_fails_for_good_the_others_go_on_and_it_comes_back_by_what_it_had_synced(self):
        writer = self.begin_writing()
        self.turn_read_only()
        self.await_left("replica2")
        # Which of its calls is told of it first, and with what, is chance.
        self.assertRegex(self.cluster.log("replica2"), r"FAILED and serves no more: .*(Read-only file system|Input/output error)")
        writer.goes_on()
        self.assertIn("replica2", self.cluster.pids(), "it says why, until it is stopped")
        self.cluster.ops("stop", "replica2")
        self.expect_start_is_refused(r"cannot start: .*Read-only file system; make the directory writable")

        # That it had failed could not be written down.
        self.mounted_again()
        self.cluster.ops("start", "replica2")
        wait_until(self.all_in_sync, 90, "all are in sync")
        writer.goes_on()
        writer.stop()
        self.expect_all_are_equal()
        # By the one alone that had failed: the others are asked for nothing.
        self.cluster.kill9("replica1")
        self.await_left("replica1")
        handle = self.cluster.connect()
        for number in range(max(0, writer.writes - BLOCKS), writer.writes):
            self.assertEqual(bytes(handle.pread(BLOCK, number % BLOCKS * BLOCK)), writer.data(number), number)


@unittest.skipIf(why_no_disk(), why_no_disk())
class HangingDiskTest(DiskOfItsOwnCase):
    def test_the_volume_goes_on_without_it_and_gets_it_back_once_its_disk_answers(self):
        writer = self.begin_writing()
        # Whoever writes to it, or syncs, waits in the kernel.
        run("fsfreeze", "--freeze", self.disk)
        self.addCleanup(run, "fsfreeze", "--unfreeze", self.disk, check=False)
        self.await_left("replica2")
        writer.goes_on()
        self.assertLess(writer.longest, CLONE_DEADLINE + 10)
        self.assertIn("replica2", self.cluster.weirctl("explain", "demo").stdout)
        run("fsfreeze", "--unfreeze", self.disk)
        wait_until(self.all_in_sync, 90, "all are in sync")
        writer.stop()
        self.expect_all_are_equal()

    def test_a_replica_that_is_killed_meanwhile_comes_back_by_what_it_had_synced(self):
        writer = self.begin_writing()
        run("fsfreeze", "--freeze", self.disk)
        self.addCleanup(run, "fsfreeze", "--unfreeze", self.disk, check=False)
        self.await_left("replica2")
        harness.cluster_lib.Cluster(self.cluster.dir).process("replica2").signal(signal.SIGKILL)
        writer.goes_on()
        # It ends once the disk lets go of it.
        run("fsfreeze", "--unfreeze", self.disk)
        wait_until(lambda: "replica2" not in harness.cluster_lib.Cluster(self.cluster.dir).running(), 30, "it has ended")
        self.cluster.ops("start", "replica2")
        wait_until(self.all_in_sync, 90, "all are in sync")
        writer.stop()
        self.expect_all_are_equal()


if __name__ == "__main__":
    unittest.main()
