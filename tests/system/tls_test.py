"""A cluster whose processes show each other certificates, and peers that have none or the wrong ones."""

import json
import os
import subprocess
import tempfile
import time
import unittest

from harness import ROOT, ClusterTest, run, wait_until

# A certificate is read anew every second.
RELOAD_SECONDS_MAX = 10


class TlsClusterTest(ClusterTest):
    up_flags = ("--tls",)

    def certificate(self, name, *arguments):
        """The flags of weirctl for a certificate of ours, made now."""
        folder = os.path.join(self.cluster.dir, "tls")
        run(os.path.join(ROOT, "ops", "certs"), f"--dir={folder}", f"--name={name}", *arguments)
        return [f"--tls_cert={folder}/{name}.pem", f"--tls_key={folder}/{name}.key", f"--tls_ca={folder}/ca.pem"]

    def served_serial(self, name):
        """The serial number of the certificate that a replica shows."""
        index = int(name.removeprefix("replica")) - 1
        address = self.cluster.env["REPLICA_ADDRS"].strip("'").split()[index]
        shown = subprocess.run(["openssl", "s_client", "-connect", address, "-alpn", "h2"], stdin=subprocess.DEVNULL,
                               capture_output=True, timeout=10).stdout
        return run("openssl", "x509", "-noout", "-serial", input=shown.decode(errors="replace")).stdout

    def test_clients_read_what_was_written_and_flushed_over_tls(self):
        handle = self.cluster.connect()
        handle.pwrite(b"over TLS".ljust(4096, b"."), 8192)
        handle.flush()
        handle.shutdown()
        with tempfile.NamedTemporaryFile() as out:
            self.cluster.weirctl("io", "read", "demo", "--offset=8192", "--length=4096", f"--output-file={out.name}")
            self.assertEqual(out.read()[:8], b"over TLS")
        self.cluster.weirctl("replica", "show", "replica2")

    def test_a_client_in_plain_text_is_not_served(self):
        done = run(os.path.join(self.cluster.env["BIN"], "weirctl"), f"--volume_addr={self.cluster.env['VOLUME_ADDR']}",
                   "volume", "list", check=False)
        self.assertEqual(done.returncode, 1)
        self.assertIn("cannot reach", done.stderr)

    def test_a_viewer_looks_and_changes_nothing(self):
        viewer = self.certificate("watch", "--role=viewer")
        self.assertIn("demo", self.cluster.weirctl("volume", "list", *viewer).stdout)
        self.cluster.weirctl("replica", "show", "replica1", *viewer)
        for command in (("volume", "create", "other", "--size=1MiB"), ("volume", "suspend", "demo"),
                        ("io", "write", "demo", "--offset=0", "--length=4096", "--pattern=1")):
            refused = self.cluster.weirctl(*command, *viewer, check=False)
            self.assertEqual(refused.returncode, 1, command)
            self.assertIn("the caller's certificate has viewer", refused.stderr, command)

    def test_a_certificate_of_another_authority_is_not_let_in(self):
        with tempfile.TemporaryDirectory() as folder:
            run(os.path.join(ROOT, "ops", "certs"), f"--dir={folder}", "--name=x", "--role=admin")
            ours = os.path.join(self.cluster.dir, "tls", "ca.pem")
            refused = self.cluster.weirctl("volume", "list", f"--tls_cert={folder}/x.pem", f"--tls_key={folder}/x.key",
                                           f"--tls_ca={ours}", check=False)
        self.assertEqual(refused.returncode, 1)
        self.assertIn("cannot reach", refused.stderr)

    def test_a_frontend_for_one_volume_is_refused_the_others(self):
        self.cluster.weirctl("volume", "create", "other", "--size=16MiB")
        self.addCleanup(self.certificate, "volume", "--role=frontend", "--host=127.0.0.1")
        shown = json.loads(self.cluster.weirctl("volume", "show", "demo", "--output=json").stdout)
        self.certificate("volume", "--role=frontend", "--host=127.0.0.1", f"--volume={shown['id']}")
        self.cluster.kill9("volume")
        self.cluster.start_all()
        handle = self.cluster.connect()
        handle.pwrite(b"its own".ljust(4096, b"."), 4096)
        handle.flush()
        for refused in (("io", "write", "other", "--offset=0", "--length=4096", "--pattern=1"),
                        ("volume", "create", "third", "--size=16MiB")):
            begun = time.monotonic()
            done = self.cluster.weirctl(*refused, check=False)
            self.assertEqual(done.returncode, 1, refused)
            self.assertIn("the caller's certificate is not for volume", done.stderr, refused)
            self.assertLess(time.monotonic() - begun, 10, refused)
        self.assertEqual(bytes(handle.pread(7, 4096)), b"its own")
        handle.shutdown()

    def test_a_new_certificate_is_taken_without_a_restart(self):
        pids, old = self.cluster.pids(), self.served_serial("replica1")
        self.assertIn("serial=", old)
        self.certificate("replica1", "--role=replica", "--host=127.0.0.1")
        wait_until(lambda: self.served_serial("replica1") != old, RELOAD_SECONDS_MAX, "replica1 shows its new certificate")
        self.cluster.weirctl("replica", "show", "replica1")
        handle = self.cluster.connect()
        handle.pwrite(bytes(4096), 0)
        handle.flush()
        self.assertEqual(self.cluster.pids(), pids)


class PlainTextTest(unittest.TestCase):
    def test_other_machines_are_served_in_plain_text_only_if_that_is_said(self):
        binaries = os.path.join(os.environ.get("WEIR_PREFIX") or os.path.join(ROOT, "out"), "bin")
        with tempfile.TemporaryDirectory() as folder:
            for command in ([f"{binaries}/weir-replica", "--listen=0.0.0.0:0", f"--data_dirs={folder}/d"],
                            [f"{binaries}/weir-volume", "--listen=0.0.0.0:0", f"--catalog=embedded:{folder}/c"]):
                refused = run(*command, check=False, timeout=20)
                self.assertNotEqual(refused.returncode, 0, command)
                self.assertIn("plain text", refused.stderr)


if __name__ == "__main__":
    unittest.main()
