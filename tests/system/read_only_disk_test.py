"""A replica's file system turns read-only under it, as ext4 does when it has found damage (errors=remount-ro)."""

import json
import os
import unittest

import harness
from etcd_case import BLOCK, BLOCKS, Writer
from harness import run, wait_until

DISK_MIB = 512


def why_no_disk():
    """None if a file system can be mounted and broken here, else why not."""
    if os.geteuid() != 0:
        return "needs root to mount a small disk"
    if not os.path.exists("/dev/loop-control"):
        return "needs /dev/loop-control"
    if not os.path.isdir("/sys/fs/ext4"):
        return "needs a kernel with ext4"
    return None


@unittest.skipIf(why_no_disk(), why_no_disk())
class ReadOnlyDiskTest(unittest.TestCase):
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

    def turn_read_only(self):
        device = os.path.basename(run("findmnt", "-n", "-o", "SOURCE", self.disk).stdout.strip())
        with open(f"/sys/fs/ext4/{device}/trigger_fs_error", "w") as f:
            f.write("1")
        with self.assertRaises(OSError):
            open(os.path.join(self.disk, "probe"), "w").close()

    def targets(self):
        shown = json.loads(self.cluster.weirctl("volume", "show", "demo", "--output=json").stdout)
        return {t["replica"]: t for t in shown["table"]["targets"]}

    def all_in_sync(self):
        return all(t["state"] == "in_sync" and t["health"] == "connected" for t in self.targets().values())

    def expect_start_is_refused(self, why):
        done = self.cluster.ops("start", "replica2", check=False)
        self.assertNotEqual(done.returncode, 0)
        self.assertRegex(done.stdout + done.stderr, why)

    def test_its_store_fails_for_good_the_others_go_on_and_it_comes_back_by_what_it_had_synced(self):
        writer = Writer(self.cluster)
        self.addCleanup(writer.ending.set)
        writer.goes_on()
        self.turn_read_only()
        wait_until(lambda: self.targets()["replica2"]["state"] != "in_sync", 30, "replica2 has left")
        # Which of its calls is told of it first, and with what, is chance.
        self.assertRegex(self.cluster.log("replica2"), r"FAILED and serves no more: .*(Read-only file system|Input/output error)")
        writer.goes_on()
        self.assertIn("replica2", self.cluster.pids(), "it says why, until it is stopped")
        self.cluster.ops("stop", "replica2")
        self.expect_start_is_refused(r"cannot start: .*Read-only file system; make the directory writable")

        # As an administrator would: checked, and mounted again. That it had failed could not be written down.
        run("umount", self.disk)
        self.assertLessEqual(run("e2fsck", "-f", "-y", self.image, check=False).returncode, 1, "errors are corrected")
        self.mount()
        self.cluster.ops("start", "replica2")
        wait_until(self.all_in_sync, 90, "all are in sync")
        writer.goes_on()
        writer.stop()
        told = json.loads(self.cluster.weirctl("scrub", "demo", "--wait", "--output=json").stdout)
        self.assertEqual((told["state"], int(told.get("bad_blocks", 0))), ("finished", 0), told)
        # By the one alone that had failed: the others are asked for nothing.
        self.cluster.kill9("replica1")
        wait_until(lambda: self.targets()["replica1"]["state"] != "in_sync", 30, "replica1 has left")
        handle = self.cluster.connect()
        for number in range(max(0, writer.writes - BLOCKS), writer.writes):
            self.assertEqual(bytes(handle.pread(BLOCK, number % BLOCKS * BLOCK)), writer.data(number), number)


if __name__ == "__main__":
    unittest.main()
