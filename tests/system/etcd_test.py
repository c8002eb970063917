"""A real etcd of three members as the catalog, and volumes that move between frontends."""

import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
import unittest

import harness
from etcd_case import BLOCK, EtcdCase, Writer
from harness import run, wait_until

TAKEOVER_SECONDS_MAX = 2
KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


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

    def test_a_clones_own_snapshot_goes_though_another_frontend_flattened_the_clone(self):
        self.weirctl("volume", "clone", "demo", "copy")
        self.addCleanup(self.weirctl, "volume", "delete", "copy", check=False)
        self.addCleanup(self.weirctl, "volume", "detach", "copy", check=False)
        self.assertIn("~clone-copy", self.weirctl("explain", "demo").stdout)
        self.weirctl("volume", "attach", "copy", "--frontend=volume2")
        self.weirctl("volume", "flatten", "copy")
        # The frontend of the volume hears of it when it looks, every minute.
        wait_until(lambda: "~clone-copy" not in self.weirctl("explain", "demo").stdout, 90, "nothing is kept for the clone")

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
    """An etcd of three members that take only clients with a certificate."""

    members = ("etcd1", "etcd2", "etcd3")

    def setUp(self):
        self.dir = tempfile.mkdtemp(prefix="weir-test-")
        self.addCleanup(shutil.rmtree, self.dir, True)
        # Two a member, for its clients and its peers, and one for a frontend.
        self.port = harness.cluster_lib.settings_lib.free_port_base(2 * len(self.members) + 1)
        for ca in ("ca", "other"):
            self.openssl("req", "-x509", *KEY, "-subj", f"/CN={ca}", "-days", "2", "-keyout", f"{ca}.key", "-out", f"{ca}.pem")
        with open(self.path("san"), "w") as f:
            f.write("subjectAltName=IP:127.0.0.1\nextendedKeyUsage=serverAuth,clientAuth\n")
        self.openssl("req", *KEY, "-subj", "/CN=weir", "-keyout", "weir.key", "-out", "csr")
        for ca, certificate in (("ca", "weir.pem"), ("other", "stranger.pem")):
            self.openssl("x509", "-req", "-in", "csr", "-CA", f"{ca}.pem", "-CAkey", f"{ca}.key", "-CAcreateserial",
                         "-days", "2", "-extfile", "san", "-out", certificate)
        self.etcds = {}
        for name in self.members:
            self.start_etcd(name)
        self.await_leader()

    def path(self, name):
        return os.path.join(self.dir, name)

    def openssl(self, *arguments):
        run("openssl", *arguments, cwd=self.dir)

    def start(self, name, *argv):
        """A process that ends with the test; its output in DIR/name.log."""
        with open(self.path(name + ".log"), "a") as log:
            process = subprocess.Popen([str(a) for a in argv], stdout=log, stderr=log, cwd=self.dir)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        return process

    def log(self, name):
        with open(self.path(name + ".log")) as log:
            return log.read()

    # --- etcd ---

    def address(self, name):
        return f"127.0.0.1:{self.port + 2 * self.members.index(name)}"

    def start_etcd(self, name, certificate="weir.pem"):
        peers = {m: f"http://127.0.0.1:{self.port + 2 * i + 1}" for i, m in enumerate(self.members)}
        url = f"https://{self.address(name)}"
        self.etcds[name] = self.start(
            name, harness.cluster_lib.ETCD, f"--name={name}", f"--data-dir={name}", f"--listen-client-urls={url}",
            f"--advertise-client-urls={url}", f"--listen-peer-urls={peers[name]}",
            f"--initial-advertise-peer-urls={peers[name]}",
            "--initial-cluster=" + ",".join(f"{m}={peer}" for m, peer in peers.items()),
            f"--cert-file={certificate}", "--key-file=weir.key", "--trusted-ca-file=ca.pem", "--client-cert-auth")

    def kill_etcd(self, name):
        self.etcds[name].kill()
        self.etcds[name].wait()

    def page(self, name, page):
        """As a client with a certificate is shown it, whatever the member's own; empty: not at all."""
        return run("curl", "-skf", "--cert", self.path("weir.pem"), "--key", self.path("weir.key"),
                   f"https://{self.address(name)}/{page}", check=False).stdout

    def leader(self):
        return next((m for m in self.members if "\netcd_server_is_leader 1" in self.page(m, "metrics")), None)

    def await_leader(self):
        """Of a whole etcd, in which each member can do without any other."""
        wait_until(lambda: all('"health":"true"' in self.page(m, "health") for m in self.members), 30, "etcd is healthy")
        return self.leader()

    # --- frontends ---

    def catalog(self, parameters):
        return "etcd:" + ",".join(self.address(m) for m in self.members) + "?" + "&".join(parameters)

    def trusting(self, ca="ca.pem"):
        return (f"ca={self.path(ca)}", f"cert={self.path('weir.pem')}", f"key={self.path('weir.key')}")

    def frontend(self, name, *parameters):
        """One that ops/cluster knows nothing of."""
        return self.start(name, self.binary("weir-volume"), f"--catalog={self.catalog(parameters)}", f"--name={name}",
                          f"--listen={self.frontend_address()}", f"--nbd_socket={self.path(name)}.sock")

    def frontend_address(self):
        return f"127.0.0.1:{self.port + 2 * len(self.members)}"

    def binary(self, name):
        return os.path.join(harness.cluster_lib.default_prefix(), "bin", name)

    def weirctl(self, *arguments, **options):
        """At the frontend that ops/cluster knows nothing of."""
        return run(self.binary("weirctl"), f"--volume_addr={self.frontend_address()}", *arguments, **options)

    def await_frontend(self):
        wait_until(lambda: self.weirctl("volume", "list", check=False).returncode == 0, 20, "the frontend serves")

    def test_a_frontend_with_the_right_certificate_is_let_in_and_no_other(self):
        self.frontend("good", *self.trusting())
        self.await_frontend()
        others = {name: self.frontend(name, *parameters, "timeout=1s")
                  for name, parameters in (("plain", ()), ("stranger", (f"ca={self.path('ca.pem')}",)),
                                           ("deceived", self.trusting("other.pem")))}
        # A frontend that finds no catalog at its start ends.
        for name, process in others.items():
            self.assertEqual(process.wait(30), 1, name)
            self.assertIn("etcd at " + ",".join(self.address(m) for m in self.members), self.log(name))

    def test_members_are_killed_or_no_more_trusted_under_io_and_volumes_are_created_and_moved(self):
        cluster = harness.RealCluster("--size=64MiB", f"--volume-flags=--catalog={self.catalog(self.trusting())}")
        self.addCleanup(cluster.close)
        cluster.up()
        writer = Writer(cluster)
        writer.goes_on()
        leader = self.leader()
        follower = next(m for m in self.members if m != leader)
        self.kill_etcd(follower)
        writer.goes_on()
        # A member leaves and comes back: both are changes of the record.
        cluster.kill9("replica3")
        writer.goes_on()
        cluster.ops("start", "replica3")
        self.in_sync(cluster)
        # It is back, a voter among equals, and its clients are to find out that it is not whom they know.
        self.start_etcd(follower, "stranger.pem")
        leader = self.await_leader()
        self.kill_etcd(leader)
        begun = time.monotonic()
        cluster.weirctl("volume", "create", "other", "--size=16MiB")
        created = time.monotonic() - begun
        writer.goes_on()
        # One that was not there before finds its way by the same endpoints.
        self.frontend("volume2", *self.trusting())
        self.await_frontend()
        self.weirctl("io", "write", "other", "--offset=0", "--length=4096", "--pattern=0x5a")
        writer.goes_on()
        writer.stop()
        begun = time.monotonic()
        self.weirctl("volume", "attach", "demo")
        writer.expect_all(cluster.connect(f"nbd+unix:///demo?socket={self.path('volume2.sock')}"))
        print(f"  with TLS: {writer.writes} writes, the longest took {writer.longest:.2f} s; a volume created as the leader was "
              f"killed: {created:.2f} s; attached elsewhere and read: {time.monotonic() - begun:.2f} s")

    def in_sync(self, cluster):
        def so():
            targets = json.loads(cluster.weirctl("volume", "show", "demo", "--output=json").stdout)["table"]["targets"]
            return all(t["state"] == "in_sync" and t["health"] == "connected" for t in targets)
        wait_until(so, 60, "all are in sync")


if __name__ == "__main__":
    unittest.main()
