"""A cluster whose processes show each other certificates, and peers that have none or the wrong ones."""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
import unittest

import grpc
import grpc_reflection
from grpc_caller import described_services
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

    def epoch_of(self, volume):
        shown = json.loads(self.cluster.weirctl("volume", "show", volume, "--output=json").stdout)
        self.assertGreater(shown["epoch"], 0)
        return shown["epoch"], shown["state"]

    def test_a_frontend_for_one_volume_is_refused_the_others(self):
        self.cluster.weirctl("volume", "create", "other", "--size=16MiB")
        self.cluster.weirctl("volume", "attach", "other")
        self.cluster.weirctl("volume", "detach", "other")
        self.addCleanup(self.certificate, "volume", "--role=frontend", "--host=127.0.0.1")
        shown = json.loads(self.cluster.weirctl("volume", "show", "demo", "--output=json").stdout)
        self.certificate("volume", "--role=frontend", "--host=127.0.0.1", f"--volume={shown['id']}")
        self.cluster.kill9("volume")
        self.cluster.start_all()
        handle = self.cluster.connect()
        handle.pwrite(b"its own".ljust(4096, b"."), 4096)
        handle.flush()
        before = self.epoch_of("other")
        for refused, who in ((("io", "write", "other", "--offset=0", "--length=4096", "--pattern=1"), "this frontend's"),
                             (("volume", "attach", "other"), "this frontend's"), (("volume", "delete", "other"), "this frontend's"),
                             (("volume", "create", "third", "--size=16MiB"), "the caller's")):
            begun = time.monotonic()
            done = self.cluster.weirctl(*refused, check=False)
            self.assertEqual(done.returncode, 1, refused)
            self.assertRegex(done.stderr, f"{who} certificate.* is not for volume", refused)
            self.assertLess(time.monotonic() - begun, 10, refused)
        # So whoever has it would have it still.
        self.assertEqual(self.epoch_of("other"), before)
        self.assertEqual(bytes(handle.pread(7, 4096)), b"its own")
        handle.shutdown()

    def test_a_new_certificate_is_taken_without_a_restart(self):
        pids, old = self.cluster.pids(), self.served_serial("replica1")
        self.assertIn("serial=", old)
        self.certificate("replica1", "--role=replica", "--host=127.0.0.1")
        begun = time.monotonic()
        wait_until(lambda: self.served_serial("replica1") != old, RELOAD_SECONDS_MAX, "replica1 shows its new certificate")
        print(f"  shown after {time.monotonic() - begun:.1f} s")
        self.cluster.weirctl("replica", "show", "replica1")
        handle = self.cluster.connect()
        handle.pwrite(bytes(4096), 0)
        handle.flush()
        self.assertEqual(self.cluster.pids(), pids)

    def test_a_private_key_is_in_nothing_that_is_said(self):
        folder = os.path.join(self.cluster.dir, "tls")
        keys = [name for name in os.listdir(folder) if name.endswith(".key")]
        secrets = [secret for name in keys for secret in self.secrets_of(os.path.join(folder, name))]
        # Words about keys that are wrong, too: replica1's is that of another, then none.
        own, kept = os.path.join(folder, "replica1.key"), os.path.join(folder, "kept")
        os.rename(own, kept)
        # The next test finds it as it was.
        self.addCleanup(wait_until, lambda: self.cluster.weirctl("replica", "show", "replica1", check=False).returncode == 0,
                        RELOAD_SECONDS_MAX, "replica1 has its key again")
        self.addCleanup(os.rename, kept, own)
        for other in (os.path.join(folder, "volume.key"), os.path.join(folder, "ca.pem")):
            shutil.copy(other, own)
            before = len(self.cluster.log("replica1"))
            os.kill(self.cluster.pids()["replica1"], signal.SIGHUP)
            wait_until(lambda: "replica1.key" in self.cluster.log("replica1")[before:], 10, "the replica says what is wrong")
        said = [self.cluster.weirctl("volume", "list", f"--tls_cert={folder}/volume.pem", f"--tls_key={own}",
                                     f"--tls_ca={folder}/ca.pem", check=False).stderr]
        said += [self.cluster.weirctl(*words, "--output=json").stdout
                 for words in (("replica", "list"), ("volume", "show", "demo"), ("explain", "demo"))]
        for name, pid in self.cluster.pids().items():
            said += [self.cluster.log(name), self.cluster.metrics(name)]
            for file in ("cmdline", "environ"):
                with open(f"/proc/{pid}/{file}", errors="replace") as f:
                    said.append(f.read())
        self.assertTrue(all(said), "each says something")
        with open(kept) as f:
            self.assertTrue(self.found(secrets, f.read()), "the search finds what is there")
        self.assertEqual(self.found(secrets, "".join(said)), [])

    @staticmethod
    def secrets_of(path):
        """How a private key may be written: as in its file, or its number in hexadecimal."""
        with open(path) as f:
            lines = [line.strip() for line in f if not line.startswith("-----")]
        number = re.search(r"priv:\n([0-9a-f:\s]+)pub:", run("openssl", "pkey", "-in", path, "-noout", "-text").stdout)[1]
        return [line for line in lines if len(line) >= 40] + [re.sub(r"[:\s]", "", number)[-64:]]

    @staticmethod
    def found(secrets, text):
        bare = re.sub(r"[:\s\\]", "", text)
        return [secret for secret in secrets if secret in bare or secret.upper() in bare]


