"""A process may open no more files (EMFILE): who connects is refused, what is open goes on, and all is well once it may again."""

import json
import os
import socket
import threading
import time
import unittest

import harness
from etcd_case import Writer
from harness import MIB, run, wait_until

FILES = 128        # that a process may open, where some are to be left
STRANGERS = 200
MUCH_MIB = 64      # a store begins files every 16 MiB
NONE_LEFT = 8      # fewer than are open: a new one would have a number above it
ENOUGH = 20000


def open_files(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


class Strangers(threading.Thread):
    """Hold as many connections to an address as it takes, until close(). `refused`: how many were closed by the other end."""

    def __init__(self, address):
        super().__init__()
        host, _, port = address.rpartition(":")
        self.address = (host, int(port))
        self.ending = threading.Event()
        self.refused = 0
        self.start()

    def run(self):
        held = [self._connect() for _ in range(STRANGERS)]
        while not self.ending.wait(0.2):
            for i, stranger in enumerate(held):
                if self._is_closed(stranger):
                    stranger.close()
                    self.refused += 1
                    held[i] = self._connect()
        for stranger in held:
            stranger.close()

    def _connect(self):
        stranger = socket.create_connection(self.address, timeout=10)
        stranger.setblocking(False)
        return stranger

    @staticmethod
    def _is_closed(stranger):
        try:
            while chunk := stranger.recv(4096):  # gRPC greets
                del chunk
            return True
        except BlockingIOError:
            return False
        except ConnectionError:
            return True

    def close(self):
        self.ending.set()
        self.join(60)


class OpenFilesTest(unittest.TestCase):
    def setUp(self):
        self.cluster = harness.RealCluster("--data-dirs=1", "--size=1GiB", "--volume-flags=--replace_after=10m")
        self.addCleanup(self.cluster.close)
        self.cluster.up()
        self.writer = Writer(self.cluster)
        self.addCleanup(self.writer.ending.set)
        self.writer.goes_on()

    def limit(self, name, files):
        run("prlimit", f"--pid={self.cluster.pids()[name]}", f"--nofile={files}:")

    def leave_none(self, name):
        self.limit(name, NONE_LEFT)

    def write_much(self, mib=MUCH_MIB, until=lambda: False):
        """So much that a replica's store makes new files; or until it has tried to."""
        handle = self.cluster.connect()
        for i in range(mib):
            if i % 16 == 0 and until():
                break
            handle.pwrite(os.urandom(MIB), (64 + i) * MIB)
        handle.flush()
        handle.shutdown()

    def targets(self):
        shown = json.loads(self.cluster.weirctl("volume", "show", "demo", "--output=json").stdout)
        return {t["replica"]: t for t in shown["table"]["targets"]}

    def await_in_sync(self):
        wait_until(lambda: all(t["state"] == "in_sync" and t["health"] == "connected" for t in self.targets().values()), 90,
                   "all are in sync")

    def expect_all_are_equal(self):
        told = json.loads(self.cluster.weirctl("scrub", "demo", "--wait", "--output=json").stdout)
        self.assertEqual((told["state"], int(told.get("bad_blocks", 0))), ("finished", 0), told)

    def answers(self, name):
        """Whether `name` takes a new connection and a call on it."""
        if name == "volume":
            return self.cluster.weirctl("--timeout=5", "volume", "list", check=False).returncode == 0
        return self.cluster.weirctl("--timeout=5", "replica", "show", name, check=False).returncode == 0

    def test_strangers_leave_a_replica_the_files_that_its_store_needs(self):
        self.limit("replica2", FILES)
        strangers = Strangers(harness.cluster_lib.Cluster(self.cluster.dir).address("replica2"))
        self.addCleanup(strangers.close)
        wait_until(lambda: strangers.refused > 0, 30, "some are refused")
        self.write_much()
        self.writer.goes_on()
        self.assertLess(open_files(self.cluster.pids()["replica2"]), FILES)
        self.assertEqual(self.targets()["replica2"]["state"], "in_sync")
        self.assertIn(f"three quarters of the {FILES} files that this process may open are open", self.cluster.log("replica2"))
        strangers.close()
        wait_until(lambda: self.answers("replica2"), 30, "a new connection is served")
        self.writer.stop()

    def test_a_frontend_with_no_file_left_goes_on_and_takes_connections_again(self):
        self.leave_none("volume")
        self.assertFalse(self.answers("volume"))
        self.writer.goes_on()
        self.assertIn("connections are refused", self.cluster.log("volume"))
        self.limit("volume", ENOUGH)
        wait_until(lambda: self.answers("volume"), 30, "it takes connections again")
        self.cluster.connect().shutdown()
        self.writer.stop()
        self.assertEqual({t["state"] for t in self.targets().values()}, {"in_sync"})

    def test_a_frontend_that_may_open_no_more_than_it_has_goes_on_without_a_replica_and_gets_it_back_later(self):
        self.limit("volume", open_files(self.cluster.pids()["volume"]))
        self.cluster.kill9("replica1")
        self.writer.goes_on()
        self.cluster.ops("start", "replica1")
        self.writer.goes_on()
        self.limit("volume", ENOUGH)
        self.await_in_sync()
        self.writer.stop()
        self.expect_all_are_equal()

    def test_a_store_that_can_make_no_file_waits_until_it_can(self):
        self.leave_none("replica2")
        self.write_much(mib=512, until=lambda: "cannot open" in self.cluster.log("replica2"))
        wait_until(lambda: "cannot open" in self.cluster.log("replica2"), 30, "replica2 needs a file")
        self.assertRegex(self.cluster.log("replica2"), r"cannot open .*Too many open files; trying again for 2m")
        self.limit("replica2", ENOUGH)
        self.writer.goes_on()
        self.await_in_sync()
        self.writer.stop()
        self.assertNotIn("FAILED", self.cluster.log("replica2"))
        self.expect_all_are_equal()

    def test_a_replica_that_is_stopped_while_it_waits_for_a_file_ends_soon_and_opens_again(self):
        self.leave_none("replica2")
        self.write_much(mib=512, until=lambda: "cannot open" in self.cluster.log("replica2"))
        wait_until(lambda: "cannot open" in self.cluster.log("replica2"), 30, "replica2 needs a file")
        begun = time.monotonic()
        self.cluster.ops("stop", "replica2")
        self.assertLess(time.monotonic() - begun, 20)
        self.cluster.ops("start", "replica2")
        self.await_in_sync()
        self.writer.stop()
        self.expect_all_are_equal()

    def test_a_catalog_that_can_make_no_file_waits_until_it_can(self):
        self.leave_none("volume")
        self.cluster.kill9("replica1")
        wait_until(lambda: "cannot open" in self.cluster.log("volume"), 30, "the catalog needs a file")
        self.limit("volume", ENOUGH)
        self.writer.goes_on()
        self.cluster.ops("start", "replica1")
        self.await_in_sync()
        self.writer.stop()
        self.expect_all_are_equal()


if __name__ == "__main__":
    unittest.main()
