"""A volume is restored while it is suspended: its NBD client stays, and reads the snapshot once it is resumed."""

import os
import subprocess
import threading

import harness
from harness import MIB, wait_until

BLOCK = 4096


class RestoreTest(harness.ClusterTest):
    up_flags = ("--size=256MiB",)

    def take_snapshot_and_overwrite(self, megabytes):
        """Of `a`; then there is `b`, and `b` in the megabyte after it, which was never written. Answers the client."""
        handle = self.cluster.connect()
        handle.zero(handle.get_size(), 0)
        for i in range(megabytes):
            handle.pwrite(b"a" * MIB, i * MIB)
        self.cluster.weirctl("snapshot", "create", "demo@monday")
        self.addCleanup(self.cluster.weirctl, "snapshot", "delete", "demo@monday")
        for i in range(megabytes + 1):
            handle.pwrite(b"b" * MIB, i * MIB)
        handle.flush()
        return handle

    def read_all(self, handle, megabytes):
        return [handle.pread(MIB, i * MIB) for i in range(megabytes + 1)]

    def snapshot_of(self, megabytes):
        return [b"a" * MIB] * megabytes + [bytes(MIB)]

    def test_a_client_that_is_connected_reads_the_snapshot_after_the_resume(self):
        for flags in ((), ("--noflush",)):
            with self.subTest(flags=flags):
                handle = self.take_snapshot_and_overwrite(8)
                refused = self.cluster.weirctl("volume", "restore", "demo@monday", check=False)
                self.assertNotEqual(refused.returncode, 0)
                self.assertIn("suspend it", refused.stderr)
                self.assertIn("detach it", refused.stderr)
                self.cluster.weirctl("volume", "suspend", "demo", *flags)
                answers = []
                waiting = threading.Thread(target=lambda: answers.append(handle.pread(BLOCK, 0)))
                waiting.start()
                restored = self.cluster.weirctl("volume", "restore", "demo@monday").stdout
                self.assertIn("restored demo from monday, 9MiB", restored)
                self.assertEqual(answers, [])
                self.cluster.weirctl("volume", "resume", "demo")
                waiting.join(60)
                self.assertEqual(answers, [b"a" * BLOCK])
                self.assertEqual(self.read_all(handle, 8), self.snapshot_of(8))
                handle.pwrite(b"c" * BLOCK, 0)
                handle.flush()
                self.assertEqual(handle.pread(BLOCK, 0), b"c" * BLOCK)
                handle.shutdown()
                self.doCleanups()

    def test_a_frontend_that_dies_in_the_middle_leaves_a_volume_that_nobody_sees_before_it_is_restored(self):
        megabytes = 128
        self.take_snapshot_and_overwrite(megabytes)
        self.cluster.weirctl("volume", "suspend", "demo")
        weirctl = os.path.join(self.cluster.env["BIN"], "weirctl")
        restoring = subprocess.Popen([weirctl, f"--cluster={self.cluster.dir}", "volume", "restore", "demo@monday"],
                                     stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.addCleanup(restoring.wait)
        self.addCleanup(restoring.kill)
        wait_until(lambda: "being given the content of demo@monday" in self.cluster.weirctl("explain", "demo").stdout,
                   30, "the record says that it is being restored")
        refused = self.cluster.weirctl("volume", "resume", "demo", check=False)
        self.assertIn("being restored", refused.stderr)
        self.cluster.kill9("volume")
        self.assertNotEqual(restoring.wait(60), 0)
        self.cluster.ops("start", "volume")
        self.nbd_error(self.cluster.connect)
        refused = self.cluster.weirctl("volume", "attach", "demo", check=False)
        self.assertIn("weirctl volume restore demo@monday", refused.stderr)
        self.assertIn("weirctl volume restore demo@monday", self.cluster.weirctl("explain", "demo").stdout)
        self.cluster.weirctl("volume", "restore", "demo@monday")
        handle = self.cluster.connect()
        self.assertEqual(self.read_all(handle, megabytes), self.snapshot_of(megabytes))
