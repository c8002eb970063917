"""A real etcd of three members as the catalog, and volumes that move between frontends."""

import os
import shutil
import signal
import subprocess
import tempfile
import unittest

import harness
from etcd_case import BLOCK, EtcdCase, Writer
from harness import run, wait_until

TAKEOVER_SECONDS_MAX = 2


class EtcdCatalogTest(EtcdCase):
    def test_etcds_leader_is_killed_under_io_and_membership_still_changes(self):
        writer = Writer(self.cluster)
        leader = self.cluster.await_etcd_leader()
        self.cluster.kill9(leader)
        writer.goes_on()
        # The catalog is asked at once, while the others still elect.
        self.cluster.kill9("replica3")
        writer.goes_on()
        self.assertNotEqual(self.cluster.etcd_leader(), leader)
        self.cluster.ops("start", "replica3")
        self.in_sync()
        self.cluster.ops("start", leader)
        writer.goes_on()
        writer.stop()
        print(f"  leader killed: {writer.writes} writes, the longest took {writer.longest:.2f} s")

    def test_without_etcd_a_replica_that_was_started_anew_is_waited_for(self):
        etcds = ("etcd1", "etcd2", "etcd3")
        writer = Writer(self.cluster)
        writer.goes_on()
        self.cluster.kill9(*etcds)
        self.cluster.kill9("replica2")
        self.cluster.ops("start", "replica2")
        # Its disk might be an older copy, which has forgotten whom it must refuse; only the catalog can tell.
        wait_until(lambda: "the catalog is asked" in self.weirctl("explain", "demo", "--frontend=volume").stdout, 30,
                   "explain says what it waits for")
        before = writer.writes
        self.assertIsNone(writer.error)
        for name in etcds:
            self.cluster.ops("start", name)
        writer.goes_on()
        self.in_sync()
        writer.stop()
        self.assertGreater(writer.writes, before)

    def test_without_etcd_io_goes_on_and_membership_waits_until_it_is_back(self):
        etcds = ("etcd1", "etcd2", "etcd3")
        writer = Writer(self.cluster)
        self.cluster.kill9(*etcds)
        writer.goes_on()
        self.cluster.connect().pread(BLOCK, 0)  # another client may come
        refused = self.weirctl("volume", "attach", "demo", "--frontend=volume2", check=False)
        self.assertNotEqual(refused.returncode, 0)
        self.assertIn("etcd at", refused.stderr)
        # A member fails: its requests are held, not failed, and explain says for what.
        self.cluster.kill9("replica2")
        wait_until(lambda: "the catalog has not taken" in self.weirctl(
            "explain", "demo", "--frontend=volume").stdout, 60, "explain says what is waited for")
        self.assertIn("request waits: the catalog has yet to say who is in sync",
                      self.weirctl("explain", "demo", "--frontend=volume").stdout)
        self.assertIsNone(writer.error)
        before = writer.writes
        for name in etcds:
            self.cluster.ops("start", name)
        writer.goes_on()
        self.assertGreater(writer.writes, before)
        self.cluster.ops("start", "replica2")
        self.in_sync()
        writer.stop()

    def check_taken(self, what, seconds):
        print(f"  first I/O of the new frontend, old one {what}: {seconds:.2f} s")
        self.assertLess(seconds, TAKEOVER_SECONDS_MAX)

    def test_a_volume_moves_while_the_old_frontend_lives(self):
        old = self.cluster.connect()
        old.pwrite(b"1" * BLOCK, 0)
        with self.assertRaises(harness.nbd.Error):
            self.cluster.connect(self.uri_at("volume2"))
        self.check_taken("alive", self.take_over(b"1" * BLOCK))
        self.check_old_refuses(old)

    def test_a_volume_moves_while_the_old_frontend_is_stopped_and_goes_on_later(self):
        old = self.cluster.connect()
        old.pwrite(b"1" * BLOCK, 0)
        self.signal(signal.SIGSTOP, "volume")
        try:
            self.check_taken("frozen", self.take_over(b"1" * BLOCK))
            # Asked while it sleeps: when it wakes this is the first thing that it sees.
            buffer = harness.nbd.Buffer(BLOCK)
            cookie = old.aio_pread(buffer, 0)
        finally:
            self.signal(signal.SIGCONT, "volume")
        with self.assertRaises(harness.nbd.Error) as caught:
            while not old.aio_command_completed(cookie):
                old.poll(-1)
        self.assertEqual(caught.exception.errno, "ESHUTDOWN")
        self.check_old_refuses(old)

    def test_a_volume_moves_when_the_old_frontend_is_killed(self):
        old = self.cluster.connect()
        old.pwrite(b"1" * BLOCK, 0)
        self.cluster.kill9("volume")
        found = self.weirctl("volume", "show", "demo").stdout
        self.assertRegex(found, r"state +ELSEWHERE\nfrontend +volume 127")
        self.assertIn("attached at frontend volume", self.weirctl("explain", "demo").stdout)
        flush = self.weirctl("volume", "flush", "demo", check=False)
        self.assertIn("--frontend=NAME", flush.stderr)
        self.check_taken("killed", self.take_over(b"1" * BLOCK))
        self.cluster.ops("start", "volume")
        with self.assertRaises(harness.nbd.Error):
            self.cluster.connect(self.uri_at("volume"))

    def test_status_and_environment_know_every_process(self):
        self.assertEqual(set(self.cluster.pids()),
                         {"etcd1", "etcd2", "etcd3", "replica1", "replica2", "replica3", "volume", "volume2"})
        self.assertRegex(self.cluster.env["CATALOG"], r"^etcd:127\.0\.0\.1:\d+,127\.0\.0\.1:\d+,")
        self.cluster.kill9("etcd2")
        status = self.cluster.ops("status", check=False)
        self.assertEqual(status.returncode, 3)
        self.assertRegex(status.stdout, r"etcd2 +- stopped")
        listed = self.weirctl("volume", "list").stdout
        self.assertRegex(listed, r"demo .* ACTIVE .* volume ")


