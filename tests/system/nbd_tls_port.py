"""NBD over TLS as ops/systemd serves it: an nbdkit for each connection, between the client and the frontend's socket."""

import os
import re
import shlex
import subprocess
import tempfile

from harness import ROOT, run, wait_until
from weir_ops import settings

PREFIX = os.path.abspath(os.environ.get("WEIR_PREFIX") or os.path.join(ROOT, "out"))
UNIT = os.path.join(PREFIX, "lib", "systemd", "system", "weir-nbd-tls@.service")


def certificate(folder, name, *arguments, role="client"):
    run(os.path.join(ROOT, "ops", "certs"), f"--dir={folder}", f"--role={role}", f"--name={name}", *arguments)


def as_client(folder, name):
    """A folder in which it has the names that clients of NBD look for."""
    client = os.path.join(folder, name)
    os.mkdir(client)
    for source, target in (("ca.pem", "ca-cert.pem"), (f"{name}.pem", "client-cert.pem"), (f"{name}.key", "client-key.pem")):
        os.symlink(os.path.join(folder, source), os.path.join(client, target))
    return client


class NbdTlsPort:
    """Listens before the cluster's NBD socket. `folder`: has the authority, and the certificate "server" for 127.0.0.1."""

    def __init__(self, folder, cluster_dir, port=None):
        self.port = port or settings.free_port_base(1)
        with open(UNIT) as f:
            text = f.read()
        # What systemd would do: LoadCredential= at each connection, %d, and the socket.
        credentials = re.findall(r"^LoadCredential=(\S+):/etc/weir/nbd/(\S+)$", text, re.MULTILINE)
        shown = tempfile.mkdtemp(dir=folder)
        for target, source in credentials:
            os.symlink(os.path.join(folder, source), os.path.join(shown, target))
        line, = re.findall(r"^ExecStart=(.*)$", text, re.MULTILINE)
        line = line.replace("%d", shown).replace("/run/weir-volume/nbd.sock", os.path.join(cluster_dir, "nbd.sock"))
        self.log = open(os.path.join(shown, "log"), "w+")
        self.listener = subprocess.Popen(["systemd-socket-activate", "-a", "--inetd", "-l", f"127.0.0.1:{self.port}",
                                          *shlex.split(line)], stderr=self.log)
        try:
            wait_until(self._listens, 30, "the socket is there")
        except AssertionError:
            self.close()
            raise

    def _listens(self):
        with open(self.log.name) as f:
            return "Listening" in f.read()

    def close(self):
        self.listener.terminate()
        self.listener.wait(30)
        self.log.close()

    def processes(self):
        """One a connection, and their listener."""
        with open(f"/proc/{self.listener.pid}/task/{self.listener.pid}/children") as f:
            return [self.listener.pid, *map(int, f.read().split())]

    def uri(self, certificates=None, scheme="nbds", volume="demo"):
        return f"{scheme}://127.0.0.1:{self.port}/{volume}" + (f"?tls-certificates={certificates}" if certificates else "")
