"""A CSI driver and its weir-fuse where every process shows a certificate: what they may, and new certificates."""

import os
import signal
import subprocess
import time
import unittest

import grpc

from csi_case import CsiCase
from csi_driver import Driver, block, mount, processes
from harness import ROOT, run, wait_until
from mounted import why_no_block_device
from weir_ops import cluster as cluster_lib

# A certificate is read anew every second.
RELOAD_SECONDS_MAX = 5


class CsiTlsCase(CsiCase):
    up_flags = (*CsiCase.up_flags, "--tls")

    def tls(self, file=""):
        return os.path.join(self.cluster.dir, "tls", file)

    def certificate(self, name, *roles):
        """Made now; its flags, with names that are relative to tls()."""
        run(os.path.join(ROOT, "ops", "certs"), f"--dir={self.tls()}", f"--name={name}", "--host=127.0.0.1",
            *(f"--role={role}" for role in roles))
        return [f"--tls_cert={name}.pem", f"--tls_key={name}.key", "--tls_ca=ca.pem"]


class FuseTlsTest(CsiTlsCase):
    """weir-fuse by hand."""

    def fuse(self, *flags):
        return run(os.path.join(self.cluster.env["BIN"], "weir-fuse"), f"--frontend={self.cluster.env['VOLUME_ADDR']}",
                   "--volume=demo", f"--log={self.path('log')}", *flags, self.path("fuse", make=True), check=False, timeout=60,
                   cwd=self.tls())

    def test_without_a_certificate_it_is_not_let_in_and_says_so(self):
        done = self.fuse()
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertRegex(done.stderr, r"^weir-fuse: cannot reach a frontend at \S+ within 10s; .*give a certificate if it speaks TLS")

    def test_the_role_csi_alone_reads_no_data(self):
        done = self.fuse(*self.certificate("csi-only", "csi"))
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertIn("/weir.v1.VolumeService/Io is for admin or client; the caller's certificate has csi", done.stderr)

    def test_a_certificate_that_cannot_be_used_is_said_before_anything_is_done(self):
        good = self.certificate("good", "client")
        for wrong, words in (([good[0]], "go together"), ([*good[:2], "--tls_ca=absent.pem"], "absent.pem: No such file"),
                             ([good[0], "--tls_key=admin.key", good[2]], "is not the key of")):
            with self.subTest(wrong=wrong):
                done = self.fuse(*wrong)
                self.assertEqual(done.returncode, 2, done.stderr)
                self.assertIn(words, done.stderr)
                self.assertFalse(os.path.exists(self.path("log")))

    @unittest.skipIf(why_no_block_device(), why_no_block_device())
    def test_the_role_client_reads_and_writes_and_sighup_ends_nothing_but_has_files_read_anew(self):
        with open(self.path("config"), "w") as f:
            f.write("log_format=json\n")
        self.assertEqual(self.fuse(*self.certificate("good", "client"), f"--config={self.path('config')}").returncode, 0)
        self.addCleanup(run, "umount", self.path("fuse"))
        said = lambda: open(self.path("log")).read()
        self.assertRegex(said(), r'^\{"time":.*"volume":".*is mounted on')
        with open(self.path("config"), "w") as f:
            f.write("log_format=text\n")
        served = processes(f"--log={self.path('log')}\0")
        self.assertEqual(len(served), 1)
        os.kill(served[0], signal.SIGHUP)
        wait_until(lambda: "\nI 20" in said(), 30, "it says what SIGHUP did, as text")
        self.assertRegex(said(), r"\nI 20.*SIGHUP: the certificate in .*good\.pem is good until 20")
        with open(self.path("fuse/volume"), "r+b") as f:
            f.write(b"fuse" * 1024)
            f.flush()
            os.fsync(f.fileno())
        self.assertEqual(bytes(self.cluster.connect().pread(4096, 0)), b"fuse" * 1024)
        self.assertEqual(processes(f"--log={self.path('log')}\0"), served)


