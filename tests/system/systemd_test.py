"""ops/systemd: what systemd's own tools say of the units as they were installed, and what the programs do in them."""

import os
import re
import shutil
import signal
import subprocess
import tempfile
import unittest

from harness import ROOT, run, wait_until
from weir_ops import settings

import nbd

PREFIX = os.path.abspath(os.environ.get("WEIR_PREFIX") or os.path.join(ROOT, "out"))
BIN = os.path.join(PREFIX, "bin")
UNITS = os.path.join(PREFIX, "lib", "systemd", "system")
SERVICES = ("weir-replica", "weir-volume")
# Of it and its socket nbd_tls_test tries the command line.
TEMPLATE = "weir-nbd-tls@"
# Of 100; systemd calls up to 30 "OK". What is left is the network, and that the service is one of this machine.
EXPOSURE_MAX = 20


def unit(name):
    return os.path.join(UNITS, name + ".service")


def settings_of(name, key):
    with open(unit(name)) as f:
        return re.findall(rf"^{key}=(.*)$", f.read(), re.MULTILINE)


def calls_of(group):
    """The system calls of a group, groups in it too."""
    calls = set()
    for line in run("systemd-analyze", "syscall-filter", group).stdout.splitlines()[1:]:
        word = line.strip()
        if word.startswith("@"):
            calls |= calls_of(word)
        elif word and not word.startswith("#"):
            calls.add(word)
    return calls


def allowed_calls(name):
    calls = set()
    for group in settings_of(name, "SystemCallFilter"):
        if group.startswith("~"):
            calls -= calls_of(group[1:])
        else:
            calls |= calls_of(group)
    return calls


class UnitTest(unittest.TestCase):
    def test_systemd_takes_them(self):
        done = run("systemd-analyze", "verify", "--man=no", *map(unit, (*SERVICES, TEMPLATE)),
                   os.path.join(UNITS, "weir-nbd-tls.socket"))
        self.assertEqual(done.stdout + done.stderr, "")

    def test_they_give_little_away(self):
        for name in (*SERVICES, TEMPLATE):
            with self.subTest(name):
                run("systemd-analyze", "security", "--offline=true", f"--threshold={EXPOSURE_MAX}", "--no-pager", unit(name))

    def test_a_mistake_would_be_found(self):
        with tempfile.TemporaryDirectory(prefix="weir-unit-") as folder:
            with open(unit("weir-replica")) as f:
                text = f.read()
            path = os.path.join(folder, "weir-replica.service")
            for wrong in (text.replace("NoNewPrivileges", "NoNewPrivilege"), text.replace(BIN, "/nowhere/bin")):
                with open(path, "w") as f:
                    f.write(wrong)
                done = run("systemd-analyze", "verify", "--man=no", path, check=False)
                self.assertNotEqual(done.stdout + done.stderr, "")
            with open(path, "w") as f:
                f.write(re.sub(r"(?m)^SystemCallFilter=.*$|^CapabilityBoundingSet=$", "", text))
            done = run("systemd-analyze", "security", "--offline=true", f"--threshold={EXPOSURE_MAX}", "--no-pager", path, check=False)
            self.assertNotEqual(done.returncode, 0)

    def test_they_run_as_users_of_their_own(self):
        with open(os.path.join(PREFIX, "lib", "sysusers.d", "weir.conf")) as f:
            text = f.read()
        users = re.findall(r"^u (\S+)", text, re.MULTILINE)
        with tempfile.TemporaryDirectory(prefix="weir-users-") as root:
            os.makedirs(os.path.join(root, "etc", "sysusers.d"))
            with open(os.path.join(root, "etc", "sysusers.d", "weir.conf"), "w") as f:
                f.write(text)
            run("systemd-sysusers", f"--root={root}")
            with open(os.path.join(root, "etc", "passwd")) as f:
                self.assertLessEqual(set(users), {line.split(":")[0] for line in f})
        self.assertEqual([settings_of(name, "User")[0] for name in SERVICES], users)

    def test_every_flag_is_one_that_its_program_has(self):
        for name in SERVICES:
            with self.subTest(name):
                (program, *flags), = (line.split() for line in settings_of(name, "ExecStart"))
                self.assertEqual(program, os.path.join(BIN, name))
                example = os.path.join(PREFIX, "share", "weir", name.removeprefix("weir-") + ".conf")
                self.assertEqual(flags, [f"--config=/etc/weir/{os.path.basename(example)}"])
                # Its addresses and folders are not ours: 1. A flag that there is not, or a line that is none: 2.
                done = run(program, f"--config={example}", "--check_config", check=False)
                self.assertEqual(done.returncode, 1, done.stderr)


