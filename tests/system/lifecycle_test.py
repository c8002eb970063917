"""What whoever starts, stops and watches processes relies on: health pages, --config, --check_config and SIGHUP."""

import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import time
import unittest
import urllib.error
import urllib.request

import nbd

from harness import ROOT, ClusterTest, SteadyClient, run, wait_until
from weir_ops import cluster as cluster_lib

BIN = os.path.join(os.environ.get("WEIR_PREFIX") or os.path.join(ROOT, "out"), "bin")


def ask(address, page):
    """(status, text); (0, why) while nobody listens."""
    try:
        with urllib.request.urlopen(f"http://{address}/{page}", timeout=20) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as refused:
        return refused.code, refused.read().decode()
    except OSError as error:
        return 0, str(error)


class HealthTest(ClusterTest):
    up_flags = ("--catalog=etcd",)

    def address(self, name):
        return cluster_lib.Cluster(self.cluster.dir).metrics_address(name)

    def test_a_frontend_is_ready_while_its_catalog_answers_and_healthy_all_the_time(self):
        frontend = self.address("volume")
        self.assertEqual(ask(frontend, "readyz"), (200, "ok\n"))
        self.cluster.kill9("etcd1", "etcd2")
        wait_until(lambda: ask(frontend, "readyz")[0] == 503, 30, "a frontend without a catalog is not ready")
        self.assertIn("etcd", ask(frontend, "readyz")[1])
        self.assertEqual(ask(frontend, "healthz"), (200, "ok\n"))
        self.cluster.connect().pwrite(bytes(4096), 0)  # attached volumes go on
        self.cluster.start_all()
        wait_until(lambda: ask(frontend, "readyz") == (200, "ok\n"), 60, "with the catalog it is ready again")

    def test_a_replica_that_stops_is_not_ready(self):
        replica = self.address("replica3")
        self.assertEqual((ask(replica, "healthz"), ask(replica, "readyz")), ((200, "ok\n"),) * 2)
        self.assertEqual(ask(replica, "other")[0], 404)
        self.cluster.ops("stop", "replica3")
        self.assertEqual(ask(replica, "readyz")[0], 0)
        self.cluster.ops("start", "replica3")
        wait_until(lambda: ask(replica, "readyz")[0] == 200, 30, "replica3 is back")

    def test_a_driver_is_ready_while_it_reaches_a_frontend(self):
        folder = tempfile.mkdtemp(prefix="weir-lc-")
        self.addCleanup(shutil.rmtree, folder)
        log = open(os.path.join(folder, "log"), "w+")
        self.addCleanup(log.close)
        frontend = os.path.join(folder, "socket")  # nobody listens there yet
        with_port = cluster_lib.settings_lib.free_port_base(2)
        driver = subprocess.Popen(
            [os.path.join(BIN, "weir-csi"), "--mode=controller", f"--endpoint=unix:{folder}/csi.sock",
             f"--frontends=unix:{frontend}", f"--metrics-listen=127.0.0.1:{with_port}"], stderr=log)
        self.addCleanup(driver.wait)
        self.addCleanup(driver.terminate)
        address = f"127.0.0.1:{with_port}"
        wait_until(lambda: ask(address, "healthz") == (200, "ok\n"), 30, "the driver lives")
        self.assertEqual(ask(address, "readyz")[0], 503)
        volume = subprocess.Popen([os.path.join(BIN, "weir-volume"), f"--catalog=embedded:{folder}/catalog",
                                   f"--listen=unix:{frontend}"], stderr=log)
        self.addCleanup(volume.wait)
        self.addCleanup(volume.terminate)
        wait_until(lambda: ask(address, "readyz") == (200, "ok\n"), 30, "the driver reaches a frontend")


