"""A cluster on this machine: replicas, frontends, perhaps etcd, all of it in one directory.

    DIR/cluster.json     what it was asked to be
    DIR/cluster.env      where everything is, for shells and for weirctl
    DIR/run/NAME.json    the process that NAME is, or was
    DIR/log/NAME.log     its output
    DIR/replicaI/dJ      data, one flush domain each
    DIR/catalog          volumes and members, with the embedded catalog
    DIR/etcdI            data of an etcd member, with the other one
    DIR/nbd.sock         every volume as an NBD export; DIR/nbd2.sock: that of frontend volume2
    DIR/csi/csi.sock     the CSI driver of node `volume`, DIR/csi2: that of volume2
    DIR/csi-state        where that one attaches devices
    DIR/prometheus       configuration, rules and data of Prometheus, with --monitoring
"""

import contextlib
import fcntl
import itertools
import os
import shlex
import socket
import subprocess
import time
import urllib.parse

from weir_ops import monitoring
from weir_ops import mounts
from weir_ops import processes
from weir_ops import settings as settings_lib
from weir_ops.settings import Refused

# sun_path, with its final zero.
UNIX_PATH_MAX = 107
STOP_SECONDS = 60
ETCD = "/usr/bin/etcd"
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

    def etcd_names(self):
        return [f"etcd{i + 1}" for i in range(self.settings.etcd_members())]

    def frontend_names(self):
        """The first is `volume`, the others volume2, volume3, ..."""
        return ["volume"] + [f"volume{i}" for i in range(2, self.settings.frontends + 1)]

    def csi_names(self):
        """One a frontend: `csi` for volume, csi2 for volume2, ..."""
        return [n.replace("volume", "csi") for n in self.frontend_names()] if self.settings.csi else []

    def monitoring_names(self):
        return ["prometheus"] if self.settings.monitoring else []

    def names(self):
        """In the order in which they start: what the others need first."""
        return (self.etcd_names() + self.replica_names() + self.frontend_names() + self.csi_names()
                + self.monitoring_names())

    def _port(self, name):
        # Replicas and `volume` have the first ports, as without etcd.
        by_port = self.replica_names() + self.frontend_names() + self.etcd_names() + self.csi_names()
        return self.settings.port_base + 2 * by_port.index(name)

    def address(self, name):
        if name in self.csi_names():
            return self.csi_endpoint(name)
        if name in self.monitoring_names():
            return f"127.0.0.1:{self.settings.monitoring_port}"
        return f"127.0.0.1:{self._port(name)}"

    def metrics_address(self, name):
        return f"127.0.0.1:{self._port(name) + 1}"

    def metrics_url(self, name):
        # etcd has them at its clients' port, Prometheus at its only one.
        one_port = self.etcd_names() + self.monitoring_names()
        address = self.address(name) if name in one_port else self.metrics_address(name)
        return f"http://{address}/metrics"

    def nbd_socket(self, frontend="volume"):
        return self.path("nbd" + frontend.removeprefix("volume") + ".sock")

    def nbd_uri(self, frontend="volume"):
        socket_path = urllib.parse.quote(self.nbd_socket(frontend))
        return f"nbd+unix:///{self.settings.volume}?socket={socket_path}"

    def csi_endpoint(self, name="csi"):
        return "unix://" + self.path(name, "csi.sock")

    def csi_state(self, name):
        return self.path(name + "-state")

    def catalog(self):
        if self.settings.catalog == "etcd":
            return "etcd:" + ",".join(self.address(e) for e in self.etcd_names())
        return "embedded:" + self.path("catalog")

    def data_dirs(self, name):
        """The folders that `name` keeps its data in."""
        if name in self.replica_names():
            return [self.path(name, f"d{i}") for i in range(self.settings.data_dirs)]
        if name in self.etcd_names():
            return [self.path(name)]
        if name in self.csi_names():
            return [self.path(name), self.csi_state(name)]
        if name in self.monitoring_names():
            return [self.path(name)]
        return [self.path("catalog")] if self.settings.catalog == "embedded" else []

    def command_line(self, name):
        if name in self.etcd_names():
            return self._etcd_command_line(name)
        if name in self.csi_names():
            return self._csi_command_line(name)
        if name in self.monitoring_names():
            return monitoring.command_line(self.path(name), self.address(name))
        ends = [f"--listen={self.address(name)}", f"--metrics_listen={self.metrics_address(name)}"]
        if name in self.frontend_names():
            replicas = ",".join(f"{r}={self.address(r)}" for r in self.replica_names())
            return [
                self.binary("weir-volume"),
                f"--name={name}",
                f"--nbd_socket={self.nbd_socket(name)}",
                f"--catalog={self.catalog()}",
                f"--replicas={replicas}",
                *ends,
                *self._tls_flags(name),
                *self.settings.volume_flags,
            ]
        return [
            self.binary("weir-replica"),
            f"--name={name}",
            f"--data_dirs={','.join(self.data_dirs(name))}",
            *ends,
            *self._tls_flags(name),
            *self.settings.replica_flags,
        ]

    def _etcd_command_line(self, name):
        # Its metrics port is free for its peers.
        client, peer = (f"http://{end(name)}" for end in (self.address, self.metrics_address))
        members = ",".join(f"{e}=http://{self.metrics_address(e)}" for e in self.etcd_names())
        return [
            ETCD, f"--name={name}", f"--data-dir={self.path(name)}",
            f"--listen-client-urls={client}", f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}", f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster={members}", f"--initial-cluster-token={self.dir}",
        ]

    def _csi_command_line(self, name):
        frontend = name.replace("csi", "volume")
        # Its own frontend first; the others are there if that one is not.
        others = [f for f in self.frontend_names() if f != frontend]
        return [
            self.binary("weir-csi"), "--mode=all", f"--endpoint={self.csi_endpoint(name)}",
            f"--node-id={frontend}", f"--state-dir={self.csi_state(name)}",
            "--frontends=" + ",".join(self.address(f) for f in [frontend] + others),
            f"--metrics_listen={self.metrics_address(name)}",
            *self._tls_flags(name),
        ]

    def tls_files(self, name):
        """The certificate of a process or of `admin`, its key, and who signed the others'."""
        return [self.path("tls", file) for file in (name + ".pem", name + ".key", "ca.pem")]

    def _tls_flags(self, name):
        if not self.settings.tls:
            return []
        return [f"--{flag}={path}" for flag, path in zip(("tls_cert", "tls_key", "tls_ca"), self.tls_files(name))]

    def certificate_roles(self):
        """name -> roles of each certificate. A driver has two: its weir-nbd and weir-fuse read and write with the same one."""
        return {**dict.fromkeys(self.replica_names(), ["replica"]), **dict.fromkeys(self.frontend_names(), ["frontend"]),
                **dict.fromkeys(self.csi_names(), ["csi", "client"]), "admin": ["admin"]}

    def make_certificate(self, name):
        """By the cluster's own authority. In place of the one that is there, which a running process then changes for it."""
        roles = self.certificate_roles()[name]
        made = subprocess.run([os.path.join(CHECKOUT, "ops", "certs"), f"--dir={self.path('tls')}",
                               f"--name={name}", *(f"--role={role}" for role in roles), "--host=127.0.0.1"],
                              text=True, capture_output=True)
        if made.returncode != 0:
            raise Refused(made.stderr.strip())

    def _ensure_certificates(self):
        for name in self.certificate_roles():
            if not all(os.path.exists(path) for path in self.tls_files(name)):
                self.make_certificate(name)

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
            # Else what answers there would be taken for ours.
            if _accepts(self.address(name)):
                raise Refused(f"{name} cannot be started: {self.address(name)} is in use by another process; stop that one "
                              "(ss -lptn shows it) or choose other ports (--port-base)")
            for directory in ["run", "log"]:
                os.makedirs(self.path(directory), exist_ok=True)
            for directory in self.data_dirs(name):
                os.makedirs(directory, mode=0o700, exist_ok=True)
            if name in self.monitoring_names():
                self.write_env()
                monitoring.configure(self.path(name), self.dir)
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
        deadline = time.monotonic() + seconds
        while not _accepts(self.address(name)):
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
        if self.settings.catalog == "etcd" and not os.path.exists(ETCD):
            raise Refused(f"{ETCD} is missing: `ops/deps` installs Debian's etcd-server")
        if self.settings.monitoring and not os.path.exists(monitoring.PROMETHEUS):
            raise Refused(f"{monitoring.PROMETHEUS} is missing: `ops/deps` installs Debian's prometheus")
        if not self.settings.port_base:
            self.settings.port_base = settings_lib.free_port_base(
                2 * self.settings.processes(), [self.settings.monitoring_port])
        if self.settings.monitoring and not self.settings.monitoring_port:
            taken = range(self.settings.port_base, self.settings.port_base + 2 * self.settings.processes())
            self.settings.monitoring_port = settings_lib.free_port_base(1, taken)
        if self.settings.tls:
            self._ensure_certificates()
        settings_lib.save(self.settings, self.path("cluster.json"))

    def up(self, seconds):
        """Starts what is missing; the NBD URI under which the volume was read."""
        started = [name for name in self.names() if name not in self.running()]
        try:
            for name in self.names():
                self.start(name)
            self._ensure_volume()
            return self._wait_for_io(seconds)
        except BaseException:
            # What this call has started goes again, so that a second try begins clean.
            for name in reversed(started):
                if name in self.running():
                    self.stop(name)
            raise

    def down(self):
        """The frontends first: their flush needs the replicas, their catalog etcd."""
        for name in self.csi_names():
            self.stop(name)
            # While the frontends are there to take what is unmounted.
            mounts.remove_below(self.csi_state(name), self.say)
        for name in reversed(self.names()):
            if name not in self.csi_names():
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
        """Reads one block as an NBD client does, which attaches the volume first. The other
        frontends' turns come too, since one of them may have it."""
        deadline = time.monotonic() + seconds
        uris = itertools.cycle([self.nbd_uri(frontend) for frontend in self.frontend_names()])
        read = "import nbd, sys; h = nbd.NBD(); h.connect_uri(sys.argv[1]); h.pread(4096, 0)"
        for uri in uris:
            left = max(deadline - time.monotonic(), 1)
            try:
                tried = subprocess.run(
                    ["/usr/bin/python3", "-c", read, uri],
                    text=True, capture_output=True, timeout=left)
                if tried.returncode == 0:
                    return uri
                why = tried.stderr.strip().splitlines()[-1]
            except subprocess.TimeoutExpired:
                why = "no answer"
            if time.monotonic() > deadline:
                raise Refused(f"{uri} cannot be read after {seconds} s: {why}; "
                              + self._log_tail("volume"))
            time.sleep(0.2)

    def write_env(self):
        running = self.running()
        values = {
            "NBD_URI": self.nbd_uri(),
            "NBD_URIS": " ".join(f"{n}={self.nbd_uri(n)}" for n in self.frontend_names()),
            "VOLUME_ADDR": self.address("volume"),
            "VOLUME_ADDRS": " ".join(f"{n}={self.address(n)}" for n in self.frontend_names()),
            "CATALOG": self.catalog(),
            "REPLICA_ADDRS": " ".join(self.address(r) for r in self.replica_names()),
            "METRICS_URLS": " ".join(
                self.metrics_url(n) for n in self.replica_names() + self.frontend_names()),
            "PIDS": " ".join(f"{n}={p.pid}" for n, p in running.items()),
            "BIN": self.settings.bin,
        }
        if self.settings.csi:
            values["CSI_ENDPOINT"] = self.csi_endpoint()
            values["CSI_ENDPOINTS"] = " ".join(f"{n}={self.csi_endpoint(n)}" for n in self.csi_names())
            values["CSI_METRICS_URLS"] = " ".join(map(self.metrics_url, self.csi_names()))
        if self.settings.monitoring:
            values["PROMETHEUS_URL"] = "http://" + self.address("prometheus")
        if self.settings.tls:
            values.update(zip(("WEIR_TLS_CERT", "WEIR_TLS_KEY", "WEIR_TLS_CA"), self.tls_files("admin")))
        text = "# Written by ops/cluster; for shells (`. cluster.env`) and weirctl --cluster.\n"
        text += "".join(f"{k}={shlex.quote(v)}\n" for k, v in values.items())
        processes.write_atomically(self.path("cluster.env"), text)


def _accepts(address):
    try:
        if address.startswith("unix://"):
            with socket.socket(socket.AF_UNIX) as s:
                s.settimeout(1)
                s.connect(address.removeprefix("unix://"))
        else:
            host, port = address.rsplit(":", 1)
            socket.create_connection((host, int(port)), timeout=1).close()
        return True
    except OSError:
        return False
