"""Run by systemd_guest_test in a virtual machine, as a unit of the systemd that is its first process: OPERATIONS.md, "systemd", as it stands there.

One machine, with the addresses of the examples: a replica, a frontend with an embedded catalog, and NBD over TLS before it.
"""

import grp
import os
import pwd
import re
import shutil
import signal
import sys
import time
import unittest

from harness import ROOT, run, wait_until

import nbd

PREFIX = "/usr/local"
UNITS = os.path.join(PREFIX, "lib", "systemd", "system")
REPLICA, VOLUME, TLS = "weir-replica", "weir-volume", "weir-nbd-tls"
RESTART_SECONDS = {REPLICA: 5, VOLUME: 2}
# The machine is emulated, and may have little of the one that does it.
PATIENCE_SECONDS = 300
PATIENCE = "attach_deadline=5m\nclone_deadline=2m\n"
SOCKET = "/run/weir-volume/nbd.sock"
DEMO = f"nbd+unix:///demo?socket={SOCKET}"
CLIENT = "/mnt/vm1"
TLS_DEMO = f"nbds://fe1.example.org/demo?tls-certificates={CLIENT}"
DENIED = r"(?i)permission.denied|not permitted|\bEPERM\b|\bEACCES\b|read-only file system|bad system call|SIGSYS"
KERNEL_DENIED = r"audit: type=1326|apparmor=\"DENIED\""  # the former: a system call


def block(after):
    """The commands of OPERATIONS.md's first code block after this."""
    with open(os.path.join(ROOT, "OPERATIONS.md")) as f:
        rest = f.read().split(after, 1)[1]
    return [line.strip() for line in re.search(r"\n\n((?:    .*\n)+)", rest)[1].splitlines()]


def type_command(command):
    begun = time.monotonic()
    done = run("bash", "-c", command, cwd=ROOT, timeout=900)
    print(f"{time.monotonic() - begun:5.1f} s  {command}", flush=True)
    return done.stdout + done.stderr


def here(command):
    """What is typed for another machine, which is this one."""
    return re.sub(r"^scp (.*) \S+@[^:]+:", r"cp \1 ", re.sub(r"^ssh \S+@\S+ ", "", command))


def show(unit, *properties):
    lines = run("systemctl", "show", unit, *(f"--property={name}" for name in properties)).stdout.splitlines()
    return dict(line.split("=", 1) for line in lines)


def main_pid(unit):
    return int(show(unit, "MainPID")["MainPID"])


def journal(*arguments):
    return run("journalctl", "--no-pager", "--output=cat", *arguments).stdout


def edit(name, *changes):
    """Changes a file of /etc/weir; each change must be one."""
    path = os.path.join("/etc/weir", name)
    with open(path) as f:
        text = f.read()
    for pattern, new in changes:
        text, count = re.subn(pattern, new, text, flags=re.MULTILINE)
        assert count == 1, pattern
    with open(path, "w") as f:
        f.write(text)


def status_of(pid):
    with open(f"/proc/{pid}/status") as f:
        return {key: value.split() for key, value in (line.rstrip("\n").split(":", 1) for line in f)}


def inside(pid, *command, as_it=False):
    """Runs it with the file systems of a unit's process, as root or with the user and groups of that process."""
    status = status_of(pid)
    as_whom = (f"--reuid={status['Uid'][0]}", f"--regid={status['Gid'][0]}", f"--groups={','.join(status['Groups'] or status['Gid'][:1])}")
    return run("nsenter", f"--target={pid}", "--mount", *(("setpriv", *as_whom) if as_it else ()), *command, check=False)


def writable(pid):
    """The topmost folders that a unit's process could write to."""
    with open(f"/proc/{pid}/mountinfo") as f:
        mounts = [line.split() for line in f]
    places = {fields[4] for fields in mounts if "rw" in fields[5].split(",")} - {"/proc"}
    found = inside(pid, "find", *sorted(places), "-xdev", "-type", "d", "-writable", "-print", "-prune", as_it=True).stdout.split()
    return set(found)


def weirctl(*arguments, check=True):
    certs = os.path.join(ROOT, "certs")
    return run("weirctl", "--volume_addr=10.0.0.9:7700", f"--timeout={PATIENCE_SECONDS}", *arguments, check=check,
               timeout=2 * PATIENCE_SECONDS,
               env={**os.environ, "WEIR_TLS_CERT": f"{certs}/admin.pem", "WEIR_TLS_KEY": f"{certs}/admin.key", "WEIR_TLS_CA": f"{certs}/ca.pem"})