class ConfigTest(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="weir-conf-")
        self.addCleanup(shutil.rmtree, self.folder)

    def file(self, name, text):
        path = os.path.join(self.folder, name)
        with open(path, "w") as f:
            f.write(text.replace("FOLDER", self.folder))
        return path

    def check(self, program, config, *flags):
        done = run(os.path.join(BIN, program), f"--config={config}", "--check_config", *flags, check=False)
        return done.returncode, done.stdout + done.stderr

    GOOD = {
        "weir-replica": "# one disk\nname=r1\nlisten=127.0.0.1:7701\ndata_dirs=FOLDER/d0\nmetrics_listen=0.0.0.0:9701\n"
                        "insecure_metrics=true\n",
        "weir-volume": "catalog=embedded:FOLDER/catalog\nreplicas=r1=127.0.0.1:7701\nlisten=127.0.0.1:7700\n"
                       "nbd_socket=FOLDER/nbd.sock\nmetrics_listen=0.0.0.0:9700\ninsecure_metrics=true\n",
        "weir-csi": "mode=controller\nendpoint=unix:FOLDER/csi.sock\nfrontends=127.0.0.1:7700,127.0.0.1:7800\n"
                    "metrics_listen=0.0.0.0:9702\ninsecure_metrics=true\n",
        "weir-nbd": "frontend=127.0.0.1:7700\nvolume=demo\n",
        "weir-fuse": "frontend=127.0.0.1:7700\nvolume=demo\n",
    }

    def test_a_good_configuration_is_said_to_be_good_and_nothing_is_made(self):
        for program, text in self.GOOD.items():
            with self.subTest(program):
                config = self.file(program, text)
                before = os.listdir(self.folder)
                self.assertEqual(self.check(program, config), (0, f"{program}: the configuration is good\n"))
                self.assertEqual(os.listdir(self.folder), before)

    def test_each_problem_is_a_line(self):
        run(os.path.join(ROOT, "ops", "certs"), f"--dir={self.folder}", "--name=a", "--role=admin")
        run(os.path.join(ROOT, "ops", "certs"), f"--dir={self.folder}", "--name=b", "--role=admin")
        run(os.path.join(ROOT, "ops", "certs"), f"--dir={self.folder}", "--name=v", "--role=viewer", "--host=other.example")
        wrong = "\ntls_cert=FOLDER/v.pem\ntls_key=FOLDER/v.key\ntls_ca=FOLDER/ca.pem\n"
        tls = "\ntls_cert=FOLDER/a.pem\ntls_key=FOLDER/b.key\ntls_ca=FOLDER/ca.pem\n"
        for program, text, words in (
                ("weir-replica", "data_dirs=/nowhere/a/d0,/nowhere/b/d1\nlisten=0.0.0.0:7701",
                 ("--data_dirs=/nowhere/a/d0: ", "--data_dirs=/nowhere/b/d1: ", "in plain text")),
                ("weir-replica", "data_dirs=FOLDER/d0" + tls, ("is not the key of",)),
                ("weir-replica", "data_dirs=FOLDER/d0\nreserve_bytes=lots", ("--reserve_bytes=lots",)),
                ("weir-replica", "data_dirs=FOLDER/d0\nlisten=192.0.2.1:1\ninsecure=true", ("an address of this machine",)),
                ("weir-volume", "catalog=zookeeper:a\nlisten=127.0.0.1:1\nleave_after=soon", ("catalog 'zookeeper:a'", "leave_after=soon")),
                ("weir-volume", "catalog=etcd:a:1?ca=/nowhere/ca.pem\nlisten=127.0.0.1:1", ("/nowhere/ca.pem",)),
                ("weir-volume", "catalog=etcd:10.0.0.1:2379\nlisten=127.0.0.1:1\nmetrics_listen=0.0.0.0:1",
                 ("etcd at 10.0.0.1:2379", "say insecure_metrics")),
                ("weir-replica", "data_dirs=FOLDER/d0\nmetrics_listen=0.0.0.0:1", ("say insecure_metrics",)),
                ("weir-volume", "catalog=etcd:127.0.0.1:1?ca=FOLDER/ca.pem&cert=FOLDER/a.pem&key=FOLDER/b.key\nlisten=127.0.0.1:1",
                 ("is not the key of cert=",)),
                ("weir-volume", "catalog=embedded:FOLDER/catalog\nlisten=127.0.0.1:1\nreplicas=a=10.0.0.1:1,b=127.0.0.1:1",
                 ("replicas: 10.0.0.1:1 would be spoken to in plain text",)),
                ("weir-replica", "data_dirs=FOLDER/d0\nfrontends=10.0.0.9:1", ("frontends: 10.0.0.9:1 would be spoken to in plain text",)),
                ("weir-csi", self.GOOD["weir-csi"].replace("127.0.0.1:7800", "10.0.0.9:1"), ("frontends: 10.0.0.9:1 would be spoken to in plain text",)),
                ("weir-nbd", self.GOOD["weir-nbd"] + "log_level=loud", ("log_level=loud: give info, warning or error",)),
                ("weir-fuse", self.GOOD["weir-fuse"] + "log_format=xml", ("log_format=xml: give text or json",)),
                ("weir-nbd", "frontend=10.0.0.9:1\nvolume=demo", ("in plain text",)),
                ("weir-fuse", "frontend=10.0.0.9:1\nvolume=demo", ("in plain text",)),
                ("weir-volume", "catalog=embedded:FOLDER/catalog", ("nothing to serve",)),
                ("weir-volume", "catalog=embedded:FOLDER/catalog\nnbd_socket=/nowhere/s\nnbdkit=no-such-nbdkit\nnbd_plugin=/no.so",
                 ("--nbd_socket=", "--nbdkit=no-such-nbdkit", "/no.so")),
                ("weir-csi", self.GOOD["weir-csi"].replace("0.0.0.0:9702", "7700") + tls, ("--metrics_listen=7700", "is not the key of")),
                ("weir-csi", self.GOOD["weir-csi"].replace("insecure_metrics=true\n", ""), ("say insecure_metrics",)),
                ("weir-replica", "data_dirs=FOLDER/d0\nlisten=127.0.0.1:7701\nfrontends=127.0.0.1:7700" + wrong,
                 ("has viewer, and this needs replica", "is for other.example, and --listen is 127.0.0.1:7701")),
                ("weir-replica", "data_dirs=FOLDER/d0\nlisten=0.0.0.0:7701\nadvertise=r1.example:7701" + wrong, ("--advertise is r1.example:7701",)),
                ("weir-volume", "catalog=embedded:FOLDER/catalog\nlisten=127.0.0.1:7700" + wrong,
                 ("has viewer, and this needs frontend", "--listen is 127.0.0.1:7700")),
                ("weir-csi", self.GOOD["weir-csi"].replace("controller", "node\nnode_id=a") + wrong,
                 ("has viewer, and this needs csi", "has viewer, and this needs client")),
                ("weir-nbd", self.GOOD["weir-nbd"] + wrong, ("has viewer, and this needs client",)),
                ("weir-fuse", self.GOOD["weir-fuse"] + wrong, ("has viewer, and this needs client",)),
                ("weir-nbd", "frontend=7700\nvolume=demo" + tls, ("--frontend=7700", "is not the key of")),
                ("weir-fuse", "frontend=7700\nvolume=demo" + tls, ("--frontend=7700", "is not the key of"))):
            with self.subTest(program=program, text=text):
                code, said = self.check(program, self.file("c", text))
                self.assertEqual(code, 1, said)
                for word in words:
                    self.assertIn(word, said)
                self.assertTrue(all(line.startswith(program + ": ") for line in said.splitlines()), said)

    def test_each_program_says_its_version(self):
        for program in (*self.GOOD, "weirctl"):
            with self.subTest(program):
                self.assertRegex(run(os.path.join(BIN, program), "--version").stdout, rf"\A{program} \d+\.\d+\.\d+\n\Z")

    def test_a_file_that_makes_no_sense_is_wrong_usage(self):
        for program, text in self.GOOD.items():
            for wrong, words in (("listen\n", "is not NAME=VALUE"), ("colour=red\n", "colour")):
                with self.subTest(program=program, wrong=wrong):
                    code, said = self.check(program, self.file("c", text + wrong))
                    self.assertEqual(code, 2, said)
                    self.assertIn(words, said)

    def test_the_command_line_wins_over_the_file_that_is_served(self):
        config = self.file("r", "name=of-the-file\nlisten=192.0.2.1:1\ndata_dirs=FOLDER/d0\n")
        log = os.path.join(self.folder, "log")
        with open(log, "w") as f:
            replica = subprocess.Popen([os.path.join(BIN, "weir-replica"), f"--config={config}", "--listen=127.0.0.1:0"], stderr=f)
        self.addCleanup(replica.wait)
        self.addCleanup(replica.terminate)
        said = lambda: open(log).read()
        wait_until(lambda: "serving replica=of-the-file listen=127.0.0.1:" in said(), 30, "it serves")
        replica.send_signal(signal.SIGTERM)
        self.assertEqual(replica.wait(30), 0)


