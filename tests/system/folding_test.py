"""What replicas answer to a flush, and what the clients are told (DESIGN.md, barriers)."""

import errno
import itertools
import json
import re

import harness

ERRNO = {"EIO": errno.EIO, "REQUEUE": errno.EAGAIN, "EOPNOTSUPP": errno.EOPNOTSUPP}
ERRORS = tuple(ERRNO)
# Far enough apart that answers arrive in the order the test names; that they did is checked.
STEP_MS = 150


class FlushFoldingTest(harness.ClusterTest):
    # The engine's own flushes would use up the injected errors.
    up_flags = ("--replica-flags=--enable_fault_injection", "--size=64MiB",
                "--min-in-sync=3",  # nobody may leave: clients are told what the rule says
                "--volume-flags=--flush_interval=1h --requeue_deadline=3s --hold_deadline=5s")

    def setUp(self):
        for i in range(3):
            self.cluster.ops("start", f"replica{i + 1}")
            self.cluster.weirctl("fault", "clear", f"replica{i + 1}")
        # An I/O error is held against its target until the next attach.
        self.cluster.ops("stop", "volume")
        self.cluster.ops("start", "volume")

    def inject(self, replica, error, delay_ms=0, count=1):
        text = error if delay_ms == 0 else f"{error},DELAY={delay_ms}"
        self.cluster.weirctl("fault", "set", replica, "--op=flush", f"--error={text}",
                             "--flush-nr=0", f"--count={count}")

    def inject_in_order(self, errors):
        """Each replica answers one of `errors`, in that order in time."""
        for i, error in enumerate(errors):
            self.inject(f"replica{i + 1}", error, (i + 1) * STEP_MS)

    def in_order_of_answers(self):
        """The replicas, by how long the frontend, started for this test, has waited for their flushes."""
        waited = re.findall(r'^weir_volume_clone_duration_seconds_sum\{([^}]*kind="flush"[^}]*)\} (\S+)$',
                            self.cluster.metrics("volume"), re.MULTILINE)
        return [re.search(r'replica="([^"]*)"', labels)[1]
                for labels, _ in sorted(waited, key=lambda one: float(one[1]))]

    def test_not_supported_supersedes_in_every_order_for_an_nbd_client(self):
        for order in itertools.permutations(ERRORS):
            with self.subTest(order=order):
                self.setUp()
                handle = self.cluster.connect()
                handle.pwrite(b"n" * 4096, 0)
                self.inject_in_order(order)
                self.assertIn(self.nbd_error(handle.flush), ("ENOTSUP", "EOPNOTSUPP"))
                self.assertEqual(self.in_order_of_answers(), ["replica1", "replica2", "replica3"])

    def test_not_supported_supersedes_in_every_order_for_a_grpc_client(self):
        for order in itertools.permutations(ERRORS):
            with self.subTest(order=order):
                self.setUp()
                self.cluster.connect().pwrite(b"g" * 4096, 0)
                self.inject_in_order(order)
                done = self.cluster.weirctl("volume", "flush", "demo", "--output=json", check=False)
                self.assertNotEqual(done.returncode, 0)
                # Of these three it is that one's answer that the client is told.
                decides = f"replica{order.index('EOPNOTSUPP') + 1}"
                self.assertIn(f"flush of demo failed: flush: replica {decides}: injected fault", done.stderr)
                # Hidden errors are reported, each with its replica, in the order in which they came.
                self.assertEqual([(t["target"], t["error"]) for t in json.loads(done.stdout)["targets"]],
                                 [(f"replica{i + 1}", ERRNO[error]) for i, error in enumerate(order)])

    def test_an_io_error_reaches_both_clients_and_stays(self):
        handle = self.cluster.connect()
        handle.pwrite(b"e" * 4096, 0)
        self.inject("replica2", "EIO")
        self.assertEqual(self.nbd_error(handle.flush), "EIO")
        # The fault is used up; the target has failed all the same.
        self.assertEqual(self.nbd_error(handle.flush), "EIO")
        done = self.cluster.weirctl("volume", "flush", "demo", check=False)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("replica2", done.stdout + done.stderr)

    def test_an_io_error_under_a_requeue_is_held_against_its_target(self):
        for order in itertools.permutations(("EIO", "REQUEUE")):
            with self.subTest(order=order):
                self.setUp()
                handle = self.cluster.connect()
                handle.pwrite(b"h" * 4096, 0)
                self.inject_in_order(order)
                # The requeue comes first in rank: the flush runs again, and then finds the failed target.
                self.assertEqual(self.nbd_error(handle.flush), "EIO")
                self.assertEqual([r for r in self.in_order_of_answers() if r != "replica3"], ["replica1", "replica2"])

    def test_a_requeue_is_no_error_and_the_caller_waits(self):
        handle = self.cluster.connect()
        handle.pwrite(b"r" * 4096, 0)
        self.inject("replica3", "REQUEUE", count=5)
        handle.flush()

    def test_a_requeue_without_end_becomes_an_io_error(self):
        handle = self.cluster.connect()
        handle.pwrite(b"r" * 4096, 0)
        self.inject("replica3", "REQUEUE", count=0)
        self.assertEqual(self.nbd_error(handle.flush), "EIO")

    def test_write_errors_keep_their_errno(self):
        for error, at_client in (("ENOSPC", "ENOSPC"), ("EIO", "EIO")):
            with self.subTest(error=error):
                self.setUp()
                handle = self.cluster.connect()
                self.cluster.weirctl("fault", "set", "replica1", "--op=write", f"--error={error}", "--count=1")
                self.assertEqual(self.nbd_error(lambda: handle.pwrite(b"w" * 4096, 0)), at_client)

    def test_a_read_error_is_read_from_another_replica(self):
        handle = self.cluster.connect()
        handle.pwrite(b"o" * 4096, 0)
        for i in range(2):
            self.cluster.weirctl("fault", "set", f"replica{i + 1}", "--op=read", "--error=EIO", "--count=1")
        self.assertEqual(handle.pread(4096, 0), b"o" * 4096)


class WithoutFaultInjectionTest(harness.ClusterTest):
    up_flags = ("--size=64MiB",)

    def test_faults_cannot_be_set_unless_enabled(self):
        done = self.cluster.weirctl("fault", "set", "replica1", "--op=flush", "--error=EIO", check=False)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("start it with --enable_fault_injection", done.stderr)


