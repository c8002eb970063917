"""What a cluster directory was asked to be, kept in DIR/cluster.json."""

import dataclasses
import json
import os
import re
import socket

from weir_ops import processes


class Refused(Exception):
    """The request cannot be done; the text says what to do instead."""


@dataclasses.dataclass
class Settings:
    replicas: int = 3
    data_dirs: int = 2
    volume: str = "demo"
    size: str = "1GiB"
    min_in_sync: int = 0
    catalog: str = "embedded"
    frontends: int = 1
    csi: bool = False
    monitoring: bool = False
    # Prometheus'; 0: not chosen yet.
    monitoring_port: int = 0
    tls: bool = False
    # Two ports a process from here on: gRPC (a CSI driver uses a socket instead) and metrics, or etcd's
    # for clients and for its peers. 0: not chosen yet.
    port_base: int = 0
    replica_flags: list = dataclasses.field(default_factory=list)
    volume_flags: list = dataclasses.field(default_factory=list)
    bin: str = ""

    def etcd_members(self):
        return 3 if self.catalog == "etcd" else 0

    def processes(self):
        return self.etcd_members() + self.replicas + self.frontends * (2 if self.csi else 1)

    def validate(self):
        for what, value in (("--replicas", self.replicas), ("--data-dirs", self.data_dirs)):
            if not 1 <= value <= 16:
                raise Refused(f"{what}={value}: give a number from 1 to 16")
        if self.catalog not in ("embedded", "etcd"):
            raise Refused(f"--catalog={self.catalog}: give embedded or etcd")
        if not 1 <= self.frontends <= 16:
            raise Refused(f"--frontends={self.frontends}: give a number from 1 to 16")
        if self.frontends > 1 and self.catalog != "etcd":
            raise Refused(f"--frontends={self.frontends}: more than one need --catalog=etcd")
        if not 0 <= self.min_in_sync <= self.replicas:
            raise Refused(f"--min-in-sync={self.min_in_sync}: give a number from 0 to {self.replicas}")
        if not re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,62}", self.volume):
            raise Refused(f"--volume={self.volume}: small letters, digits, '.', '_', '-', at most 63")
        if self.monitoring_port and not 1024 <= self.monitoring_port <= 65535:
            raise Refused(f"--monitoring-port={self.monitoring_port}: give a port from 1024 to 65535")
        last = self.port_base + 2 * self.processes() - 1
        if self.port_base and not 1024 <= self.port_base <= last <= 65535:
            raise Refused(f"--port-base={self.port_base}: ports up to {last} must lie in 1024..65535")


def load(path):
    try:
        with open(path) as f:
            return Settings(**json.load(f))
    except FileNotFoundError:
        return None


def save(settings, path):
    processes.write_atomically(path, json.dumps(dataclasses.asdict(settings), indent=1) + "\n")


# Data and positions depend on these; a directory keeps them for life.
FIXED = ("replicas", "data_dirs", "catalog", "frontends")
# These are for a volume that is still to be created, or a process that is still to be started.
ANY_TIME = {"volume", "size", "min_in_sync", "csi", "monitoring"}


def merge(old, asked, something_runs):
    """`asked` holds what the command line gave, by field. Returns the settings to use."""
    if old is None:
        merged = dataclasses.replace(Settings(), **asked)
    else:
        changed = {k: v for k, v in asked.items() if getattr(old, k) != v}
        for key in FIXED:
            if key in changed:
                raise Refused(
                    f"this directory was made with {key}={getattr(old, key)}; "
                    f"use another --dir for {key}={changed[key]}"
                )
        if something_runs and set(changed) - ANY_TIME:
            names = ", ".join(sorted(set(changed) - ANY_TIME))
            raise Refused(f"processes are running with other settings ({names}): `ops/cluster down` first")
        merged = dataclasses.replace(old, **changed)
    merged.validate()
    return merged


def free_port_base(count, taken=()):
    """The first of `count` ports in a row that nobody has and that are not in `taken`: within WEIR_PORTS (FIRST-LAST) if
    it is set, and outside the range from which the kernel takes ports for outgoing connections."""
    floor, ceiling = (int(port) for port in os.environ.get("WEIR_PORTS", "10000-32768").split("-"))
    try:
        with open("/proc/sys/net/ipv4/ip_local_port_range") as f:
            ceiling = min(ceiling, int(f.read().split()[0]))
    except FileNotFoundError:
        pass
    span = max(ceiling - count - floor, 1)
    first = os.getpid() * 64 % span  # Two clusters made at once should not collide.
    for step in range(0, span, count):
        base = floor + (first + step) % span
        if all(base + i not in taken and _can_bind(base + i) for i in range(count)):
            return base
    raise Refused(f"no {count} free ports in a row between {floor} and {ceiling}; give --port-base")


def _can_bind(port):
    with socket.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            s.bind(("127.0.0.1", port))
            return True
        except OSError:
            return False
