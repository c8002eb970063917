"""Wrong flags, wrong sizes, things in use: a clear error, an exit code, nothing lost."""

import json
import os
import shutil
import socket
import subprocess
import tempfile
import unittest

import harness
from harness import run

BLOCK = 4096


class BadInputTest(harness.ClusterTest):
    up_flags = ("--size=64MiB",)

    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="weir-bad-")
        self.addCleanup(shutil.rmtree, self.folder, True)

    def binary(self, name):
        return os.path.join(self.cluster.env["BIN"], name)

    def refused(self, *argv):
        """Runs what should fail at once; returns what it said."""
        done = run(*argv, check=False, timeout=60)
        self.assertNotIn(done.returncode, (0, -6, -11, 134, 139), done.stdout + done.stderr)
        return done.stdout + done.stderr

    def taken_port(self):
        taken = socket.socket()
        self.addCleanup(taken.close)
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        return taken.getsockname()[1]

    def test_a_replica_names_the_port_that_is_in_use(self):
        port = self.taken_port()
        said = self.refused(self.binary("weir-replica"), "--name=x", f"--listen=127.0.0.1:{port}",
                            f"--data_dirs={self.folder}/d0")
        self.assertIn(str(port), said)

    def test_a_replica_names_the_data_directory_that_is_in_use(self):
        data = os.path.join(self.cluster.dir, "replica1", "d0")
        other = os.path.join(self.cluster.dir, "replica1", "d1")
        said = self.refused(self.binary("weir-replica"), "--name=x", "--listen=127.0.0.1:0",
                            f"--data_dirs={data},{other}")
        self.assertIn(data, said)
        self.assertRegex(said, "in use|lock")
        self.still_serves()

    def test_a_frontend_names_the_option_whose_value_makes_no_sense(self):
        for option in ("leave_after", "give_up_after", "replace_after", "hold_deadline", "lease"):
            said = self.refused(self.binary("weir-volume"), f"--catalog=embedded:{self.folder}",
                                "--listen=127.0.0.1:0", f"--{option}=soon")
            self.assertIn(f"{option}=soon: give a duration", said)

    def test_a_replica_refuses_a_directory_that_is_not_there_for_it(self):
        blocked = os.path.join(self.folder, "file")
        open(blocked, "w").close()
        for path, advice in ((f"{blocked}/d0", "give a path of directories"), (blocked, "give a path of directories"),
                             (f"{self.folder}/missing/d0", "make the directory above it first")):
            said = self.refused(self.binary("weir-replica"), "--name=x", "--listen=127.0.0.1:0", f"--data_dirs={path}")
            self.assertIn(path, said)
            self.assertIn(advice, said)

    def test_a_replica_that_may_not_write_its_directory_says_so(self):
        os.chmod(self.folder, 0o555)
        nobody = {"user": "nobody"} if os.geteuid() == 0 else {}
        if run("test", "-x", self.binary("weir-replica"), check=False, **nobody).returncode != 0:
            self.skipTest("the binaries are where nobody may run them")
        for path in (self.folder, os.path.join(self.folder, "d0")):
            done = run(self.binary("weir-replica"), "--name=x", "--listen=127.0.0.1:0", f"--data_dirs={path}",
                       check=False, timeout=60, **nobody)
            self.assertEqual(done.returncode, 1, done.stdout + done.stderr)
            self.assertIn(path, done.stderr)
            self.assertIn("make the directory writable for this user", done.stderr)
        self.assertEqual(os.listdir(self.folder), [])

    def test_a_second_frontend_on_one_catalog_is_refused(self):
        said = self.refused(self.binary("weir-volume"), f"--catalog=embedded:{self.cluster.dir}/catalog",
                            "--listen=127.0.0.1:0")
        self.assertIn("catalog", said)
        self.assertRegex(said, "in use|another|lock")
        self.still_serves()

    def test_a_frontend_names_the_port_that_is_in_use(self):
        port = self.taken_port()
        said = self.refused(self.binary("weir-volume"), f"--catalog=embedded:{self.folder}/catalog",
                            f"--listen=127.0.0.1:{port}")
        self.assertIn(str(port), said)

    def test_unknown_flags_and_values_are_named(self):
        said = self.refused(self.binary("weir-volume"), "--no_such_flag=1")
        self.assertIn("no_such_flag", said)
        said = self.refused(self.binary("weir-replica"), "--no_such_flag=1")
        self.assertIn("no_such_flag", said)
        said = self.refused(self.binary("weir-volume"), f"--catalog=embedded:{self.folder}/c",
                            "--flush_interval=soon")
        self.assertIn("flush_interval", said)
        said = self.refused("nbdkit", "-f", "-U", f"{self.folder}/s",
                            self.binary("nbdkit-weir-plugin.so"), "no_such_key=1")
        self.assertIn("no_such_key", said)

    def test_sizes_and_names_that_cannot_be_are_refused(self):
        for name, size in (("zero", "0"), ("odd", "4097"), ("text", "big"), ("Upper/case", "1MiB")):
            with self.subTest(name=name):
                self.refused(self.binary("weirctl"), f"--cluster={self.cluster.dir}",
                             "volume", "create", name, f"--size={size}")
        self.refused(self.binary("weirctl"), f"--cluster={self.cluster.dir}", "volume", "create", "demo", "--size=1MiB")
        said = self.refused(self.binary("weirctl"), f"--cluster={self.cluster.dir}", "volume", "show", "missing")
        self.assertIn("missing", said)

    def test_ops_cluster_names_a_process_that_could_not_start(self):
        other = harness.RealCluster()
        self.addCleanup(other.close)
        port = self.taken_port()
        done = other.ops("up", f"--port-base={port}" if port < 65000 else "--port-base=1", check=False)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("replica1 cannot be started", done.stderr)
        self.assertNotIn("running", other.ops("status", check=False).stdout)

    def test_text_that_is_not_nbd_harms_nobody(self):
        for junk in (b"GET / HTTP/1.1\r\n\r\n", os.urandom(4096), b""):
            with socket.socket(socket.AF_UNIX) as s:
                s.connect(os.path.join(self.cluster.dir, "nbd.sock"))
                s.sendall(junk)
        host, port = self.cluster.env["VOLUME_ADDR"].split(":")
        for junk in (b"GET / HTTP/1.1\r\n\r\n", os.urandom(4096)):
            with socket.create_connection((host, int(port))) as s:
                s.sendall(junk)
        self.still_serves()

    def still_serves(self):
        handle = self.cluster.connect()
        handle.pwrite(b"s" * BLOCK, 0)
        handle.flush()
        self.assertEqual(handle.pread(BLOCK, 0), b"s" * BLOCK)


