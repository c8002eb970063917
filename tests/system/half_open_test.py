"""Connections whose other end is gone without a word."""

import time
import unittest

from etcd_case import LinkedEtcdCase, Writer
from harness import wait_until

SECONDS = 25  # about; see run
# Keepalive finds a dead connection within 15 s, whether anything is asked on it or not.
FOUND_DEAD_SECONDS = 20
# Less than it takes until one that is asked on a dead connection is asked again.
SECONDS_MAX = 8


class HalfOpenTest(LinkedEtcdCase):
    def bring_back(self, name):
        """Kills and starts it: it is brought back, for which the others are asked what they have."""
        self.cluster.kill9(name)
        wait_until(lambda: self.state(name) != "in_sync", 30, f"{name} has left")
        self.cluster.start_all()
        wait_until(lambda: self.state(name) == "in_sync", SECONDS_MAX, f"{name} is in sync")

    def state(self, name):
        return next(t["state"] for t in self.show()["table"]["targets"] if t["replica"] == name)

    def test_a_replica_is_brought_back_though_the_others_have_been_asked_on_connections_that_are_dead(self):
        writer = Writer(self.cluster)
        self.addCleanup(writer.stop)
        self.bring_back("replica3")
        for name in ("replica1", "replica2"):
            self.links[name].half_open()
        time.sleep(FOUND_DEAD_SECONDS)
        self.bring_back("replica3")
        writer.goes_on()


if __name__ == "__main__":
    unittest.main()
