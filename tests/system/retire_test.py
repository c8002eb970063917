"""A replica is retired: what it has is moved to others, as far as it can be, and then nobody knows it any more."""

import json
import unittest

import harness
from harness import wait_until


class RetireTest(harness.ClusterTest):
    up_flags = ("--size=16MiB", "--replicas=4")

    def setUp(self):
        for volume, replicas in (("all", "replica1,replica2,replica4"), ("some", "replica1,replica2,replica3")):
            self.cluster.weirctl("volume", "create", volume, "--size=16MiB", f"--replicas={replicas}")
            self.addCleanup(self.cluster.weirctl, "volume", "delete", volume)
            self.addCleanup(self.cluster.weirctl, "volume", "detach", volume, "--force", check=False)

    def members(self, volume):
        shown = json.loads(self.cluster.weirctl("volume", "show", volume, "--output=json").stdout)
        return {target["replica"] for target in shown["table"]["targets"]}

    def drain(self, *flags):
        return self.cluster.weirctl("replica", "drain", "replica1", *flags, check=False)

    def test_a_volume_that_cannot_be_moved_keeps_no_other_from_being_moved(self):
        done = self.drain("--with=replica4", "--output=json")
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertRegex(done.stderr, "(?m)^all: is still on replica1: .*replica replica4 is a member already$")
        self.assertRegex(done.stderr, "(?m)^some: replica4 is to take the place of replica1$")
        self.assertRegex(done.stderr, r"(?m)^weirctl: not moved from replica1: (.*, )?all(, .*)?; .*without --with")
        self.assertGreaterEqual(json.loads(done.stdout)["volumes_left"], 1)
        self.assertEqual(self.members("some"), {"replica2", "replica3", "replica4"})
        self.assertEqual(self.members("all"), {"replica1", "replica2", "replica4"})

        done = self.drain()
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("none is any more", done.stderr)
        self.assertEqual(self.members("all"), {"replica2", "replica3", "replica4"})

    def test_who_takes_the_places_must_be_known(self):
        done = self.drain("--with=replica9")
        self.assertEqual(done.returncode, 1)
        self.assertIn("no replica replica9 is known", done.stderr)
        self.assertIn("replica1", self.members("some"))

    def forget(self, name):
        return self.cluster.weirctl("replica", "forget", name, check=False)

    def listed(self):
        rows = json.loads(self.cluster.weirctl("replica", "list", "--output=json").stdout)["replicas"]
        return {row["name"] for row in rows}

    def test_one_that_is_gone_for_ever_is_forgotten_once_no_volume_has_it(self):
        self.assertIn("is a member of", self.forget("replica1").stderr)
        self.assertEqual(self.drain().returncode, 0)
        done = self.forget("replica1")
        self.assertEqual(done.returncode, 1)
        self.assertIn("replica replica1 at ", done.stderr)
        self.assertIn("lives", done.stderr)
        self.assertIn("replica1", self.listed())
        self.cluster.ops("stop", "replica1")
        wait_until(lambda: self.forget("replica1").returncode == 0, 60, "it is gone")
        self.assertEqual(self.listed(), {"replica2", "replica3", "replica4"})
        self.assertIn("there is no replica 'replica1'", self.forget("replica1").stderr)
        # Unless a frontend is told of it.
        self.cluster.ops("start", "replica1")
        self.cluster.ops("stop", "volume")
        self.cluster.ops("start", "volume")
        wait_until(lambda: "replica1" in self.listed(), 60, "it is known")


if __name__ == "__main__":
    unittest.main()
