"""weirctl chaos: an operator's drill on a live volume, and that it always undoes itself."""

import json
import os
import signal
import subprocess

import harness
from harness import wait_until


class ChaosDrillTest(harness.ClusterTest):
    up_flags = ("--size=64MiB", "--replica-flags=--enable_fault_injection")

    def states(self, volume="demo"):
        shown = json.loads(self.cluster.weirctl("volume", "show", volume, "--output=json").stdout)
        return {t["replica"]: t["state"] for t in shown["table"]["targets"]}

    def all_in_sync(self):
        return set(self.states().values()) == {"in_sync"}

    def begin(self, *flags):
        """A drill that goes on until it is told to end, once its member is out."""
        argv = [os.path.join(self.cluster.env["BIN"], "weirctl"), f"--cluster={self.cluster.dir}", "chaos", "demo",
                "--duration=1h", *flags]
        drill = subprocess.Popen(argv, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.addCleanup(drill.kill)
        return drill

    def test_a_member_is_taken_out_and_brought_back_while_clients_go_on(self):
        handle = self.cluster.connect()
        said = self.cluster.weirctl("chaos", "demo", "--replica=replica2", "--duration=2s").stdout
        during = said[said.index("during:"):said.index("after:")]
        self.assertRegex(during, r"replica2 +out")
        self.assertRegex(during, r"replica1 +in_sync")
        self.assertNotIn(" out ", said[said.index("after:"):])
        self.assertTrue(self.all_in_sync())
        handle.pwrite(b"x" * 4096, 0)
        handle.flush()

    def test_a_slow_member_is_slow_only_as_long_as_the_drill(self):
        said = self.cluster.weirctl("chaos", "demo", "--fault=delay", "--replica=replica1", "--duration=1s").stdout
        self.assertRegex(said, r"during: \d+ flushes, the longest took (\d{3,}ms|\d)")
        self.assertNotIn("replica1", self.cluster.weirctl("fault", "list", "replica1").stdout)

    def test_a_member_that_answers_an_error_is_brought_back(self):
        handle = self.cluster.connect()
        drill = self.begin("--fault=error", "--replica=replica3")
        wait_until(lambda: "replica3" in self.cluster.weirctl("fault", "list", "replica3").stdout, 30, "it is set")
        handle.pwrite(b"y" * 4096, 0)
        handle.flush()
        drill.send_signal(signal.SIGTERM)
        said, why = drill.communicate(timeout=120)
        self.assertEqual(drill.returncode, 1, said + why)
        self.assertTrue(self.all_in_sync())

    def test_an_interrupt_undoes_it_at_once(self):
        drill = self.begin("--replica=replica2")
        wait_until(lambda: self.states()["replica2"] == "out", 30, "replica2 is out")
        drill.send_signal(signal.SIGINT)
        said, why = drill.communicate(timeout=120)
        self.assertEqual(drill.returncode, 1, said + why)
        self.assertIn("ended early by a signal", why)
        self.assertTrue(self.all_in_sync())

    def test_it_is_refused_while_another_member_is_out(self):
        drill = self.begin("--replica=replica2")
        wait_until(lambda: self.states()["replica2"] == "out", 30, "replica2 is out")
        second = self.cluster.weirctl("chaos", "demo", "--replica=replica1", check=False)
        self.assertEqual(second.returncode, 1)
        self.assertIn("not in sync", second.stderr)
        drill.send_signal(signal.SIGINT)
        drill.communicate(timeout=120)

    def test_it_is_refused_where_a_member_may_not_be_missed(self):
        self.cluster.weirctl("volume", "create", "strict", "--size=16MiB", "--min-in-sync=3")
        self.cluster.weirctl("volume", "attach", "strict")
        done = self.cluster.weirctl("chaos", "strict", check=False)
        self.assertEqual(done.returncode, 1)
        self.assertIn("min_in_sync is 3", done.stderr)
        self.assertEqual(set(self.states("strict").values()), {"in_sync"})

    def test_a_wrong_command_line_is_refused(self):
        for flags, why in ((("--duration=never",), "give one up to 1h"), (("--fault=fire",), "--fault"),
                           (("--replica=replica9",), "no member")):
            done = self.cluster.weirctl("chaos", "demo", *flags, check=False)
            self.assertNotEqual(done.returncode, 0)
            self.assertIn(why, done.stderr)


class ChaosDrillWithoutInjectionTest(harness.ClusterTest):
    up_flags = ("--size=64MiB",)

    def test_a_fault_that_needs_fault_injection_says_so_and_taking_out_works(self):
        for fault in ("delay", "error"):
            done = self.cluster.weirctl("chaos", "demo", f"--fault={fault}", check=False)
            self.assertEqual(done.returncode, 1)
            self.assertIn("--enable_fault_injection", done.stderr)
        self.cluster.weirctl("chaos", "demo", "--duration=1s")
