"""Debian's Prometheus for a cluster on this machine, with the configuration and the rules of ops/prometheus.

    FOLDER/prometheus.yml, recording.yml, alerts.yml   those of ops/prometheus
    FOLDER/targets/                                    the cluster's, by ops/prometheus/targets
    FOLDER/data                                        what was scraped
"""

import os
import shutil
import subprocess

from weir_ops.settings import Refused

PROMETHEUS = "/usr/bin/prometheus"
SOURCE = os.path.join(os.path.dirname(os.path.dirname(os.path.realpath(__file__))), "prometheus")
FILES = ("prometheus.yml", "recording.yml", "alerts.yml")


def configure(folder, cluster_dir):
    """Writes all that Prometheus reads; the cluster's cluster.env must be there."""
    os.makedirs(folder, exist_ok=True)
    for name in FILES:
        shutil.copyfile(os.path.join(SOURCE, name), os.path.join(folder, name))
    told = subprocess.run([os.path.join(SOURCE, "targets"), cluster_dir, os.path.join(folder, "targets")],
                          text=True, capture_output=True)
    if told.returncode != 0:
        raise Refused(f"ops/prometheus/targets: {told.stderr.strip()}")


def command_line(folder, address):
    return [PROMETHEUS, f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data",
            f"--web.listen-address={address}"]
