"""A volume moves away from a frontend that is cut off and lives: at once, or once that one's lease is over.

DESIGN.md, "Leases": a read needs the word of every member, no older than the lease, so a newer frontend that cannot reach
a member waits as long before it serves, and a quarter more for the drift of clocks.
"""

import threading
import time
import unittest

import harness
from etcd_case import BLOCK, LinkedEtcdCase, proxy
from harness import FULL, wait_until

LEASE_SECONDS = 3         # --lease, unless it is given
CLOCK_DRIFT = 1.25        # kClockDrift in volume/engine/takeover.cc
GIVE_UP_SECONDS = 2       # --give_up_after
CLONE_DEADLINE_SECONDS = 10
SLACK_SECONDS = 2         # of a machine that has other work
REFUSED_SECONDS_MAX = 15
# More than there are replicas: reads that went to one that is cut off are never answered.
READERS = 8


class Reader(threading.Thread):
    """Reads block 0 without pause on a connection of its own, until a read fails."""

    def __init__(self, cluster):
        super().__init__(daemon=True)
        self.handle = cluster.connect()
        self.reads = 0
        self.seen = set()
        self.answered_at = 0.0
        self.error = None
        self.ended_at = 0.0
        self.start()

    def run(self):
        try:
            while True:
                self.seen.add(bytes(self.handle.pread(BLOCK, 0)[:1]))
                self.answered_at = time.monotonic()
                self.reads += 1
        except harness.nbd.Error as error:
            self.ended_at = time.monotonic()
            self.error = error


class MoveCase(LinkedEtcdCase):
    def setUp(self):
        super().setUp()
        self.old = self.cluster.connect()
        self.old.pwrite(b"1" * BLOCK, 0)
        self.readers = [Reader(self.cluster) for _ in range(READERS)]
        wait_until(lambda: all(reader.reads > 20 for reader in self.readers), 30, "all read")

    def tearDown(self):
        super().tearDown()
        self.cluster.start_all()
        self.in_sync()  # else the next attach may meet a change of members

    def move(self, cut_off_from, unreachable=()):
        """`volume` reaches these no more, and volume2 not those; then volume2 takes the volume. The seconds from the attach to
        its first read, and from the cut to the last read of `volume`, where requests wait from then on."""
        self.cut_off("volume2", *unreachable)
        self.cut_off("volume", *cut_off_from)
        self.cut_at = time.monotonic()
        seconds = self.take_over(b"1" * BLOCK)
        last = max(reader.answered_at for reader in self.readers)
        self.assertLess(last, self.cut_at + seconds, "the old frontend has served a read after the new one")
        self.assertEqual([reader.error for reader in self.readers], [None] * READERS)
        return seconds, last - self.cut_at

    def old_refuses(self):
        """Once it is told: all that waits there, and all that comes. The seconds that took."""
        begun = time.monotonic()
        self.heal()
        for reader in self.readers:
            reader.join(REFUSED_SECONDS_MAX)
            self.assertFalse(reader.is_alive(), "a read waits for ever")
            self.assertEqual((reader.error.errno, reader.seen), ("ESHUTDOWN", {b"1"}))
        self.check_old_refuses(self.old)
        return max(reader.ended_at for reader in self.readers) - begun

    def say(self, what, seconds, last_read, refused):
        print(f"  {what}: first I/O of the new one after {seconds:.2f} s; last read of the old one {last_read:.2f} s after "
              f"it was cut off; healed, it refused what waited within {refused:.2f} s")


class LeaseTest(MoveCase):
    def test_a_new_frontend_that_reaches_all_members_serves_at_once(self):
        seconds, last_read = self.move(self.etcds + self.replicas)
        self.assertLess(seconds, SLACK_SECONDS)
        self.say("old one cut off from all, new one from none", seconds, last_read, self.old_refuses())

    def test_one_that_cannot_reach_a_member_waits_until_the_old_ones_lease_is_over(self):
        # The old one reaches that member, and may read there for as long as its lease lasts.
        seconds, last_read = self.move(self.etcds + ["replica1", "replica2"], unreachable=["replica3"])
        self.assertGreater(seconds, LEASE_SECONDS)
        self.assertLess(seconds, LEASE_SECONDS * CLOCK_DRIFT + SLACK_SECONDS)
        self.assertLess(last_read, LEASE_SECONDS + SLACK_SECONDS / 2)
        self.say("old one cut off from all but replica3, new one from replica3", seconds, last_read, self.old_refuses())

    def test_an_attach_that_meets_a_change_of_members_goes_on_from_that(self):
        # The attach asks for records, one after the other; the old frontend takes replica3 out before it has them all.
        for name in self.etcds:
            self.links[name].delay(proxy.TO_REPLICA, 0.3)
        self.cluster.kill9("replica3")
        seconds = self.take_over(b"1" * BLOCK)
        self.say("replica3 killed at the same time, etcd 0.3 s away", seconds, 0, self.old_refuses())

    def test_after_a_clean_detach_there_is_no_lease_to_wait_for(self):
        self.weirctl("volume", "detach", "demo", "--frontend=volume")
        self.cut_off("volume2", "replica3")
        seconds = self.take_over(b"1" * BLOCK)
        print(f"  new one cut off from replica3, after a clean detach: first I/O after {seconds:.2f} s")
        self.assertLess(seconds, GIVE_UP_SECONDS + SLACK_SECONDS / 2)


@unittest.skipUnless(FULL, "20 s: with --full")
class LongLeaseTest(MoveCase):
    """The wait is that of the lease, and what waits at a frontend that is cut off does not wait for ever."""

    lease_seconds = 8
    hold_seconds = 5
    volume_flags = (f"--lease={lease_seconds}s", f"--hold_deadline={hold_seconds}s")

    def test_a_longer_lease_is_waited_for_longer_and_what_waits_meanwhile_fails_at_the_hold_deadline(self):
        seconds, last_read = self.move(self.etcds + ["replica1", "replica2"], unreachable=["replica3"])
        self.assertGreater(seconds, self.lease_seconds)
        self.assertLess(seconds, self.lease_seconds * CLOCK_DRIFT + SLACK_SECONDS)
        self.assertLess(last_read, self.lease_seconds + SLACK_SECONDS / 2)
        # It is held from when the replicas are found to be silent.
        until = self.cut_at + CLONE_DEADLINE_SECONDS + self.hold_seconds + SLACK_SECONDS
        wait_until(lambda: all(reader.error for reader in self.readers), until - time.monotonic(), "what waits has failed")
        self.assertEqual({reader.error.errno for reader in self.readers}, {"EIO"})
        self.assertEqual({byte for reader in self.readers for byte in reader.seen}, {b"1"})
        failed = max(reader.ended_at for reader in self.readers) - self.cut_at
        self.heal()
        wait_until(lambda: "was taken over" in self.explained(), REFUSED_SECONDS_MAX, "the old one is told")
        self.check_old_refuses(self.old)
        print(f"  the same with --lease={self.lease_seconds}s: first I/O of the new one after {seconds:.2f} s; last read of "
              f"the old one {last_read:.2f} s after it was cut off; with --hold_deadline={self.hold_seconds}s what waited "
              f"there failed after {failed:.2f} s")


if __name__ == "__main__":
    unittest.main()