# What SECURITY.md lets each role do, method by method; written from there, not from proto/wire/access.cc.
MAY = {
    "weir.v1.VolumeService": {
        "admin csi client viewer":  # look
            "ListVolumes GetVolume ListSnapshots GetSnapshot Explain ListReplicas ListFrontends",
        "admin viewer": "Trace",
        "admin csi":  # make, change, delete, snapshot
            "CreateVolume DeleteVolume ExpandVolume CloneVolume FlattenVolume RestoreVolume CreateSnapshot DeleteSnapshot SetAttributes",
        "admin csi client": "Attach Detach",
        "admin client":  # data
            "Io Read Write WriteZeroes Discard Barrier Flush",
        "admin": "Suspend Resume LoadTable ReplaceMember Scrub RebuildCatalog ForgetReplica",
    },
    "weir.v1.RegistryService": {"admin replica": "Register"},
    "weir.v1.ReplicaService": {
        "admin frontend":
            "Io CreateVolume DeleteVolume Seal ReadTail AdoptTail TakeBase UpdateVolume ReadPinned GetChangedSince KeepRecord ListRecords "
            "GetDigests GetChanges BeginJoin ReadVersions CopyIn GetJoin FinishJoin",
        "admin frontend viewer": "GetReplica",
        "admin viewer": "ListFaults",
        "admin": "SetFault ClearFaults",
    },
}
ROLES = ("admin", "frontend", "csi", "client", "replica", "viewer")
SERVES = {"replica1": {"weir.v1.ReplicaService"}, "volume": {"weir.v1.VolumeService", "weir.v1.RegistryService"}}
# An empty request does nothing: it is for no volume. But for this one, of which only the dry run does nothing.
REQUESTS = {"/weir.v1.VolumeService/RebuildCatalog": b"\x08\x01"}
HEALTH = "/grpc.health.v1.Health/Check"
CODE = grpc.StatusCode


def who_may():
    """Path -> roles, as MAY says."""
    return {f"/{service}/{method}": set(roles.split())
            for service, rules in MAY.items() for roles, methods in rules.items() for method in methods.split()}