class OtherCatalogTest(unittest.TestCase):
    """A frontend that runs on a catalog which is not that of its replicas."""

    def setUp(self):
        self.clusters = [harness.RealCluster("--size=64MiB") for _ in range(2)]
        for cluster in self.clusters:
            self.addCleanup(cluster.close)
            cluster.up()
        self.own, other = self.clusters
        self.handle = self.own.connect()
        self.data = os.urandom(harness.MIB)
        self.handle.pwrite(self.data, 0)
        self.handle.flush()
        self.handle.shutdown()
        other.ops("down")
        self.own.ops("stop", "volume")
        self.catalog = os.path.join(self.own.dir, "catalog")
        os.rename(self.catalog, self.catalog + ".own")

    def expect_refused(self, *command):
        refused = self.own.weirctl(*command, check=False)
        self.assertNotEqual(refused.returncode, 0, refused.stdout)
        return refused.stderr

    def expect_own_volume_is_well(self):
        self.own.ops("stop", "volume")
        shutil.rmtree(self.catalog)
        os.rename(self.catalog + ".own", self.catalog)
        self.own.ops("start", "volume")
        self.assertEqual(bytes(self.own.connect().pread(harness.MIB, 0)), self.data)
        shown = json.loads(self.own.weirctl("volume", "show", "demo", "--output=json").stdout)
        self.assertEqual([t["state"] for t in shown["table"]["targets"]], ["in_sync"] * 3)

    BELONGS = r"replica\d at [\d.:]+ belongs to cluster \w+, this one is \w+; use another replica, or the catalog it was made with"

    def test_a_new_one_makes_no_volume_and_knows_none(self):
        self.own.ops("start", "volume")
        self.assertRegex(self.expect_refused("volume", "create", "other", "--size=1MiB"), self.BELONGS)
        self.assertIn("demo", self.expect_refused("volume", "attach", "demo"))
        self.expect_own_volume_is_well()

    def test_another_clusters_makes_no_volume_and_attaches_none(self):
        shutil.copytree(os.path.join(self.clusters[1].dir, "catalog"), self.catalog)
        self.own.ops("start", "volume")
        self.assertRegex(self.expect_refused("volume", "create", "other", "--size=1MiB"), self.BELONGS)
        self.assertRegex(self.expect_refused("volume", "attach", "demo"),
                         r"^weirctl: replica replica\d at [\d.:]+: sealing it: this replica belongs to cluster \w+, not to \w+; "
                         "check the replica's address")
        self.expect_own_volume_is_well()


