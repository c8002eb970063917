"""OPERATIONS.md, "A machine is to go": weirctl replica drain, under a client."""

import json
import os
import signal
import subprocess
import unittest

import harness
from etcd_case import Writer
from harness import MIB, wait_until

VOLUMES = ("demo", "other", "idle")


class DrainTest(unittest.TestCase):
    def setUp(self):
        self.cluster = harness.RealCluster("--replicas=4", "--data-dirs=1", "--size=64MiB")
        self.addCleanup(self.cluster.close)
        self.cluster.up()
        for name in VOLUMES[1:]:
            self.cluster.weirctl("volume", "create", name, "--size=64MiB", f"--replicas={','.join(self.members('demo'))}")
            self.cluster.weirctl("volume", "attach", name)
        self.content = os.urandom(8 * MIB)
        handle = self.cluster.connect(self.cluster.uri_of("idle"))
        for at in range(0, len(self.content), MIB):
            handle.pwrite(self.content[at:at + MIB], at)
        handle.flush()
        handle.shutdown()
        self.cluster.weirctl("volume", "detach", "idle")
        self.writer = Writer(self.cluster)
        self.addCleanup(self.writer.ending.set)
        self.writer.goes_on()

    def members(self, volume):
        shown = json.loads(self.cluster.weirctl("volume", "show", volume, "--output=json").stdout)
        return {target["replica"]: target["state"] for target in shown["table"]["targets"]}

    def volumes_on(self, replica):
        listed = json.loads(self.cluster.weirctl("replica", "list", "--output=json").stdout)
        return next(int(one.get("volumes", 0)) for one in listed["replicas"] if one["name"] == replica)

    def drain(self, *arguments, **options):
        return self.cluster.weirctl("replica", "drain", *arguments, **options)

    def test_every_volume_leaves_it_with_no_copy_less_and_what_was_cut_short_is_finished_by_the_next_call(self):
        first = list(self.members("demo"))
        going, stays = first[0], first[1:]
        spare = next(f"replica{i}" for i in range(1, 5) if f"replica{i}" not in first)

        # The command ends in the midst of it: what has begun goes on.
        weirctl = os.path.join(self.cluster.env["BIN"], "weirctl")
        cut_short = subprocess.Popen([weirctl, f"--cluster={self.cluster.dir}", "replica", "drain", going],
                                     stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        said = cut_short.stderr.readline()
        cut_short.send_signal(signal.SIGKILL)
        cut_short.wait(30)
        cut_short.stderr.close()
        self.assertRegex(said, rf"^\S+: {spare} is to take the place of {going}$")
        begun = said.split(":")[0]
        wait_until(lambda: going not in self.members(begun), 60, "the volume that it was at goes on by itself")

        done = self.drain(going, "--output=json", timeout=240)
        told = json.loads(done.stdout)
        self.assertEqual(told["replica"], going)
        self.assertLess(told["volumes_moved"], len(VOLUMES))
        self.assertIn(f"{len(VOLUMES)} volumes were on it, none is any more", done.stderr)
        for name in VOLUMES:
            self.assertEqual(self.members(name), dict.fromkeys((*stays, spare), "in_sync"), name)
        wait_until(lambda: self.volumes_on(going) == 0, 60, "what it had is deleted there")
        self.writer.goes_on()
        self.assertEqual(json.loads(self.drain(going, "--output=json").stdout)["volumes_moved"], 0)

        # It is needed for nothing any more, and the new one has everything.
        self.cluster.ops("stop", going)
        self.cluster.ops("stop", stays[0])
        wait_until(lambda: self.members("idle")[stays[0]] != "in_sync", 60, "two are left")
        handle = self.cluster.connect(self.cluster.uri_of("idle"))
        for at in range(0, len(self.content), MIB):
            self.assertEqual(bytes(handle.pread(MIB, at)), self.content[at:at + MIB], f"MiB {at // MIB}")
        self.writer.goes_on()

        # Nobody is there to take what another one has.
        refused = self.drain(stays[1], check=False)
        self.assertEqual(refused.returncode, 1)
        self.assertIn(f"no replica can take the place of {stays[1]}", refused.stderr)
        self.assertEqual(self.members("demo")[stays[1]], "in_sync")
        unknown = self.drain("replica9", check=False)
        self.assertEqual(unknown.returncode, 1)
        self.assertIn("no replica replica9 is known", unknown.stderr)
        self.writer.goes_on()
        self.writer.stop()


if __name__ == "__main__":
    unittest.main()
