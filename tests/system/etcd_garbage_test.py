"""An etcd that answers garbage, has no majority or has damaged records, while a frontend has a volume.

DESIGN.md, "The catalog": off the data path; what cannot be true is refused with words, and volumes go on as without a
catalog.
"""

import base64
import json
import random
import re
import signal
import threading
import unittest
import urllib.error
import urllib.request

from etcd_case import LinkedEtcdCase, Writer
from etcd_impostor import KINDS, SILENT_KINDS, Impostor
from harness import FULL, cluster_lib, wait_until
from stranger import SETTINGS, frame

SAID_SECONDS_MAX = 20
# What is said of any garbage: whose it is, and what to see to.
GARBAGE = (r"etcd at [0-9.:,]+: 127\.0\.0\.1:\d+: .*"
           r"(a majority of etcd's members answers|that these are etcd's client addresses|mend that etcd)")
VOLUME, CLUSTER = b"weir/volume/demo", b"weir/cluster"
# Where a frame of etcd's is expected it ends the connection.
NO_SETTINGS = frame(SETTINGS, 0, 0, b"wrong")


class EtcdGarbageTest(LinkedEtcdCase):
    # A call gives up soon, and what waits for it is told why.
    catalog_parameters = "?timeout=2s"

    def setUp(self):
        self.impostor = Impostor()
        self.addCleanup(self.impostor.close)
        self.addCleanup(self.answer_well)
        super().setUp()
        self.pids = self.cluster.pids()
        self.writer = Writer(self.cluster)
        self.addCleanup(self.writer.ending.set)
        self.writer.goes_on()

    # --- etcd ---

    def address(self, name):
        return cluster_lib.Cluster(self.cluster.dir).address(name)

    def answer(self, kind, names):
        """From now on an impostor answers for these members."""
        self.impostor.kind = kind
        for name in names:
            self.links[name].lead_to("127.0.0.1", self.impostor.port)

    def lead_home(self, name):
        host, port = self.address(name).rsplit(":", 1)
        self.links[name].lead_to(host, int(port))

    def answer_well(self):
        for name in self.etcds:
            self.lead_home(name)

    def etcd(self, call, **fields):
        """By etcd's JSON gateway, past the links."""
        coded = {name: base64.b64encode(value).decode() for name, value in fields.items()}
        url = f"http://{self.address('etcd1')}/v3/kv/{call}"
        with urllib.request.urlopen(url, json.dumps(coded).encode(), timeout=20) as answer:
            return json.load(answer)

    def value(self, key):
        return base64.b64decode(self.etcd("range", key=key)["kvs"][0]["value"])

    # --- what is said ---

    def ready(self):
        """(status, text) of the frontend that has the volume."""
        address = cluster_lib.Cluster(self.cluster.dir).metrics_address("volume")
        try:
            with urllib.request.urlopen(f"http://{address}/readyz", timeout=20) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as refused:
            return refused.code, refused.read().decode()

    def await_words(self, say, words):
        """What `say()` says once that matches."""
        said = []
        try:
            wait_until(lambda: said.append(say()) or re.search(words, said[-1]), SAID_SECONDS_MAX, "it is said")
        except AssertionError as error:
            raise AssertionError(f"{error}: {words!r}, but {said[-1]!r}") from None
        return said[-1]

    def refused(self, words, *command):
        done = self.weirctl(*command, check=False)
        self.assertNotEqual(done.returncode, 0)
        self.assertRegex(done.stderr, words)

    def await_change_is_held(self, words):
        """A member is to leave, and a request that needs that waits; explain says for what. How many writes there have been."""
        # explain asks the catalog too, and while that is silent takes its time.
        wait_until(lambda: re.search(r'\nweir_volume_held_requests{[^}]*reason="catalog"[^}]*} 1\n', self.cluster.metrics("volume")),
                   SAID_SECONDS_MAX, "a request waits for the catalog")
        self.await_words(self.explained, "(?s)request waits: the catalog has yet to say who is in sync.*"
                         "the catalog has not taken the last change of members: [^\n]*" + words)
        self.assertIsNone(self.writer.error)
        return self.writer.writes

    def end_well(self):
        """No process has ended, no request has failed, and all that was written is there, also elsewhere."""
        self.writer.goes_on()
        self.cluster.ops("start", "replica2")
        self.in_sync()
        self.writer.stop()
        self.assertEqual({**self.cluster.pids(), "replica2": 0}, {**self.pids, "replica2": 0})
        self.weirctl("volume", "attach", "demo", "--frontend=volume2")
        self.writer.expect_all(self.cluster.connect(self.uri_at("volume2")))

    # --- garbage ---

    def test_io_goes_on_whatever_members_answer_and_a_change_of_members_waits_for_one_that_answers_well(self):
        for i, kind in enumerate(KINDS if FULL else KINDS[::3]):
            with self.subTest(kind):
                asked = self.impostor.asked
                if kind not in SILENT_KINDS:
                    self.answer_well()
                    # Whoever has answered last is asked first.
                    self.answer(kind, [name for name in self.etcds if name != self.etcds[i % 3]])
                    self.weirctl("snapshot", "create", f"demo@g{i}")
                self.answer(kind, self.etcds)
                self.refused(GARBAGE, "volume", "list", "--frontend=volume")
                self.assertGreater(self.impostor.asked, asked)
                self.writer.goes_on()
        self.answer(KINDS[0], self.etcds)
        self.refused(GARBAGE, "volume", "attach", "demo", "--frontend=volume2")
        self.cluster.kill9("replica2")
        writes = self.await_change_is_held(GARBAGE)
        for kind in KINDS if FULL else ():
            with self.subTest(kind, change=True):
                self.answer(kind, self.etcds)
                self.await_change_is_held(GARBAGE)
        self.await_words(lambda: "%d %s" % self.ready(), "^503 .*" + GARBAGE)
        self.assertEqual(self.writer.writes, writes)
        self.lead_home("etcd2")
        self.writer.goes_on()
        self.answer_well()
        self.end_well()

    def test_explain_can_be_read_whatever_bytes_an_error_of_etcds_has(self):
        self.answer("a code that there is not", self.etcds)
        self.cluster.kill9("replica2")
        self.await_change_is_held(GARBAGE)
        self.answer_well()
        self.end_well()

    def test_garbage_amid_what_etcd_says_costs_connections_and_no_call(self):
        dice = random.Random(2)
        ending = threading.Event()
        self.addCleanup(ending.set)

        def garble():
            while not ending.wait(dice.uniform(0.01, 0.4)):
                self.links[dice.choice(self.etcds)].garble(NO_SETTINGS)

        garbler = threading.Thread(target=garble, daemon=True)
        garbler.start()
        for i in range(50 if FULL else 8):
            self.weirctl("snapshot", "create", f"demo@g{i}")
            self.weirctl("snapshot", "delete", f"demo@g{i}")
        self.cluster.kill9("replica2")
        self.writer.goes_on()
        ending.set()
        garbler.join()
        self.end_well()

    # --- no majority ---

    def test_a_change_of_members_waits_while_two_members_are_frozen(self):
        frozen = self.etcds[:2]
        self.signal(signal.SIGSTOP, *frozen)
        self.addCleanup(self.signal, signal.SIGCONT, *frozen)
        self.writer.goes_on()
        self.cluster.kill9("replica2")
        writes = self.await_change_is_held("a majority of etcd's members answers")
        self.assertEqual(self.writer.writes, writes)
        self.signal(signal.SIGCONT, *frozen)
        self.end_well()

    # --- records that are not what was written ---

    def damages(self):
        value = self.value(VOLUME)
        flipped = bytearray(value)
        flipped[len(value) // 2] ^= 4
        return {"random bytes": random.Random(1).randbytes(300), "nothing": b"", "half of it": value[:len(value) // 2],
                "a bit is another": bytes(flipped), "another record of ours": self.value(b"weir/replica/replica1")}

    def test_io_goes_on_while_the_volumes_record_is_damaged(self):
        good = self.value(VOLUME)
        for how, value in self.damages().items():
            with self.subTest(how):
                self.etcd("put", key=VOLUME, value=value)
                self.writer.goes_on()
                self.refused(f"is damaged, key {VOLUME.decode()}: its value is not what was written.*Mend that etcd",
                             "volume", "attach", "demo", "--frontend=volume2")
        self.cluster.kill9("replica2")
        self.await_change_is_held(f"is damaged, key {VOLUME.decode()}")
        self.etcd("put", key=VOLUME, value=good)
        self.end_well()

    def test_io_goes_on_while_the_clusters_record_is_damaged_or_gone(self):
        good = self.value(CLUSTER)
        self.etcd("put", key=CLUSTER, value=b"garbage")
        self.cluster.kill9("replica2")
        self.await_change_is_held("has another catalog since this frontend started")
        self.etcd("deleterange", key=CLUSTER)
        self.await_change_is_held("has lost the catalog since this frontend started")
        self.refused("has lost the catalog", "volume", "attach", "demo", "--frontend=volume2")
        self.etcd("put", key=CLUSTER, value=good)
        self.end_well()


if __name__ == "__main__":
    unittest.main()
