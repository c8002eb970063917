"""How long a snapshot takes beside writers: no more than a flush of that moment, and 50 ms."""

import re
import statistics
import subprocess
import time

import harness
from grpc_caller import Caller, load_messages
from harness import FULL, MIB, run, wait_until

BEYOND_A_FLUSH_SECONDS = 0.05
ROUNDS = 9
# Whatever else this machine does can only make a snapshot seem slower (it waits for a core, and for the disk's queue,
# several times in a row), so the best of some medians is nearest to what Weir takes. One that really took longer would in each.
TRIES = 5
FILLED = (1024 if FULL else 128) * MIB


class SnapshotTimeTest(harness.ClusterTest):
    up_flags = ("--size=1GiB",)

    def setUp(self):
        self.service = Caller(self.cluster.env["VOLUME_ADDR"], load_messages(
            "weir.v1.volume_pb2", "weir/v1/types.proto", "weir/v1/volume.proto"))
        self.addCleanup(self.service.close)

    def fio(self, *flags):
        return ["fio", "--name=w", "--ioengine=nbd", f"--uri={self.cluster.uri}", "--size=1G", *flags]

    def writes_done(self):
        return int(re.search(r'^weir_volume_requests_total{kind="write",volume="demo"} (\d+)', self.cluster.metrics("volume"),
                             re.MULTILINE).group(1))

    def load(self):
        """Writers all over the volume, with a flush now and then."""
        process = subprocess.Popen(
            self.fio("--rw=randwrite", "--bs=4k", "--iodepth=16", "--fsync=256", "--time_based", "--runtime=200"),
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        before = self.writes_done()
        wait_until(lambda: self.writes_done() > before + 2000, 30, "fio writes")

    def seconds(self, method, **fields):
        begun = time.monotonic()
        getattr(self.service, method)(**fields)
        return time.monotonic() - begun

    def median_of_rounds(self):
        """Of the snapshots, of the flushes beside them, and of what each snapshot took beyond its flushes."""
        taken, flushed = [], []
        for _ in range(ROUNDS):
            before = self.seconds("Flush", name="demo")
            taken.append(self.seconds("CreateSnapshot", volume="demo", name="timed"))
            flushed.append((before + self.seconds("Flush", name="demo")) / 2)
            self.service.DeleteSnapshot(volume="demo", name="timed")
        beyond = statistics.median(t - f for t, f in zip(taken, flushed))
        return statistics.median(taken), statistics.median(flushed), beyond

    def test_a_snapshot_under_load_takes_at_most_50_ms_and_a_flush(self):
        run(*self.fio("--rw=write", "--bs=1M", f"--io_size={FILLED}", "--end_fsync=1"))
        self.load()
        best = float("inf")
        for _ in range(TRIES):
            before = self.writes_done()
            taken, flushed, beyond = self.median_of_rounds()
            self.assertGreater(self.writes_done(), before + ROUNDS, "the load goes on")
            print(f"1 GiB under load: snapshot {taken * 1e3:.0f} ms, flush {flushed * 1e3:.0f} ms, beyond a flush "
                  f"{beyond * 1e3:.0f} ms (medians of {ROUNDS})")
            best = min(best, beyond)
            if best < BEYOND_A_FLUSH_SECONDS:
                return
        self.fail(f"a snapshot takes {best * 1e3:.0f} ms more than a flush, in the best of {TRIES} tries")
