"""OPERATIONS.md, "Three machines, step by step", as it stands there, on three virtual machines; then machines lose their power. With --full.

Each has a systemd, a name, an address and disks of its own, and Debian's packages. Their network is a multicast group on the loopback device: nothing
leaves this machine.
"""

import os
import re
import select
import shlex
import shutil
import socket
import subprocess
import threading
import time
import unittest

from harness import ROOT, run, wait_until
from virtual_machine import VirtualMachineTest, fetch_package
from weir_ops import settings

PREFIX = os.path.realpath(os.environ.get("WEIR_PREFIX") or os.path.join(ROOT, "out"))
CLIENT = os.path.join(ROOT, "tests", "system", "three_machines_client.py")
SOCKET_URI = "nbd+unix:///demo?socket=/run/weir-volume/nbd.sock"
MODULES = ("overlay", "autofs4", "crc32c_generic", "ext4", "virtio_blk", "virtio_net", "virtio_console", "nvme")
# What machines of their own have beside what the tests need.
PACKAGES = ("udev", "kmod", "openssh-server", "libwrap0")
# They are emulated, and may have little of the machine that does it.
BOOT_SECONDS, COMMAND_SECONDS, HEAL_SECONDS = 600, 300, 300
# A member that says nothing any more is given up after --clone_deadline, 10 s, and --leave_after; a takeover waits --give_up_after and a lease and a
# quarter: 6 s. With what an emulated machine needs beside.
STALL_SECONDS_MAX, TAKEOVER_SECONDS_MAX = 30, 60

# The root is this machine's, on top of which a guest writes to a disk of its own; it begins with nothing of what this machine has enabled.
INIT = """
busybox mkdir /disk /merged
machine=$(busybox sed 's/.*weir.machine=\\([0-9]*\\).*/\\1/' /proc/cmdline)
busybox mount -t ext4 /dev/vda /disk
busybox mkdir -p /disk/upper /disk/work
busybox mount -t overlay -o lowerdir=/host,upperdir=/disk/upper,workdir=/disk/work overlay /merged
if ! [ -e /disk/made ]; then
  cd /merged
  # By it systemd would take the guest for a container.
  busybox rm -f .dockerenv
  busybox rm -rf etc/systemd/system
  busybox mkdir -p etc/systemd/system/multi-user.target.wants root/.ssh
  for unit in systemd-tmpfiles-setup.service systemd-sysusers.service systemd-remount-fs.service systemd-firstboot.service getty.target \\
    systemd-modules-load.service systemd-binfmt.service proc-sys-fs-binfmt_misc.automount systemd-update-utmp.service timers.target; do
    busybox ln -s /dev/null etc/systemd/system/$unit
  done
  busybox cp -a /host@FOLDER@/packages/. .
  busybox cp /host@FOLDER@/key root/.ssh/id_ed25519
  busybox cp /host@FOLDER@/key.pub root/.ssh/authorized_keys
  busybox cp /host@FOLDER@/key etc/ssh/ssh_host_ed25519_key
  busybox chmod 0600 root/.ssh/id_ed25519 etc/ssh/ssh_host_ed25519_key
  busybox echo 'StrictHostKeyChecking accept-new' >root/.ssh/config
  busybox echo 'sshd:x:990:65534::/run/sshd:/usr/sbin/nologin' >>etc/passwd
  busybox echo machine$machine >etc/hostname
  busybox printf "127.0.0.1 localhost\\n10.0.0.$machine machine$machine\\n" >etc/hosts
  busybox printf '%032x\\n' $machine >etc/machine-id
  for name in sshd typed1 typed2; do
    busybox ln -s ../guest-$name.service etc/systemd/system/multi-user.target.wants/
  done
  busybox cat >etc/systemd/system/guest-sshd.service <<END
[Service]
RuntimeDirectory=sshd
ExecStart=/usr/sbin/sshd -D -e -f /dev/null -o UsePAM=no -o "Subsystem=sftp internal-sftp"
END
  for number in 1 2; do
    until port=$(busybox ls /dev/vport*p$number); do busybox sleep 0.1; done
    busybox cat >etc/systemd/system/guest-typed$number.service <<END
[Service]
Environment=PYTHONDONTWRITEBYTECODE=1 LC_ALL=C.UTF-8 HOME=/root
Environment=PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
ExecStart=/bin/bash
WorkingDirectory=@ROOT@
StandardInput=file:$port
StandardOutput=file:$port
StandardError=inherit
END
  done
  cd /
  busybox touch /disk/made
fi
busybox ifconfig lo 127.0.0.1 up
busybox ifconfig eth0 10.0.0.$machine netmask 255.255.255.0 up
for folder in proc sys dev; do busybox mount -o move /$folder /merged/$folder; done
exec busybox switch_root /merged /usr/lib/systemd/systemd
"""