def qemu_io(*commands, user="member", check=True):
    """By the frontend's socket."""
    done = run("runuser", "-u", user, "--", "qemu-io", "-f", "raw", *(word for c in commands for word in ("-c", c)), DEMO, check=check,
               timeout=2 * PATIENCE_SECONDS)
    if check and re.search("failed|error", done.stdout + done.stderr):
        raise AssertionError(done.stdout + done.stderr)
    return done


class SystemdCase(unittest.TestCase):
    def await_started(self, unit, not_this=0):
        """Its process, not `not_this` any more."""
        wait_until(lambda: show(unit, "ActiveState")["ActiveState"] == "active" and main_pid(unit) not in (0, not_this), PATIENCE_SECONDS,
                   f"{unit} is active")
        return main_pid(unit)

    def await_served(self):
        wait_until(lambda: weirctl("replica", "list", check=False).stdout.count("SERVING") == 1, PATIENCE_SECONDS, "the replica serves")

    def is_confined(self, unit, pid, places):
        """What the kernel says of a process of `unit`, and what systemd says that it has made of each line of the unit's file."""
        status = status_of(pid)
        self.assertEqual((status["NoNewPrivs"], status["Seccomp"]), (["1"], ["2"]))
        for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
            self.assertEqual(int(status[name][0], 16), 0, name)
        self.assertNotEqual(os.readlink(f"/proc/{pid}/ns/mnt"), os.readlink("/proc/1/ns/mnt"))
        with open(f"/proc/{pid}/limits") as f:
            self.assertRegex(f.read(), r"Max core file size +0 +0 ")
        with open(f"/proc/{pid}/oom_score_adj") as f:
            self.assertEqual(f.read().strip(), "-500")
        self.assertEqual(writable(pid), {"/tmp", "/var/tmp", *places})
        for folder in ("/root", "/home", "/tmp"):
            with open(os.path.join(folder, "there"), "w"):
                self.assertEqual(inside(pid, "ls", "-A", folder).stdout, "", folder)
        self.assertEqual(inside(pid, "ls", "/dev/null", "/dev/ttyS0").stdout, "/dev/null\n", "not the machine's devices")
        self.assertNotEqual(inside(pid, "ls", "-d", "/proc/1", as_it=True).returncode, 0, "other processes")
        with open(os.path.join(UNITS, re.sub("@.*", "@", unit.removesuffix(".service")) + ".service")) as f:
            sandbox = f.read().split("# The sandbox.")[1]
        wanted = dict(re.findall(r"^(\w+)=(yes|strict|invisible|pid|native|private|00\d\d)$", sandbox, re.MULTILINE))
        self.assertGreater(len(wanted), 20)
        self.assertEqual(show(unit, *wanted), wanted)


