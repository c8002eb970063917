"""Where the time of requests goes: weirctl trace, the metrics by stage and the slow-request log, with a replica that is slow."""

import json
import re
import subprocess
import time

import nbd

import harness
from harness import wait_until
from top_test import Load

SLOW, DELAY_MS = "replica3", 400
VOLUME_FLAGS = "--volume-flags=--slow_request_log=200ms"
BLOCK = b"t" * 4096


class TraceTest(harness.ClusterTest):
    up_flags = ("--size=64MiB", "--replica-flags=--enable_fault_injection", VOLUME_FLAGS)

    def tearDown(self):
        for replica in ("replica1", "replica2", "replica3"):
            self.cluster.weirctl("fault", "clear", replica)
        self.cluster.weirctl("volume", "attach", "demo")

    def trace(self, *flags, check=True):
        return self.cluster.weirctl("trace", "demo", "--output=json", *flags, check=check)

    def slow_writes(self):
        self.cluster.weirctl("fault", "set", SLOW, "--op=write", f"--error=DELAY={DELAY_MS}")

    def metric(self, name, **labels):
        """The value of the series with these labels."""
        for line in self.cluster.metrics("volume").splitlines():
            if line.startswith(name + "{") and all(f'{key}="{value}"' in line for key, value in labels.items()):
                return float(line.rsplit(" ", 1)[1])
        raise AssertionError(f"no {name} with {labels}")

    def begin_trace(self, *flags):
        """One that runs beside the test."""
        weirctl = f"{self.cluster.env['BIN']}/weirctl"
        begun = []

        def traces():
            # Whoever asks whether it traces may have come first, and then it was refused.
            if not begun or begun[-1].poll() is not None:
                begun.append(subprocess.Popen([weirctl, f"--cluster={self.cluster.dir}", "trace", "demo", *flags],
                                              text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE))
                time.sleep(1)
            return "somebody else traces" in self.trace("--seconds=1", check=False).stderr

        wait_until(traces, 60, "it traces")
        for refused in begun[:-1]:
            refused.communicate()
        return begun[-1]

    def test_it_tells_the_time_of_each_replica_and_stage(self):
        self.slow_writes()
        with Load(self.cluster):
            told = json.loads(self.trace("--seconds=3", "--slowest=2").stdout)
        self.assertEqual(told["ended_because"], "")
        self.assertGreaterEqual(int(told["traced_ms"]), 3000)
        write, = [kind for kind in told["kinds"] if kind["kind"] == "write"]
        # One was under way when the trace began.
        self.assertIn(int(write["requests"]) - int(write["sampled"]), (0, 1))
        self.assertGreaterEqual(int(write["total"]["median_us"]), DELAY_MS * 1000)
        self.assertGreaterEqual(int(write["replicas"]["median_us"]), DELAY_MS * 1000)
        store = {replica["replica"]: int(replica["store"]["median_us"]) for replica in write["by_replica"]}
        self.assertEqual(set(store), {"replica1", "replica2", "replica3"})
        self.assertGreaterEqual(store.pop(SLOW), DELAY_MS * 1000)
        for replica, median_us in store.items():
            self.assertTrue(0 < median_us < DELAY_MS * 1000, (replica, median_us))
        self.assertEqual(len(told["slowest"]), 2)
        slowest = told["slowest"][0]
        self.assertEqual(sum(int(slowest[part]) for part in ("backlog_us", "engine_us", "replicas_us", "finish_us")) // 100,
                         int(slowest["total_us"]) // 100, slowest)

    def test_a_table_for_people_and_nothing_where_nobody_asks(self):
        said = self.cluster.weirctl("trace", "demo", "--seconds=1").stdout
        self.assertRegex(said, r"^demo: traced for 1\.\d\ds")
        with Load(self.cluster):
            said = self.cluster.weirctl("trace", "demo", "--seconds=1").stdout
        self.assertRegex(said, r"\nKIND +REQUESTS +SAMPLED +TOTAL +BACKLOG +ENGINE +REPLICAS +FINISH\n")
        self.assertRegex(said, r"\nwrite +replica2 +\d+ ")
        self.assertRegex(said, r"replica1 send \S+, store \S+, wire \S+")

    def test_it_ends_with_the_volumes_detach_and_says_so(self):
        tracing = self.begin_trace("--seconds=600")
        self.cluster.weirctl("volume", "detach", "demo")
        said, error = tracing.communicate(timeout=30)
        self.assertEqual(tracing.returncode, 1)
        self.assertRegex(said, "^demo: traced for ")
        self.assertRegex(error, r"^weirctl: the trace of demo ended early: .*detached.*\n$")

    def test_it_ends_with_its_client(self):
        tracing = self.begin_trace("--seconds=600")
        tracing.kill()
        tracing.communicate(timeout=30)
        wait_until(lambda: self.trace("--seconds=1", check=False).returncode == 0, 30, "another one may trace")

    def test_the_stages_and_the_busy_time_are_metrics(self):
        stage = "weir_volume_target_rpc_duration_seconds_sum"
        before = {name: self.metric(stage, replica=name, stage="store") for name in ("replica1", SLOW)}
        busy = self.metric("weir_volume_target_busy_seconds_total", replica=SLOW)
        self.slow_writes()
        handle = self.cluster.connect()
        begun = time.monotonic()
        for block in range(3):
            handle.pwrite(BLOCK, block * 4096)
        took = time.monotonic() - begun
        # Nearly all the time; the delay itself is by another clock, which may be set meanwhile.
        self.assertGreaterEqual(self.metric(stage, replica=SLOW, stage="store") - before[SLOW], 0.9 * took)
        self.assertLess(self.metric(stage, replica="replica1", stage="store") - before["replica1"], 0.9 * took)
        self.assertGreaterEqual(self.metric("weir_volume_target_busy_seconds_total", replica=SLOW) - busy, 0.9 * took)
        self.assertGreater(self.metric(stage, replica=SLOW, stage="wire"), 0)
        self.assertEqual(self.metric("weir_volume_target_lag_seconds", replica=SLOW), 0)

    def test_a_slow_request_is_logged_with_the_replica_that_took_its_time(self):
        self.slow_writes()
        self.cluster.connect().pwrite(BLOCK, 40960)
        line = re.compile(r"volume=demo epoch=\d+ slow request: write of 4096 bytes at 40960 took (\d+)\.?\d*ms(.*)")
        wait_until(lambda: line.search(self.cluster.log("volume")), 30, "it is logged")
        took, where = line.search(self.cluster.log("volume")).groups()
        self.assertGreaterEqual(int(took), DELAY_MS)
        self.assertRegex(where, rf"{SLOW} send \S+, store (4\d\d|[5-9]\d\d)\S*ms, wire ")
        self.assertNotIn("replica1", where)

    def test_a_request_that_was_held_is_logged_with_the_reason(self):
        self.cluster.weirctl("volume", "suspend", "demo")
        handle = self.cluster.connect()
        handle.aio_pwrite(nbd.Buffer.from_bytearray(bytearray(BLOCK)), 81920)
        time.sleep(1)
        self.cluster.weirctl("volume", "resume", "demo")
        wait_until(lambda: re.search(r"slow request: write of 4096 bytes at 81920 .*held meanwhile: .*suspended at",
                                     self.cluster.log("volume")), 30, "it is logged")