class RolesTest(ClusterTest):
    """Every method of every service, called with a certificate of each role at a replica and a frontend."""

    up_flags = ("--tls", "--size=64MiB", "--replica-flags=--enable_fault_injection")

    def setUp(self):
        self.folder = os.path.join(self.cluster.dir, "tls")
        self.addresses = {"replica1": self.cluster.env["REPLICA_ADDRS"].strip("'").split()[0],
                          "volume": self.cluster.env["VOLUME_ADDR"]}
        self.paths = [f"/{service}/{method}" for service, methods in described_services().items() for method in methods]

    def certificate(self, *roles):
        name = "-".join(("of", *roles))
        run(os.path.join(ROOT, "ops", "certs"), f"--dir={self.folder}", f"--name={name}", *(f"--role={role}" for role in roles))
        return name

    def certificate_without_a_role(self):
        """Of this authority; its URIs are no role, though one looks like it."""
        run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", "/CN=admin",
            "-CA", f"{self.folder}/ca.pem", "-CAkey", f"{self.folder}/ca.key", "-addext", "extendedKeyUsage=clientAuth",
            "-addext", "subjectAltName=URI:weir://operator/x,URI:spiffe://admin/x,URI:weir://adminx,DNS:admin",
            "-keyout", f"{self.folder}/none.key", "-out", f"{self.folder}/none.pem")
        return "none"

    def channel(self, server, name=None):
        files = ["ca.pem"] + ([f"{name}.key", f"{name}.pem"] if name else [])
        pem = []
        for file in files:
            with open(os.path.join(self.folder, file), "rb") as f:
                pem.append(f.read())
        made = grpc.secure_channel(self.addresses[server], grpc.ssl_channel_credentials(*pem))
        self.addCleanup(made.close)
        return made

    @staticmethod
    def call(channel, path):
        """(code, details). One request, which is all there is of a stream."""
        made = channel.stream_stream(path)(iter([REQUESTS.get(path, b"")]), timeout=30)
        with contextlib.suppress(grpc.RpcError):
            list(made)
        return made.code(), made.details()

    def test_the_table_has_every_method_and_every_role(self):
        self.assertEqual(sorted(who_may()), sorted(self.paths))
        self.assertEqual(sum(len(methods.split()) for rules in MAY.values() for methods in rules.values()), len(self.paths), "once each")
        for server, services in SERVES.items():
            served = grpc_reflection.served(self.channel(server, "admin"))
            self.assertEqual({service for service in served if not service.startswith("grpc.")}, services)
        self.assertEqual(set.union(*SERVES.values()), set(MAY))
        with open(os.path.join(ROOT, "SECURITY.md")) as f:
            self.assertEqual(set(re.findall(r"^\| `(\w+)` \|", f.read(), re.MULTILINE)), set(ROLES))
        with open(os.path.join(ROOT, "proto", "wire", "access.h")) as f:
            self.assertEqual({name.lower() for name in re.findall(r"constexpr Roles k(\w+) = 1 <<", f.read())}, set(ROLES))

    def looked_at(self):
        shown = json.loads(self.cluster.weirctl("volume", "show", "demo", "--output=json").stdout)
        return (self.cluster.weirctl("volume", "list").stdout, shown["epoch"], shown["state"], self.cluster.pids(),
                self.cluster.weirctl("fault", "list").stdout)

    def test_each_role_may_call_what_is_its_and_nothing_else(self):
        handle = self.cluster.connect()
        handle.pwrite(b"kept".ljust(4096, b"."), 0)
        handle.flush()
        before = self.looked_at()
        holders = [(self.certificate(role), {role}) for role in ROLES]
        holders += [(self.certificate("csi", "client"), {"csi", "client"}), (self.certificate_without_a_role(), set())]
        calls = {True: 0, False: 0}
        for server in SERVES:
            for name, roles in holders:
                channel = self.channel(server, name)
                self.assertEqual(self.call(channel, HEALTH)[0], CODE.OK)
                for path in [*self.paths, "/weir.v1.VolumeService/NoSuchMethod", "/weir.v1.NoSuchService/Io"]:
                    with self.subTest(server=server, certificate=name, path=path):
                        may = bool(who_may().get(path, {"admin"}) & roles)
                        calls[may] += 1
                        self.check(server, path, may, roles, *self.call(channel, path))
        self.assertEqual(bytes(handle.pread(4, 0)), b"kept")
        self.assertEqual(self.looked_at(), before, "nothing was changed by a request that is for nothing")
        handle.shutdown()
        print(f"  {calls[True]} calls let in, {calls[False]} refused")

    def check(self, server, path, may, roles, code, details):
        if not may:
            self.assertEqual(code, CODE.PERMISSION_DENIED, details)
            self.assertIn("the caller's certificate has", details)
            for role in roles or {"no role"}:
                self.assertIn(role, details.split("certificate has")[1])
        elif path in self.paths and path.split("/")[1] in SERVES[server]:
            self.assertNotIn(code, (CODE.PERMISSION_DENIED, CODE.UNIMPLEMENTED, CODE.UNAVAILABLE, CODE.DEADLINE_EXCEEDED), details)
        else:
            self.assertEqual(code, CODE.UNIMPLEMENTED, details)

    def test_without_a_certificate_nothing_is_answered(self):
        for server in SERVES:
            plain = grpc.insecure_channel(self.addresses[server])
            self.addCleanup(plain.close)
            for how, channel in (("no certificate", self.channel(server)), ("plain text", plain)):
                for path in [*self.paths, HEALTH]:
                    with self.subTest(server=server, how=how, path=path):
                        code, details = self.call(channel, path)
                        self.assertEqual(code, CODE.UNAVAILABLE, details)


class PlainTextTest(unittest.TestCase):
    def test_other_machines_are_served_in_plain_text_only_if_that_is_said(self):
        binaries = os.path.join(os.environ.get("WEIR_PREFIX") or os.path.join(ROOT, "out"), "bin")
        with tempfile.TemporaryDirectory() as folder:
            for command in ([f"{binaries}/weir-replica", "--listen=0.0.0.0:0", f"--data_dirs={folder}/d"],
                            [f"{binaries}/weir-replica", "--listen=127.0.0.1:0", f"--data_dirs={folder}/d", "--metrics_listen=0.0.0.0:0"],
                            [f"{binaries}/weir-volume", "--listen=0.0.0.0:0", f"--catalog=embedded:{folder}/c"],
                            [f"{binaries}/weir-volume", "--listen=127.0.0.1:0", "--catalog=etcd:10.0.0.1:2379"],
                            [f"{binaries}/weir-volume", "--listen=127.0.0.1:0", f"--catalog=embedded:{folder}/c", "--metrics_listen=0.0.0.0:0"],
                            [f"{binaries}/weir-csi", "--mode=controller", f"--endpoint=unix:{folder}/csi.sock", "--frontends=127.0.0.1:1",
                             "--metrics_listen=0.0.0.0:0"]):
                refused = run(*command, check=False, timeout=20)
                self.assertNotEqual(refused.returncode, 0, command)
                self.assertIn("plain text", refused.stderr)


if __name__ == "__main__":
    unittest.main()
