"""The cluster of a chaos run, the clients that use it, and what can be done to it.

Nothing here decides: faults.py says what is done and when, chaos.py judges.
"""

import json
import os
import random
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time

HERE = os.path.dirname(os.path.realpath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path[:0] = [HERE, os.path.join(ROOT, "ops")]

import proxy  # noqa: E402
from weir_ops import cluster as cluster_lib  # noqa: E402
from weir_ops import processes  # noqa: E402

VOLUME = "chaos"
SIZE_MIB = 64
BLOCK = 4096
# Above what a fault keeps a replica away, so that a place is given away only if its disk is gone.
REPLACE_AFTER_SECONDS = 15
HEAL_SECONDS_MAX = 90
# Far above what a move takes, the lease (3 s) and a lost vote of etcd included.
FIRST_IO_SECONDS_MAX = 20
REFUSED_SECONDS_MAX = 15
# Of the small disk: far above what the volume and its logs take.
DISK_MIB = 1024
# What is left when it is full: below the replica's reserve and margin (64 MiB each), above the reserve.
FULL_MIB = 110
SPACE_SECONDS_MAX = 30
# Far above --flush_interval (1 s): something is written and synced all the time.
STORE_FAILS_SECONDS_MAX = 20
# Files are read every second.
RENEWED_SECONDS_MAX = 20


class Failed(Exception):
    """The run has shown something that must not be."""


class Clients:
    """tests/chaos:driver, and what it has said last."""

    def __init__(self, argv, log_path, say):
        self._say = say
        self.counts = {}
        self.reports = 0
        self.errors = []
        self.violation = None
        self._longest = 0
        self._verified = threading.Event()
        with open(log_path, "w") as log:
            self._process = subprocess.Popen(
                argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self):
        for line in self._process.stdout:
            kind, _, rest = line.strip().partition(" ")
            if kind == "counts":
                self.counts = {k: int(v) for k, v in (item.split("=") for item in rest.split())}
                self.reports += 1
                self._longest = max(self._longest, self.counts["longest_ms"], self.counts["oldest_ms"])
            elif kind == "verified":
                self._verified.set()
            elif kind == "violation":
                self.violation = rest
                self._say(f"VIOLATION {rest}")
            elif kind == "trail":
                self._say(f"TRAIL {rest}")
            elif kind == "error":
                self.errors.append(rest)
                self._say(f"ERROR {rest}")

    def take_longest(self):
        """The longest that a request has waited since the last call, in ms."""
        longest, self._longest = self._longest, 0
        return longest

    def check(self):
        if self.violation:
            raise Failed(self.violation)
        if self._process.poll() is not None:
            raise Failed(f"the clients' program has ended with {self._process.returncode}")

    def no_space(self, may_be):
        """From now on a write may fail with ENOSPC, or may not."""
        self._tell("full" if may_be else "space")

    def await_report(self):
        """The second report from now on was begun after it."""
        seen = self.reports
        while self.reports < seen + 2:
            self.check()
            time.sleep(0.02)
        return self.counts

    def _tell(self, command):
        try:
            self._process.stdin.write(command + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            self.check()

    def use(self, frontend):
        """New connections go there from now on."""
        self._tell(f"use {frontend}")

    def verify(self, seconds):
        self._verified.clear()
        self._tell("verify")
        if not self._verified.wait(seconds):
            raise Failed(f"the volume could not be read as a whole within {seconds} s")

    def finish(self, seconds):
        """Ends them; True if they ended by themselves and well."""
        if self._process.poll() is None:
            self._tell("finish")
        try:
            code = self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            return False
        self._reader.join(10)
        return code == 0


class World:
    """Three replicas, each behind a link of its own, frontends, and etcd, behind links too, if it is the catalog. The last
    replica's disk is a small one, if we may mount it. close() stops all, unmount() ends the disk."""

    def __init__(self, directory, catalog, tls, say):
        self.dir = directory
        self.say = say
        self.network = proxy.Network()
        self.cluster = cluster_lib.Cluster(directory, say=lambda text: None)
        self.catalog = catalog
        self.tls = tls
        self.replicas = []
        self.etcds = []
        self.frontends = []
        self.frontend = "volume"  # which the clients use
        self.links = {}
        self.clients = None
        # Killed or stopped by us, so that whoever else ends is noticed.
        self._down = set()
        self.frontend_ended = False  # since the caller has looked
        self._unanswered = 0
        self.small_disk = None  # whose
        self.builds = []        # folders of binaries, of which each process that is started has any
        self._build_dice = None
        self.first_io_ms = {}   # what was waited for -> the longest

    def up(self, prefix, other, seed):
        """`other`: of another build, or None."""
        self.builds = [os.path.join(os.path.abspath(p), "bin") for p in (prefix, other) if p]
        self._build_dice = random.Random(seed)
        asked = {"volume": VOLUME, "size": f"{SIZE_MIB}MiB", "catalog": self.catalog, "tls": self.tls,
                 "frontends": 2 if self.catalog == "etcd" else 1, "replica_flags": ["--enable_fault_injection"]}
        with self.cluster.locked():
            self.cluster.configure(asked, prefix)
            self.replicas = self.cluster.replica_names()
            self.etcds = self.cluster.etcd_names()
            self.frontends = self.cluster.frontend_names()
            for name in self.replicas + self.etcds:
                host, port = self.cluster.address(name).rsplit(":", 1)
                self.links[name] = self.network.link(host, int(port))
            ends = {name: f"127.0.0.1:{link.port}" for name, link in self.links.items()}
            # The last of two flags counts.
            self.cluster.settings.volume_flags = [
                "--replicas=" + ",".join(f"{name}={ends[name]}" for name in self.replicas),
                f"--replace_after={REPLACE_AFTER_SECONDS}s"]
            if self.etcds:
                self.cluster.settings.volume_flags.append("--catalog=etcd:" + ",".join(ends[e] for e in self.etcds))
            self._mount_small_disk(self.replicas[-1])
            self.cluster.up(120)

    def _mount_small_disk(self, name):
        path = self.cluster.path(name)
        os.makedirs(path)
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m", "tmpfs", path], capture_output=True,
                              text=True)
        if done.returncode == 0:
            self.small_disk = name
        else:
            self.say(f"no disk will be full: {done.stderr.strip()}")

    def unmount(self, keep):
        """After close(). `keep`: a copy of what is on it takes its place."""
        if self.small_disk is None:
            return
        path, self.small_disk = self.cluster.path(self.small_disk), None
        if keep:
            shutil.copytree(path, path + ".kept")
        subprocess.run(["umount", "-l", path], check=True)
        if keep:
            os.rmdir(path)
            os.rename(path + ".kept", path)

    def start_clients(self, driver, seed, rate):
        frontends = [f"--frontend={name},{self.cluster.address(name)},{self.cluster.nbd_uri(name)}"
                     for name in self.frontends]
        # As an administrator's, whose certificate the cluster has anyway.
        tls = [f"--tls_{what}={path}" for what, path in zip(("cert", "key", "ca"), self.cluster.tls_files("admin"))] if self.tls else []
        self.clients = Clients(
            [driver, *frontends, f"--volume={VOLUME}", f"--blocks={SIZE_MIB * (1 << 20) // BLOCK}", f"--seed={seed}", f"--rate={rate}", *tls],
            self.cluster.path("log", "clients.log"), self.say)

    def close(self):
        for name in self.cluster.names():
            self._signal(name, signal.SIGCONT)
        self.cluster.down()
        self.network.close()

    def take_unanswered(self):
        """Requests whose connection broke, since the last call."""
        before, self._unanswered = self._unanswered, self.clients.counts["unanswered"]
        return self._unanswered - before

    def certificates(self):
        """Whose there are."""
        return list(self.cluster.certificate_roles()) if self.tls else []

    def renew_certificates(self, names):
        """Those of them that listen are to show them soon."""
        self.say(f"new certificates: {', '.join(names)}")
        listening = [name for name in names if name != "admin" and self._shown_certificate(name)]
        for name in names:
            self.cluster.make_certificate(name)
        deadline = time.monotonic() + RENEWED_SECONDS_MAX
        for name in listening:
            with open(self.cluster.tls_files(name)[0]) as f:
                new = ssl.PEM_cert_to_DER_cert(re.search("-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", f.read(), re.DOTALL)[0])
            while self._shown_certificate(name) != new:
                if time.monotonic() > deadline:
                    raise Failed(f"{name} does not show its new certificate after {RENEWED_SECONDS_MAX} s")
                self.pause(0.1)

    def _shown_certificate(self, name):
        """To a stranger; None: nobody listens."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.set_alpn_protocols(["h2"])
        host, port = self.cluster.address(name).rsplit(":", 1)
        try:
            with socket.create_connection((host, int(port)), 5) as plain, context.wrap_socket(plain) as connection:
                return connection.getpeercert(binary_form=True)
        except OSError:
            return None

    # --- time ---

    def pause(self, seconds):
        """Lets the clients work; raises Failed as soon as they have seen what must not be."""
        deadline = time.monotonic() + seconds
        while True:
            self.clients.check()
            self._check_processes()
            left = deadline - time.monotonic()
            if left <= 0:
                return
            time.sleep(min(left, 0.1))

    def _check_processes(self):
        running = self.cluster.running()
        for name in self.cluster.names():
            if name not in running and name not in self._down:
                log = self.cluster.path("log", name + ".log")
                raise Failed(f"{name} has ended by itself; the end of {log}:\n{processes.tail(log)}")

    def volume(self, frontend=None):
        """As `weirctl volume show` has it, from this frontend or any; None: it does not answer."""
        at = [f"--frontend={frontend}"] if frontend else []
        shown = self.cluster.weirctl("--timeout=5", *at, "volume", "show", VOLUME, "--output=json")
        return json.loads(shown.stdout) if shown.returncode == 0 else None

    def await_in_sync(self):
        """Until all members are in sync, and no client still waits or belongs to an earlier session."""
        begun = time.monotonic()
        while True:
            self.pause(0.2)
            volume = self.volume()
            if self._in_sync(volume) and self._clients_follow(volume["epoch"]):
                return time.monotonic() - begun
            if time.monotonic() - begun > HEAL_SECONDS_MAX:
                explained = self.cluster.weirctl("--timeout=5", "explain", VOLUME)
                raise Failed(f"not healed {HEAL_SECONDS_MAX} s after the last fault: clients {self.clients.counts}\n"
                             f"{volume}\n{explained.stdout}{explained.stderr}")

    @staticmethod
    def _in_sync(volume):
        return volume and volume["state"] == "ACTIVE" and all(
            t["state"] == "in_sync" for t in volume["table"]["targets"])

    def _clients_follow(self, epoch):
        counts = self.clients.await_report()
        return counts["epoch"] >= epoch and counts["stale"] == 0 and counts["oldest_ms"] < 1000

    # --- processes ---

    def _signal(self, name, number):
        process = self.cluster.process(name)
        if process is not None:
            process.signal(number)
        return process

    def kill(self, *names):
        """kill -9, all of them before any is waited for."""
        self.say(f"kill -9 {' '.join(names)}")
        self._down.update(names)
        self.frontend_ended |= self.frontend in names
        for process in [self._signal(name, signal.SIGKILL) for name in names]:
            if not process.wait(30):
                raise Failed(f"{process} does not end")

    def terminate(self, name):
        self.say(f"SIGTERM {name}")
        self._down.add(name)
        self.frontend_ended |= name == self.frontend
        self.say(f"{name} {self.cluster.process(name).terminate(cluster_lib.STOP_SECONDS)}")

    def start(self, *names):
        self.say(f"start {' '.join(names)}")
        for name in names:
            self._start(name)
            self._down.discard(name)

    def _start(self, name):
        if len(self.builds) > 1 and name not in self.etcds:
            self.cluster.settings.bin = self._build_dice.choice(self.builds)
            self.say(f"{name} from {self.cluster.settings.bin}")
        self.cluster.start(name)
        self.cluster.settings.bin = self.builds[0]  # weirctl is of this one

    def freeze(self, name):
        self.say(f"SIGSTOP {name}")
        self._signal(name, signal.SIGSTOP)

    def thaw(self, name):
        self.say(f"SIGCONT {name}")
        self._signal(name, signal.SIGCONT)

    def wipe(self, name):
        self.say(f"{name} has a new, empty disk")
        for directory in self.cluster.data_dirs(name):
            shutil.rmtree(directory)

    def await_failed_store(self, name, again):
        """Until its replica says so, and each data directory says it to the next process. `again` is called in the middle of the wait."""
        begun = time.monotonic()
        asked_again = False
        while True:
            self.pause(0.1)
            shown = self.cluster.weirctl("--timeout=5", "replica", "show", name, "--output=json")
            state = json.loads(shown.stdout)["state"] if shown.returncode == 0 else shown.stderr
            marked = [os.path.exists(os.path.join(path, "FAILED")) for path in self.cluster.data_dirs(name)]
            if state == "FAILED" and all(marked):
                break
            if time.monotonic() - begun > STORE_FAILS_SECONDS_MAX / 2 and not asked_again:
                asked_again = True
                again()
            if time.monotonic() - begun > STORE_FAILS_SECONDS_MAX:
                raise Failed(f"the store of {name} has not failed within {STORE_FAILS_SECONDS_MAX} s: {state}, {marked}")
        self.say(f"the store of {name} has failed after {time.monotonic() - begun:.1f} s")

    def must_not_start(self, name):
        """Since its store has failed, whatever the disk does by now."""
        try:
            done = subprocess.run(self.cluster.command_line(name), capture_output=True, text=True, timeout=30)
        except subprocess.TimeoutExpired:
            raise Failed(f"{name} serves a store that has failed") from None
        if done.returncode != 1 or "has FAILED and never opens again" not in done.stderr:
            raise Failed(f"{name}, whose store has failed, ended with {done.returncode}: {done.stderr}")
        self.say(f"{name} does not start: its store has failed")

    def fill_disk(self):
        """Until its replica tells frontends to take no more writes; not so far that one under way finds no room."""
        self.clients.no_space(True)
        refused = self.clients.await_report()["no_space"]
        disk = os.statvfs(self.cluster.path(self.small_disk))
        used_mib = (disk.f_blocks - disk.f_bfree) * disk.f_frsize >> 20
        self.say(f"the disk of {self.small_disk} is full")
        self._resize_disk(used_mib + FULL_MIB)
        self._await("a write fails with ENOSPC", lambda before, now: now["no_space"] > refused)

    def empty_disk(self):
        if not self._in_sync(self.volume()):
            raise Failed(f"a copy has left, though writes were to be refused before: {self.volume()}")
        self.say(f"the disk of {self.small_disk} has space again")
        self._resize_disk(DISK_MIB)
        self._await("writes go on", lambda before, now: now["writes"] > before["writes"] and
                    now["no_space"] == before["no_space"])
        self.clients.no_space(False)

    def _resize_disk(self, mib):
        subprocess.run(["mount", "-o", f"remount,size={mib}m", self.cluster.path(self.small_disk)], check=True)

    def _await(self, what, holds):
        """Until that is so of two counts of the clients, one after the other."""
        begun = time.monotonic()
        before = now = self.clients.await_report()
        while not holds(before, now):
            if time.monotonic() - begun > SPACE_SECONDS_MAX:
                raise Failed(f"not within {SPACE_SECONDS_MAX} s: {what}; clients {now}")
            self._check_processes()
            before, now = now, self.clients.await_report()
        self.say(f"{what} after {time.monotonic() - begun:.1f} s")

    # --- networks and injected answers ---

    def link(self, name):
        return self.links[name]

    def cut_off_frontend(self, frontend, names):
        """From these alone; other frontends are not."""
        self.say(f"{frontend} is cut off from {' '.join(names)}")
        for name in names:
            self.links[name].cut_off(self.cluster.process(frontend).pid)

    def heal_links(self, names):
        self.say(f"{' '.join(names)}: no link is cut any more")
        for name in names:
            self.links[name].heal()

    def inject(self, name, *flags):
        self.say(f"fault set {name} {' '.join(flags)}")
        done = self.cluster.weirctl("--timeout=20", "fault", "set", name, *flags)
        if done.returncode != 0:
            raise Failed(f"fault set {name}: {done.stderr}")

    def clear_injected(self, name):
        self.cluster.weirctl("--timeout=20", "fault", "clear", name)

    def other_frontend(self):
        return next(name for name in self.frontends if name != self.frontend)

    def move(self, *frontends):
        """Attaches the volume at these, all at once; the clients go to the one that has it in the end."""
        self.say(f"attach at {' and '.join(frontends)}")
        self.frontend_ended = True
        self._move_begun = time.monotonic()
        argv = [self.cluster.binary("weirctl"), f"--cluster={self.dir}", "--timeout=60", "volume", "attach", VOLUME]
        attaches = [subprocess.Popen([*argv, f"--frontend={name}"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                                     text=True) for name in frontends]
        said = [attach.communicate()[1] for attach in attaches]
        if all(attach.returncode != 0 for attach in attaches):
            raise Failed(f"attach at {frontends}: {said}")
        self.frontend = self.volume()["frontend"] if len(frontends) > 1 else frontends[0]
        self.clients.use(self.frontend)

    def await_first_io(self, what):
        """Of the frontend that has the volume now, since the last move was begun."""
        while True:
            self.pause(0.1)
            # Another one may be cut off, and know nothing.
            volume = self.volume(self.frontend)
            counts = self.clients.counts
            if volume and counts["epoch"] >= volume["epoch"] and counts["first_ms"]:
                break
            if time.monotonic() - self._move_begun > FIRST_IO_SECONDS_MAX:
                raise Failed(f"{what}: no request was answered within {FIRST_IO_SECONDS_MAX} s; clients {counts}")
        took = counts["first_ms"] - round(self._move_begun * 1000)
        self.say(f"the first request in epoch {counts['epoch']} was answered {took} ms after the move was begun")
        self.first_io_ms[what] = max(took, self.first_io_ms.get(what, 0))

    def read_at(self, frontend, seconds):
        """A read by a client of its own: None if it was served, what it was told, "" if that was nothing."""
        try:
            done = self.cluster.weirctl(f"--frontend={frontend}", "io", "read", VOLUME, "--length=4KiB",
                                        "--output-file=/dev/null", timeout=seconds)
        except subprocess.TimeoutExpired:
            return ""
        return None if done.returncode == 0 else done.stderr.strip()

    def must_not_serve(self, frontend):
        """It may answer nothing, or an error."""
        told = self.read_at(frontend, 1.5)
        if told is None:
            raise Failed(f"{frontend} serves a read, though {self.frontend} has the volume")
        self.say(f"{frontend}, cut off, says {told or 'nothing'!r}")

    def must_refuse(self, frontend):
        """Soon, and in words that name who has the volume."""
        begun = time.monotonic()
        while True:
            told = self.read_at(frontend, REFUSED_SECONDS_MAX)
            if told is None:
                raise Failed(f"{frontend} serves a read, though {self.frontend} has the volume")
            if f"frontend {self.frontend}" in told:
                break
            if time.monotonic() - begun > REFUSED_SECONDS_MAX:
                raise Failed(f"{frontend} does not say within {REFUSED_SECONDS_MAX} s that {self.frontend} has the "
                             f"volume, but {told!r}")
            self.pause(0.2)
        self.say(f"{frontend} refuses after {time.monotonic() - begun:.1f} s: {told!r}")

    def control(self, *arguments):
        self.say(f"weirctl {' '.join(arguments)}")
        begun = time.monotonic()
        done = self.cluster.weirctl("--timeout=60", *arguments)
        # The frontend has just been started again, and its clients are about to come back.
        while re.search("still being attached|not attached here", done.stderr) and time.monotonic() - begun < 30:
            self.pause(0.2)
            done = self.cluster.weirctl("--timeout=60", *arguments)
        if done.returncode != 0:
            raise Failed(f"weirctl {' '.join(arguments)}: {done.stderr}")