class ClusterScriptTest(unittest.TestCase):
    """What scripts outside the project rely on."""

    def setUp(self):
        self.cluster = harness.RealCluster("--size=64MiB", "--replicas=3", "--data-dirs=2")
        self.addCleanup(self.cluster.close)
        self.cluster.up()

    def test_up_again_changes_nothing_and_data_survives_down_and_up(self):
        handle = self.cluster.connect()
        handle.pwrite(b"d" * BLOCK, 8 * BLOCK)
        handle.shutdown()
        before = self.cluster.pids()
        self.cluster.up()
        self.assertEqual(self.cluster.pids(), before)
        self.assertEqual(set(before), {"replica1", "replica2", "replica3", "volume"})
        said = self.cluster.ops("down").stdout
        self.assertIn("volume: stopped", said)
        self.assertNotIn("killed", said)
        for pid in before.values():
            self.assertFalse(os.path.exists(f"/proc/{pid}/fd/0"))
        self.cluster.up()
        self.assertEqual(self.cluster.connect().pread(BLOCK, 8 * BLOCK), b"d" * BLOCK)

    def test_status_tells_what_runs_and_start_brings_one_back(self):
        self.assertEqual(self.cluster.ops("status").returncode, 0)
        self.cluster.kill9("replica2")
        status = self.cluster.ops("status", check=False)
        self.assertEqual(status.returncode, 3)
        self.assertRegex(status.stdout, r"replica2 +- stopped")
        self.cluster.ops("start", "replica2")
        self.assertEqual(self.cluster.ops("status").returncode, 0)
        self.assertIn("replica2", self.cluster.pids())

    def test_metrics_are_prometheus_text_on_every_process(self):
        self.cluster.connect().pwrite(b"m" * BLOCK, 0)
        urls = self.cluster.env["METRICS_URLS"].split()
        self.assertEqual(len(urls), 4)
        for url in urls:
            text = run("curl", "-sf", url).stdout
            self.assertRegex(text, r"(?m)^# HELP weir_\w+ ")

    def test_down_leaves_a_process_alone_that_has_got_an_old_pid(self):
        bystander = subprocess.Popen(["sleep", "600"])
        self.addCleanup(bystander.wait)
        self.addCleanup(bystander.kill)
        self.cluster.kill9("replica1")
        record = os.path.join(self.cluster.dir, "run", "replica1.json")
        with open(record) as f:
            text = f.read()
        pid = harness.cluster_lib.Cluster(self.cluster.dir).process("replica1").pid
        with open(record, "w") as f:
            f.write(text.replace(f'"pid": {pid}', f'"pid": {bystander.pid}'))
        self.assertIn("replica1: was not running", self.cluster.ops("down").stdout)
        self.assertIsNone(bystander.poll())
