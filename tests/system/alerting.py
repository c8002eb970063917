"""A real Prometheus beside a live cluster, and the pages of the alerts that fire there.

`AlertTest`: a cluster with one that is quicker than that of `ops/cluster up --monitoring`, see FastPrometheus. All times of
ops/prometheus, how long an alert must be so (`for:`) and windows, are shorter there by one factor. So must be the deadlines
with which a frontend ends by itself what the alert is about, else one would be seen here that cannot fire as shipped:
`deadlines`.
"""

import json
import os
import re
import shlex
import shutil
import tempfile
import unittest
import urllib.parse
import urllib.request

import harness
from harness import FULL, ROOT, run, wait_until
from weir_ops import monitoring
from weir_ops import processes
from weir_ops import settings

RULES = [name for name in monitoring.FILES if name != "prometheus.yml"]
RUNBOOKS = os.path.join(ROOT, "ops", "runbooks")
METRIC = r"(?:weir_(?:volume|replica|csi|tls)_\w+|weir_build_info|process_\w+)"
SCRAPE_SECONDS = 15  # as ops/prometheus has it; and by so much all its times are shorter here
UNITS = {"s": 1, "m": 60, "h": 3600}

with_full = unittest.skipUnless(FULL, "with --full")


def text_of(name):
    with open(os.path.join(monitoring.SOURCE, name)) as f:
        return f.read()


def alerts():
    return set(re.findall(r"- alert: (\w+)", text_of("alerts.yml")))


def times_of(alert):
    """Its `for:` and its longest window, as shipped; seconds."""
    rule = re.search(rf"- alert: {alert}\n(.+?)(?=- alert:|\Z)", text_of("alerts.yml"), re.DOTALL)[1]
    lasts, windows = ([int(number) * UNITS[unit] for number, unit in re.findall(rf"{before}(\d+)([smh])\b", rule)]
                      for before in ("for: ", r"\["))
    return max(lasts, default=0), max(windows, default=0)


def default_seconds(flag):
    """Of a frontend's flag, by the tables of OPERATIONS.md, which install_test holds against --help."""
    with open(os.path.join(ROOT, "OPERATIONS.md")) as f:
        number, unit = re.search(rf"^\| `--{flag}` \| `(\d+)([smh])` \|", f.read(), re.MULTILINE).groups()
    return int(number) * UNITS[unit]


def with_deadlines(up_flags, names):
    """These flags of a cluster, and such deadlines for its frontends as are shorter by the same factor."""
    given = [flag for flag in up_flags if flag.startswith("--volume-flags=")]
    sooner = [f"--{name}={default_seconds(name) / SCRAPE_SECONDS:g}s" for name in names]
    words = [flag.removeprefix("--volume-flags=") for flag in given] + sooner
    return (*(flag for flag in up_flags if flag not in given), f"--volume-flags={' '.join(words)}")


def page_of(alert):
    with open(os.path.join(RUNBOOKS, f"{alert}.md")) as f:
        return f.read()


class Prometheus:
    """What one says that runs at `url`."""

    def __init__(self, url):
        self.url = url

    def api(self, path, **query):
        url = f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(query)}"
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
        return {labels["alertname"] for labels in self.firing_labels()}

    def firing_labels(self):
        return [a["labels"] for a in self.api("alerts")["alerts"] if a["state"] == "firing"]

    def rules(self):
        return [rule for group in self.api("rules")["groups"] for rule in group["rules"]]


def sooner(rules):
    """With all times shorter by the factor."""
    def shorter(found):
        seconds = int(found[2]) * UNITS[found[3]]
        assert seconds % SCRAPE_SECONDS == 0, f"{found[0]} is no multiple of the scrape interval"
        return f"{found[1]}{seconds // SCRAPE_SECONDS}s"
    return re.sub(r"(\[|\boffset |\bfor: )(\d+)([smh])\b", shorter, rules)


class FastPrometheus(Prometheus):
    """That of `ops/cluster up --monitoring`, but every second rather than every 15 s. A window has as many samples as it has
    there, and an alert must be true for as many of them. What they fire for, how slow, how often, how full, is what
    ops/prometheus says."""

    def __init__(self, cluster):
        self.folder = tempfile.mkdtemp(prefix="weir-prometheus-")
        monitoring.configure(self.folder, cluster.dir)
        for name in monitoring.FILES:
            text = re.sub(r"(scrape|evaluation|refresh)_interval: 15s", r"\1_interval: 1s", text_of(name))
            with open(os.path.join(self.folder, name), "w") as f:
                f.write(text if name == "prometheus.yml" else sooner(text))
        address = f"127.0.0.1:{settings.free_port_base(1)}"
        super().__init__(f"http://{address}")
        self.process = processes.start(monitoring.command_line(self.folder, address), os.path.join(self.folder, "log"))

    def close(self):
        self.process.terminate(30)
        shutil.rmtree(self.folder, ignore_errors=True)