def section():
    with open(os.path.join(ROOT, "OPERATIONS.md")) as f:
        return f.read().split("\n### Three machines, step by step\n")[1].split("\n## ")[0]


def commands(block):
    """Its commands, each of them whole: a loop, or what has a text after it, is one."""
    whole = ""
    for line in block.splitlines(keepends=True):
        whole += line
        judged = run("bash", "-n", "-c", whole, check=False)
        if not (judged.returncode or judged.stderr or whole.endswith("\\\n")):
            yield whole.strip()
            whole = ""
    assert not whole, whole


class Typed:
    """A shell of a guest, on a port of it that whoever sits there would type at. Closed with the guest."""

    def __init__(self, path):
        """The port, once it is there."""
        self.said = b""
        self.socket = socket.socket(socket.AF_UNIX)
        wait_until(lambda: self.socket.connect_ex(path) == 0, 30, f"{path} is there")

    def send(self, text):
        self.socket.sendall(text.encode())

    def read_until(self, pattern, seconds, what):
        """The match, of what was said since the last one."""
        deadline = time.monotonic() + seconds
        while not (found := re.search(pattern, self.said)):
            if not select.select([self.socket], [], [], max(deadline - time.monotonic(), 0))[0]:
                raise AssertionError(f"{what}: not within {seconds} s\n{self.said.decode(errors='replace')}")
            read = self.socket.recv(1 << 16)
            if not read:
                raise ConnectionError(f"{what}: the machine is off")
            self.said += read
        self.said = self.said[found.end():]
        return found

    def type(self, command, seconds=COMMAND_SECONDS, check=True):
        """What it said; with `check` its exit code must be 0, else it is returned too."""
        # It must not read what is typed next.
        self.send(f"eval {shlex.quote(command)} </dev/null; printf '\\nended %d\\n' $?\n")
        found = self.read_until(rb"(?s)^(.*?)\nended (\d+)\n", seconds, command)
        said, code = found[1].decode(errors="replace"), int(found[2])
        if check and code:
            raise AssertionError(f"{command}: exit code {code}\n{said}")
        return said if check else (code, said)


class Machine:
    """A guest with its disks, which may lose its power and be started again."""

    def __init__(self, test, number, network):
        self.test, self.number = test, number
        self.process = None
        self.console = os.path.join(test.folder, f"console{number}")
        self.ports = [os.path.join(test.folder, f"port{number}.{p}") for p in (1, 2)]
        root, *own = [os.path.join(test.folder, f"disk{number}.{name}") for name in ("root", "d0", "d1")]
        for path in (root, *own):
            with open(path, "wb") as f:
                f.truncate(2 << 30)
        run("mkfs.ext4", "-q", root)
        self.devices = ["-netdev", f"socket,id=net,mcast={network},localaddr=127.0.0.1",
                        "-device", f"virtio-net-pci,netdev=net,mac=52:54:00:00:00:0{number},romfile=",
                        "-drive", f"file={root},if=none,id=root,format=raw", "-device", "virtio-blk-pci,drive=root",
                        "-device", "virtio-serial-pci"]
        for d, path in enumerate(own):
            self.devices += ["-drive", f"file={path},if=none,id=d{d},format=raw", "-device", f"nvme,drive=d{d},serial=d{d}"]
        for p, path in enumerate(self.ports, 1):
            self.devices += ["-chardev", f"socket,id=p{p},path={path},server=on,wait=off", "-device", f"virtserialport,chardev=p{p},nr={p}"]

    def power_on(self):
        """Does not wait until it is up: see await_up."""
        self.process = self.test.start(self.test.initramfs, self.console, processors=1, memory_mib=1024, devices=self.devices,
                                       command_line=f"weir.machine={self.number} net.ifnames=0 systemd.unit=multi-user.target systemd.show_status=error")
        self.shell, self.second = [self.connect(path) for path in self.ports]

    def connect(self, path):
        port = Typed(path)
        self.test.addCleanup(port.socket.close)
        return port

    def await_up(self):
        """Types at once: until somebody reads it waits in qemu."""
        for port in (self.shell, self.second):
            port.type(":", BOOT_SECONDS)

    def cut_power(self):
        self.process.kill()
        self.process.wait()
        for path in self.ports:
            os.unlink(path)


