"""Measures what faults cost the clients of a cluster of real processes.

Stalls: 4 KiB reads and writes go on, one at a time on each of several connections, while a replica is
killed (kill -9) or frozen (SIGSTOP); what counts is the longest that one of them took. Resync: a
replica that was away while some data changed, beside one whose store is new. Latency: that of a steady
load, at half of what the cluster takes, with and without a rebuild.

It prints a table with limits. A limit that is passed does not fail the program: this is a
measurement, not a test.
"""

import argparse
import json
import os
import random
import shutil
import signal
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
# A frozen replica is out after this long by default (--clone_deadline).
CLONE_DEADLINE_SECONDS = 10
SETTLE_SECONDS = 2
HEAL_SECONDS = 1800


class FaultyCluster:
    """Three replicas and a frontend, with default settings."""

    def __init__(self, folder, size, up_flags):
        self.dir = os.path.join(folder, "cluster")
        self.ops("up", f"--size={size}", *up_flags)
        self.cluster = cluster_lib.Cluster(self.dir)
        self.uri = self.cluster.nbd_uri()

    def ops(self, *arguments):
        subprocess.run([os.path.join(ROOT, "ops", "cluster"), *arguments, f"--dir={self.dir}"],
                       check=True, stdout=subprocess.DEVNULL)

    def weirctl(self, *arguments):
        done = self.cluster.weirctl(*arguments)
        if done.returncode != 0:
            raise RuntimeError(f"weirctl {' '.join(arguments)}: {done.stderr}")
        return done.stdout

    def targets(self):
        return json.loads(self.weirctl("volume", "show", "demo", "--output=json"))["table"]["targets"]

    def in_sync(self):
        return sum(t["state"] == "in_sync" and t["health"] == "connected" for t in self.targets())

    def await_in_sync(self, count):
        deadline = time.monotonic() + HEAL_SECONDS
        while self.in_sync() != count:
            if time.monotonic() > deadline:
                raise RuntimeError(f"not {count} in sync after {HEAL_SECONDS} s: {self.targets()}")
            time.sleep(0.1)

    def signal(self, replica, number):
        self.cluster.process(replica).signal(number)

    def kill(self, replica):
        self.signal(replica, signal.SIGKILL)
        self.cluster.process(replica).wait(30)

    def empty_store(self, replica):
        """As after a disk was replaced: an empty directory, and a process on it."""
        for directory in self.cluster.data_dirs(replica):
            shutil.rmtree(directory)
        self.ops("start", replica)

    def close(self):
        self.ops("down")


