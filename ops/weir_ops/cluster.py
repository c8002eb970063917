"""A cluster on this machine: N replicas and one frontend, all of it in one directory.

    DIR/cluster.json     what it was asked to be
    DIR/cluster.env      where everything is, for shells and for weirctl
    DIR/run/NAME.json    the process that NAME is, or was
    DIR/log/NAME.log     its output
    DIR/replicaI/dJ      data, one flush domain each
    DIR/catalog          volumes and members
    DIR/nbd.sock         every volume as an NBD export
"""

import contextlib
import fcntl
import os
import shlex
import socket
import subprocess
import time
import urllib.parse

from weir_ops import processes
from weir_ops import settings as settings_lib
from weir_ops.settings import Refused

# sun_path, with its final zero.
UNIX_PATH_MAX = 107
STOP_SECONDS = 60
CHECKOUT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))


def default_prefix():
    return os.environ.get("WEIR_PREFIX") or os.path.join(CHECKOUT, "out")


class Cluster:
    def __init__(self, directory, say=print):
        self.dir = os.path.abspath(directory)
        self.say = say
        self.settings = settings_lib.load(self.path("cluster.json"))
        if len(self.path("nbd.sock")) > UNIX_PATH_MAX:
            raise Refused(f"{self.dir} is too long for a unix socket in it: choose a shorter --dir")

    def path(self, *parts):
        return os.path.join(self.dir, *parts)

    @contextlib.contextmanager
    def locked(self):
        """One script at a time changes a cluster; the next one waits."""
        if not os.path.isdir(self.dir):
            raise Refused(f"{self.dir} does not exist: `ops/cluster up --dir={self.dir}` makes it")
        with open(self.path("lock"), "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self.settings = settings_lib.load(self.path("cluster.json"))
            yield

    # --- names, addresses, command lines ---

    def replica_names(self):
        return [f"replica{i + 1}" for i in range(self.settings.replicas)]

    def names(self):
        return self.replica_names() + ["volume"]

    def _port(self, name):
        return self.settings.port_base + 2 * self.names().index(name)

    def address(self, name):
        return f"127.0.0.1:{self._port(name)}"

    def metrics_address(self, name):
        return f"127.0.0.1:{self._port(name) + 1}"

    def metrics_url(self, name):
        return f"http://{self.metrics_address(name)}/metrics"

    def nbd_uri(self):
        socket_path = urllib.parse.quote(self.path("nbd.sock"))
        return f"nbd+unix:///{self.settings.volume}?socket={socket_path}"

    def data_dirs(self, name):
        return [self.path(name, f"d{i}") for i in range(self.settings.data_dirs)]

    def command_line(self, name):
        ends = [f"--listen={self.address(name)}", f"--metrics_listen={self.metrics_address(name)}"]
        if name == "volume":
            replicas = ",".join(f"{r}={self.address(r)}" for r in self.replica_names())
            return [
                self.binary("weir-volume"),
                f"--nbd_socket={self.path('nbd.sock')}",
                f"--catalog=embedded:{self.path('catalog')}",
                f"--replicas={replicas}",
                *ends,
                *self.settings.volume_flags,
            ]
        return [
            self.binary("weir-replica"),
            f"--name={name}",
            f"--data_dirs={','.join(self.data_dirs(name))}",
            *ends,
            *self.settings.replica_flags,
        ]

    def binary(self, name):
        return os.path.join(self.settings.bin, name)

    # --- processes ---

    def process(self, name):
        return processes.load(self.path("run", name + ".json"))

    def running(self):
        """name -> process, for those that are alive."""
        if self.settings is None:
            return {}
        found = {name: self.process(name) for name in self.names()}
        return {name: p for name, p in found.items() if p is not None and p.alive()}

    def start(self, name):
        """Starts `name` unless it runs, and waits until it takes connections."""
        if name not in self.names():
            raise Refused(f"no process '{name}' here; there are {', '.join(self.names())}")
        process = self.running().get(name)
        if process is None:
            for directory in ["run", "log"]:
                os.makedirs(self.path(directory), exist_ok=True)
            for directory in self.data_dirs(name) if name != "volume" else [self.path("catalog")]:
                os.makedirs(directory, exist_ok=True)
            process = processes.start(self.command_line(name), self.path("log", name + ".log"))
            processes.save(process, self.path("run", name + ".json"))
            self.say(f"{name}: started, pid {process.pid}")
        else:
            self.say(f"{name}: runs already, pid {process.pid}")
        self.write_env()
        self._wait_for(name, process, 60)

    def stop(self, name):
        process = self.running().get(name)
        self.say(f"{name}: {process.terminate(STOP_SECONDS) if process else 'was not running'}")
        self.write_env()

    def _wait_for(self, name, process, seconds):
        # The frontend's gRPC port opens after its NBD socket.
        host, port = self.address(name).rsplit(":", 1)
        deadline = time.monotonic() + seconds
        while not _accepts(host, int(port)):
            if not process.alive():
                raise Refused(f"{name} ended at once; {self._log_tail(name)}")
            if time.monotonic() > deadline:
                raise Refused(f"{name} takes no connections after {seconds} s; {self._log_tail(name)}")
            time.sleep(0.05)
        # What answered may be a stranger with the same port: ours would have ended then.
        if not process.alive():
            raise Refused(f"{name} ended at once; {self._log_tail(name)}")

    def _log_tail(self, name):
        path = self.path("log", name + ".log")
        return f"the end of {path}:\n{processes.tail(path)}"

    # --- the whole ---

    def configure(self, asked, prefix):
        """Settles what the cluster is to be, before anything is started."""
        self.settings = settings_lib.merge(self.settings, asked, bool(self.running()))
        if not self.settings.bin:
            self.settings.bin = os.path.join(os.path.abspath(prefix), "bin")
        if not self.settings.port_base:
            self.settings.port_base = settings_lib.free_port_base(2 * len(self.names()))
        settings_lib.save(self.settings, self.path("cluster.json"))

    def up(self, seconds):
        started = [name for name in self.names() if name not in self.running()]
        try:
            for name in self.names():
                self.start(name)
            self._ensure_volume()
            self._wait_for_io(seconds)
        except BaseException:
            # What this call has started goes again, so that a second try begins clean.
            for name in reversed(started):
                if name in self.running():
                    self.stop(name)
            raise

    def down(self):
        """The frontend first: its flush needs the replicas."""
        for name in reversed(self.names()):
            self.stop(name)

    def weirctl(self, *arguments, **options):
        argv = [self.binary("weirctl"), f"--cluster={self.dir}", *arguments]
        return subprocess.run(argv, text=True, capture_output=True, **options)

    def _ensure_volume(self):
        name, size = self.settings.volume, self.settings.size
        if self.weirctl("volume", "show", name, timeout=60).returncode == 0:
            return
        made = self.weirctl("volume", "create", name, f"--size={size}",
                            f"--min-in-sync={self.settings.min_in_sync}", timeout=60)
        if made.returncode != 0:
            raise Refused(f"cannot create volume {name}: {made.stderr.strip()}")
        self.say(f"volume {name} of {size} created")

    def _wait_for_io(self, seconds):
        """Reads one block as an NBD client does, which attaches the volume first."""
        deadline = time.monotonic() + seconds
        read = "import nbd, sys; h = nbd.NBD(); h.connect_uri(sys.argv[1]); h.pread(4096, 0)"
        while True:
            left = max(deadline - time.monotonic(), 1)
            try:
                tried = subprocess.run(
                    ["/usr/bin/python3", "-c", read, self.nbd_uri()],
                    text=True, capture_output=True, timeout=left)
                if tried.returncode == 0:
                    return
                why = tried.stderr.strip().splitlines()[-1]
            except subprocess.TimeoutExpired:
                why = "no answer"
            if time.monotonic() > deadline:
                raise Refused(f"{self.nbd_uri()} cannot be read after {seconds} s: {why}; "
                              + self._log_tail("volume"))
            time.sleep(0.2)

    def write_env(self):
        running = self.running()
        values = {
            "NBD_URI": self.nbd_uri(),
            "VOLUME_ADDR": self.address("volume"),
            "REPLICA_ADDRS": " ".join(self.address(r) for r in self.replica_names()),
            "METRICS_URLS": " ".join(self.metrics_url(n) for n in self.names()),
            "PIDS": " ".join(f"{n}={p.pid}" for n, p in running.items()),
            "BIN": self.settings.bin,
        }
        text = "# Written by ops/cluster; for shells (`. cluster.env`) and weirctl --cluster.\n"
        text += "".join(f"{k}={shlex.quote(v)}\n" for k, v in values.items())
        processes.write_atomically(self.path("cluster.env"), text)


def _accepts(host, port):
    try:
        socket.create_connection((host, port), timeout=1).close()
        return True
    except OSError:
        return False