@unittest.skipIf(why_no_block_device(), why_no_block_device())
class CsiTlsTest(CsiTlsCase):
    def setUp(self):
        super().setUp()
        logs = [f"--log={folder}" for folder in (os.path.join(self.cluster.dir, "csi-state"), self.folder)]
        self.addCleanup(lambda: wait_until(lambda: not any(map(processes, logs)), 10, "what served the devices has ended"))

    def own_driver(self, *certificate):
        """A second driver of the node, whose certificate's files are named as they are from tls()."""
        endpoint = "unix://" + self.path("own.sock")
        with open(self.path("own.log"), "w") as log:
            process = subprocess.Popen(
                [os.path.join(self.cluster.env["BIN"], "weir-csi"), "--mode=node", f"--endpoint={endpoint}", f"--node-id={self.node}",
                 f"--frontends={self.cluster.env['VOLUME_ADDR']}", f"--state-dir={self.path('state')}", *certificate],
                cwd=self.tls(), stderr=log)
        self.addCleanup(process.wait)
        self.addCleanup(process.terminate)
        driver = Driver(endpoint)
        self.addCleanup(driver.close)
        return driver

    def test_files_are_kept_from_one_staging_to_the_next(self):
        volume, target = self.use("files", mount())
        with open(os.path.join(target, "file"), "w") as f:
            f.write("over TLS")
        self.end_use(volume)
        context = self.publish_to_node(volume, mount())
        self.stage(volume, mount(), context)
        self.publish(volume, mount(), context)
        with open(os.path.join(target, "file")) as f:
            self.assertEqual(f.read(), "over TLS")
        self.end_use(volume)
        self.driver.DeleteVolume(volume_id=volume)
        self.assertNotIn(volume, self.cluster.weirctl("volume", "list").stdout)

    def test_a_nodes_driver_needs_the_role_client_too_and_relative_names_do(self):
        driver = self.own_driver(*self.certificate("own", "csi"))
        volume = self.create("roles")
        fields = dict(volume_id=volume, publish_context=self.publish_to_node(volume, block()), volume_capability=block(),
                      staging_target_path=self.path("staging", make=True))
        with self.assertRaises(grpc.RpcError) as refused:
            driver.NodeStageVolume(**fields)
        self.assertIn("/weir.v1.VolumeService/Io is for admin or client; the caller's certificate has csi", refused.exception.details())
        self.certificate("own", "csi", "client")
        driver.NodeStageVolume(**fields)
        self.addCleanup(driver.NodeUnstageVolume, volume_id=volume, staging_target_path=fields["staging_target_path"])
        target = self.path("target")
        driver.NodePublishVolume(**fields, target_path=target)
        self.addCleanup(driver.NodeUnpublishVolume, volume_id=volume, target_path=target)
        run("dd", "if=/dev/urandom", f"of={target}", "bs=64k", "count=16", "oflag=direct", "conv=fsync")

    def test_a_device_goes_on_with_certificates_of_another_authority(self):
        volume, target = self.use("rotated", block())

        def write_and_read(word):
            data = word.ljust(4096, ".")
            run("dd", f"of={target}", "bs=4096", "iflag=fullblock", "oflag=direct", "conv=fsync", input=data, timeout=60)
            self.assertEqual(run("dd", f"if={target}", "bs=4096", "count=1", "iflag=direct", timeout=60).stdout, data)

        write_and_read("before")
        served = processes(f"--volume={volume}\0")
        self.assertEqual(len(served), 1)
        for name in ("ca.pem", "ca.key"):
            os.remove(self.tls(name))
        cluster = cluster_lib.Cluster(self.cluster.dir)
        for name, roles in cluster.certificate_roles().items():
            self.certificate(name, *roles)
        time.sleep(RELOAD_SECONDS_MAX)
        # Its next process shows a certificate of which the old authority knows nothing.
        self.cluster.kill9("volume")
        self.cluster.ops("start", "volume")
        write_and_read("after")
        self.assertEqual(processes(f"--volume={volume}\0"), served)
        wait_until(lambda: self.driver.Probe().ready.value, 10, "the driver reaches the frontend")
        self.end_use(volume)


if __name__ == "__main__":
    unittest.main()
