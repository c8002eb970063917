"""Measures a cluster through NBD beside a plain nbdkit file export on the same disk.

Both are measured in turns, so that what else the machine does hits both; of each the
median of all rounds counts. It prints a table with limits, and where the time goes.
A limit that is passed does not fail the program: this is a measurement, not a test.
"""

import argparse
import collections
import json
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "ops"))

import nbd  # noqa: E402

from weir_ops import cluster as cluster_lib  # noqa: E402

MIB = 1 << 20
BLOCK = 4096
SIZE_MIB = 256  # What fio writes to, on each side.
WARM_UP_SECONDS = 2
FLOORS = (("grpc", "gRPC alone"), ("rocksdb", "gRPC and RocksDB"))


class Ours:
    """Three replicas and a frontend."""

    def __init__(self, name, folder, up_flags):
        self.name = name
        self.dir = os.path.join(folder, name)
        self.ops("up", "--size=1GiB", *up_flags)
        self.cluster = cluster_lib.Cluster(self.dir)
        self.uri = self.cluster.nbd_uri()

    def ops(self, *arguments):
        subprocess.run([os.path.join(ROOT, "ops", "cluster"), *arguments, f"--dir={self.dir}"],
                       check=True, stdout=subprocess.DEVNULL)

    def rss_mib(self):
        return {n: p.rss_bytes() / MIB for n, p in self.cluster.running().items()}

    def caches_mib(self):
        """Of the replicas, by name: RocksDB's block caches and memtables, which fill to a limit of their own."""
        found = {}
        for name in self.cluster.names():
            text = subprocess.run(["curl", "-sf", self.cluster.metrics_url(name)],
                                  check=True, capture_output=True, text=True).stdout
            found[name] = sum(float(line.split()[-1]) for line in text.splitlines()
                              if re.match(r"weir_replica_rocksdb_(block_cache|memtable)_bytes\{", line)) / MIB
        return found

    def cpu_seconds(self):
        total = 0
        for process in self.cluster.running().values():
            with open(f"/proc/{process.pid}/stat") as f:
                fields = f.read().rpartition(")")[2].split()
            total += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        return total

    def close(self):
        self.ops("down")


class Plain:
    """nbdkit's own file plugin on a file that is written already."""

    name = "plain file"

    def __init__(self, folder):
        path = os.path.join(folder, "plain.img")
        with open(path, "wb") as f:
            for _ in range(SIZE_MIB):
                f.write(os.urandom(MIB))
            os.fsync(f.fileno())
        socket_path = os.path.join(folder, "plain.sock")
        self.server = subprocess.Popen(["nbdkit", "-f", "-U", socket_path, "file", path])
        while not os.path.exists(socket_path):
            time.sleep(0.02)
        self.uri = f"nbd+unix:///?socket={socket_path}"

    def close(self):
        self.server.send_signal(signal.SIGTERM)
        self.server.wait()


def fio(uri, depth, seconds, rw="randwrite"):
    """(operations a second, median latency in us, mean latency in us)"""
    done = subprocess.run(
        ["fio", "--name=bench", "--ioengine=nbd", f"--uri={uri}", f"--rw={rw}", "--bs=4k",
         f"--iodepth={depth}", f"--size={SIZE_MIB}M", "--time_based", f"--runtime={seconds}",
         f"--ramp_time={WARM_UP_SECONDS}", "--randrepeat=0", "--output-format=json"],
        check=True, text=True, capture_output=True)
    job = json.loads(done.stdout[done.stdout.index("{"):])["jobs"][0]
    side = job["read" if rw == "randread" else "write"]
    return side["iops"], side["clat_ns"]["percentile"]["50.000000"] / 1000, side["clat_ns"]["mean"] / 1000


def grpc_alone(depth, seconds, store=None):
    """(requests a second, median latency in us) of the same messages to three servers that store nothing, or each in
    a bare RocksDB of its own below the folder `store`."""
    done = subprocess.run([os.environ["WEIR_GRPC_FLOOR"], f"--depth={depth}", f"--seconds={seconds}",
                           *([f"--store={store}"] if store else [])], check=True, text=True, capture_output=True)
    found = json.loads(done.stdout)
    return found["per_second"], found["median_us"]


def flush_ms(uri, count):
    """(median, mean) time of a flush after one 4 KiB write."""
    handle = nbd.NBD()
    handle.connect_uri(uri)
    times = []
    for i in range(count):
        handle.pwrite(os.urandom(BLOCK), i % 64 * MIB)
        begun = time.perf_counter()
        handle.flush()
        times.append(time.perf_counter() - begun)
    return statistics.median(times) * 1000, statistics.mean(times) * 1000


