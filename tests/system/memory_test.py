"""A process may have no more memory than it has (RLIMIT_DATA): it goes on with that or ends; either way nothing is lost, and all is well once it may again."""

import json
import os
import unittest

import harness
from etcd_case import Writer
from harness import MIB, run, wait_until

MUCH_MIB = 128  # more than a store or a frontend has at hand
KEPT = 16       # MiB that are flushed before


class MemoryTest(unittest.TestCase):
    def setUp(self):
        self.cluster = harness.RealCluster("--data-dirs=1", "--size=1GiB", "--volume-flags=--replace_after=10m")
        self.addCleanup(self.cluster.close)
        self.cluster.up()

    def leave_none(self, name):
        """What it has of memory to write to is all that it may have. Gives its pid."""
        pid = self.cluster.pids()[name]
        with open(f"/proc/{pid}/status") as f:
            data_kib = next(int(line.split()[1]) for line in f if line.startswith("VmData:"))
        run("prlimit", f"--pid={pid}", f"--data={data_kib * 1024}:")
        return pid

    def give_back(self, name, pid):
        """Lets it have memory again, or starts it if it has ended. Whether it has."""
        ended = not os.path.exists(f"/proc/{pid}")
        if ended:
            self.cluster.ops("start", name)
        else:
            run("prlimit", f"--pid={pid}", "--data=unlimited:")
        return ended

    def write_much(self, handle, ended=lambda: False):
        """Until it has written all that, or the process has ended."""
        for i in range(MUCH_MIB):
            if ended():
                return
            handle.pwrite(os.urandom(MIB), (64 + i) * MIB)
        handle.flush()

    def all_in_sync(self):
        shown = json.loads(self.cluster.weirctl("volume", "show", "demo", "--output=json").stdout)
        return all(t["state"] == "in_sync" and t["health"] == "connected" for t in shown["table"]["targets"])

    def expect_all_are_equal(self):
        wait_until(self.all_in_sync, 90, "all are in sync")
        told = json.loads(self.cluster.weirctl("scrub", "demo", "--wait", "--output=json").stdout)
        self.assertEqual((told["state"], int(told.get("bad_blocks", 0))), ("finished", 0), told)

    def test_clients_of_a_replica_that_gets_none_notice_nothing(self):
        writer = Writer(self.cluster)
        self.addCleanup(writer.ending.set)
        writer.goes_on()
        pid = self.leave_none("replica2")
        handle = self.cluster.connect()
        self.write_much(handle, ended=lambda: not os.path.exists(f"/proc/{pid}"))
        writer.goes_on()
        print(f"  the replica {'ended' if self.give_back('replica2', pid) else 'went on'}", flush=True)
        self.write_much(handle)
        writer.stop()
        handle.shutdown()
        self.expect_all_are_equal()

    def test_what_was_flushed_is_there_after_a_frontend_got_none(self):
        kept = os.urandom(KEPT * MIB)
        handle = self.cluster.connect()
        for i in range(KEPT):
            handle.pwrite(kept[i * MIB:(i + 1) * MIB], i * MIB)
        handle.flush()
        pid = self.leave_none("volume")
        told = "told the client nothing"
        try:
            self.write_much(handle)
        except harness.nbd.Error as error:  # ENOMEM, or the connection's end
            told = f"told the client: {error}"
        print(f"  the frontend {'ended' if self.give_back('volume', pid) else 'went on'}, and {told}", flush=True)
        again = self.cluster.connect()
        for i in range(KEPT):
            self.assertEqual(again.pread(MIB, i * MIB), kept[i * MIB:(i + 1) * MIB], f"MiB {i}")
        self.write_much(again)
        again.shutdown()
        self.expect_all_are_equal()


if __name__ == "__main__":
    unittest.main()