class AlertTest(harness.ClusterTest):
    """A cluster and a FastPrometheus that sees all of it, for all tests of the class."""

    # Flags of the frontends that end by themselves what tests of the class hold. One whose faults outlast --hold_deadline as
    # shipped adds that.
    deadlines = ("requeue_deadline",)

    @classmethod
    def setUpClass(cls):
        cls.up_flags = with_deadlines(cls.up_flags, cls.deadlines)
        super().setUpClass()
        cls.prometheus = FastPrometheus(cls.cluster)
        cls.addClassCleanup(cls.prometheus.close)
        wait_until(cls.prometheus.serves, 30, "Prometheus answers")
        processes_seen = len(cls.cluster.env["METRICS_URLS"].split() + cls.cluster.env["CSI_METRICS_URLS"].split())
        wait_until(lambda: len(cls.prometheus.series("up == 1")) == processes_seen, 30, "every process is seen")

    def fires(self, name, seconds=40, **labels):
        """Waits until it does, so long after its times at most, with these labels at least, and goes through the checks of its
        page. All of its labels."""
        seconds += sum(times_of(name)) // SCRAPE_SECONDS

        def found():
            return [one for one in self.prometheus.firing_labels()
                    if one["alertname"] == name and labels.items() <= one.items()]
        wait_until(found, seconds, f"{name} fires for {labels}")
        labels = found()[0]
        self.go_through_page(name, labels)
        return labels

    def is_over(self, name, seconds=None):
        """Within a minute, unless it is said, after its window."""
        seconds = seconds or 60 + times_of(name)[1] // SCRAPE_SECONDS
        wait_until(lambda: name not in self.prometheus.firing(), seconds, f"{name} is over")

    def go_through_page(self, name, labels):
        """Does what the page's Check says, as far as it is typed here: each command works, each metric is there."""
        check = page_of(name).partition("**Check.**")[2].partition("**Act.**")[0]
        for typed in re.findall(r"`([^`]+)`", check):
            if re.match(r"(weirctl|weir-replica) ", typed) and self.a_frontend_runs():
                self.type_command(name, typed, labels)
            elif re.fullmatch(rf"(weir:|{METRIC})[^ ]*", typed):
                metric, _, selector = typed.partition("{")
                query = f'{{__name__=~"{metric.replace("*", ".*")}(_count)?"' + (f", {selector}" if selector else "}")
                self.assertTrue(self.prometheus.series(query), f"{name}: {typed}")

    def type_command(self, name, typed, labels):
        replica, volume = labels.get("replica") or self.name_of(labels.get("instance", "")), labels.get("volume", "demo")
        # What replicas tell has a volume's id.
        words = {"VOLUME": "demo" if volume.isdigit() else volume, "REPLICA": replica, "DIR": labels.get("dir")}
        program, *command = [words.get(word) or word for word in shlex.split(typed)]
        if program == "weirctl":
            done = self.cluster.weirctl(*command, check=False)
        else:
            done = run(os.path.join(self.cluster.env["BIN"], program), *command, check=False)
        self.assertTrue(done.stdout, f"{name}: {typed}: {done.stderr}")
        # These say whose flush has failed and what a disk is like by their exit code too.
        if command[:2] != ["volume", "flush"] and command[:1] != ["probe"]:
            self.assertEqual(done.returncode, 0, f"{name}: {typed}: {done.stderr}")

    def a_frontend_runs(self):
        """Without one weirctl has nobody to ask; pages then say to start it."""
        return "volume" in harness.cluster_lib.Cluster(self.cluster.dir).running()

    def name_of(self, instance):
        """Of a process, by the address of its metrics."""
        cluster = harness.cluster_lib.Cluster(self.cluster.dir)
        return next((name for name in cluster.names() if instance in cluster.metrics_url(name)), None)

    def targets(self):
        shown = json.loads(self.cluster.weirctl("volume", "show", "demo", "--output=json").stdout)
        return {t["replica"]: t for t in shown["table"]["targets"]}

    def await_in_sync(self, *names, seconds=90):
        """All of them, if none is named."""
        def there():
            targets = self.targets()
            return all(targets[name]["state"] == "in_sync" and targets[name]["health"] == "connected"
                       for name in names or targets)
        wait_until(there, seconds, f"{names or 'all'} are in sync")

    def finish(self, handle, cookie):
        while not handle.aio_command_completed(cookie):
            self.assertGreater(handle.poll(30_000), 0, "the request is answered")