def three_fdatasyncs_ms(folder, count):
    """Median time of three parallel fdatasyncs, each after a 4 KiB write to a file of its own."""
    files = [os.open(os.path.join(folder, f"sync{i}"), os.O_RDWR | os.O_CREAT) for i in range(3)]
    start, end = threading.Barrier(4), threading.Barrier(4)
    data = os.urandom(BLOCK)

    def one(descriptor):
        for i in range(count):
            # Appends, as a write-ahead log does.
            os.pwrite(descriptor, data, i * BLOCK)
            start.wait()
            os.fdatasync(descriptor)
            end.wait()

    threads = [threading.Thread(target=one, args=(d,)) for d in files]
    for thread in threads:
        thread.start()
    times = []
    for _ in range(count):
        start.wait()
        begun = time.perf_counter()
        end.wait()
        times.append(time.perf_counter() - begun)
    for thread in threads:
        thread.join()
    for descriptor in files:
        os.close(descriptor)
    return statistics.median(times) * 1000


class Histograms:
    """Sums and counts of every histogram of the cluster's processes, by (process, name, labels)."""

    def __init__(self, cluster):
        self.values = {}
        for process in cluster.names():
            text = subprocess.run(["curl", "-sf", cluster.metrics_url(process)],
                                  text=True, capture_output=True, check=True).stdout
            for name, labels, value in re.findall(r"(?m)^(\w+_seconds_(?:sum|count))(?:{(.*)})? (\S+)$", text):
                self.values[process, name, labels] = float(value)

    def mean_us(self, before, process, name, label):
        """Mean of what was observed since `before`, over all series with `label`; None if nothing was."""
        total, count = (
            sum(v - before.values.get(k, 0) for k, v in self.values.items()
                if k[0].startswith(process) and k[1] == name + end and label in k[2])
            for end in ("_sum", "_count"))
        return total / count * 1e6 if count else None


def where_time_goes(kind, client_us, before, after, cluster):
    """Rows (part, us): what each layer adds, from the metrics of both ends."""
    label = f'kind="{kind}"'
    request = after.mean_us(before, "volume", "weir_volume_request_duration_seconds", label)
    clone = max(filter(None, (
        after.mean_us(before, "volume", "weir_volume_clone_duration_seconds", f'{label},replica="{r}"')
        for r in cluster.replica_names())), default=None)
    store = max(filter(None, (
        after.mean_us(before, r, "weir_replica_request_seconds", f'op="{kind}"')
        for r in cluster.replica_names())), default=None)
    sync = max(filter(None, (
        after.mean_us(before, r, "weir_replica_sync_seconds", "") for r in cluster.replica_names())), default=None)
    if None in (request, clone, store):
        return [("(the metrics have no such requests)", client_us)]
    rows = [("client, NBD, nbdkit", client_us - request), ("frontend: engine, waiting for all", request - clone),
            ("wire: gRPC both ways", clone - store)]
    if kind == "flush" and sync is not None:
        return rows + [("replica besides the sync", store - sync), ("sync (slowest replica's mean)", sync)]
    return rows + [("replica: store and its queue", store)]


def table(rows):
    widths = [max(len(str(row[i])) for row in rows) for i in range(len(rows[0]))]
    for number, row in enumerate(rows):
        print("  ".join(str(cell).ljust(width) for cell, width in zip(row, widths)).rstrip())
        if number == 0:
            print("  ".join("-" * width for width in widths))


def row(what, ours, plain, unit, *limit, ratio):
    """With `limit`: its text, and whether it is kept."""
    cells = (what, f"{ours:,.1f} {unit}", f"{plain:,.1f} {unit}", f"{ratio:.2f}")
    return cells + ((limit[0], "yes" if limit[1] else "NO") if limit else ())


def measure(ours, plain, tls, folder, rounds, seconds):
    """`tls`: another cluster, or None."""
    found = collections.defaultdict(list)
    spent = {}
    clusters = [ours, tls] if tls else [ours]
    for number in range(rounds):
        print(f"round {number + 1} of {rounds}", flush=True)
        for depth in (1, 32):
            for side in (*clusters, plain):
                before = Histograms(ours.cluster) if side is ours else None
                cpu = side.cpu_seconds() if side in clusters else None
                iops, median_us, mean_us = fio(side.uri, depth, seconds)
                found[side.name, depth, "iops"].append(iops)
                found[side.name, depth, "us"].append(median_us)
                if side in clusters:
                    cpu_us = (side.cpu_seconds() - cpu) / (iops * (seconds + WARM_UP_SECONDS)) * 1e6
                    found[side.name, depth, "cpu"].append(cpu_us)
                if side is ours:
                    spent[f"write at depth {depth}"] = where_time_goes(
                        "write", mean_us, before, Histograms(ours.cluster), ours.cluster)
            with tempfile.TemporaryDirectory(dir=folder) as store:
                for name, where in (("grpc", None), ("rocksdb", store)):
                    iops, median_us = grpc_alone(depth, seconds, where)
                    found[name, depth, "iops"].append(iops)
                    found[name, depth, "us"].append(median_us)
            if depth == 32:
                for name, mib in ours.rss_mib().items():
                    found["rss", name].append(mib)
        before = Histograms(ours.cluster)
        median_ms, mean_ms = flush_ms(ours.uri, 100)
        found["weir", "flush"].append(median_ms)
        spent["flush"] = where_time_goes("flush", mean_ms * 1000, before, Histograms(ours.cluster), ours.cluster)
        if tls:
            found[tls.name, "flush"].append(flush_ms(tls.uri, 100)[0])
        found["fdatasync"].append(three_fdatasyncs_ms(folder, 100))
    return {key: statistics.median(values) for key, values in found.items()}, spent


