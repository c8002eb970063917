"""ops/prometheus, ops/grafana: rules, pages and dashboards agree with the code; a real Prometheus sees real faults."""

import glob
import json
import os
import re
import shutil
import sys
import threading
import unittest

import grpc

import alerting
import csi_driver
import harness
import metrics_table
import nbd
from alerting import METRIC, RULES, RUNBOOKS, FastPrometheus, Prometheus, alerts, page_of, text_of
from harness import MIB, ROOT, run, wait_until
from weir_ops import cluster as cluster_lib
from weir_ops import monitoring
from weir_ops import settings

FOLDER = monitoring.SOURCE
BLOCK = 4096
sys.path.insert(0, os.path.join(ROOT, "ops", "grafana"))

import dashboards  # noqa: E402


class RulesTest(unittest.TestCase):
    def test_promtool_takes_them_and_each_alert_fires_as_it_should(self):
        run("promtool", "check", "rules", *RULES, cwd=FOLDER)
        run("promtool", "test", "rules", "alerts_test.yml", cwd=FOLDER)
        self.assertEqual(alerts(), set(re.findall(r"- name: (Weir\w+)", text_of("alerts_test.yml"))))

    def test_each_alert_has_a_page_and_each_page_an_alert(self):
        pages = {name[:-3] for name in os.listdir(RUNBOOKS) if name.startswith("Weir")}
        self.assertEqual(alerts(), pages)
        with open(os.path.join(ROOT, "OPERATIONS.md")) as f:
            operations = f.read()
        for name in pages:
            page = page_of(name)
            self.assertRegex(page, rf"\A# {name}\n\n\*\*Meaning\.\*\* .+\n\n\*\*Check\.\*\*\n\n(\* .+\n)+"
                             r"\n\*\*Act\.\*\*\n\n(\* .+\n)+\Z")
            for section in re.findall(r'OPERATIONS\.md, "([^"]+)"', page):
                self.assertIn(section, operations, name)

    def test_each_alert_is_seen_to_fire_and_to_end_for_a_fault(self):
        tests = ""
        for path in glob.glob(os.path.join(os.path.dirname(alerting.__file__), "*_test.py")):
            with open(path) as f:
                tests += f.read()
        for what in ("fires", "is_over"):
            self.assertEqual(alerts(), set(re.findall(rf'self\.{what}\("(\w+)"', tests)), what)

    def test_what_is_critical_is_said_before_requests_fail(self):
        critical = re.findall(r"- alert: (\w+)\n(?:(?!- alert).)+?severity: critical", text_of("alerts.yml"), re.DOTALL)
        self.assertTrue(critical)
        for name in critical:
            self.assertLess(alerting.times_of(name)[0] + 2 * alerting.SCRAPE_SECONDS, alerting.default_seconds("hold_deadline"), name)

    def test_each_metric_of_rules_dashboards_and_pages_exists_with_its_labels(self):
        for name in RULES:
            expressions = re.findall(r"expr: (?:>-\n((?: {10,}.+\n)+)|(.+))", text_of(name))
            self.assertTrue(expressions)
            for pair in expressions:
                self.check("".join(pair), name)
        for name, panel in panels():
            for target in panel["targets"]:
                self.check(target["expr"], f"{name}, {panel['title']}")
        known = metrics_table.labels_by_metric()
        for page in os.listdir(RUNBOOKS):
            with open(os.path.join(RUNBOOKS, page)) as f:
                named = set(re.findall(rf"(?<![:\w]){METRIC}\b(?!\*)", f.read()))
            self.assertEqual(named - set(known), set(), page)

    def check(self, expression, where):
        """Each metric is one of the table's; it is asked for, and summed by, labels that it has."""
        known = metrics_table.labels_by_metric()
        of_all = {"instance", "job", "le"}
        for name, selector in re.findall(rf"(?<![:\w])({METRIC})(?:{{([^}}]*)}})?", expression):
            self.assertIn(name, known, where)
            of_all |= known[name]
            asked = set(re.findall(r"(\w+)\s*=", selector))
            self.assertEqual(asked - known[name] - {"instance", "job"}, set(), f"{where}: {name}")
        if re.search(r"\bweir:|\bALERTS\b", expression):
            return  # the labels of a recorded series are those that its rule sums by
        for names in re.findall(r"\b(?:by|on)\s*\(([^)]*)\)", expression):
            self.assertEqual(set(names.replace(" ", "").split(",")) - of_all, set(), where)


def panels():
    return [(name, p) for name, one in dashboards.DASHBOARDS.items() for p in one["panels"]]