class SystemCallTest(unittest.TestCase):
    """There is no systemd to start them here; strace says whether the sandbox would have been in the way."""

    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="weir-calls-")
        self.addCleanup(shutil.rmtree, self.folder)
        self.port = settings.free_port_base(4)

    def start(self, name, *flags):
        """The program, under strace; what it called is in FOLDER/NAME.calls."""
        process = subprocess.Popen(["strace", "-f", "-qq", "-o", f"{self.folder}/{name}.calls", os.path.join(BIN, name), *flags],
                                   stderr=subprocess.DEVNULL)
        self.addCleanup(self.end, process)
        return process

    @staticmethod
    def end(process):
        """By its program, which strace then follows."""
        if process.poll() is None:
            with open(f"/proc/{process.pid}/task/{process.pid}/children") as f:
                os.kill(int(f.read().split()[0]), signal.SIGTERM)
        process.wait(120)

    def calls(self, name):
        with open(f"{self.folder}/{name}.calls") as f:
            text = f.read()
        self.assertNotRegex(text, r"PROT_WRITE\|PROT_EXEC", "MemoryDenyWriteExecute= forbids it")
        families = set(re.findall(r"socket\((\w+),", text))
        self.assertLessEqual(families, set(settings_of(name, "RestrictAddressFamilies")[0].split()))
        return set(re.findall(r"^\d+ +(?:<\.\.\. )?(\w+)(?:\(| resumed)", text, re.MULTILINE))

    def test_what_they_call_is_allowed_them(self):
        replica, volume, metrics = (f"127.0.0.1:{self.port + i}" for i in range(3))
        socket = f"{self.folder}/nbd.sock"
        processes = [self.start("weir-replica", "--name=r1", f"--listen={replica}", f"--data_dirs={self.folder}/d0,{self.folder}/d1",
                                f"--metrics_listen=127.0.0.1:{self.port + 3}"),
                     self.start("weir-volume", f"--catalog=embedded:{self.folder}/catalog", f"--listen={volume}",
                                f"--replicas=r1={replica}", f"--metrics_listen={metrics}", f"--nbd_socket={socket}")]
        ctl = [os.path.join(BIN, "weirctl"), f"--volume_addr={volume}"]
        wait_until(lambda: run(*ctl, "volume", "list", check=False).returncode == 0, 60, "the frontend serves")
        wait_until(lambda: run(*ctl, "volume", "create", "demo", "--size=64MiB", "--replica-count=1", "--min-in-sync=1",
                               check=False).returncode == 0, 60, "the volume is made")
        handle = nbd.NBD()
        handle.connect_uri(f"nbd+unix:///demo?socket={socket}")
        for offset in range(0, 32 << 20, 1 << 20):
            handle.pwrite(os.urandom(1 << 20), offset)
        handle.flush()
        handle.pread(1 << 20, 0)
        handle.trim(1 << 20, 0)
        handle.shutdown()
        run("curl", "-sf", f"http://{metrics}/metrics", f"http://{metrics}/readyz")
        for process in processes[::-1]:
            self.end(process)
            self.assertEqual(process.returncode, 0)
        for name in SERVICES:
            with self.subTest(name):
                calls = self.calls(name)
                self.assertIn("fdatasync" if name == "weir-replica" else "sendmsg", calls)
                self.assertEqual(calls - allowed_calls(name), set())


if __name__ == "__main__":
    unittest.main()
