"""OPERATIONS.md, "A game day": its commands as they stand there, each step a test, in their order and in one shell."""

import os
import re
import select
import shlex
import shutil
import signal
import subprocess
import time
import unittest

import harness
from alerting import FastPrometheus
from harness import FULL, ROOT, run, wait_until

COMMAND_SECONDS_MAX = 150
# With --full.
LONG = ("A replica hangs", "The catalog is away", "A disk gives back other bytes")
EXPECTATION = re.compile(r"(?:within (?P<number>\d+) (?P<unit>s|min): )?(?P<fails>fails(?:: )?)?(?P<no>no (?=Weir))?(?P<words>.*)")


def section():
    with open(os.path.join(ROOT, "OPERATIONS.md")) as f:
        return f.read().split("\n## A game day\n")[1].split("\n## ")[0]


def commands(text):
    """(command, what must come of it) of each line of its code blocks; a line that ends with a backslash goes on."""
    lines = "\n".join(re.findall(r"^    (.+)$", text, re.MULTILINE)).replace("\\\n", "")
    return [[part.strip() for part in line.partition("  # -> ")[::2]] for line in lines.splitlines()]


def steps():
    """(title, what its heading has in parentheses, text)."""
    found = re.findall(r"^### (?:\d+\. )?([^(\n]+?)(?: \(([^)\n]*)\))?\n(.*?)(?=^### |\Z)", section(), re.MULTILINE | re.DOTALL)
    assert found and set(LONG) <= {title for title, _, _ in found}, found
    return found


class Shell:
    """A bash that is told one command after the other; what stays between them is as for whoever types them."""

    def __init__(self, **environment):
        self.process = subprocess.Popen(["bash"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=ROOT,
                                        env={**os.environ, **environment}, start_new_session=True)
        self.said = b""

    def type(self, command):
        """(exit code, what it and what runs in the background have said since)."""
        # They must not read what is typed next.
        typed = f"eval {shlex.quote(command)} </dev/null; printf '\\nended %d\\n' $?\n"
        self.process.stdin.write(typed.encode())
        self.process.stdin.flush()
        deadline = time.monotonic() + COMMAND_SECONDS_MAX
        while not (found := re.search(rb"\nended (\d+)\n", self.said)):
            if not select.select([self.process.stdout], [], [], max(deadline - time.monotonic(), 0))[0]:
                raise AssertionError(f"{command}: no end within {COMMAND_SECONDS_MAX} s\n{self.said.decode(errors='replace')}")
            read = os.read(self.process.stdout.fileno(), 1 << 16)
            assert read, f"{command}: the shell has ended"
            self.said += read
        output, self.said = self.said[:found.start()], self.said[found.end():]
        return int(found[1]), " ".join(output.decode(errors="replace").split())

    def close(self):
        """With its client, if that is still there; the cluster's processes have sessions of their own."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(30)
        self.process.stdin.close()
        self.process.stdout.close()


class GameDayCluster(harness.RealCluster):
    """Where the commands say, in a home of its own; the first of them starts it."""

    def __init__(self):
        super().__init__()
        self.home = self.dir
        self.dir = os.path.join(self.home, ".weir", "game-day")

    def close(self):
        run("umount", "--lazy", os.path.join(self.dir, "replica3"), check=False)
        super().close()
        shutil.rmtree(self.home, ignore_errors=True)


class GameDayTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.begin()

    @classmethod
    def begin(cls):
        cls.cluster = GameDayCluster()
        cls.addClassCleanup(cls.cluster.close)
        cls.shell = Shell(HOME=cls.cluster.home)
        cls.addClassCleanup(cls.shell.close)
        for command, expected in commands(section().split("\n### ")[0]):
            cls.follow(command, expected)
        # What fires after minutes does so after seconds: the times that the page gives `alerts` are not tried.
        prometheus = FastPrometheus(cls.cluster)
        cls.addClassCleanup(prometheus.close)
        wait_until(prometheus.serves, 30, "Prometheus answers")
        wait_until(lambda: len(prometheus.series("up == 1")) == 5, 30, "every process is seen")
        cls.follow(f"PROMETHEUS_URL={prometheus.url}")

    def setUp(self):
        # What a step has found that ended early is not the next one's.
        if not self.is_whole():
            self.doClassCleanups()
            self.begin()

    def is_whole(self):
        """Every process runs, and the first frontend has the volume on all replicas."""
        cluster = harness.cluster_lib.Cluster(self.cluster.dir)
        if cluster.settings is None or len(cluster.running()) != len(cluster.names()):
            return False
        explained = self.cluster.weirctl("explain", "demo", "--frontend=volume", check=False).stdout
        return "volume demo is active, all 3 replicas are connected" in explained

    @classmethod
    def follow(cls, command, expected=""):
        """Types it, again and again if it may take some time, until it does what is said of it."""
        said = EXPECTATION.fullmatch(expected)
        last = []

        def as_said():
            code, output = last[:] = cls.shell.type(command)
            return (code != 0) == bool(said["fails"]) and (said["words"] in output) != bool(said["no"])

        if not said["number"]:
            if not as_said():
                raise AssertionError(f"{command}: exit {last[0]}, expected {expected or 'exit 0'}\n{last[1]}")
            return
        seconds = int(said["number"]) * (60 if said["unit"] == "min" else 1)
        try:
            wait_until(as_said, seconds, f"{command}: {expected}")
        except AssertionError as late:
            raise AssertionError(f"{late}\nexit {last[0]}\n{last[1]}") from None


def follow_all(title, note, text):
    def test(self):
        for command, expected in commands(text):
            self.follow(command, expected)

    if title in LONG:
        test = unittest.skipUnless(FULL, "with --full")(test)
    return unittest.skipIf("as root" in note and os.geteuid() != 0, "needs root")(test)


for number, step in enumerate(steps(), 1):
    setattr(GameDayTest, f"test_{number:02}_{re.sub('[^a-z]+', '_', step[0].lower())}", follow_all(*step))


if __name__ == "__main__":
    unittest.main()
