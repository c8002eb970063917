"""The catalog is lost, and made anew from the copies that replicas keep, as OPERATIONS.md says."""

import json
import os
import re
import shutil
import signal
import subprocess
import unittest

import harness
from harness import MIB, wait_until


class CatalogRebuildTest(unittest.TestCase):
    def setUp(self):
        self.cluster = harness.RealCluster("--size=64MiB")
        self.addCleanup(self.cluster.close)
        self.cluster.up()
        self.catalog = os.path.join(self.cluster.dir, "catalog")

    def volumes(self):
        listed = json.loads(self.cluster.weirctl("volume", "list", "--output=json").stdout)
        return [volume["name"] for volume in listed.get("volumes", [])]

    def rebuild(self, *flags, check=True):
        return self.cluster.weirctl("catalog", "rebuild", *flags, check=check)

    def make_catalog_for(self, cluster_id):
        """As weir-volume does when it is started so."""
        process = subprocess.Popen(
            [os.path.join(self.cluster.env["BIN"], "weir-volume"),
             f"--catalog=embedded:{self.catalog}?cluster={cluster_id}", "--listen=127.0.0.1:0"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            wait_until(lambda: os.path.exists(os.path.join(self.catalog, "floor")), 20, "the catalog is made")
        finally:
            process.send_signal(signal.SIGTERM)
            self.assertEqual(process.wait(30), 0)

    def test_volumes_and_snapshots_are_there_again(self):
        weirctl = self.cluster.weirctl
        handle = self.cluster.connect()
        first, second = os.urandom(4 * MIB), os.urandom(4 * MIB)
        handle.pwrite(first, 0)
        weirctl("snapshot", "create", "demo@before")
        handle.pwrite(second, 2 * MIB)
        handle.flush()
        handle.shutdown()
        weirctl("volume", "grow", "demo", "--size=128MiB")
        weirctl("volume", "create", "other", "--size=16MiB")
        weirctl("io", "write", "other", "--offset=0", "--length=4096", "--pattern=0x5a")
        weirctl("volume", "flush", "other")

        self.cluster.kill9("volume")
        shutil.rmtree(self.catalog)
        self.cluster.ops("start", "volume")
        self.assertEqual(self.volumes(), [])
        refused = self.rebuild(check=False)
        self.assertNotEqual(refused.returncode, 0)
        found = re.search(r"embedded:DIR\?cluster=([0-9a-f]{32})", refused.stderr)
        self.assertTrue(found, refused.stderr)

        self.cluster.kill9("volume")
        shutil.rmtree(self.catalog)
        self.make_catalog_for(found.group(1))
        self.cluster.ops("start", "volume")
        self.assertIn("would be rebuilt", self.rebuild().stdout)
        self.assertEqual(self.volumes(), [])

        # One that is away could have been the only one that is up to date.
        self.cluster.kill9("replica3")
        refused = self.rebuild("--yes", check=False)
        self.assertNotEqual(refused.returncode, 0)
        self.assertIn("--without=replica3", refused.stdout + refused.stderr)
        self.assertEqual(self.volumes(), [])
        self.cluster.ops("start", "replica3")

        self.rebuild("--yes")
        self.assertEqual(sorted(self.volumes()), ["demo", "other"])
        handle = self.cluster.connect()
        self.assertEqual(handle.get_size(), 128 * MIB)
        self.assertEqual(bytes(handle.pread(2 * MIB, 0)), first[:2 * MIB])
        self.assertEqual(bytes(handle.pread(4 * MIB, 2 * MIB)), second)
        handle.shutdown()
        old = os.path.join(self.cluster.dir, "old")
        with open(old, "wb") as out:
            subprocess.run([os.path.join(self.cluster.env["BIN"], "weirctl"), f"--cluster={self.cluster.dir}",
                            "snapshot", "read", "demo@before", "--length=4MiB"], stdout=out, check=True, timeout=60)
        with open(old, "rb") as read:
            self.assertEqual(read.read(), first)
        self.assertIn("5a5a5a5a", weirctl("io", "read", "other", "--offset=0", "--length=4096").stdout.replace(" ", ""))
        # Again changes nothing.
        self.assertIn("known", self.rebuild("--yes").stdout)

    def test_without_a_replica_that_is_gone(self):
        handle = self.cluster.connect()
        data = os.urandom(MIB)
        handle.pwrite(data, 0)
        handle.flush()
        handle.shutdown()
        cluster_id = json.loads(
            self.cluster.weirctl("replica", "show", "replica1", "--output=json").stdout)["cluster_id"]
        self.cluster.kill9("volume", "replica2")
        shutil.rmtree(self.catalog)
        self.make_catalog_for(cluster_id)
        self.cluster.ops("start", "volume")
        self.rebuild("--yes", "--without=replica2")
        handle = self.cluster.connect()
        self.assertEqual(bytes(handle.pread(MIB, 0)), data)
        handle.pwrite(data, MIB)
        handle.shutdown()
        # It was not gone for ever, and is brought back like any other.
        self.cluster.ops("start", "replica2")
        wait_until(self.all_in_sync, 60, "all three are in sync")

    def test_an_older_copy_of_the_catalog_is_found_out_and_made_anew(self):
        weirctl = self.cluster.weirctl
        handle = self.cluster.connect()
        handle.pwrite(b"old".ljust(4096, b"."), 0)
        handle.shutdown()
        cluster_id = json.loads(weirctl("replica", "show", "replica1", "--output=json").stdout)["cluster_id"]
        weirctl("volume", "detach", "demo")
        self.cluster.ops("stop", "volume")
        shutil.copytree(self.catalog, self.catalog + ".copy")
        self.cluster.ops("start", "volume")

        # One attach that the copy does not know, in which a member misses what is flushed.
        handle = self.cluster.connect()
        self.cluster.kill9("replica2")
        handle.pwrite(b"new".ljust(4096, b"."), 0)
        handle.flush()
        handle.shutdown()
        weirctl("volume", "detach", "demo")
        self.cluster.ops("stop", "volume")
        shutil.rmtree(self.catalog)
        shutil.copytree(self.catalog + ".copy", self.catalog)
        self.cluster.ops("start", "replica2")
        self.cluster.ops("start", "volume")
        for _ in range(3):
            refused = weirctl("io", "read", "demo", "--offset=0", "--length=4096", check=False)
            self.assertNotEqual(refused.returncode, 0, refused.stdout)
            self.assertIn("the catalog has an old record of it", refused.stderr)

        self.cluster.kill9("volume")
        shutil.rmtree(self.catalog)
        self.make_catalog_for(cluster_id)
        self.cluster.ops("start", "volume")
        self.rebuild("--yes")
        handle = self.cluster.connect()
        wait_until(self.all_in_sync, 60, "all three are in sync")
        for _ in range(6):
            self.assertEqual(bytes(handle.pread(3, 0)), b"new")
        handle.shutdown()

    def all_in_sync(self):
        shown = json.loads(self.cluster.weirctl("volume", "show", "demo", "--output=json").stdout)
        return all(target["state"] == "in_sync" for target in shown["table"]["targets"])


class EtcdRebuildTest(harness.ClusterTest):
    """The same into an etcd under another prefix, by a frontend that nobody has told of the replicas."""

    up_flags = ("--size=64MiB", "--catalog=etcd")

    def test_by_the_replicas_addresses_under_another_prefix(self):
        handle = self.cluster.connect()
        data = os.urandom(MIB)
        handle.pwrite(data, MIB)
        handle.flush()
        handle.shutdown()
        self.cluster.weirctl("snapshot", "create", "demo@before")
        cluster_id = json.loads(self.cluster.weirctl("replica", "show", "replica1", "--output=json").stdout)["cluster_id"]
        self.cluster.kill9("volume")
        env = self.cluster.env
        process = subprocess.Popen(
            [os.path.join(env["BIN"], "weir-volume"), "--name=again", f"--listen={env['VOLUME_ADDR']}",
             f"--catalog={env['CATALOG']}?prefix=again/&cluster={cluster_id}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.addCleanup(process.wait, 60)
        self.addCleanup(process.terminate)

        def weirctl(*arguments, **options):
            return self.cluster.weirctl(f"--volume_addr={env['VOLUME_ADDR']}", *arguments, **options)

        wait_until(lambda: weirctl("volume", "list", check=False).returncode == 0, 30, "the new frontend serves")
        self.assertNotIn("demo", weirctl("volume", "list").stdout)
        addresses = [f"--address={address}" for address in env["REPLICA_ADDRS"].split()]
        self.assertRegex(weirctl("catalog", "rebuild", *addresses).stdout, "demo.*would be rebuilt")
        weirctl("catalog", "rebuild", *addresses, "--yes")
        weirctl("volume", "attach", "demo")
        wait_until(lambda: "all 3 replicas are connected" in weirctl("explain", "demo").stdout, 60, "all three are there")
        copied = os.path.join(self.cluster.dir, "copied")
        weirctl("io", "read", "demo", f"--offset={MIB}", f"--length={MIB}", f"--output-file={copied}")
        with open(copied, "rb") as f:
            self.assertEqual(f.read(), data)
        self.assertIn("before", weirctl("snapshot", "list", "demo").stdout)


class EtcdBackupTest(unittest.TestCase):
    """etcd is put back from a backup that its own tool made, under a volume that has gone on since."""

    def setUp(self):
        self.cluster = harness.RealCluster("--size=64MiB", "--catalog=etcd")
        self.addCleanup(self.cluster.close)
        self.cluster.up()
        self.etcds = harness.cluster_lib.Cluster(self.cluster.dir).etcd_names()

    def etcdctl(self, *arguments):
        harness.run("env", "ETCDCTL_API=3", "etcdctl", *arguments)

    def put_back(self, backup):
        """All members, as etcd's manual says."""
        cluster = harness.cluster_lib.Cluster(self.cluster.dir)
        self.cluster.kill9(*self.etcds)
        for name in self.etcds:
            shutil.rmtree(cluster.path(name))
            flags = [flag for flag in cluster.command_line(name)
                     if flag.split("=")[0] in ("--name", "--data-dir", "--initial-cluster", "--initial-cluster-token",
                                               "--initial-advertise-peer-urls")]
            self.etcdctl("snapshot", "restore", backup, *flags)
        for name in self.etcds:
            self.cluster.ops("start", name)

    def explained(self):
        return self.cluster.weirctl("explain", "demo").stdout

    def test_it_is_found_out_by_who_serves_and_by_who_comes(self):
        weirctl = self.cluster.weirctl
        handle = self.cluster.connect()
        handle.pwrite(b"old".ljust(4096, b"."), 0)
        handle.flush()
        handle.shutdown()
        weirctl("volume", "detach", "demo")
        backup = os.path.join(self.cluster.dir, "backup")
        self.etcdctl(f"--endpoints={harness.cluster_lib.Cluster(self.cluster.dir).address(self.etcds[0])}", "snapshot", "save", backup)

        # An attach that the backup does not know, in which a member misses what is flushed.
        handle = self.cluster.connect()
        self.cluster.kill9("replica2")
        handle.pwrite(b"new".ljust(4096, b"."), 0)
        handle.flush()
        self.put_back(backup)
        self.cluster.ops("start", "replica2")

        # Who serves the volume goes on, and takes no change of members from there.
        wait_until(lambda: "lies before" in self.explained(), 30, "explain says what is wrong with etcd")
        handle.pwrite(b"newer".ljust(4096, b"."), 0)
        handle.flush()
        self.assertEqual(bytes(handle.pread(5, 0)), b"newer")
        self.assertIn("the catalog has not taken the last change of members", self.explained())
        handle.shutdown()

        # Who comes is told by the replicas.
        self.cluster.kill9("volume")
        self.cluster.ops("start", "volume")
        for _ in range(3):
            refused = weirctl("io", "read", "demo", "--offset=0", "--length=4096", check=False)
            self.assertNotEqual(refused.returncode, 0, refused.stdout)
            self.assertIn("the catalog has an old record of it", refused.stderr)


if __name__ == "__main__":
    unittest.main()
