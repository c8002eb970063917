"""Processes that outlive the script that started them.

A process is known by a record on disk: its pid together with the time at which
the kernel started it and the boot it was started in. A pid alone may have been
given to somebody else since, so nothing here ever signals a pid without that check,
and nothing is ever found, or killed, by name.
"""

import dataclasses
import json
import os
import signal
import subprocess
import time


def _boot_id():
    with open("/proc/sys/kernel/random/boot_id") as f:
        return f.read().strip()


def _stat(pid):
    """(state, start time in ticks) of a process, or None."""
    try:
        with open(f"/proc/{pid}/stat") as f:
            # The name, in parentheses, may itself hold anything.
            fields = f.read().rpartition(")")[2].split()
        return fields[0], int(fields[19])
    except (FileNotFoundError, ProcessLookupError, IndexError):
        return None


def _threads_left(pid):
    """Whether others of its threads are on their way out: until they are, its files and locks are held."""
    try:
        return len(os.listdir(f"/proc/{pid}/task")) > 1
    except (FileNotFoundError, ProcessLookupError):
        return False


@dataclasses.dataclass
class Process:
    pid: int
    start_ticks: int
    boot_id: str
    argv: list

    def alive(self):
        stat = _stat(self.pid)
        # A zombie is dead: its init has merely not been asked yet.
        return (
            stat is not None
            and (stat[0] not in "ZX" or _threads_left(self.pid))
            and stat[1] == self.start_ticks
            and _boot_id() == self.boot_id
        )

    def rss_bytes(self):
        try:
            with open(f"/proc/{self.pid}/statm") as f:
                return int(f.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        except (FileNotFoundError, ProcessLookupError):
            return 0

    def signal(self, number):
        if self.alive():
            try:
                os.kill(self.pid, number)
            except ProcessLookupError:
                pass

    def wait(self, timeout):
        """True if it ended within `timeout` seconds."""
        deadline = time.monotonic() + timeout
        while self.alive():
            _reap(self.pid)
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)
        return True

    def terminate(self, timeout):
        """SIGTERM, then wait. Says in words what came of it."""
        if not self.alive():
            return "was not running"
        begun = time.monotonic()
        self.signal(signal.SIGTERM)
        if self.wait(timeout):
            return f"stopped in {time.monotonic() - begun:.1f} s"
        self.signal(signal.SIGKILL)
        self.wait(10)
        return f"killed: did not end within {timeout:.0f} s of SIGTERM"


def _reap(pid):
    """Lets a child of this very script go; others have their own parents."""
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        pass


def start(argv, log_path):
    """Starts `argv` in a session of its own, its output appended to `log_path`."""
    with open(log_path, "ab") as log:
        child = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    # Its start time is there as soon as Popen returns, also if it has ended since.
    stat = _stat(child.pid)
    child.returncode = 0  # It stays: keep Popen from warning about that.
    return Process(child.pid, stat[1] if stat else 0, _boot_id(), argv)


def load(path):
    try:
        with open(path) as f:
            return Process(**json.load(f))
    except FileNotFoundError:
        return None


def save(process, path):
    write_atomically(path, json.dumps(dataclasses.asdict(process), indent=1) + "\n")


def write_atomically(path, text):
    with open(path + ".new", "w") as f:
        f.write(text)
    os.replace(path + ".new", path)


def tail(path, lines=15):
    try:
        with open(path, errors="replace") as f:
            return "".join(f.readlines()[-lines:])
    except FileNotFoundError:
        return ""