class PlannedRestartTest(ClusterTest):
    # A shutdown takes a second or so; one that is back within this has not left.
    up_flags = ("--size=64MiB", "--volume-flags=--leave_after=60s")

    def test_replicas_that_are_restarted_in_turn_under_writes_need_no_rebuild(self):
        client = SteadyClient(self.cluster.uri)
        self.addCleanup(client.close)
        for name in ("replica1", "replica2", "replica3"):
            self.assertGreater(client.lap()["requests"], 0)
            self.assertIn("stopped", self.cluster.ops("stop", name).stdout)
            self.cluster.ops("start", name)
            up = f'weir_volume_target_up{{replica="{name}",volume="demo"}} 1'
            wait_until(lambda: up in self.cluster.metrics("volume"), 30, f"{name} is back")
        client.lap()
        client.close()
        self.cluster.weirctl("volume", "flush", "demo")
        # Who leaves and who is brought back is said in these words.
        said = self.cluster.log("volume")
        self.assertNotIn("has left", said)
        self.assertNotIn("in sync again", said)
        for name in ("replica1", "replica2", "replica3"):
            self.assertNotIn(" join=", self.cluster.log(name))


class HeldStopTest(ClusterTest):
    # Requests are let go of 10 s after SIGTERM (kHeldAtExit in client/nbd/plugin.cc), and then 5 s are given to each volume.
    SECONDS_MAX = 30

    def test_a_frontend_that_is_stopped_while_requests_wait_lets_go_of_them(self):
        client = self.cluster.connect()
        client.pwrite(b"f" * 4096, 0)
        client.flush()
        self.cluster.kill9("replica1", "replica2")
        refused = []

        def write():
            try:
                client.pwrite(b"w" * 4096, 4096)
            except nbd.Error as error:
                refused.append(error)

        waits = threading.Thread(target=write, daemon=True)
        waits.start()
        wait_until(lambda: "1 request" in self.cluster.weirctl("explain", "demo").stdout, 30, "the write waits")
        begun = time.monotonic()
        self.assertIn("stopped", self.cluster.ops("stop", "volume").stdout)
        took = time.monotonic() - begun
        waits.join(10)
        self.assertEqual(len(refused), 1, "the write was answered, or waits for ever")
        self.assertIn("is let go of while requests wait", self.cluster.log("volume"))
        self.assertLess(took, self.SECONDS_MAX)
        print(f"  a frontend was stopped while a write waited: {took:.1f} s; the write got {refused[0]}")
        self.cluster.start_all()
        self.assertEqual(self.cluster.connect().pread(4096, 0), b"f" * 4096)


