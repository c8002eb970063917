"""The wall clock of running processes is set forwards and back, by months (libfaketime). Nothing may wait for it, or end because of it."""

import glob
import json
import os
import signal
import unittest

import harness
from etcd_case import Writer
from harness import wait_until

LIBRARIES = glob.glob("/usr/lib/*/faketime/libfaketimeMT.so.1")
MONTHS = 180 * 86400


@unittest.skipIf(not LIBRARIES, "needs libfaketime (apt-get install libfaketime)")
class WallClockTest(unittest.TestCase):
    def setUp(self):
        self.cluster = harness.RealCluster("--data-dirs=1", "--size=64MiB", "--volume-flags=--clone_deadline=3s")
        self.addCleanup(self.cluster.close)
        self.clock = os.path.join(self.cluster.dir, "clock")
        self.set_clock(0)
        self.cluster.up_flags += (f"--bin={self.wrapped_binaries()}",)
        self.cluster.up()
        self.writer = Writer(self.cluster)
        self.addCleanup(self.writer.ending.set)
        self.writer.goes_on()

    def wrapped_binaries(self):
        """A folder with them: the servers have the clock that is set. What the monotonic one says is left alone, as by who sets a clock."""
        folder = os.path.join(self.cluster.dir, "bin")
        os.mkdir(folder)
        prefix = os.path.join(os.path.abspath(harness.cluster_lib.default_prefix()), "bin")
        for name in os.listdir(prefix):
            os.symlink(os.path.join(prefix, name), os.path.join(folder, name))
        for name in ("weir-replica", "weir-volume"):
            path = os.path.join(folder, name)
            os.unlink(path)
            with open(path, "w") as f:
                f.write(f"#!/bin/sh\nexport LD_PRELOAD={LIBRARIES[0]} FAKETIME_TIMESTAMP_FILE={self.clock} FAKETIME_NO_CACHE=1 "
                        f'FAKETIME_DONT_FAKE_MONOTONIC=1\nexec {os.path.join(prefix, name)} "$@"\n')
            os.chmod(path, 0o755)
        return folder

    def set_clock(self, seconds):
        """By so much away from the machine's, for all of the processes, from their next look on."""
        with open(self.clock + ".new", "w") as f:
            f.write(f"{seconds:+d}\n")
        os.rename(self.clock + ".new", self.clock)

    def targets(self):
        shown = json.loads(self.cluster.weirctl("volume", "show", "demo", "--output=json").stdout)
        return {t["replica"]: t for t in shown["table"]["targets"]}

    def all_in_sync(self):
        return all(t["state"] == "in_sync" and t["health"] == "connected" for t in self.targets().values())

    def expect_all_timers(self):
        """A replica stands still: it is found out by a deadline, leaves, and comes back."""
        stopped = self.cluster.pids()["replica2"]
        os.kill(stopped, signal.SIGSTOP)
        try:
            wait_until(lambda: self.targets()["replica2"]["state"] != "in_sync", 30, "replica2 has left")
            self.writer.goes_on()
        finally:
            os.kill(stopped, signal.SIGCONT)
        wait_until(self.all_in_sync, 60, "replica2 is back")
        self.writer.goes_on()

    # libfaketime lies to the process alone, not to the kernel, which waits until the time that it is told. So whoever waits until a time of the
    # wall clock waits for months more while that is ahead, as if it had been set back just then; and not at all while it is behind.

    def test_every_deadline_holds_though_waits_by_the_wall_clock_would_last_for_months(self):
        self.set_clock(MONTHS)
        self.expect_all_timers()
        self.writer.stop()

    def test_io_goes_on_while_the_clock_jumps_and_every_deadline_holds_after_it(self):
        for seconds in (MONTHS, -MONTHS, 3600, -3600, 0):
            self.set_clock(seconds)
            self.writer.goes_on()
            self.assertEqual({t["state"] for t in self.targets().values()}, {"in_sync"}, seconds)
        self.expect_all_timers()
        self.writer.stop()


if __name__ == "__main__":
    unittest.main()