class MetricsTableTest(harness.ClusterTest):
    up_flags = metrics_table.UP_FLAGS

    def test_the_table_is_what_the_processes_export_and_the_sources_declare(self):
        with open(metrics_table.PATH) as f:
            written = f.read()
        self.assertEqual(written, metrics_table.live(self.cluster), "run tests/system/metrics_table.py --write")
        self.assertEqual(metrics_table.declared() - set(metrics_table.labels_by_metric()), set())


class DashboardsTest(unittest.TestCase):
    def test_the_json_is_what_its_source_makes(self):
        self.assertEqual({f"{name}.json" for name in dashboards.DASHBOARDS}, set(os.listdir(dashboards.FOLDER)))
        for name in dashboards.DASHBOARDS:
            with open(os.path.join(dashboards.FOLDER, f"{name}.json")) as f:
                self.assertEqual(f.read(), dashboards.text_of(name), "run ops/grafana/dashboards.py")


class MonitoringTest(harness.ClusterTest):
    """`ops/cluster up --monitoring`, of which `ops/quickstart --monitoring` makes use."""

    up_flags = ("--size=64MiB",)

    def test_prometheus_comes_and_goes_with_the_cluster(self):
        cluster = self.cluster
        before = cluster.pids()
        cluster.ops("up", "--monitoring")
        pids = cluster.pids()
        self.assertEqual(pids, before | {"prometheus": pids["prometheus"]})

        url = cluster.env["PROMETHEUS_URL"]
        self.assertTrue(url.startswith("http://127.0.0.1:"), url)
        prometheus = Prometheus(url)
        wait_until(prometheus.serves, 30, "Prometheus answers")
        wait_until(lambda: len(prometheus.series("up == 1")) == 4, 60, "all four processes are seen")
        self.assertEqual(prometheus.series("up == 0"), [])

        # The intervals are those of ops/prometheus: a scrape, then an evaluation.
        def in_sync():
            return [one["value"][1] for one in prometheus.series("weir:volume_members_in_sync:count")]
        wait_until(lambda: in_sync() == ["3"], 60, "a recording rule has data")
        self.assertEqual(alerts(), {rule["name"] for rule in prometheus.rules() if rule["type"] == "alerting"})

        # Again, and as people do it who do not say it a second time.
        cluster.ops("up", "--monitoring")
        cluster.ops("up")
        self.assertEqual(cluster.pids(), pids)
        cluster.ops("status")

        records = cluster_lib.Cluster(cluster.dir)
        running = list(records.running().values())
        self.assertEqual(len(running), 5)
        cluster.ops("down")
        self.assertEqual([process.pid for process in running if process.alive()], [])
        self.assertFalse(prometheus.serves())

    def test_a_port_that_is_asked_for_is_taken_and_one_that_cannot_be_is_refused(self):
        cluster = harness.RealCluster("--size=64MiB", "--monitoring", f"--monitoring-port={settings.free_port_base(1)}")
        self.addCleanup(cluster.close)
        refused = cluster.ops("up", "--monitoring", "--monitoring-port=80", check=False)
        self.assertNotEqual(refused.returncode, 0)
        self.assertIn("--monitoring-port=80", refused.stderr)
        cluster.up()
        self.assertTrue(cluster.env["PROMETHEUS_URL"].endswith(cluster.up_flags[-1].partition("=")[2]))