class TlsTest(unittest.TestCase):
    """An etcd that takes only clients with a certificate."""

    def setUp(self):
        self.dir = tempfile.mkdtemp(prefix="weir-test-")
        self.addCleanup(shutil.rmtree, self.dir, True)
        self.port = harness.cluster_lib.settings_lib.free_port_base(4)
        for ca in ("ca", "other"):
            self.openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={ca}", "-days", "2",
                         "-keyout", f"{ca}.key", "-out", f"{ca}.pem")
        with open(os.path.join(self.dir, "san"), "w") as f:
            f.write("subjectAltName=IP:127.0.0.1\nextendedKeyUsage=serverAuth,clientAuth\n")
        self.openssl("req", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=weir", "-keyout", "weir.key", "-out", "csr")
        self.openssl("x509", "-req", "-in", "csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2",
                     "-extfile", "san", "-out", "weir.pem")

    def openssl(self, *arguments):
        run("openssl", *arguments, cwd=self.dir)

    def start(self, name, *argv):
        """A process that ends with the test; its output in DIR/name.log."""
        with open(os.path.join(self.dir, name + ".log"), "w") as log:
            process = subprocess.Popen([str(a) for a in argv], stdout=log, stderr=log, cwd=self.dir)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        return process

    def log(self, name):
        with open(os.path.join(self.dir, name + ".log")) as log:
            return log.read()

    def frontend(self, name, parameters):
        catalog = f"etcd:127.0.0.1:{self.port}?timeout=5s{parameters}"
        return self.start(name, self.binary("weir-volume"), f"--catalog={catalog}",
                          f"--listen=127.0.0.1:{self.port + 2}", f"--name={name}")

    def binary(self, name):
        return os.path.join(harness.cluster_lib.default_prefix(), "bin", name)

    def test_a_frontend_with_the_right_certificate_is_let_in_and_no_other(self):
        files = ("--cert-file=weir.pem", "--key-file=weir.key", "--trusted-ca-file=ca.pem", "--client-cert-auth")
        url = f"https://127.0.0.1:{self.port}"
        self.start("etcd", harness.cluster_lib.ETCD, "--data-dir=etcd", f"--listen-client-urls={url}",
                   f"--advertise-client-urls={url}", f"--listen-peer-urls=http://127.0.0.1:{self.port + 1}", *files)
        # A frontend that finds no catalog at its start ends.
        wait_until(lambda: "ready to serve client requests" in self.log("etcd"), 30, "etcd serves")
        self.frontend("good", "&ca=ca.pem&cert=weir.pem&key=weir.key")
        weirctl = [self.binary("weirctl"), f"--volume_addr=127.0.0.1:{self.port + 2}"]
        wait_until(lambda: run(*weirctl, "volume", "list", check=False).returncode == 0, 20, "the frontend serves")
        for name, parameters in (("plain", ""), ("stranger", "&ca=ca.pem"),
                                 ("deceived", "&ca=other.pem&cert=weir.pem&key=weir.key")):
            self.assertEqual(self.frontend(name, parameters + "&timeout=1s").wait(30), 1, name)
            self.assertIn(f"etcd at 127.0.0.1:{self.port}", self.log(name))