class Client(threading.Thread):
    """three_machines_client.py on a machine: the rounds whose flush was answered, and the longest request of each."""

    def __init__(self, machine, first):
        super().__init__()
        self.port, self.first = machine.second, first
        self.rounds, self.error = [], None
        self.port.send(f"exec /usr/bin/python3 -B {CLIENT} write '{SOCKET_URI}' {first} 2>&1\n")
        self.start()

    def run(self):
        try:
            while True:
                found = self.port.read_until(rb"(round (\d+) longest ([\d.]+)|.*Error.*)\n", 2 * STALL_SECONDS_MAX, "a round of the client")
                if found[2] is None:
                    self.error = found[1].decode()
                    return
                self.rounds.append((int(found[2]), float(found[3])))
        except (AssertionError, OSError) as error:
            self.error = str(error)

    def await_rounds(self, count):
        """Goes on by so many; the longest request of those."""
        first = len(self.rounds)
        wait_until(lambda: len(self.rounds) >= first + count or self.error, 2 * STALL_SECONDS_MAX + 5 * count, f"{count} rounds of the client")
        if self.error:
            raise AssertionError(self.error)
        return self.longest_since(first)

    def longest_since(self, first):
        return max(longest for _, longest in self.rounds[first:])


class ThreeMachinesTest(VirtualMachineTest):
    seconds_max = 3000

    def setUp(self):
        super().setUp()
        packages = os.path.join(self.folder, "packages")
        os.mkdir(packages)
        for name in PACKAGES:
            why = fetch_package(name, packages)
            if why:
                self.skipTest(why)
        # On Debian /lib is a name of /usr/lib.
        for name in ("lib", "sbin", "bin"):
            if os.path.isdir(os.path.join(packages, name)):
                shutil.copytree(os.path.join(packages, name), os.path.join(packages, "usr", name), symlinks=True, dirs_exist_ok=True)
                shutil.rmtree(os.path.join(packages, name))
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", os.path.join(self.folder, "key"))
        init = INIT.replace("@FOLDER@", self.folder).replace("@ROOT@", ROOT)
        self.initramfs = self.make_initramfs(init, MODULES, ())
        network = f"239.255.77.1:{settings.free_port_base(1, [])}"
        self.machines = [Machine(self, number, network) for number in (1, 2, 3)]
        self.begun = time.monotonic()

    def say(self, text):
        print(f"{time.monotonic() - self.begun:7.1f} s  {text}", flush=True)

    def type_block(self, machine, block, change=lambda command: command):
        for command in commands(block):
            begun = time.monotonic()
            machine.shell.type(change(command))
            self.say(f"machine{machine.number}, {time.monotonic() - begun:.1f} s: {command.splitlines()[0].partition('  #')[0]}")

    def on_all(self, act):
        """At once, as machines of their own are; each failure is told."""
        errors = []

        def guarded(machine):
            try:
                act(machine)
            except Exception as error:  # of any kind: it is the test's, in another thread
                errors.append(f"machine{machine.number}: {error}")

        threads = [threading.Thread(target=guarded, args=(machine,)) for machine in self.machines]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(errors, [])

    def type(self, command):
        """On the second machine, which has the authorities."""
        return self.machines[1].shell.type(command)

    def await_said(self, command, words):
        """Typed again and again until the answer has these words; after how many seconds."""
        begun, last = time.monotonic(), [""]

        def said():
            last[0] = self.machines[1].shell.type(command, check=False)[1]
            return words in last[0]

        try:
            wait_until(said, HEAL_SECONDS, f"{command}: {words}")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{last[0]}") from None
        return time.monotonic() - begun

    def test_three_machines_as_the_page_says(self):
        try:
            self.are_installed()
            self.the_third_loses_its_power()
            self.the_first_loses_its_power()
            self.all_lose_their_power()
        except Exception:
            self.say_what_they_say()
            raise

    def are_installed(self):
        blocks = [re.sub("^    ", "", block, flags=re.MULTILINE) for block in re.findall(r"(?:^    .*\n)+", section(), re.MULTILINE)]
        on_each, authorities, configure, first, plugs = blocks
        self.export, replicas, create, attach, connected, ready = commands(first)
        self.explain, self.attach_elsewhere, self.explain_elsewhere, self.scrub = commands(plugs)
        for machine in self.machines:
            machine.power_on()
        self.on_all(Machine.await_up)
        self.say("all are up")
        self.assertIn("ops/install --prefix=/usr/local", on_each)
        self.on_all(lambda m: self.type_block(m, on_each, lambda c: c.replace("ops/install", f"ops/install --from={PREFIX}")))
        self.type_block(self.machines[1], authorities)
        self.assertIn("i=1;", configure)
        self.on_all(lambda m: self.type_block(m, configure, lambda c: re.sub("^i=1;", f"i={m.number};", c)))
        self.type(self.export)
        for name in ("r1", "r2", "r3"):
            self.await_said(f"{replicas.partition('#')[0]} | grep '^{name} '", "SERVING")
        self.type(create)
        self.type(attach)
        self.await_said(connected, "all 3 replicas are connected")
        self.assertEqual(self.type(ready).split(), ["ok", "ok"])
        nbdinfo = re.search(r"on the first machine `(nbdinfo [^`]*)`", section())[1]
        self.assertIn(f"export-size: {1 << 30}", self.machines[0].shell.type(nbdinfo))
        self.say("the volume is served")

    def the_third_loses_its_power(self):
        self.client = Client(self.machines[0], 1)
        self.say(f"a client on the first machine: longest request {self.client.await_rounds(50):.2f} s")
        first = len(self.client.rounds)
        self.machines[2].cut_power()
        took = self.await_said(self.explain, "replica r3 has left")
        self.client.await_rounds(20)
        self.say(f"machine 3 is off: r3 has left after {took:.1f} s, longest request {self.client.longest_since(first):.2f} s")
        self.client.await_rounds(50)
        back = len(self.client.rounds)
        self.heals(self.machines[2])
        self.client.await_rounds(20)
        self.say(f"longest request since it was on again {self.client.longest_since(back):.2f} s")
        self.assertLess(self.client.longest_since(first), STALL_SECONDS_MAX)

    def heals(self, machine):
        """Starts it again: all three replicas are in sync after a while, by itself."""
        begun = time.monotonic()
        machine.power_on()
        machine.await_up()
        up = time.monotonic() - begun
        self.await_said(self.explain, "all 3 replicas are connected")
        self.say(f"machine {machine.number} is on: up after {up:.1f} s, all 3 replicas are connected after {time.monotonic() - begun:.1f} s")

    def the_first_loses_its_power(self):
        first = self.machines[0]
        first.cut_power()
        begun = time.monotonic()
        self.type(self.attach_elsewhere)
        self.explain = self.explain_elsewhere  # from now on the second has it
        took = time.monotonic() - begun
        self.say(f"machine 1 is off: the volume is attached on machine 2 after {took:.1f} s")
        self.assertLess(took, TAKEOVER_SECONDS_MAX)
        self.look()
        self.client = Client(self.machines[1], self.client.rounds[-1][0] + 1000)
        self.client.await_rounds(40)
        self.heals(first)
        # Its frontend does not take the volume back.
        self.await_said("weirctl --volume_addr=10.0.0.1:7700 volume show demo", "fe2 10.0.0.2:7700")
        self.say(self.type(self.scrub).strip().splitlines()[-1])
        self.client.await_rounds(40)

    def look(self):
        """What the client has left, on the second machine."""
        self.client.join()
        first, (flushed, _) = self.client.first, self.client.rounds[-1]
        newest = self.machines[1].shell.type(f"/usr/bin/python3 -B {CLIENT} check '{SOCKET_URI}' {first} {flushed}").split()[-1]
        self.say(f"all that was flushed is there: round {flushed}, and of later ones up to {newest}")

    def all_lose_their_power(self):
        for machine in self.machines:
            machine.cut_power()
        begun = time.monotonic()
        for machine in self.machines:
            machine.power_on()
        self.on_all(Machine.await_up)
        self.say(f"all are off and on again: up after {time.monotonic() - begun:.1f} s")
        self.type(self.export)
        wait_until(lambda: self.machines[1].shell.type(self.attach_elsewhere, check=False)[0] == 0, HEAL_SECONDS, "the volume is attached again")
        self.say(f"the volume is attached on machine 2 after {time.monotonic() - begun:.1f} s")
        self.look()
        self.await_said(self.explain, "all 3 replicas are connected")
        self.say(f"all 3 replicas are connected after {time.monotonic() - begun:.1f} s")

    def say_what_they_say(self):
        """For whoever reads of a failure."""
        for machine in self.machines:
            if machine.process is None or machine.process.poll() is not None:
                continue
            try:
                said = machine.shell.type("journalctl --no-pager --boot --lines=60 --unit=weir-* --unit=etcd --unit=guest-*; systemctl --failed --no-pager", 60,
                                          check=False)[1]
            except (AssertionError, OSError) as error:
                with open(machine.console, errors="replace") as f:
                    said = f"{error}\n{f.read()[-4000:]}"
            print(f"machine{machine.number}:\n{said}", flush=True)


if __name__ == "__main__":
    unittest.main()
