#!/usr/bin/python3
"""ops/prometheus/METRICS.md: every metric of every process, from what a live cluster exports.

Usage: tests/system/metrics_table.py --write, after a metric has changed; WEIR_PREFIX as for tests/system/run.
prometheus_test says if the table is not what the processes export.
"""

import glob
import os
import re
import subprocess
import sys
import tempfile

import csi_driver
import harness
import nbd
from harness import ROOT, run, wait_until
from weir_ops import settings

PATH = os.path.join(ROOT, "ops", "prometheus", "METRICS.md")
SOURCES = ("proto/metrics/*.cc", "proto/monitor/*.cc", "replica/server/*.cc", "volume/host/*.cc")
UP_FLAGS = ("--size=64MiB", "--tls", "--replica-flags=--enable_fault_injection")
HEAD = """\
# Metrics

Written by `tests/system/metrics_table.py --write` from what a live cluster exports; `tests/system/run prometheus` says if it is
out of date. Prometheus adds `instance` and `job`; histograms have `_bucket` (with `le`), `_sum` and `_count`. Counters and
histograms of a volume begin at 0 with each attach or each start of the process. Labels are bounded: by what the code has names
for, and by the volumes, replicas, lanes (`lane`) and data directories (`domain`, `dir`) that there are. What a frontend has counted
of a volume goes ten minutes after it is no longer attached there. A frontend with `--nbd_socket` runs in nbdkit's process: its metrics
are these.
"""


class Metric:
    def __init__(self):
        self.help, self.kind, self.labels = "", "", set()

    def row(self, name):
        labels = ", ".join(sorted(self.labels)) or "-"
        return f"| `{name}` | {self.kind} | {labels} | {self.help} |"


def parse(text):
    """What /metrics says, by name."""
    metrics = {}
    for line in text.splitlines():
        word, _, rest = line.partition(" ")
        if word == "#":
            what, name, value = (rest.split(" ", 2) + ["", ""])[:3]
            metric = metrics.setdefault(name, Metric())
            setattr(metric, {"HELP": "help", "TYPE": "kind"}[what], value)
            continue
        name = re.match(r"\w+", line).group()
        base = re.sub(r"_(bucket|sum|count)$", "", name)
        owner = metrics.get(name) or metrics[base]
        owner.labels |= set(re.findall(r'(\w+)="', re.sub(r'"(\\.|[^"\\])*"', '""', line))) - {"le", "quantile"}
    return metrics


def table(by_process):
    """`by_process`: what /metrics of each says, by the process's name."""
    parsed = {process: parse(text) for process, text in by_process.items()}
    shared = set.intersection(*(set(metrics) for metrics in parsed.values()))
    sections = [("Every process", {name: m for name, m in next(iter(parsed.values())).items() if name in shared})]
    sections += [(process, {name: m for name, m in metrics.items() if name not in shared})
                 for process, metrics in parsed.items()]
    lines = [HEAD]
    for title, metrics in sections:
        lines += [f"## {title}", "", "| metric | type | labels | meaning |", "| --- | --- | --- | --- |"]
        lines += [metrics[name].row(name) for name in sorted(metrics)] + [""]
    return "\n".join(lines)


def labels_by_metric():
    """Of the table as it is in the checkout."""
    with open(PATH) as f:
        rows = re.findall(r"^\| `(\w+)` \| (\w+) \| ([^|]+) \|", f.read(), re.M)
    labels = {}
    for name, kind, names in rows:
        of_metric = set(names.split(", ")) - {"-"}
        labels[name] = of_metric
        if kind == "histogram":
            labels.update({name + "_bucket": of_metric | {"le"}, name + "_sum": of_metric, name + "_count": of_metric})
    return labels


def declared():
    """Metrics that the C++ sources name."""
    names = set()
    for pattern in SOURCES:
        for path in glob.glob(os.path.join(ROOT, pattern)):
            if not path.endswith("_test.cc"):
                with open(path) as f:
                    text = f.read()
                names |= set(re.findall(r'"(weir_(?:volume|replica|csi|tls)_\w+|weir_build_info)"', text))
                # Of CallMetrics, which only the CSI driver has.
                names |= {"weir_csi" + what for what in re.findall(r'"weir_", component, "(\w+)"', text)}
    return names


def scrape_driver(cluster):
    """A CSI driver of its own, that was asked something."""
    address = f"127.0.0.1:{settings.free_port_base(1)}"
    with tempfile.TemporaryDirectory(prefix="weir-csi-") as folder:
        process = subprocess.Popen(
            [os.path.join(cluster.env["BIN"], "weir-csi"), "--mode=controller", f"--endpoint=unix:{folder}/csi.sock",
             f"--frontends={cluster.env['VOLUME_ADDR']}", f"--metrics_listen={address}",
             *(f"--{flag}={cluster.dir}/tls/{file}"
               for flag, file in (("tls_cert", "admin.pem"), ("tls_key", "admin.key"), ("tls_ca", "ca.pem")))],
            stderr=subprocess.DEVNULL)
        try:
            wait_until(lambda: os.path.exists(f"{folder}/csi.sock"), 30, "weir-csi serves")
            driver = csi_driver.Driver(f"unix:{folder}/csi.sock")
            driver.Probe()
            driver.close()
            url = f"http://{address}/metrics"
            wait_until(lambda: "weir_csi_calls_total" in run("curl", "-sf", url).stdout, 10, "the call is counted")
            return run("curl", "-sf", url).stdout
        finally:
            process.terminate()
            process.wait(30)


def live(cluster):
    """The table of `cluster`, which was started with UP_FLAGS; each metric is made to have a series."""
    handle = cluster.connect()
    handle.pwrite(b"m" * 4096, 0)
    handle.flush()  # then the volume has nothing to flush by itself, which could meet the fault first
    cluster.weirctl("fault", "set", "replica1", "--op=flush", "--error=EOPNOTSUPP", "--count=1")
    try:
        handle.flush()
    except nbd.Error:
        pass
    else:
        raise AssertionError("a replica cannot flush, and the flush succeeds")
    return table({"weir-volume": cluster.metrics("volume"), "weir-replica": cluster.metrics("replica1"),
                  "weir-csi": scrape_driver(cluster)})


def main():
    if sys.argv[1:] != ["--write"]:
        print(__doc__)
        return 0 if sys.argv[1:] == ["--help"] else 2
    cluster = harness.RealCluster(*UP_FLAGS)
    try:
        cluster.up()
        text = live(cluster)
    finally:
        cluster.close()
    with open(PATH, "w") as f:
        f.write(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
