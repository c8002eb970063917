"""A file system on the NBD export works on, without an error, whatever happens to replicas, catalog and frontend."""

import hashlib
import json
import os
import shutil
import subprocess
import tempfile
import threading
import time
import unittest

import harness
from harness import run, wait_until
from mounted import MountedExport, why_no_block_device

SECONDS = 40  # about; see run
REPLACE_AFTER_SECONDS = 5


class Files(threading.Thread):
    """Writes, syncs, reads back and deletes files, until it is stopped. What goes wrong is in `error`."""

    def __init__(self, folder):
        super().__init__()
        self.folder = folder
        self.stopping = threading.Event()
        self.error = None
        self.written = 0
        self.longest = 0.0
        self.kept = {}  # path -> digest

    def run(self):
        try:
            while not self.stopping.is_set():
                begun = time.monotonic()
                self._one()
                self.longest = max(self.longest, time.monotonic() - begun)
        except OSError as error:
            self.error = error

    def _one(self):
        path = os.path.join(self.folder, f"file{self.written % 40}")
        data = os.urandom(64 << 10)
        with open(path, "wb") as f:
            f.write(data)
            f.flush()
            os.fsync(f.fileno())
        self.kept[path] = hashlib.sha256(data).hexdigest()
        self.written += 1

    def broken(self):
        """The files that do not hold what was written."""
        found = []
        for path, digest in self.kept.items():
            with open(path, "rb") as f:
                if hashlib.sha256(f.read()).hexdigest() != digest:
                    found.append(path)
        return found


class Reconnecting:
    """An NBD server in front of the export that connects anew when it must: nbdkit's own client and retry filter, as the
    kernel's client or qemu's would. It goes to whatever the link `socket` leads to."""

    def __init__(self, folder, volume):
        self.link = os.path.join(folder, "frontend.sock")
        here = os.path.join(folder, "nbd.sock")
        self.uri = f"nbd+unix:///?socket={here}"
        self.volume = volume
        self.here = here
        self.process = None

    def lead_to(self, socket):
        os.symlink(socket, self.link + ".new")
        os.replace(self.link + ".new", self.link)

    def start(self):
        self.process = subprocess.Popen(
            ["nbdkit", "-f", "-U", self.here, "--filter=retry", "nbd", f"socket={self.link}", f"export={self.volume}",
             "retries=30", "retry-delay=1", "retry-exponential=no"], stderr=subprocess.DEVNULL)
        wait_until(lambda: os.path.exists(self.here), 30, "nbdkit listens")

    def close(self):
        if self.process is None:
            return
        self.process.terminate()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@unittest.skipIf(why_no_block_device(), why_no_block_device() or "")
class FileSystemTest(unittest.TestCase):
    def setUp(self):
        self.cluster = harness.RealCluster("--size=256MiB", "--catalog=etcd", "--frontends=2",
                                           f"--volume-flags=--replace_after={REPLACE_AFTER_SECONDS}s")
        self.addCleanup(self.cluster.close)
        self.cluster.up()
        folder = tempfile.mkdtemp(prefix="weir-mount-")
        self.addCleanup(shutil.rmtree, folder, True)
        self.path = Reconnecting(folder, "demo")
        self.addCleanup(self.path.close)
        self.path.lead_to(self.socket_of("volume"))
        self.path.start()
        self.device = MountedExport(self.path.uri, folder)
        self.addCleanup(self.device.close)
        run("mkfs.ext4", "-q", "-F", self.device.device)
        self.device.mount()
        self.files = Files(self.device.root)
        self.files.start()
        self.addCleanup(self.files.join)
        self.addCleanup(self.files.stopping.set)
        self.await_progress("the first files are written")

    def socket_of(self, frontend):
        return harness.cluster_lib.Cluster(self.cluster.dir).nbd_uri(frontend).split("socket=")[1]

    def await_progress(self, what):
        """Some files more are written and synced, by whatever is left of the cluster."""
        wanted = self.files.written + 5
        wait_until(lambda: self.files.error or self.files.written >= wanted, 60, what)
        self.assertIsNone(self.files.error, what)

    def members(self):
        shown = json.loads(self.cluster.weirctl("volume", "show", "demo", "--output=json").stdout)
        return shown["table"]["targets"]

    def store_of(self, replica):
        # Members stand in the order in which they were placed, by free space.
        return next(t["store_id"] for t in self.members() if t["replica"] == replica)

    def await_in_sync(self, what):
        wait_until(lambda: all(t["state"] == "in_sync" for t in self.members()), 90, what)

    def kernel_errors(self):
        """What the kernel has said of this device since it was attached."""
        name = os.path.basename(self.device.device)
        said = run("dmesg", check=False).stdout
        return [line for line in said.splitlines() if name in line and "error" in line.lower()]

    def test_no_file_is_harmed_whatever_is_killed_replaced_or_moved(self):
        known = len(self.kernel_errors())
        self.kill_each_replica_in_turn()
        self.replace_a_disk()
        self.kill_etcds_leader()
        self.move_the_frontend()

        self.files.stopping.set()
        self.files.join()
        self.assertIsNone(self.files.error)
        print(f"  {self.files.written} files were written, the longest took {self.files.longest:.1f} s")
        self.assertLess(self.files.longest, 15)
        run("sync", "-f", self.device.root)
        with open("/proc/sys/vm/drop_caches", "w") as f:
            f.write("1")  # What is read below comes from the volume.
        self.assertEqual(self.files.broken(), [])
        run("umount", self.device.root)
        run("e2fsck", "-f", "-n", self.device.device)
        self.assertEqual(self.kernel_errors()[known:], [])

    def kill_each_replica_in_turn(self):
        for i in range(3):
            name = f"replica{i + 1}"
            self.cluster.kill9(name)
            self.await_progress(f"{name} is away")
            self.cluster.ops("start", name)
            self.await_in_sync(f"{name} is in sync again")

    def replace_a_disk(self):
        lost = self.store_of("replica2")
        self.cluster.kill9("replica2")
        shutil.rmtree(os.path.join(self.cluster.dir, "replica2"))
        self.cluster.ops("start", "replica2")
        self.await_progress("replica2 has a new disk")
        wait_until(lambda: self.store_of("replica2") != lost, 60, "the new store has taken the place")
        self.await_in_sync("the new store is in sync")
        # It holds everything: the other two may be without one of them.
        self.cluster.kill9("replica1")
        self.await_progress("replica1 is away, replica2 and its new disk serve")
        self.cluster.ops("start", "replica1")
        self.await_in_sync("replica1 is in sync again")

    def kill_etcds_leader(self):
        leader = self.cluster.await_etcd_leader()
        self.cluster.kill9(leader)
        # The catalog is asked at once, while the others still elect.
        self.cluster.kill9("replica3")
        self.await_progress("etcd's leader and replica3 are away")
        self.cluster.ops("start", "replica3")
        self.await_in_sync("replica3 is in sync again")
        self.cluster.ops("start", leader)

    def move_the_frontend(self):
        self.path.lead_to(self.socket_of("volume2"))
        self.cluster.weirctl("volume", "attach", "demo", "--frontend=volume2")
        self.await_progress("the volume is at another frontend")
        self.cluster.kill9("volume")
        self.await_progress("the first frontend is gone")


if __name__ == "__main__":
    unittest.main()