class LivePrometheusTest(alerting.AlertTest):
    up_flags = ("--size=64MiB", "--replica-flags=--enable_fault_injection", "--volume-flags=--leave_after=1s")

    def test_rules_have_data_and_alerts_fire_and_end_with_real_faults(self):
        handle = self.cluster.connect()
        for i in range(20):
            handle.pwrite(b"p" * 4096, i * 4096)
            handle.flush()

        def recorded():
            return all(self.prometheus.series(rule["name"]) for rule in self.prometheus.rules()
                       if rule["type"] == "recording")
        wait_until(recorded, 30, "every recording rule has series")
        self.assertEqual({rule["health"] for rule in self.prometheus.rules()}, {"ok"})
        # What this machine's own disk is like is not the cluster's fault.
        self.assertEqual(self.prometheus.firing() - {"WeirReplicaSpaceLow", "WeirDiskNotDurable"}, set())

        self.cluster.weirctl("fault", "set", "replica2", "--op=flush", "--error=REQUEUE", "--count=1")
        handle.flush()
        self.fires("WeirFaultsInjected")
        self.assertNotIn("WeirClonesRequeued", self.prometheus.firing())

        # A replica that always asks to come again later has left after --requeue_deadline; until then flushes are held.
        self.cluster.weirctl("fault", "set", "replica2", "--op=flush", "--error=REQUEUE")
        flush = handle.aio_flush()
        self.finish(handle, flush)
        self.assertNotEqual(self.targets()["replica2"]["state"], "in_sync")
        self.fires("WeirClonesRequeued", replica="replica2")
        self.cluster.weirctl("fault", "clear")
        self.await_in_sync()

        self.cluster.weirctl("volume", "suspend", "demo")
        write = handle.aio_pwrite(nbd.Buffer.from_bytearray(bytearray(4096)), 0)
        self.fires("WeirRequestsHeld")
        self.cluster.weirctl("volume", "resume", "demo")
        self.finish(handle, write)
        self.is_over("WeirRequestsHeld")

        self.cluster.kill9("replica3")
        self.fires("WeirProcessDown")
        handle.pwrite(b"q" * 4096, 0)
        self.fires("WeirVolumeDegraded")
        self.cluster.ops("start", "replica3")
        self.is_over("WeirProcessDown")
        self.is_over("WeirVolumeDegraded")

        # Not supported supersedes every other result, so the client is told, whatever the others say. Nothing is written, so no
        # flush of the frontend's own meets the faults first.
        self.await_in_sync()
        handle.flush()
        self.cluster.weirctl("fault", "set", "replica1", "--op=flush", "--error=EOPNOTSUPP", "--count=1")
        self.assertEqual(self.nbd_error(handle.flush), "ENOTSUP")
        self.fires("WeirFlushFailing")
        self.assertNotIn("WeirErrorsHiddenFromClients", self.prometheus.firing())
        # From one that may leave no client hears of it.
        self.cluster.weirctl("fault", "set", "replica1", "--op=flush", "--error=EIO", "--count=1")
        handle.flush()
        self.fires("WeirErrorsHiddenFromClients", replica="replica1")
        self.is_over("WeirFlushFailing")
        self.is_over("WeirErrorsHiddenFromClients")
        self.is_over("WeirFaultsInjected")
        self.is_over("WeirClonesRequeued")


class Load(threading.Thread):
    """All that a volume and a CSI driver are asked, until stop(). An error of a request ends it, and is stop()'s."""

    def __init__(self, cluster):
        super().__init__()
        self.cluster = cluster
        self.handle = cluster.connect()
        self.driver = csi_driver.Driver(cluster.env["CSI_ENDPOINT"])
        self.ending = threading.Event()
        self.error = None
        self.start()

    def run(self):
        try:
            while not self.ending.is_set():
                self.lap()
        except (nbd.Error, grpc.RpcError) as error:
            self.error = error

    def lap(self):
        for i in range(32):
            self.handle.pwrite(os.urandom(BLOCK), i * MIB)
            self.handle.pread(BLOCK, i * MIB)
            if i % 8 == 0:
                self.handle.flush()
        self.handle.zero(BLOCK, 0)
        self.handle.trim(BLOCK, MIB)
        self.handle.block_status(MIB, 0, lambda *_: 0)
        # Some of these may be refused while a replica is brought back.
        for command in ("io barrier demo --length=4KiB --pattern=1", "snapshot create demo@load", "snapshot delete demo@load",
                        "volume suspend demo", "volume resume demo"):
            self.cluster.weirctl(*command.split(), check=False)
        self.driver.Probe()
        self.driver.code("CreateVolume", name="")

    def end(self):
        self.ending.set()
        self.join(60)
        assert not self.is_alive(), "a request hangs"
        self.driver.close()

    def stop(self):
        self.end()
        if self.error:
            raise self.error


INSTEAD = " or vector(0)"
COMING_BACK = ("weir_volume_join_left_bytes", "weir_volume_join_bytes_per_second", "weir_volume_join_left_seconds",
               "weir_volume_target_lag_seconds")