# Names decide the order; each goes on where the one before has left the machine.
class SystemdTest(SystemdCase):
    def test_a_the_page_starts_them(self):
        with open("/proc/1/comm") as f:
            self.assertEqual(f.read().strip(), "systemd")
        for command in block("\n## TLS\n"):
            type_command(command)
        install, configure, *rest = block("\n## systemd\n")
        self.assertIn("ops/install --prefix=/usr/local", install)
        type_command(install.replace("ops/install", f"ops/install --from={os.environ['WEIR_PREFIX']}"))
        type_command(configure)
        for command in rest:
            type_command(command)
        type_command(self.for_a_frontend(configure))
        edit("volume.conf", (r"^catalog=.*$", "catalog=embedded:/var/lib/weir-volume/catalog"), (r"^replicas=.*$", "replicas=r1=10.0.0.1:7701"),
             (r"\Z", PATIENCE))
        for command in rest:
            type_command(self.for_a_frontend(command))
        for unit in (REPLICA, VOLUME):
            self.await_started(unit)
            self.assertEqual(show(unit, "UnitFileState", "WantedBy"), {"UnitFileState": "enabled", "WantedBy": "multi-user.target"})
        self.await_served()

    @staticmethod
    def for_a_frontend(command):
        return command.replace(REPLICA, VOLUME).replace("replica.conf", "volume.conf").replace("r1.", "fe1.")

    def test_b_members_of_its_group_use_its_socket(self):
        weirctl("volume", "create", "demo", "--size=64MiB", "--replica-count=1", "--min-in-sync=1")
        weirctl("volume", "attach", "demo")
        run("useradd", "--groups=weir-volume", "member")
        run("useradd", "stranger")
        qemu_io("write -P 0x5a 1M 1M", "flush", "read -P 0x5a 1M 1M")
        refused = qemu_io("read 0 4096", user="stranger", check=False)
        self.assertNotEqual(refused.returncode, 0)
        self.assertIn("Permission denied", refused.stderr)

    def test_c_they_are_confined(self):
        for unit, program, places in ((REPLICA, "weir-replica", ()), (VOLUME, "nbdkit", ("/run/weir-volume",))):
            with self.subTest(unit):
                pid = main_pid(unit)
                with open(f"/proc/{pid}/comm") as f:
                    self.assertEqual(f.read().strip(), program)
                self.assertEqual(status_of(pid)["Uid"], [str(pwd.getpwnam(unit).pw_uid)] * 4)
                self.is_confined(unit, pid, (f"/var/lib/{unit}", *places))
                with open(f"/proc/{pid}/limits") as f:
                    self.assertRegex(f.read(), r"Max open files +65536 +65536 ")
                run("systemd-analyze", "security", "--threshold=20", "--no-pager", unit + ".service")
        self.assertIn("Permission denied", inside(main_pid(VOLUME), "ls", "/var/lib/weir-replica", as_it=True).stderr)
        self.assertIn("Permission denied", inside(main_pid(REPLICA), "ls", "/var/lib/weir-volume", as_it=True).stderr)

    def test_d_other_machines_use_it_over_tls(self):
        for command in block("**NBD for other machines.**"):
            type_command(here(command))
        self.assertEqual(show(TLS + ".socket", "ActiveState", "UnitFileState", "WantedBy"),
                         {"ActiveState": "active", "UnitFileState": "enabled", "WantedBy": "sockets.target"})
        os.mkdir(CLIENT)
        for source, target in (("ca.pem", "ca-cert.pem"), ("vm1.pem", "client-cert.pem"), ("vm1.key", "client-key.pem")):
            shutil.copy(os.path.join(ROOT, "certs-nbd", source), os.path.join(CLIENT, target))
        self.assertIn("export-size: 67108864", run("nbdinfo", TLS_DEMO).stdout)
        done = run("qemu-io", "--object", f"tls-creds-x509,id=tls,endpoint=client,dir={CLIENT}", "--image-opts",
                   "-c", "read -P 0x5a 1M 1M", "-c", "write -P 0x3c 2M 1M", "-c", "flush", "-c", "read -P 0x3c 2M 1M",
                   "driver=nbd,server.type=inet,server.host=fe1.example.org,server.port=10809,export=demo,tls-creds=tls")
        self.assertNotRegex(done.stdout + done.stderr, "failed|error")
        qemu_io("read -P 0x3c 2M 1M")
        for uri in ("nbd://fe1.example.org/demo", "nbds://fe1.example.org/demo"):
            self.assertEqual(run("nbdinfo", uri, check=False).returncode, 1, uri)

    def test_e_each_connection_is_confined_and_leaves_nothing(self):
        wait_until(lambda: not self.connections(), PATIENCE_SECONDS, "nothing is left of those who have gone or were refused")
        handle = nbd.NBD()
        handle.set_uri_allow_local_file(True)
        handle.connect_uri(TLS_DEMO)
        (unit,) = self.connections()
        pid = main_pid(unit)
        status = status_of(pid)
        user_id = int(status["Uid"][0])
        self.assertTrue(61184 <= user_id <= 65519, f"{user_id} is one of systemd's dynamic users")
        self.assertIn(str(grp.getgrnam("weir-volume").gr_gid), status["Groups"])
        self.is_confined(unit, pid, ())
        self.assertNotEqual(os.readlink(f"/proc/{pid}/ns/net"), os.readlink("/proc/1/ns/net"))
        self.assertEqual(handle.pread(4096, 2 << 20), b"\x3c" * 4096)
        os.kill(pid, signal.SIGKILL)
        with self.assertRaises(nbd.Error):
            handle.pread(4096, 2 << 20)
        wait_until(lambda: not self.connections(), PATIENCE_SECONDS, "nothing is left of one that was killed either")

    @staticmethod
    def connections():
        lines = run("systemctl", "list-units", "--all", "--plain", "--no-legend", "--no-pager", TLS + "@*").stdout.splitlines()
        return [line.split()[0] for line in lines]

    def test_f_killed_they_start_again_with_their_data(self):
        for unit, seconds in RESTART_SECONDS.items():
            with self.subTest(unit):
                before = main_pid(unit)
                begun = time.monotonic()
                os.kill(before, signal.SIGKILL)
                self.await_started(unit, before)
                took = time.monotonic() - begun
                qemu_io("read -P 0x5a 1M 1M", "read -P 0x3c 2M 1M", "write -P 0x77 3M 64k", "flush")
                print(f"{unit} killed: started again after {took:.1f} s, read and written after {time.monotonic() - begun:.1f} s", flush=True)
                self.assertGreaterEqual(took, seconds)
                self.assertEqual(show(unit, "NRestarts"), {"NRestarts": "1"})
        self.assertIn("export-size: 67108864", run("nbdinfo", TLS_DEMO).stdout)

    def test_g_wrong_flags_are_not_tried_again(self):
        for unit, seconds in RESTART_SECONDS.items():
            name = unit.removeprefix("weir-") + ".conf"
            with self.subTest(unit):
                edit(name, (r"^listen=", "lissten="))
                run("systemctl", "restart", unit, check=False)
                wait_until(lambda: show(unit, "ActiveState")["ActiveState"] == "failed", PATIENCE_SECONDS, f"{unit} has failed")
                time.sleep(seconds + 3)
                self.assertEqual(show(unit, "ActiveState", "SubState", "Result", "ExecMainStatus", "NRestarts"),
                                 {"ActiveState": "failed", "SubState": "failed", "Result": "exit-code", "ExecMainStatus": "2", "NRestarts": "0"})
                self.assertIn("lissten", journal("--unit=" + unit))
                edit(name, (r"^lissten=", "listen="))
                run("systemctl", "start", unit)
                self.await_started(unit)
                qemu_io("read -P 0x77 3M 64k")

    def test_h_reload_takes_the_log_anew(self):
        for unit in (REPLICA, VOLUME):
            with self.subTest(unit):
                pid = main_pid(unit)
                with open(f"/etc/weir/{unit.removeprefix('weir-')}.conf", "a") as f:
                    f.write("log_format=json\n")
                run("systemctl", "reload", unit)
                wait_until(lambda: re.search(r'^\{.*"source":"reload.cc.*is good until 20\d\d-', journal("--unit=" + unit), re.MULTILINE), PATIENCE_SECONDS,
                           f"{unit} says until when its certificate is good, in JSON")
                self.assertEqual(main_pid(unit), pid)

    def test_i_a_disk_may_be_mounted_elsewhere(self):
        os.makedirs("/nvme0/weir")
        drop_in = "/etc/systemd/system/weir-replica.service.d"
        os.mkdir(drop_in)
        with open(os.path.join(drop_in, "override.conf"), "w") as f:
            f.write("[Service]\nReadWritePaths=/nvme0/weir\n")
        shutil.chown("/nvme0/weir", "weir-replica")
        run("systemctl", "daemon-reload")
        run("systemctl", "restart", REPLICA)
        self.assertEqual(writable(self.await_started(REPLICA)), {"/tmp", "/var/tmp", "/var/lib/weir-replica", "/nvme0/weir"})
        qemu_io("read -P 0x77 3M 64k")

    def test_j_they_stop_cleanly(self):
        qemu_io("write -P 0x11 4M 1M")
        for unit, seconds in ((VOLUME, 120), (REPLICA, 60)):
            with self.subTest(unit):
                begun = time.monotonic()
                run("systemctl", "stop", unit)
                took = time.monotonic() - begun
                print(f"{unit} stopped in {took:.1f} s", flush=True)
                self.assertLess(took, seconds)
                self.assertEqual(show(unit, "ActiveState", "Result", "ExecMainStatus"),
                                 {"ActiveState": "inactive", "Result": "success", "ExecMainStatus": "0"})
        self.assertFalse(os.path.exists(SOCKET))
        run("systemctl", "start", REPLICA, VOLUME)
        self.await_served()
        # Written, and not flushed by its client: by the detach.
        qemu_io("read -P 0x11 4M 1M")

    def test_k_nothing_was_denied_them(self):
        said = journal(f"--unit={REPLICA}", f"--unit={VOLUME}", f"--unit={TLS}@*", f"--unit={TLS}.socket")
        self.assertGreater(len(said.splitlines()), 20)
        for text, pattern in ((said, DENIED), (journal("--dmesg"), KERNEL_DENIED)):
            self.assertEqual([line for line in text.splitlines() if re.search(pattern, line)], [])
        self.assertEqual(run("systemctl", "--failed", "--plain", "--no-legend", "--no-pager").stdout, "")


if __name__ == "__main__":
    outcome = unittest.main(argv=[sys.argv[0], "-v"], failfast=True, exit=False, warnings="ignore").result
    if not outcome.wasSuccessful():
        print(journal("--boot", "--lines=200", "--unit=weir-*"))
    sys.exit(not outcome.wasSuccessful())
