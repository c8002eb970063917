"""Data directories that are not the ones they should be: an older copy of them, or another replica's. Such a store counts for nothing."""

import json
import os
import re
import shutil
import unittest

import harness
from harness import MIB, wait_until

DATA_BYTES = 8 * MIB


class WrongDirectories(unittest.TestCase):
    up_flags = ()

    def setUp(self):
        self.cluster = harness.RealCluster("--size=64MiB", *self.up_flags)
        self.addCleanup(self.cluster.close)
        self.cluster.up()
        self.content = bytearray(DATA_BYTES)
        self.handle = self.cluster.connect()
        self.write(0, DATA_BYTES)

    def folder(self, name):
        return os.path.join(self.cluster.dir, name)

    def write(self, at, length):
        """Random bytes, flushed."""
        data = os.urandom(length)
        self.handle.pwrite(data, at)
        self.handle.flush()
        self.content[at:at + length] = data

    def expect_content(self):
        for at in range(0, DATA_BYTES, MIB):
            self.assertEqual(bytes(self.handle.pread(MIB, at)), bytes(self.content[at:at + MIB]), f"MiB {at // MIB}")

    def expect_all_are_equal(self):
        self.expect_content()
        told = json.loads(self.cluster.weirctl("scrub", "demo", "--wait", "--output=json").stdout)
        self.assertEqual((told["state"], int(told.get("bad_blocks", 0))), ("finished", 0), told)

    def all_in_sync(self):
        shown = json.loads(self.cluster.weirctl("volume", "show", "demo", "--output=json").stdout)
        return all(t["state"] == "in_sync" and t["health"] == "connected" for t in shown["table"]["targets"])

    def await_in_sync(self):
        """Meanwhile no read may meet what a store should not be asked for."""
        wait_until(lambda: self.expect_content() or self.all_in_sync(), 90, "all are in sync")


class OlderCopy(WrongDirectories):
    def copy(self, name):
        self.cluster.ops("stop", name)
        shutil.copytree(self.folder(name), self.folder("copy"))
        self.cluster.ops("start", name)
        self.await_in_sync()

    def put_back(self, name):
        """The copy takes the place of what `name` has. It is stopped."""
        shutil.rmtree(self.folder(name))
        shutil.copytree(self.folder("copy"), self.folder(name))


class OlderCopyTest(OlderCopy):
    def test_one_that_has_left_gets_all_that_it_lacks(self):
        self.copy("replica2")
        self.write(2 * MIB, 2 * MIB)
        self.cluster.ops("stop", "replica2")
        self.put_back("replica2")
        self.write(3 * MIB, 2 * MIB)
        self.cluster.ops("start", "replica2")
        self.await_in_sync()
        self.expect_all_are_equal()

    def test_an_attach_after_a_clean_detach_finds_it_below_the_floor_and_says_so(self):
        self.copy("replica2")
        self.write(2 * MIB, 2 * MIB)
        self.handle.shutdown()
        self.cluster.ops("down")
        self.put_back("replica2")
        self.cluster.up()
        self.handle = self.cluster.connect()
        self.assertRegex(self.cluster.log("volume"),
                         r"replica2.*ends at 1\.\d+, below the floor 1\.\d+: its store lost what it had synced")
        self.await_in_sync()
        self.expect_all_are_equal()


class OlderCopyOfAMemberTest(OlderCopy):
    up_flags = ("--volume-flags=--leave_after=60s",)

    def test_a_member_that_comes_back_with_one_leaves_and_the_log_says_why(self):
        self.copy("replica2")
        self.write(2 * MIB, 2 * MIB)
        self.assertNotIn("has left", self.cluster.log("volume"))
        self.cluster.ops("stop", "replica2")
        self.put_back("replica2")
        self.cluster.ops("start", "replica2")
        self.await_in_sync()
        self.assertRegex(self.cluster.log("volume"),
                         r"replica=replica2 .*has left: came back with lane \d at 1\.\d+, expected 1\.\d+ to 1\.\d+")
        self.expect_all_are_equal()


class SwappedDirectoriesTest(WrongDirectories):
    def swap(self):
        for name in ("replica1", "replica2"):
            self.cluster.ops("stop", name)
        for before, after in (("replica1", "other"), ("replica2", "replica1"), ("other", "replica2")):
            os.rename(self.folder(before), self.folder(after))
        for name in ("replica1", "replica2"):
            self.cluster.ops("start", name)

    def explained(self):
        return self.cluster.weirctl("explain", "demo").stdout

    def test_two_that_have_each_others_are_refused_and_are_well_once_they_have_their_own(self):
        self.swap()
        for name in ("replica1", "replica2"):
            wait_until(lambda: re.search(rf"replica {name}.*this is store \w+, not \w+", self.explained()), 30,
                       f"it is said what is wrong with {name}")
        self.assertFalse(self.all_in_sync())
        self.swap()
        self.write(4 * MIB, MIB)
        self.await_in_sync()
        self.expect_all_are_equal()


if __name__ == "__main__":
    unittest.main()