class ReloadTest(unittest.TestCase):
    """SIGHUP, to processes that read their flags from files."""

    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="weir-hup-")
        self.addCleanup(shutil.rmtree, self.folder)
        run(os.path.join(ROOT, "ops", "certs"), f"--dir={self.folder}", "--name=own", "--role=admin", "--host=127.0.0.1")
        self.tls = "".join(f"tls_{flag}={self.folder}/{name}\n"
                           for flag, name in (("cert", "own.pem"), ("key", "own.key"), ("ca", "ca.pem")))

    def configure(self, text):
        with open(os.path.join(self.folder, "config"), "w") as f:
            f.write(text + self.tls)

    def lines(self):
        """But for what a replica says of its disks once it has measured them, some time after it serves."""
        with open(os.path.join(self.folder, "log")) as f:
            return [line for line in f.read().splitlines() if "disk_probes.cc" not in line]

    def start(self, program, text, *flags):
        self.configure(text)
        with open(os.path.join(self.folder, "log"), "w") as log:
            process = subprocess.Popen([os.path.join(BIN, program), f"--config={self.folder}/config", *flags], stderr=log)
        self.addCleanup(process.wait)
        self.addCleanup(process.terminate)
        return process

    def reloads(self, process, text, lines=1):
        """With `text` in its file from now on; the first of the `lines` that it says of that."""
        before = len(self.lines())
        self.configure(text)
        process.send_signal(signal.SIGHUP)
        wait_until(lambda: len(self.lines()) >= before + lines, 30, "it says what SIGHUP did")
        return self.lines()[before]

    def all_of_it(self, process, text):
        said = self.reloads(process, text + "log_format=json\n")
        line = json.loads(said)
        self.assertEqual((line["severity"], line["source"].split(":")[0]), ("INFO", "reload.cc"))
        self.assertRegex(line["message"], r"own\.pem is good until 20\d\d-")
        # Of the log, and then of the certificate.
        said = self.reloads(process, text + "log_format=text\nlog_level=loud\n", lines=2)
        self.assertRegex(said, r'"severity":"ERROR".*log_level=loud')
        os.rename(os.path.join(self.folder, "own.key"), os.path.join(self.folder, "gone.key"))
        wait_until(lambda: "own.key" in self.reloads(process, text + "log_format=text\n"), 30, "a certificate without its key is noticed")
        self.assertTrue(self.lines()[-1].startswith("E 20"), self.lines()[-1])
        self.assertIsNone(process.poll())
        process.terminate()
        self.assertEqual(process.wait(60), 0)

    def test_a_replica_reloads(self):
        text = f"listen=127.0.0.1:0\ndata_dirs={self.folder}/d0\n"
        process = self.start("weir-replica", text)
        wait_until(lambda: any("serving" in line for line in self.lines()), 30, "it serves")
        self.all_of_it(process, text)

    def test_a_frontend_reloads(self):
        text = f"listen=127.0.0.1:0\ncatalog=embedded:{self.folder}/catalog\n"
        process = self.start("weir-volume", text)
        wait_until(lambda: any("serves" in line for line in self.lines()), 30, "it serves")
        self.all_of_it(process, text)

    def test_a_frontend_tells_when_certificates_expire_also_those_of_nbdkit(self):
        address = f"127.0.0.1:{cluster_lib.settings_lib.free_port_base(1)}"
        self.start("weir-volume", f"listen=127.0.0.1:0\ncatalog=embedded:{self.folder}/catalog\nmetrics_listen={address}\n"
                                  f"nbd_tls_cert={self.folder}/own.pem\nnbd_tls_ca={self.folder}/ca.pem\n")
        wait_until(lambda: any("serves" in line for line in self.lines()), 30, "it serves")
        told = dict(re.findall(r'^weir_tls_certificate_expiry_timestamp_seconds\{which="(\w+)"\} (\S+)$', ask(address, "metrics")[1], re.MULTILINE))
        self.assertEqual(set(told), {"own", "authority", "nbd", "nbd_authority"})
        self.assertEqual((told["nbd"], told["nbd_authority"]), (told["own"], told["authority"]))

    def test_nbdkit_does_not_end_by_it_but_reloads(self):
        text = f"listen=127.0.0.1:0\ncatalog=embedded:{self.folder}/catalog\nnbd_socket={self.folder}/nbd.sock\n"
        process = self.start("weir-volume", text)
        wait_until(lambda: run("nbdinfo", "--list", f"nbd+unix://?socket={self.folder}/nbd.sock", check=False).returncode == 0, 30,
                   "it serves NBD")
        self.all_of_it(process, text)

    def test_a_driver_reloads(self):
        text = f"mode=controller\nendpoint=unix:{self.folder}/csi.sock\nfrontends=127.0.0.1:1\n"
        process = self.start("weir-csi", text)
        wait_until(lambda: any("serves" in line for line in self.lines()), 30, "it serves")
        self.all_of_it(process, text)


if __name__ == "__main__":
    unittest.main()
