"""What the system tests share: a cluster of real processes in a folder of its own.

The cluster is ops/cluster's, so each test also tests that. It ends with the test
class that asked for it, whatever happened, and only by the pids that it knows.
"""

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "ops"))

import nbd  # noqa: E402  (python3-libnbd)

from weir_ops import cluster as cluster_lib  # noqa: E402

MIB = 1 << 20
# Set by `run --full`: the sizes that a release is tested with.
FULL = os.environ.get("WEIR_TEST_FULL") == "1"


def run(*argv, check=True, timeout=300, **options):
    """Runs a program; its output is in the failure, if it fails."""
    done = subprocess.run([str(a) for a in argv], text=True, errors="replace",
                          capture_output=True, timeout=timeout, **options)
    if check and done.returncode != 0:
        raise AssertionError(
            f"{shlex.join(str(a) for a in argv)}: exit {done.returncode}\n{done.stdout}{done.stderr}")
    return done


def wait_until(condition, seconds, what):
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(0.05)


class RealCluster:
    """A folder with a cluster in it, below `below` or where temporary files go. Removed by close()."""

    open_ones = []

    def __init__(self, *up_flags, below=None):
        self.dir = tempfile.mkdtemp(prefix="weir-test-", dir=below)
        self.up_flags = up_flags
        self.open_ones.append(self)

    def ops(self, *arguments, check=True, timeout=300):
        return run(os.path.join(ROOT, "ops", "cluster"), *arguments, f"--dir={self.dir}",
                   check=check, timeout=timeout)

    def up(self):
        return self.ops("up", *self.up_flags)

    def close(self):
        """Stops and removes it."""
        self.ops("down", check=False)
        self.open_ones.remove(self)
        shutil.rmtree(self.dir, ignore_errors=True)

    @property
    def env(self):
        """cluster.env as a shell reads it."""
        text = run("sh", "-c", f". {shlex.quote(self.dir)}/cluster.env; "
                   "for v in NBD_URI VOLUME_ADDR VOLUME_ADDRS REPLICA_ADDRS METRICS_URLS CATALOG PIDS BIN CSI_ENDPOINT CSI_ENDPOINTS CSI_METRICS_URLS PROMETHEUS_URL; do "
                   "eval echo \"$v=\\$$v\"; done").stdout
        return dict(line.split("=", 1) for line in text.splitlines())

    @property
    def uri(self):
        return self.env["NBD_URI"]

    def uri_of(self, volume):
        return self.uri.replace("///demo?", f"///{volume}?")

    def pids(self):
        return {name: int(pid) for name, pid in (p.split("=") for p in self.env["PIDS"].split())}

    def kill9(self, *names):
        """kill -9, all of them before any is waited for."""
        cluster = cluster_lib.Cluster(self.dir)
        found = [cluster.process(name) for name in names or cluster.names()]
        for process in found:
            process.signal(signal.SIGKILL)
        for process in found:
            assert process.wait(30), process

    def start_all(self):
        cluster = cluster_lib.Cluster(self.dir)
        for name in [name for name in cluster.names() if name not in cluster.running()]:
            self.ops("start", name)

    def weirctl(self, *arguments, check=True, timeout=120):
        return run(os.path.join(self.env["BIN"], "weirctl"), f"--cluster={self.dir}", *arguments,
                   check=check, timeout=timeout)

    def etcd_leader(self):
        """Its name; None: there is none now."""
        cluster = cluster_lib.Cluster(self.dir)
        for name in cluster.etcd_names():
            text = run("curl", "-sf", cluster.metrics_url(name), check=False).stdout
            if "\netcd_server_is_leader 1" in text:
                return name
        return None

    def await_etcd_leader(self):
        leaders = []
        wait_until(lambda: leaders.append(self.etcd_leader()) or leaders[-1], 30, "etcd has a leader")
        return leaders[-1]

    def metrics(self, name):
        cluster = cluster_lib.Cluster(self.dir)
        return run("curl", "-sf", cluster.metrics_url(name)).stdout

    def log(self, name):
        with open(os.path.join(self.dir, "log", name + ".log"), errors="replace") as f:
            return f.read()

    def connect(self, uri=None, strict=True):
        handle = nbd.NBD()
        if not strict:
            handle.set_strict_mode(0)
        handle.add_meta_context("base:allocation")
        handle.connect_uri(uri or self.uri)
        return handle


def kill_all_clusters():
    """Ends a test that hangs in a request: its connections break, and it fails."""
    for cluster in RealCluster.open_ones:
        cluster.kill9()


class ClusterTest(unittest.TestCase):
    """Tests that share one cluster; each says in its class with which flags."""

    up_flags = ()

    @classmethod
    def setUpClass(cls):
        cls.cluster = RealCluster(*cls.up_flags)
        cls.addClassCleanup(cls.cluster.close)
        cls.prepare()
        cls.cluster.up()

    @classmethod
    def prepare(cls):
        """What is done to the cluster's folder before it is started."""

    def nbd_error(self, call):
        """The errno name with which libnbd's `call` fails."""
        with self.assertRaises(nbd.Error) as caught:
            call()
        return caught.exception.errno


class SteadyClient:
    """tests/system/steady_client.py; each lap says what it has seen."""

    def __init__(self, uri):
        script = os.path.join(os.path.dirname(os.path.realpath(__file__)), "steady_client.py")
        self.process = subprocess.Popen([sys.executable, script, uri], text=True, stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE)

    def lap(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise AssertionError(f"the client has ended with {self.process.wait(30)}: see its error above")
        return json.loads(line)

    def close(self):
        self.process.stdin.close()
        self.process.wait(30)
        self.process.stdout.close()


def random_file(path, size):
    with open(path, "wb") as f:
        for _ in range(0, size, MIB):
            f.write(os.urandom(min(MIB, size)))
    return path
