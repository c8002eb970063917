"""OPERATIONS.md, "Replace a node": a machine's replica, member of etcd and frontend are gone, and others come in their place."""

import json
import os
import re
import subprocess
import unittest

import harness
from etcd_case import BLOCK, EtcdCase, Writer
from harness import ROOT, run, wait_until
from weir_ops import settings


def etcdctl_lines():
    """The page's commands that change etcd's members, in their order."""
    with open(os.path.join(ROOT, "OPERATIONS.md")) as f:
        text = f.read().split("**Replace a node.**")[1].split("\n**")[0]
    remove, add = [line.partition("  # ")[0].strip() for line in re.findall(r"^ +(etcdctl member .*)$", text, re.MULTILINE)]
    return remove, add


class ReplaceNodeTest(EtcdCase):
    def setUp(self):
        super().setUp()
        self.processes = []
        self.addCleanup(self.end_all)
        port = settings.free_port_base(8, self.ports_taken())
        self.ends = [f"127.0.0.1:{port + i}" for i in range(8)]

    def ports_taken(self):
        cluster = harness.cluster_lib.Cluster(self.cluster.dir)
        return [int(cluster.address(name).rsplit(":", 1)[1]) + i for name in cluster.names() for i in (0, 1)]

    def start(self, name, *argv):
        with open(os.path.join(self.cluster.dir, "log", f"{name}.log"), "w") as log:
            self.processes.append(subprocess.Popen(argv, stdout=log, stderr=subprocess.STDOUT))

    def end_all(self):
        for process in reversed(self.processes):
            process.terminate()
            process.wait(60)

    def binary(self, name):
        return os.path.join(self.cluster.env["BIN"], name)

    def replace_etcd3(self):
        """As the page says, but in plain text and with a port for the host. Returns the endpoints that are there then."""
        client, peer = self.ends[:2]
        left = self.cluster.env["CATALOG"].removeprefix("etcd:").split(",")[:2]
        etcdctl = f'etcdctl() {{ ETCDCTL_API=3 command etcdctl --endpoints={",".join(left)} "$@"; }}; old=etcd3; '
        remove, add = etcdctl_lines()
        run("bash", "-c", etcdctl + remove)
        added = run("bash", "-c", etcdctl + add.replace("https://$own:2380", f"http://{peer}")).stdout
        members = re.search(r'^ETCD_INITIAL_CLUSTER="(.*)"$', added, re.MULTILINE)[1]
        self.assertNotIn("etcd3=", members)
        self.start("etcd4", harness.cluster_lib.ETCD, "--name=etcd4", f"--data-dir={self.cluster.dir}/etcd4",
                   f"--initial-cluster={members}", "--initial-cluster-state=existing",
                   f"--listen-client-urls=http://{client}", f"--advertise-client-urls=http://{client}",
                   f"--listen-peer-urls=http://{peer}", f"--initial-advertise-peer-urls=http://{peer}")
        ends = [*left, client]
        health = ["bash", "-c", f"ETCDCTL_API=3 etcdctl --endpoints={','.join(ends)} endpoint health"]
        wait_until(lambda: run(*health, check=False).returncode == 0, 30, "all three members are healthy")
        return ends

    def state_of(self, replica):
        listed = json.loads(self.weirctl("replica", "list", "--output=json").stdout)
        return next((one["state"] for one in listed["replicas"] if one["name"] == replica), None)

    def members(self, volume):
        shown = json.loads(self.weirctl("volume", "show", volume, "--output=json").stdout)
        return {target["replica"]: target["state"] for target in shown["table"]["targets"]}

    def test_a_lost_machine_is_replaced_while_a_client_goes_on(self):
        for name in ("moved", "idle"):
            self.weirctl("volume", "create", name, "--size=16MiB")
            self.weirctl("volume", "attach", name, "--frontend=volume2")
        self.weirctl("volume", "detach", "idle")
        handle = self.cluster.connect(self.uri_at("volume2").replace("///demo?", "///moved?"))
        handle.pwrite(b"m" * BLOCK, 0)
        handle.flush()
        writer = Writer(self.cluster)
        writer.goes_on()
        self.cluster.kill9("replica3", "etcd3", "volume2")
        writer.goes_on()

        self.weirctl("volume", "attach", "moved", "--frontend=volume")
        ends = self.replace_etcd3()
        os.mkdir(os.path.join(self.cluster.dir, "replica4"))
        self.start("replica4", self.binary("weir-replica"), "--name=replica4", f"--listen={self.ends[2]}",
                   f"--data_dirs={self.cluster.dir}/replica4", f"--frontends={self.cluster.env['VOLUME_ADDR']}")
        wait_until(lambda: self.state_of("replica4") == "SERVING", 30, "the new replica is known")
        for name in ("demo", "moved", "idle"):
            self.weirctl("volume", "attach", name, "--frontend=volume")
            self.weirctl("replica", "replace", name, "replica3", "--with=replica4", "--wait")
            self.assertEqual(self.members(name), dict.fromkeys(("replica1", "replica2", "replica4"), "in_sync"), name)
        writer.goes_on()

        self.start("volume3", self.binary("weir-volume"), "--name=volume3", f"--listen={self.ends[4]}", f"--catalog=etcd:{','.join(ends)}")
        at_new = f"--volume_addr={self.ends[4]}"
        wait_until(lambda: self.weirctl("volume", "list", at_new, check=False).returncode == 0, 30, "the new frontend serves")
        # With another member of etcd away the new one is needed for a majority.
        self.cluster.kill9("etcd1")
        wait_until(lambda: self.weirctl("volume", "attach", "moved", at_new, check=False).returncode == 0, 60, "the volume moves")
        read = self.weirctl("io", "read", "moved", "--offset=0", f"--length={BLOCK}", at_new).stdout
        self.assertIn("6d6d6d6d", read.replace(" ", ""))
        self.assertIn("all 3 replicas are connected", self.weirctl("explain", "moved", at_new).stdout)
        self.assertNotIn(self.state_of("replica3"), ("SERVING", None))
        writer.goes_on()
        writer.stop()
        print(f"  {writer.writes} writes, the longest took {writer.longest:.2f} s")


if __name__ == "__main__":
    unittest.main()