def report(median, spent):
    latency = median["weir", 1, "us"], median["plain file", 1, "us"]
    rate = median["weir", 32, "iops"], median["plain file", 32, "iops"]
    flush = median["weir", "flush"], median["fdatasync"]
    print()
    table([
        ("what", "weir", "beside it", "ratio", "limit", "within"),
        row("4 KiB random write, depth 1, median latency", *latency, "us", "at most 4",
            latency[0] <= 4 * latency[1], ratio=latency[0] / latency[1]),
        row("4 KiB random write, depth 32", *rate, "IOPS", "at least 0.25",
            rate[0] >= rate[1] / 4, ratio=rate[0] / rate[1]),
        row("flush, beside three parallel fdatasyncs", *flush, "ms", "at most 2",
            flush[0] <= 2 * flush[1], ratio=flush[0] / flush[1]),
    ])
    print("\nbeside the same messages to three servers that store nothing (gRPC alone), or each in a bare RocksDB")
    table([
        ("what", "weir", "beside it", "ratio"),
        *(row(f"4 KiB, depth 1, median latency, {name}", latency[0], median[key, 1, "us"], "us",
              ratio=latency[0] / median[key, 1, "us"]) for key, name in FLOORS),
        *(row(f"4 KiB, depth 32, {name}", rate[0], median[key, 32, "iops"], "a second",
              ratio=rate[0] / median[key, 32, "iops"]) for key, name in FLOORS),
    ])
    print()
    rows = [("process", "RSS after depth 32", "limit", "within")]
    for key, mib in median.items():
        if key[0] == "rss":
            limit = 128 if key[1] == "volume" else 256
            rows.append((key[1], f"{mib:.0f} MiB", f"{limit} MiB", "yes" if mib <= limit else "NO"))
    table(rows)
    print(f"\nCPU of all four processes: {median['weir', 1, 'cpu']:.0f} us a write at depth 1, "
          f"{median['weir', 32, 'cpu']:.0f} us at depth 32")
    for what, parts in spent.items():
        print(f"\nwhere the time of a {what} goes (means of the last round)")
        table([("part", "us")] + [(part, f"{us:,.0f}") for part, us in parts])


def report_tls(median):
    def compared(what, unit, *key):
        with_tls, without = median["weir-tls", *key], median["weir", *key]
        return row(what, with_tls, without, unit, ratio=with_tls / without)

    print("\nwhat mutual TLS between frontend and replicas costs")
    table([
        ("what", "with TLS", "in plain text", "ratio"),
        compared("4 KiB random write, depth 1, median latency", "us", 1, "us"),
        compared("4 KiB random write, depth 32", "IOPS", 32, "iops"),
        compared("CPU of all four processes, a write at depth 1", "us", 1, "cpu"),
        compared("CPU of all four processes, a write at depth 32", "us", 32, "cpu"),
        compared("flush", "ms", "flush"),
    ])


def soak(ours, minutes):
    """RSS while random writes at depth 32 go on."""
    print(f"\nRSS in MiB (and of that block caches and memtables) over {minutes} minutes of random writes at depth 32")
    rows = [("minute", *ours.cluster.names())]
    for minute in range(minutes):
        fio(ours.uri, 32, 60 - WARM_UP_SECONDS)
        rss, caches = ours.rss_mib(), ours.caches_mib()
        rows.append((minute + 1, *(f"{rss.get(n, 0):.0f} ({caches[n]:.0f})" for n in ours.cluster.names())))
        print(" ".join(str(cell) for cell in rows[-1]), flush=True)
    table(rows)


def main():
    parser = argparse.ArgumentParser(prog="ops/bench", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one short round: a look, no measurement")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=10, help="of each fio run (10)")
    parser.add_argument("--soak-minutes", type=int, default=0, help="afterwards, watch RSS this long")
    parser.add_argument("--tls", action="store_true", help="measure a cluster with TLS too, in turns with the one without")
    parser.add_argument("--dir", default=None, help="on the disk to measure (a temporary folder)")
    parser.add_argument("--up-flag", action="append", default=[], help="for ops/cluster up")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.rounds, arguments.seconds = 1, 5
    folder = tempfile.mkdtemp(prefix="weir-bench-", dir=arguments.dir)
    sides = []
    try:
        sides.append(Ours("weir", folder, arguments.up_flag))
        sides.append(Plain(folder))
        if arguments.tls:
            sides.append(Ours("weir-tls", folder, [*arguments.up_flag, "--tls"]))
        ours, plain, tls = (*sides, None)[:3]
        # All sides overwrite what is there: first writes are another matter.
        for cluster in filter(None, (ours, tls)):
            subprocess.run(["nbdcopy", os.path.join(folder, "plain.img"), cluster.uri], check=True)
        median, spent = measure(ours, plain, tls, folder, arguments.rounds, arguments.seconds)
        report(median, spent)
        if tls:
            report_tls(median)
        if arguments.soak_minutes:
            soak(sides[0], arguments.soak_minutes)
    finally:
        for side in sides:
            side.close()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
