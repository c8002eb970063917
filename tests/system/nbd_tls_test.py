"""NBD over TLS, as ops/systemd has it: an nbdkit for each connection, between the client and the frontend's socket."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import unittest

import nbd
from harness import MIB, ClusterTest, random_file, run
from nbd_tls_port import NbdTlsPort, as_client, certificate
from weir_ops import settings

ROLES = ("admin", "frontend", "csi", "client", "replica", "viewer")


class NbdTlsTest(ClusterTest):
    up_flags = ("--size=256MiB",)

    @classmethod
    def prepare(cls):
        cls.folder = tempfile.mkdtemp(prefix="weir-nbd-tls-")
        cls.addClassCleanup(shutil.rmtree, cls.folder)
        cls.port = settings.free_port_base(1)
        certificate(cls.folder, "server", "--host=127.0.0.1")
        certificate(cls.folder, "me")
        cls.mine = as_client(cls.folder, "me")

    def setUp(self):
        self.tls_port = NbdTlsPort(self.folder, self.cluster.dir, self.port)
        self.addCleanup(self.tls_port.close)
        self.uri = self.tls_port.uri

    def connect(self, certificates=None, volume="demo"):
        handle = nbd.NBD()
        handle.set_uri_allow_local_file(True)
        handle.connect_uri(self.uri(certificates or self.mine, volume=volume))
        return handle

    def refused(self, uri):
        done = run("nbdinfo", uri, check=False)
        self.assertEqual(done.returncode, 1, uri)
        return done.stderr

    def test_clients_have_all_that_they_have_without_it(self):
        for capability in ("flush", "fua", "trim", "zero", "fast-zero", "multi-conn"):
            run("nbdinfo", "--can", capability, self.uri(self.mine))
        with tempfile.TemporaryDirectory() as folder:
            source = random_file(os.path.join(folder, "in"), 64 * MIB)
            run("nbdcopy", "--flush", "--connections=4", source, self.uri(self.mine))
            for copied_from in (self.uri(self.mine), self.cluster.uri):
                run("nbdcopy", copied_from, os.path.join(folder, "out"))
                run("cmp", f"--bytes={64 * MIB}", source, os.path.join(folder, "out"))

    def test_qemu_reads_what_it_has_written(self):
        done = run("qemu-io", "--object", f"tls-creds-x509,id=tls,endpoint=client,dir={self.mine}", "--image-opts",
                   "-c", "write -P 0x5a 1M 1M", "-c", "flush", "-c", "discard 1M 64k", "-c", "read -P 0 1M 64k",
                   "-c", "read -P 0x5a 1088k 64k",
                   f"driver=nbd,server.type=inet,server.host=127.0.0.1,server.port={self.port},export=demo,tls-creds=tls")
        self.assertNotRegex(done.stdout + done.stderr, "failed|error")

    def test_strangers_are_not_served(self):
        handle = self.connect()
        with tempfile.TemporaryDirectory() as other:
            certificate(other, "me")
            for stranger in (self.uri(scheme="nbd"), self.uri(), self.uri(as_client(other, "me"))):
                self.refused(stranger)
        # And whoever says nothing keeps nobody waiting.
        with socket.create_connection(("127.0.0.1", self.port)):
            handle.pwrite(b"x" * 4096, 0)
            self.assertEqual(self.connect().pread(4096, 0), b"x" * 4096)

    def test_a_certificate_of_any_role_is_for_every_volume(self):
        """As OPERATIONS.md and SECURITY.md say: the authority decides, and nothing else."""
        self.cluster.weirctl("volume", "create", "second", "--size=16MiB")
        for number, role in enumerate(ROLES, 1):
            certificate(self.folder, f"a-{role}", role=role)
            shown = as_client(self.folder, f"a-{role}")
            for volume in ("demo", "second"):
                with self.subTest(role=role, volume=volume):
                    data = bytes([number]) * 4096
                    writer = self.connect(shown, volume)
                    writer.pwrite(data, 0)
                    writer.flush()
                    writer.shutdown()
                    self.assertEqual(self.cluster.connect(self.cluster.uri_of(volume)).pread(4096, 0), data)

    def test_a_client_that_dies_harms_no_other(self):
        handle = self.connect()
        code = "import nbd, sys\nh = nbd.NBD()\nh.set_uri_allow_local_file(True)\nh.connect_uri(sys.argv[1])\nprint(flush=True)\n" \
               "b = nbd.Buffer(1 << 20)\nwhile True: [h.aio_pwrite(b, i << 20) for i in range(64)] and h.poll(-1)\n"
        for _ in range(5):
            client = subprocess.Popen([sys.executable, "-c", code, self.uri(self.mine)], stdout=subprocess.PIPE)
            client.stdout.readline()
            handle.pwrite(b"y" * 4096, 128 * MIB)
            client.send_signal(signal.SIGKILL)
            client.wait(30)
            client.stdout.close()
            self.assertEqual(handle.pread(4096, 128 * MIB), b"y" * 4096)

    def test_a_new_certificate_is_shown_to_the_next_client(self):
        def serial():
            shown = run("openssl", "x509", "-noout", "-serial", "-in", os.path.join(self.folder, "server.pem")).stdout
            return shown.strip().removeprefix("serial=")

        handle = self.connect()
        before = serial()
        certificate(self.folder, "server", "--host=localhost")
        self.assertNotEqual(serial(), before)
        # It is for another host now.
        self.assertIn("certificate", self.refused(self.uri(self.mine)))
        handle.flush()
        certificate(self.folder, "server", "--host=127.0.0.1")
        self.connect().flush()

    def test_a_frontend_that_dies_is_an_error_until_the_client_connects_anew(self):
        handle = self.connect()
        handle.pwrite(b"z" * 4096, 8192)
        handle.flush()
        self.cluster.kill9("volume")
        self.cluster.start_all()
        for _ in range(2):
            with self.assertRaises(nbd.Error):
                handle.pread(4096, 8192)
        self.assertEqual(self.connect().pread(4096, 8192), b"z" * 4096)


if __name__ == "__main__":
    unittest.main()
