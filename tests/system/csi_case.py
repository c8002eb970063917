"""What the tests of the CSI driver share: a cluster with one, and volumes that are gone after each test."""

import os
import shutil
import subprocess
import tempfile
import unittest

import harness
from csi_driver import MIB, Driver, block, loop_devices, mounts, pb, processes

SIZE = 64 * MIB


def size_range(required=SIZE, limit=0):
    return pb.CapacityRange(required_bytes=required, limit_bytes=limit)


class OwnDriver(Driver):
    """A driver beside the cluster's, with flags and an environment of its own, below a folder of the test's."""

    def __init__(self, cluster, folder, *flags, **environment):
        os.makedirs(folder)
        self.folder = folder
        self.log = os.path.join(folder, "driver.log")
        self.state_dir = os.path.join(folder, "state")
        self.argv = [os.path.join(cluster.env["BIN"], "weir-csi"), f"--endpoint=unix:{folder}/csi.sock", "--node-id=volume",
                     f"--state-dir={self.state_dir}", f"--frontends={cluster.env['VOLUME_ADDR']}", *flags]
        self.environment = environment
        super().__init__(f"unix:{folder}/csi.sock")
        self.start()

    def start(self):
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(self.argv, stdout=log, stderr=log, env={**os.environ, **self.environment})
        self.reconnect()

    def kill9(self):
        self.process.kill()
        self.process.wait()

    def end(self):
        """It, and what it would leave for the next driver."""
        self.close()
        self.kill9()

    def text(self):
        with open(self.log, errors="replace") as f:
            return f.read()

    def leftovers(self):
        """Loop devices, mounts, processes, and files where it attaches devices."""
        files = [os.path.join(root, name) for root, folders, names in os.walk(self.state_dir) for name in folders + names]
        return loop_devices(self.folder) + mounts(self.folder) + processes(self.state_dir + "/") + files


class CsiCase(unittest.TestCase):
    """A cluster with a driver, shared by a class. Each test leaves nothing of its volumes."""

    up_flags = ("--csi", "--size=64MiB", "--volume-flags=--labels=zone=a,rack=7")
    driver_type = Driver

    @classmethod
    def setUpClass(cls):
        cls.cluster = harness.RealCluster(*cls.up_flags)
        cls.addClassCleanup(cls.cluster.close)
        cls.cluster.up()
        cls.driver = cls.driver_type(cls.cluster.env["CSI_ENDPOINT"])
        cls.addClassCleanup(cls.driver.close)
        cls.node = cls.driver.NodeGetInfo().node_id

    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="weir-csi-")
        self.addCleanup(self.no_leftovers)

    def restart_driver(self):
        self.cluster.kill9("csi")
        self.cluster.ops("start", "csi")
        self.driver.reconnect()

    def no_leftovers(self):
        left = (mounts(self.folder), loop_devices(self.cluster.dir) + loop_devices(self.folder),
                mounts(os.path.join(self.cluster.dir, "csi")))
        # Never through what is mounted still.
        if not left[0]:
            shutil.rmtree(self.folder, ignore_errors=True)
        self.assertEqual(left, ([], [], []))

    def own_driver(self, *flags, **environment):
        driver = OwnDriver(self.cluster, tempfile.mkdtemp(prefix="driver-", dir=self.folder) + "/d", *flags, **environment)
        self.addCleanup(driver.end)
        return driver

    def assert_code(self, wanted, method, /, **fields):
        code, said = self.driver.code(method, **fields)
        self.assertEqual(code, wanted, f"{method}: {said}")
        return said

    def create(self, name, capability=None, size=SIZE, **more):
        volume = self.driver.CreateVolume(name=name, capacity_range=size_range(size),
                                          volume_capabilities=[capability or block()], **more).volume
        self.addCleanup(self.driver.DeleteVolume, volume_id=volume.volume_id)
        self.addCleanup(self.driver.ControllerUnpublishVolume, volume_id=volume.volume_id)
        return volume.volume_id

    def path(self, name, make=False):
        path = os.path.join(self.folder, name)
        if make:
            os.makedirs(path, exist_ok=True)
        return path

    def publish_to_node(self, volume, capability, readonly=False):
        return dict(self.driver.ControllerPublishVolume(
            volume_id=volume, node_id=self.node, volume_capability=capability, readonly=readonly).publish_context)

    def stage(self, volume, capability, context, staging="staging", **more):
        fields = dict(volume_id=volume, publish_context=context, staging_target_path=self.path(staging, make=True),
                      volume_capability=capability, **more)
        self.driver.NodeStageVolume(**fields)
        self.addCleanup(self.driver.NodeUnstageVolume, volume_id=volume, staging_target_path=self.path(staging))
        return fields

    def publish(self, volume, capability, context, target="target", staging="staging", readonly=False):
        fields = dict(volume_id=volume, publish_context=context, staging_target_path=self.path(staging),
                      target_path=self.path(target), volume_capability=capability, readonly=readonly)
        self.driver.NodePublishVolume(**fields)
        self.addCleanup(self.driver.NodeUnpublishVolume, volume_id=volume, target_path=self.path(target))
        return fields

    def use(self, name, capability, size=SIZE, readonly=False):
        """A volume that is staged and published; its id and the target."""
        volume = self.create(name, capability, size)
        context = self.publish_to_node(volume, capability, readonly)
        self.stage(volume, capability, context)
        self.publish(volume, capability, context)
        return volume, self.path("target")

    def end_use(self, volume):
        self.driver.NodeUnpublishVolume(volume_id=volume, target_path=self.path("target"))
        self.driver.NodeUnstageVolume(volume_id=volume, staging_target_path=self.path("staging"))
        self.driver.ControllerUnpublishVolume(volume_id=volume, node_id=self.node)


class TwoNodesCase(CsiCase):
    """With a second node, whose driver is `other`."""

    up_flags = ("--csi", "--size=64MiB", "--catalog=etcd", "--frontends=2")

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        endpoints = dict(e.split("=", 1) for e in cls.cluster.env["CSI_ENDPOINTS"].split())
        cls.other = Driver(endpoints["csi2"])
        cls.addClassCleanup(cls.other.close)
        cls.other_node = cls.other.NodeGetInfo().node_id
