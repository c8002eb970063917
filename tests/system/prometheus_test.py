"""ops/prometheus, ops/grafana: rules, pages and dashboards agree with the code; a real Prometheus sees real faults."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import unittest
import urllib.parse
import urllib.request

import harness
from harness import ROOT, run, wait_until

FOLDER = os.path.join(ROOT, "ops", "prometheus")
RULES = ["recording.yml", "alerts.yml"]
RUNBOOKS = os.path.join(ROOT, "ops", "runbooks")
sys.path.insert(0, os.path.join(ROOT, "ops", "grafana"))

import dashboards  # noqa: E402


def text_of(name):
    with open(os.path.join(FOLDER, name)) as f:
        return f.read()


def alerts():
    return set(re.findall(r"- alert: (\w+)", text_of("alerts.yml")))


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
            with open(os.path.join(RUNBOOKS, f"{name}.md")) as f:
                page = f.read()
            self.assertRegex(page, rf"\A# {name}\n\n\*\*Meaning\.\*\* .+\n\n\*\*Check\.\*\*\n\n(\* .+\n)+"
                             r"\n\*\*Act\.\*\*\n\n(\* .+\n)+\Z")
            for section in re.findall(r'OPERATIONS\.md, "([^"]+)"', page):
                self.assertIn(section, operations, name)

    def test_each_metric_that_they_name_exists_in_the_code(self):
        declared = set()
        for source in ("volume/host/metrics.cc", "replica/server/metrics.cc"):
            with open(os.path.join(ROOT, source)) as f:
                declared |= set(re.findall(r'"(weir_\w+)"', f.read()))
        for name in RULES:
            named = set(re.findall(r"(?<![:\w])weir_(?:volume|replica)_\w+", text_of(name)))
            self.assertTrue(named)
            histograms = {re.sub(r"_(bucket|sum|count)$", "", metric) for metric in named}
            self.assertEqual(histograms - declared, set(), name)


def panels():
    return [(name, p) for name, one in dashboards.DASHBOARDS.items() for p in one["panels"]]


class DashboardsTest(unittest.TestCase):
    def test_the_json_is_what_its_source_makes(self):
        self.assertEqual({f"{name}.json" for name in dashboards.DASHBOARDS}, set(os.listdir(dashboards.FOLDER)))
        for name in dashboards.DASHBOARDS:
            with open(os.path.join(dashboards.FOLDER, f"{name}.json")) as f:
                self.assertEqual(f.read(), dashboards.text_of(name), "run ops/grafana/dashboards.py")


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class RealPrometheus:
    """Debian's Prometheus on a cluster, with our rules. Every second rather than every 15 s, and alerts after one second."""

    def __init__(self, cluster):
        self.folder = tempfile.mkdtemp(prefix="weir-prometheus-")
        for name in ["prometheus.yml", *RULES]:
            text = re.sub(r"(scrape|evaluation|refresh)_interval: 15s", r"\1_interval: 1s", text_of(name))
            with open(os.path.join(self.folder, name), "w") as f:
                f.write(re.sub(r"for: \d+[sm]", "for: 1s", text))
        run(os.path.join(FOLDER, "targets"), cluster.dir, os.path.join(self.folder, "targets"))
        self.address = f"127.0.0.1:{free_port()}"
        self.log = open(os.path.join(self.folder, "log"), "wb")
        self.process = subprocess.Popen(
            ["prometheus", f"--config.file={self.folder}/prometheus.yml", f"--storage.tsdb.path={self.folder}/data",
             f"--web.listen-address={self.address}"], stdout=self.log, stderr=self.log)

    def api(self, path, **query):
        url = f"http://{self.address}/api/v1/{path}?{urllib.parse.urlencode(query)}"
        with urllib.request.urlopen(url, timeout=10) as answer:
            return json.load(answer)["data"]

    def serves(self):
        try:
            return self.api("query", query="1") is not None
        except OSError:
            return False

    def series(self, query):
        return self.api("query", query=query)["result"]

    def firing(self):
        return {a["labels"]["alertname"] for a in self.api("alerts")["alerts"] if a["state"] == "firing"}

    def rules(self):
        return [rule for group in self.api("rules")["groups"] for rule in group["rules"]]

    def close(self):
        self.process.terminate()
        self.process.wait()
        self.log.close()
        shutil.rmtree(self.folder, ignore_errors=True)


class LivePrometheusTest(harness.ClusterTest):
    up_flags = ("--size=64MiB", "--replica-flags=--enable_fault_injection", "--volume-flags=--leave_after=1s")

    def setUp(self):
        self.prometheus = RealPrometheus(self.cluster)
        self.addCleanup(self.prometheus.close)
        wait_until(self.prometheus.serves, 30, "Prometheus answers")
        wait_until(lambda: len(self.prometheus.series("up == 1")) == 4, 30, "all four processes are seen")

    def fires(self, name):
        wait_until(lambda: name in self.prometheus.firing(), 40, f"{name} fires")

    def is_over(self, name):
        wait_until(lambda: name not in self.prometheus.firing(), 60, f"{name} is over")

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
        self.assertEqual(self.prometheus.firing() - {"WeirReplicaSpaceLow"}, set())

        # Windows need two samples, and a rate of what has only begun needs them twice.
        for name, panel in panels():
            for target in panel["targets"]:
                query = re.sub(r"\$(volume|instance)", ".*", target["expr"])
                wait_until(lambda: self.prometheus.series(query), 20, f"{name}, {panel['title']}: {query}")

        self.cluster.weirctl("fault", "set", "replica2", "--op=flush", "--error=REQUEUE", "--count=1")
        handle.flush()
        self.fires("WeirFaultsInjected")

        self.cluster.kill9("replica3")
        self.fires("WeirProcessDown")
        handle.pwrite(b"q" * 4096, 0)
        self.fires("WeirVolumeDegraded")
        self.cluster.ops("start", "replica3")
        self.is_over("WeirProcessDown")
        self.is_over("WeirVolumeDegraded")

        # Not supported supersedes every other result, so the client is told, whatever the others say.
        self.cluster.weirctl("fault", "set", "replica1", "--op=flush", "--error=EOPNOTSUPP", "--count=1")
        self.assertEqual(self.nbd_error(handle.flush), "ENOTSUP")
        self.fires("WeirFlushFailing")


if __name__ == "__main__":
    unittest.main()
