"""Alerts of ops/prometheus that are about disks fire for disks that fail, hang, fill up or give back other bytes than were written."""

import glob
import json
import os
import shutil
import signal
import subprocess
import unittest

from alerting import AlertTest, with_full
from alerts_test import BLOCK, Writer
from harness import MIB, run, wait_until


class Strace:
    """strace at a process, or at its threads whose names begin with `threads` alone: what its calls are made to do; see strace(1), --inject."""

    def __init__(self, pid, inject, threads=""):
        calls = inject.partition(":")[0]
        tids = [tid for tid in os.listdir(f"/proc/{pid}/task") if self.told_of(pid, tid, "Name").startswith(threads)]
        whom = [f"--attach={tid}" for tid in tids] if threads else ["-f", f"--attach={pid}"]
        self.process = subprocess.Popen(["strace", "-qq", "-o", "/dev/null", *whom, f"--trace={calls}", f"--inject={inject}"])
        wait_until(lambda: all(self.told_of(pid, tid, "TracerPid") == str(self.process.pid) for tid in tids), 30,
                   f"strace is at {pid}")

    @staticmethod
    def told_of(pid, tid, what):
        with open(f"/proc/{pid}/task/{tid}/status") as f:
            return next(line.split()[1] for line in f if line.startswith(what + ":"))

    def close(self):
        """The process goes on as before."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        self.process.wait(30)


class StracedTest(AlertTest):
    def strace(self, name, inject, **options):
        strace = Strace(self.cluster.pids()[name], inject, **options)
        self.addCleanup(strace.close)
        return strace


class FailingDiskTest(StracedTest):
    up_flags = ("--size=64MiB", "--data-dirs=1", "--volume-flags=--leave_after=1s")

    def test_a_sync_fails_and_the_disk_is_replaced(self):
        handle = self.cluster.connect()
        self.strace("replica2", "fdatasync:error=EIO")
        handle.pwrite(b"p" * BLOCK, 0)
        handle.flush()
        self.fires("WeirReplicaPoisoned")
        self.cluster.ops("stop", "replica2")
        shutil.rmtree(os.path.join(self.cluster.dir, "replica2"))
        self.cluster.ops("start", "replica2")
        self.cluster.weirctl("replica", "replace", "demo", "replica2", "--wait")
        self.is_over("WeirReplicaPoisoned")
        self.await_in_sync()


@with_full
class SlowDiskTest(StracedTest):
    # No replica may leave, so a slow one stays, however long.
    up_flags = ("--size=256MiB", "--min-in-sync=3", "--data-dirs=1")
    deadlines = (*AlertTest.deadlines, "slow_after")

    def test_syncs_are_slow(self):
        writer = Writer(self.cluster.connect())
        strace = self.strace("replica3", "fdatasync:delay_exit=700000")
        self.fires("WeirSyncSlow")
        strace.close()
        self.is_over("WeirSyncSlow")
        writer.stop()

    def test_a_disk_is_too_slow_for_compaction(self):
        strace = self.strace("replica1", "write,pwrite64:delay_enter=3000000", threads="rocksdb:")
        writer = Writer(self.cluster.connect(), size=MIB, blocks=256)
        self.fires("WeirStoreStalled")
        strace.close()
        self.is_over("WeirStoreStalled")
        writer.stop()


DISK_MIB = 1024


@with_full
@unittest.skipIf(os.geteuid() != 0, "needs root to mount a small disk")
class SmallDiskTest(AlertTest):
    # A smaller reserve for a smaller disk, so that little space is not yet none.
    up_flags = ("--size=64MiB", "--data-dirs=1", "--replica-flags=--reserve_bytes=32MiB --space_margin_bytes=32MiB")

    @classmethod
    def prepare(cls):
        cls.disk = os.path.join(cls.cluster.dir, "replica3")
        os.makedirs(cls.disk)
        run("mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m", "tmpfs", cls.disk)
        cls.addClassCleanup(cls.unmount)

    @classmethod
    def unmount(cls):
        cls.cluster.ops("stop", "replica3", check=False)
        run("umount", "-l", cls.disk, check=False)

    def leave(self, free_mib):
        """Something else on that disk has grown."""
        path = os.path.join(self.disk, "something")
        run("rm", "-f", path)
        run("fallocate", "-l", f"{shutil.disk_usage(self.disk).free - free_mib * MIB}", path)

    def test_a_disk_in_memory_fills_up_is_emptied_and_replaced(self):
        handle = self.cluster.connect()
        handle.pwrite(bytes(MIB), 0)
        in_memory = self.fires("WeirDiskNotDurable")
        self.leave(120)
        self.fires("WeirReplicaSpaceLow")
        self.assertNotIn("WeirReplicaFull", self.prometheus.firing())
        self.leave(50)
        self.fires("WeirReplicaFull")
        self.assertEqual(self.nbd_error(lambda: handle.pwrite(bytes(MIB), 0)), "ENOSPC")
        self.leave(500)
        self.is_over("WeirReplicaFull")
        self.is_over("WeirReplicaSpaceLow")
        handle.pwrite(bytes(MIB), 0)
        self.unmount()
        self.cluster.ops("start", "replica3")
        self.cluster.weirctl("replica", "replace", "demo", "replica3", "--wait")
        # Unless this machine's own disk is no better.
        if all(found["instance"] == in_memory["instance"] for found in self.prometheus.firing_labels()
               if found["alertname"] == "WeirDiskNotDurable"):
            self.is_over("WeirDiskNotDurable")


DATA_BYTES = 4 * MIB
REPLICAS = ("replica1", "replica2", "replica3")


@with_full
class DamagedBlocksTest(AlertTest):
    up_flags = ("--size=64MiB", "--data-dirs=1")
    seconds_max = 600  # for the runner: a window is an hour long

    def flip_bits(self, *names):
        """One bit in each block's worth of their files of data. They are stopped meanwhile."""
        for name in names:
            self.cluster.ops("stop", name)
            for path in glob.glob(os.path.join(self.cluster.dir, name, "**", "*.blob"), recursive=True):
                with open(path, "r+b") as f:
                    for at in range(BLOCK // 2, os.path.getsize(path), BLOCK):
                        f.seek(at)
                        byte = f.read(1)[0]
                        f.seek(at)
                        f.write(bytes([byte ^ 0x10]))
            self.cluster.ops("start", name)
            self.await_in_sync()

    def fill(self):
        handle = self.cluster.connect()
        for at in range(0, DATA_BYTES, MIB):
            handle.pwrite(os.urandom(MIB), at)
        handle.flush()
        return handle

    def put_into_files_of_data(self):
        """What was written and lies in a log until now."""
        for name in REPLICAS:
            self.cluster.ops("stop", name)
            self.cluster.ops("start", name)
            self.await_in_sync()

    def scrub(self):
        """How many blocks were bad, and how many it has left."""
        done = self.cluster.weirctl("scrub", "demo", "--wait", "--output=json", check=False)
        told = json.loads(done.stdout)
        self.assertEqual(told["state"], "finished", told)
        return int(told["bad_blocks"]), int(told["left_blocks"])

    def test_a_rebuild_gets_from_another_what_its_source_has_damaged(self):
        content = os.urandom(DATA_BYTES)
        handle = self.cluster.connect()
        for at in range(0, DATA_BYTES, MIB):
            handle.pwrite(content[at:at + MIB], at)
        handle.flush()
        self.put_into_files_of_data()
        self.flip_bits("replica1")
        # Nobody has read it since, and no scrub.
        self.cluster.ops("stop", "replica2")
        shutil.rmtree(os.path.join(self.cluster.dir, "replica2"))
        self.cluster.ops("start", "replica2")
        self.cluster.weirctl("replica", "replace", "demo", "replica2", "--wait")
        self.cluster.kill9("replica3")
        self.cluster.kill9("replica1")
        self.cluster.ops("start", "replica1")
        for at in range(0, DATA_BYTES, MIB):
            self.assertEqual(handle.pread(MIB, at), content[at:at + MIB])
        self.cluster.start_all()
        self.await_in_sync()

    def test_what_one_replica_gives_back_is_damaged_then_what_all_do(self):
        handle = self.fill()
        self.put_into_files_of_data()
        self.flip_bits("replica2")
        # No client reads: it is the scrub that finds all of it, and mends it.
        self.assertEqual(self.scrub(), (DATA_BYTES // BLOCK, 0))
        self.fires("WeirBlocksDamaged", volume="demo", replica="replica2")

        self.fill()
        self.put_into_files_of_data()
        self.flip_bits(*REPLICAS)
        self.assertEqual(self.scrub(), (DATA_BYTES // BLOCK, DATA_BYTES // BLOCK))
        self.fires("WeirScrubLeftBlocks", volume="demo")
        self.assertEqual(self.nbd_error(lambda: handle.pread(BLOCK, 0)), "EIO")
        self.fires("WeirBlocksDamaged", volume="demo", replica="replica3")
        self.fill()
        self.assertEqual(self.scrub(), (0, 0))
        self.is_over("WeirScrubLeftBlocks")
        self.is_over("WeirBlocksDamaged")
