"""weirctl top: what it shows of a cluster under load, with a replica killed, in a terminal, and of nothing."""

import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import threading
import time

import harness
from harness import wait_until

REPLICAS = ["replica1", "replica2", "replica3"]
BLOCK = b"w" * 4096


def drawn_lines(drawn):
    """What a terminal shows of it; that one makes CR LF of each LF."""
    return re.split(r"\r+\n", re.sub(r"\033\[\??\d*[A-Za-z]", "", drawn))


class Load:
    """A client that writes and flushes until it is left."""

    def __init__(self, cluster):
        self.handle = cluster.connect()
        self.writes = 0
        self.ends = threading.Event()
        self.thread = threading.Thread(target=self.run)

    def run(self):
        while not self.ends.wait(0.01):
            for block in range(8):
                self.handle.pwrite(BLOCK, block * 4096)
                self.writes += 1
            self.handle.flush()

    def __enter__(self):
        self.thread.start()
        wait_until(lambda: self.writes > 0, 30, "the first write")
        return self

    def __exit__(self, *_):
        self.ends.set()
        self.thread.join()


class TopTest(harness.ClusterTest):
    up_flags = ("--size=64MiB",)

    def top(self, *flags):
        """Its views, from --output=json."""
        said = self.cluster.weirctl("top", "--output=json", *flags).stdout
        return [json.loads(line) for line in said.splitlines()]

    def refused(self, *flags):
        """(exit code, what it says) of one that fails."""
        done = self.cluster.weirctl("top", "--count=1", *flags, check=False)
        self.assertEqual(done.stdout, "")
        self.assertEqual(done.stderr.count("\n"), 1, done.stderr)
        return done.returncode, done.stderr

    def test_its_figures_are_those_of_the_load(self):
        with Load(self.cluster) as load:
            begun, before = time.monotonic(), load.writes
            views = self.top("--count=2", "--interval=1s")
            took, written = time.monotonic() - begun, load.writes - before
        self.assertEqual(len(views), 2)
        shown = 0
        for view in views:
            self.assertEqual(view["silent"], [])
            volume, = view["volumes"]
            self.assertEqual((volume["name"], volume["frontend"], volume["state"]), ("demo", "volume", "ACTIVE"))
            self.assertGreaterEqual(view["interval_seconds"], 0.9)
            self.assertGreater(volume["writes_per_second"], 0)
            self.assertAlmostEqual(volume["write_bytes_per_second"], 4096 * volume["writes_per_second"], delta=1)
            # 8 writes a flush; a look may come between them.
            self.assertAlmostEqual(volume["writes_per_second"], 8 * volume["flushes_per_second"],
                                   delta=12 / view["interval_seconds"])
            self.assertEqual(volume["reads_per_second"], 0)
            self.assertTrue(0 < volume["write_p50_seconds"] <= volume["write_p99_seconds"] < 10, volume)
            self.assertTrue(0 < volume["flush_p99_seconds"] < 10, volume)
            self.assertEqual(volume["held"], "")
            shown += volume["writes_per_second"] * view["interval_seconds"]
            runs, = view["flushes"]
            self.assertGreater(runs["runs_per_second"], 0)
            self.assertEqual(runs["failed_per_second"], 0)
            self.assertGreaterEqual(runs["clones_per_run"], 3)  # one flush domain of each, at least
            self.assertEqual([t["replica"] for t in view["targets"]], REPLICAS)
            for target in view["targets"]:
                self.assertEqual((target["volume"], target["state"], target["health"]), ("demo", "in_sync", "connected"))
                self.assertGreater(target["clones_per_second"], volume["writes_per_second"] / 2)
                self.assertGreater(target["clone_p99_seconds"], 0)
            self.assertEqual(view["resyncs"], [])
            self.assertEqual([r["name"] for r in view["replicas"]], REPLICAS)
            for replica in view["replicas"]:
                self.assertEqual(replica["state"], "serving")
                self.assertGreater(replica["syncs_per_second"], 0)
                self.assertGreater(replica["sync_p99_seconds"], 0)
                self.assertTrue(0 < replica["available_bytes"] <= replica["capacity_bytes"], replica)
        # Two seconds of the time that it took. When exactly a process has counted, nobody outside knows.
        self.assertLessEqual(shown, written * 1.25 + 8)
        self.assertGreater(shown, written * 2 / took / 4)

    def test_it_is_a_plain_table_where_there_is_no_terminal(self):
        said = self.cluster.weirctl("top", "--count=2", "--interval=200ms", "--volume=demo").stdout
        self.assertEqual(len(re.findall(r"(?m)^weirctl top  \d\d:\d\d:\d\d  every 200ms  volumes 1  replicas 3$", said)), 2, said)
        self.assertEqual(len(re.findall(r"(?m)^VOLUME +STATE .* HELD$", said)), 2)
        self.assertEqual(len(re.findall(r"(?m)^demo +ACTIVE ", said)), 2)
        self.assertEqual(len(re.findall(r"(?m)^demo +replica2 +in_sync +connected ", said)), 2)
        self.assertNotIn("\033", said)

    def test_a_killed_replica_is_named_and_the_others_are_shown(self):
        def reconnects(view):
            return {t["replica"]: t["reconnects"] for t in view["targets"]}

        view, = self.top("--count=1", "--interval=100ms")
        before = reconnects(view)
        with Load(self.cluster):
            self.cluster.kill9("replica2")
            view, = self.top("--count=1", "--interval=2s")
            self.assertEqual([s["process"] for s in view["silent"]], ["replica2"])
            self.assertIn("http://", view["silent"][0]["why"])
            self.assertEqual([r["name"] for r in view["replicas"]], ["replica1", "replica3"])
            self.assertGreater(view["volumes"][0]["writes_per_second"], 0)
            of = {t["replica"]: t for t in view["targets"]}
            self.assertNotEqual(of["replica2"]["health"], "connected")
            self.assertEqual(of["replica1"]["state"], "in_sync")
            said = self.cluster.weirctl("top", "--count=1", "--interval=100ms").stdout
            self.assertRegex(said, r"(?m)^replica2 does not answer: http://")
            self.cluster.ops("start", "replica2")
            wait_until(lambda: {t["state"] for t in self.top("--count=1", "--interval=100ms")[0]["targets"]} == {"in_sync"},
                       60, "all are in sync again")
        view, = self.top("--count=1", "--interval=100ms")
        self.assertEqual(view["silent"], [])
        self.assertGreater(reconnects(view)["replica2"], before["replica2"])
        self.assertEqual(reconnects(view)["replica1"], before["replica1"])

    def test_it_says_why_it_has_nothing_to_show(self):
        code, said = self.refused("--metrics=http://127.0.0.1:1/metrics")
        self.assertEqual(code, 1)
        self.assertRegex(said, r"no process shows its metrics \(http://127\.0\.0\.1:1/metrics: .+\); check that they run")
        health = self.cluster.env["METRICS_URLS"].split()[-1].replace("/metrics", "/healthz")
        code, said = self.refused(f"--metrics={health}")
        self.assertEqual(code, 1)
        self.assertIn("line 1 is no metric", said)
        code, said = self.refused("--metrics=localhost:7801")
        self.assertEqual(code, 2)
        self.assertIn("is no URL of metrics", said)
        code, said = self.refused("--volume=other")
        self.assertEqual(code, 1)
        self.assertIn("no volume other", said)

    def test_metrics_alone_are_enough(self):
        program = os.path.join(self.cluster.env["BIN"], "weirctl")
        environment = {k: v for k, v in os.environ.items() if k != "WEIR_CLUSTER"}
        urls = ",".join(self.cluster.env["METRICS_URLS"].split())
        said = harness.run(program, "top", f"--metrics={urls}", "--count=1", "--output=json", env=environment).stdout
        view = json.loads(said)
        self.assertEqual(view["volumes"][0]["name"], "demo")
        self.assertEqual([t["state"] for t in view["targets"]], ["in_sync"] * 3)
        self.assertRegex(view["replicas"][0]["name"], r"^127\.0\.0\.1:\d+$")

    def test_in_a_terminal_it_draws_in_place_and_restores_it(self):
        terminal, inner = pty.openpty()
        self.addCleanup(os.close, terminal)
        size = lambda columns, lines: fcntl.ioctl(inner, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        size(100, 16)
        argv = [os.path.join(self.cluster.env["BIN"], "weirctl"), f"--cluster={self.cluster.dir}", "top", "--interval=10s"]
        top = subprocess.Popen(argv, stdout=inner, stderr=inner)
        self.addCleanup(top.kill)
        drawn = ""

        def has(text):
            nonlocal drawn
            while select.select([terminal], [], [], 0)[0]:
                drawn += os.read(terminal, 65536).decode()
            return text in drawn

        # The first view is there at once, not after an interval.
        wait_until(lambda: has("Replicas"), 9, "the first view")
        self.assertTrue(drawn.startswith("\033[?1049h\033[?25l\033[H"), drawn[:40])
        lines = drawn_lines(drawn)
        self.assertLessEqual(len(lines), 16)
        self.assertLessEqual(max(map(len, lines)), 100)
        self.assertTrue(any(line.startswith("demo") and "ACTIVE" in line for line in lines), lines)
        # Drawn anew as soon as it has another size.
        drawn = ""
        size(40, 8)
        top.send_signal(signal.SIGWINCH)
        wait_until(lambda: has("Targets"), 9, "the same view in 40 columns")
        lines = drawn_lines(drawn)
        self.assertLessEqual(len(lines), 8)
        self.assertLessEqual(max(map(len, lines)), 40)
        top.send_signal(signal.SIGINT)
        self.assertEqual(top.wait(30), 0)
        self.assertTrue(has("\033[?25h\033[?1049l"))
        self.assertTrue(drawn.endswith("\033[?25h\033[?1049l"), drawn[-40:])
        os.close(inner)