class Clients:
    """4 KiB requests on several connections, one at a time each, for as long as the block runs."""

    def __init__(self, uri, size_mib, writers=3, readers=1):
        self.stop = threading.Event()
        self.done = []  # (kind, begun, ended)
        self.failed = []
        self.threads = [threading.Thread(target=self.run, args=(uri, size_mib, kind, number))
                        for number, kind in enumerate(["write"] * writers + ["read"] * readers)]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        for thread in self.threads:
            thread.join()
        if self.failed:
            raise RuntimeError(f"a client was given an error: {self.failed[0]}")

    def run(self, uri, size_mib, kind, number):
        handle = nbd.NBD()
        handle.connect_uri(uri)
        dice = random.Random(number)
        data = os.urandom(BLOCK)
        while not self.stop.is_set():
            offset = dice.randrange(size_mib * MIB // BLOCK) * BLOCK
            begun = time.monotonic()
            try:
                if kind == "write":
                    handle.pwrite(data, offset)
                else:
                    handle.pread(BLOCK, offset)
            except nbd.Error as error:
                self.failed.append(str(error))
                return
            self.done.append((kind, begun, time.monotonic()))

    def worst(self, since):
        """Seconds of the longest request that ended after `since`, by kind."""
        return {kind: max((e - b for k, b, e in self.done if k == kind and e >= since), default=0.0)
                for kind in ("write", "read")}


def stall(cluster, replica, fault, wait_seconds, size_mib):
    """(longest write, longest read) in seconds around a fault, after which the volume heals."""
    with Clients(cluster.uri, size_mib) as clients:
        time.sleep(SETTLE_SECONDS)
        struck = time.monotonic()
        fault(replica)
        time.sleep(wait_seconds)
        worst = clients.worst(struck)
    return worst["write"], worst["read"]


def stalls(cluster, arguments, say):
    killed, frozen = [], []
    replicas = cluster.cluster.replica_names()
    for number in range(arguments.rounds):
        replica = replicas[number % len(replicas)]
        say(f"kill -9 {replica}")
        killed.append(stall(cluster, replica, cluster.kill, 4, arguments.written_mib))
        cluster.ops("start", replica)
        cluster.await_in_sync(3)
    for number in range(1 if arguments.quick else 2):
        replica = replicas[number % len(replicas)]
        say(f"freeze {replica}")
        frozen.append(stall(cluster, replica, lambda r: cluster.signal(r, signal.SIGSTOP),
                            CLONE_DEADLINE_SECONDS + 4, arguments.written_mib))
        cluster.signal(replica, signal.SIGCONT)
        cluster.await_in_sync(3)
    return killed, frozen


def fill(cluster, written_mib):
    subprocess.run(["fio", "--name=fill", "--ioengine=nbd", f"--uri={cluster.uri}", "--rw=write", "--bs=1M",
                    "--iodepth=8", f"--size={written_mib}M", "--refill_buffers", "--end_fsync=1"],
                   check=True, stdout=subprocess.DEVNULL)


def change(cluster, changed_mib, written_mib):
    """Random blocks, each once."""
    handle = nbd.NBD()
    handle.connect_uri(cluster.uri)
    for block in random.Random(1).sample(range(written_mib * MIB // BLOCK), changed_mib * MIB // BLOCK):
        handle.pwrite(os.urandom(BLOCK), block * BLOCK)
    handle.flush()


def seconds_of(action):
    begun = time.monotonic()
    action()
    return time.monotonic() - begun


def resync(cluster, arguments, say):
    """(seconds of a delta, of everything): from when the replica runs again until it is in sync."""
    say(f"{arguments.changed_mib} MiB of random 4 KiB blocks change while replica3 is away")
    cluster.kill("replica3")
    cluster.await_in_sync(2)
    change(cluster, arguments.changed_mib, arguments.written_mib)
    cluster.ops("start", "replica3")
    delta = seconds_of(lambda: cluster.await_in_sync(3))
    say(f"back in sync after {delta:.1f} s; now on an empty store")
    cluster.kill("replica3")
    cluster.await_in_sync(2)
    cluster.empty_store("replica3")
    full = seconds_of(lambda: (cluster.weirctl("replica", "replace", "demo", "replica3"),
                               cluster.await_in_sync(3)))
    say(f"in sync after {full:.1f} s")
    return delta, full


def steady_load(cluster, arguments, rate=None):
    """(operations a second, p99 in ms by kind) of 4 KiB random reads and writes at depth 4."""
    limit = [f"--rate_iops={max(rate // 2, 1):.0f},{max(rate // 2, 1):.0f}", "--rate_process=poisson"] if rate else []
    done = subprocess.run(
        ["fio", "--name=load", "--ioengine=nbd", f"--uri={cluster.uri}", "--rw=randrw", "--bs=4k",
         "--iodepth=4", f"--size={arguments.written_mib}M", "--time_based", f"--runtime={arguments.seconds}",
         "--ramp_time=2", "--output-format=json", *limit],
        check=True, text=True, capture_output=True)
    job = json.loads(done.stdout[done.stdout.index("{"):])["jobs"][0]
    return (sum(job[side]["iops"] for side in ("read", "write")),
            {side: job[side]["clat_ns"]["percentile"]["99.000000"] / 1e6 for side in ("read", "write")})


def latencies(cluster, arguments, say):
    """(rate, p99 without, p99 with a rebuild, bytes copied a second meanwhile)."""
    most, _ = steady_load(cluster, arguments)
    rate = most / 2
    say(f"at most {most:.0f} requests a second at depth 4; now half of that")
    _, without = steady_load(cluster, arguments, rate)
    cluster.kill("replica3")
    cluster.await_in_sync(2)
    cluster.empty_store("replica3")
    cluster.weirctl("replica", "replace", "demo", "replica3")
    while copied_bytes(cluster) == 0:
        time.sleep(0.05)
    say("the same while replica3 gets everything")
    begun, before = time.monotonic(), copied_bytes(cluster)
    _, during = steady_load(cluster, arguments, rate)
    copied = copied_bytes(cluster)
    if copied == 0:
        say("the rebuild was over before the load was: write more, or load for less long")
    speed = max(copied - before, 0) / (time.monotonic() - begun)
    cluster.await_in_sync(3)
    return rate, without, during, speed


def copied_bytes(cluster):
    return max(int(t.get("join_bytes_copied", 0)) for t in cluster.targets())


def table(rows):
    widths = [max(len(str(row[i])) for row in rows) for i in range(len(rows[0]))]
    for number, row in enumerate(rows):
        print("  ".join(str(cell).ljust(width) for cell, width in zip(row, widths)).rstrip())
        if number == 0:
            print("  ".join("-" * width for width in widths))


def verdict(within):
    return "yes" if within else "NO"


def stall_row(what, found, limit_seconds):
    worst = max(max(pair) for pair in found)
    each = ", ".join(f"{max(pair) * 1000:.0f}" for pair in found)
    return (what, f"{worst * 1000:.0f} ms (of {each})", f"at most {limit_seconds * 1000:.0f} ms",
            verdict(worst <= limit_seconds))


def measure(cluster, arguments):
    begun = time.monotonic()

    def say(what):
        print(f"{time.monotonic() - begun:6.1f} s  {what}", flush=True)

    rows = [("what", "measured", "limit", "within")]
    say(f"writing {arguments.written_mib} MiB of a volume of {arguments.size}")
    fill(cluster, arguments.written_mib)
    if "stalls" in arguments.parts:
        killed, frozen = stalls(cluster, arguments, say)
        rows.append(stall_row("longest stall, replica killed with -9", killed, 1))
        rows.append(stall_row("longest stall, replica frozen", frozen, CLONE_DEADLINE_SECONDS + 1))
    if "resync" in arguments.parts:
        delta, full = resync(cluster, arguments, say)
        rows.append((f"resync of {arguments.changed_mib} MiB changed, beside all of {arguments.written_mib} MiB",
                     f"{delta:.2f} s, {full:.1f} s: 1/{full / delta:.0f}", "less than 1/20",
                     verdict(delta < full / 20)))
    if "latency" in arguments.parts:
        rate, without, during, speed = latencies(cluster, arguments, say)
        for side in ("write", "read"):
            ratio = during[side] / without[side]
            rows.append((f"p99 of a {side} during a rebuild ({speed / MIB:.0f} MiB/s), beside without; "
                         f"{rate:.0f} requests/s", f"{during[side]:.1f} ms, {without[side]:.1f} ms: {ratio:.2f}",
                         "at most 2", verdict(ratio <= 2)))
    print()
    table(rows)


def main(argv):
    parser = argparse.ArgumentParser(prog="ops/bench --faults", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small sizes: a look, no measurement")
    parser.add_argument("--parts", type=lambda text: text.split(","), default=["stalls", "resync", "latency"],
                        help="of stalls,resync,latency (all)")
    parser.add_argument("--size", default="8GiB", help="of the volume (8GiB)")
    parser.add_argument("--written-mib", type=int, default=8192, help="what it holds: all of it (8192)")
    parser.add_argument("--changed-mib", type=int, default=64, help="while a replica is away (64)")
    parser.add_argument("--rounds", type=int, default=3, help="how many replicas are killed (3)")
    parser.add_argument("--seconds", type=int, default=20, help="of each steady load (20)")
    parser.add_argument("--dir", default=None, help="on the disk to measure (a temporary folder)")
    parser.add_argument("--up-flag", action="append", default=[], help="for ops/cluster up")
    arguments = parser.parse_args(argv)
    if arguments.quick:
        arguments.written_mib, arguments.changed_mib = 512, 8
        arguments.rounds, arguments.seconds = 1, 5
    folder = tempfile.mkdtemp(prefix="weir-bench-", dir=arguments.dir)
    cluster = None
    try:
        cluster = FaultyCluster(folder, arguments.size, arguments.up_flag)
        measure(cluster, arguments)
    finally:
        if cluster is not None:
            for replica in cluster.cluster.replica_names():
                cluster.signal(replica, signal.SIGCONT)
            cluster.close()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main(sys.argv[1:])