class PanelsTest(alerting.AlertTest):
    """Every query of every panel is answered with figures, under load, when a replica is dead, and while it is brought back. The CSI
    driver's too: its calls that need root, a node's, are not among those of Load."""

    up_flags = ("--size=64MiB", "--csi", "--replica-flags=--enable_fault_injection",
                "--volume-flags=--leave_after=1s --join_bytes_per_second=1MiB")

    def fault(self, error):
        self.cluster.weirctl("fault", "set", "replica1", "--op=flush", f"--error={error}", "--count=1")

    def make_errors(self):
        """What clients are told and what they are not; no series of errors is there before."""
        handle = self.cluster.connect()
        handle.flush()
        self.fault("EOPNOTSUPP")
        self.assertEqual(self.nbd_error(handle.flush), "ENOTSUP")
        self.fault("EIO")
        handle.flush()
        self.await_in_sync()
        handle.shutdown()

    def lack(self, query, legend):
        """What of the query's answer is missing; "": nothing. A replica may have nothing of a kind to tell of, not all of them."""
        series = self.prometheus.series(query)
        if not series:
            return "no series"
        if INSTEAD not in query and not all(set(re.findall(r"{{(\w+)}}", legend)) <= set(one["metric"]) for one in series):
            return f"a series lacks a label of {legend}"
        figures = {}
        for one in series:
            kind = tuple(sorted(label for label in one["metric"].items() if label[0] not in ("replica", "instance")))
            figures[kind] = figures.get(kind, False) or one["value"][1] != "NaN"
        return " ".join(f"NaN for {dict(kind)}" for kind, some in figures.items() if not some)

    def lacks(self, alone):
        """Of all panels. `alone`: where a query gives 0 for what is not there, only what it gives beside that counts."""
        found = []
        for name, panel in panels():
            for target in panel["targets"]:
                query = target["expr"].replace("$volume", "demo").replace("$instance", ".+")
                lack = self.lack(query.removesuffix(INSTEAD) if alone else query, target["legendFormat"])
                if lack:
                    found.append(f"{name}, {panel['title']}: {query}: {lack}")
        return found

    def await_figures(self, when, alone):
        last = []

        def all_there():
            last[:] = self.lacks(alone)
            return not last
        try:
            wait_until(all_there, 60, f"each panel has figures {when}")
        except AssertionError as late:
            raise AssertionError("\n".join([str(late), *last])) from None

    def test_each_panel_has_figures(self):
        self.make_errors()
        load = Load(self.cluster)
        self.addCleanup(load.end)
        self.await_figures("under load", alone=False)
        for one in dashboards.DASHBOARDS.values():
            for variable in one["templating"]["list"][1:]:
                metric, label = re.fullmatch(r"label_values\((\w+), (\w+)\)", variable["query"]).groups()
                self.assertTrue(all(label in series["metric"] for series in self.prometheus.series(metric)), variable)

        self.cluster.kill9("replica3")
        self.cluster.weirctl("io", "write", "demo", "--offset=16MiB", "--length=48MiB", "--pattern=1")
        self.await_figures("when a replica is dead", alone=True)
        self.assertEqual([one["value"][1] for one in self.prometheus.series('count(up{job=~"weir-.*"} == 0)')], ["1"])

        self.cluster.ops("start", "replica3")

        def comes_back():
            return all(self.prometheus.series(f'{metric}{{replica="replica3"}} > 0') for metric in COMING_BACK)
        wait_until(comes_back, 40, f"{COMING_BACK} tell of it")
        self.await_figures("while it is brought back", alone=False)
        self.assertTrue(comes_back(), "it was brought back too soon to see")
        load.stop()


MEMORY = "/dev/shm"


@unittest.skipUnless(os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free > 1 << 30, "no room in /dev/shm")
class DiskTruthTest(unittest.TestCase):
    def test_replicas_in_memory_are_told_to_keep_nothing_wherever_one_looks(self):
        cluster = harness.RealCluster("--size=64MiB", "--data-dirs=1", below=MEMORY)
        self.addCleanup(cluster.close)
        cluster.up()
        prometheus = FastPrometheus(cluster)
        self.addCleanup(prometheus.close)

        def shown():
            return json.loads(cluster.weirctl("replica", "show", "replica1", "--output=json").stdout)["data_dirs"][0]
        wait_until(lambda: "disk" in shown(), 30, "the disk was looked at")
        path, disk = shown()["path"], shown()["disk"]
        self.assertEqual((disk["verdict"], disk["file_system"]), ("NOT_DURABLE", "tmpfs"))
        self.assertGreater(int(disk["sync_median_ns"]), 0)
        text = cluster.weirctl("replica", "show", "replica1").stdout
        self.assertIn("not durable", text)
        self.assertIn("0: tmpfs keeps its files in memory", text)
        self.assertIn(f"what replica replica1 has flushed to {path} does not survive a power cut: tmpfs keeps its files in memory",
                      cluster.weirctl("explain", "demo").stdout)

        program = os.path.join(cluster.env["BIN"], "weir-replica")
        probe = run(program, "probe", path, "--seconds=0.2", "--output=json", check=False)
        self.assertEqual((probe.returncode, probe.stderr), (1, ""))
        self.assertEqual(json.loads(probe.stdout)["disk"]["reasons"][0], disk["reasons"][0])
        self.assertEqual(run(program, "probe", path + "/missing", check=False).returncode, 2)

        wait_until(prometheus.serves, 30, "Prometheus answers")
        wait_until(lambda: "WeirDiskNotDurable" in prometheus.firing(), 40, "WeirDiskNotDurable fires")


if __name__ == "__main__":
    unittest.main()
