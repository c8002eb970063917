"""Volumes of the CSI driver under load: it is killed, their frontend is killed, and they move to another node."""

import json
import os
import signal
import time
import unittest

import grpc

import harness
from csi_case import CsiCase, TwoNodesCase
from csi_driver import block, fio, loop_devices, mount
from harness import wait_until
from mounted import why_no_block_device

STALL_SECONDS_MAX = 3
MOVE_SECONDS_MAX = 10
UNPUBLISH_SECONDS_MAX = 4


def fio_result(process):
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, f"fio: exit {process.returncode}\n{out}{err}"
    job = json.loads(out)["jobs"][0]
    assert job["error"] == 0, out
    return job


def longest_seconds(job):
    return max(job["write"]["clat_ns"]["max"], job["sync"]["lat_ns"]["max"]) / 1e9


@unittest.skipIf(why_no_block_device(), why_no_block_device() or "")
class CsiLoadTest(CsiCase):
    def load(self, target, seconds=8):
        process = fio(target, seconds, "--size=48M")
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        before = self.written()
        wait_until(lambda: self.written() > before + 1000, 20, "fio writes")
        return process

    def written(self):
        """Sectors that have gone to the device below."""
        with open(f"/sys/block/{loop_devices(self.cluster.dir)[0]}/stat") as f:
            return int(f.read().split()[6])

    def use_again(self, volume, capability):
        """As kubelet may: the driver finds what the last one has made."""
        fields = dict(volume_id=volume, volume_capability=capability, staging_target_path=self.path("staging"),
                      publish_context=self.publish_to_node(volume, capability))
        self.driver.NodeStageVolume(**fields)
        self.driver.NodePublishVolume(target_path=self.path("target"), **fields)

    def test_a_driver_that_is_killed_and_started_again_disturbs_no_request(self):
        for make in (block, mount):
            with self.subTest(make.__name__):
                volume, target = self.use(f"killed-{make.__name__}", make())
                load = self.load(target if make is block else os.path.join(target, "file"))
                for _ in range(3):
                    self.restart_driver()
                    self.use_again(volume, make())
                job = fio_result(load)
                print(f"driver killed 3 times, {make.__name__}: 0 errors, longest request {longest_seconds(job):.2f} s")
                self.end_use(volume)

    def test_a_frontend_that_is_killed_or_stopped_and_started_again_fails_no_request(self):
        for how, end in (("killed", lambda: self.cluster.kill9("volume")), ("stopped", lambda: self.cluster.ops("stop", "volume"))):
            with self.subTest(how):
                volume, target = self.use("frontend", mount())
                load = self.load(os.path.join(target, "file"))
                end()
                self.cluster.ops("start", "volume")
                # Requests wait, in the kernel and in weir-fuse, until it is back.
                job = fio_result(load)
                print(f"frontend {how}: 0 errors, longest request {longest_seconds(job):.2f} s")
                self.assertLess(longest_seconds(job), STALL_SECONDS_MAX)
                self.end_use(volume)


@unittest.skipIf(why_no_block_device(), why_no_block_device() or "")
class CsiMoveTest(TwoNodesCase):
    def start_on_first(self, name):
        volume, target = self.use(name, mount())
        with open(os.path.join(target, "kept"), "w") as f:
            f.write("kept")
            f.flush()
            os.fsync(f.fileno())
        load = fio(os.path.join(target, "file"), 60, "--size=32M")
        self.addCleanup(load.wait)
        self.addCleanup(load.kill)
        wait_until(lambda: os.path.exists(os.path.join(target, "file")), 20, "fio writes")
        return volume, load

    def move(self, volume):
        """To the second node; the seconds until something could be written and synced there."""
        begun = time.monotonic()
        self.other.ControllerUnpublishVolume(volume_id=volume, node_id=self.node)
        unpublished = time.monotonic() - begun
        fields = dict(volume_id=volume, volume_capability=mount())
        context = self.other.ControllerPublishVolume(node_id=self.other_node, **fields).publish_context
        there = dict(fields, publish_context=context, staging_target_path=self.path("there", make=True))
        self.other.NodeStageVolume(**there)
        self.addCleanup(self.other.NodeUnstageVolume, volume_id=volume, staging_target_path=self.path("there"))
        self.other.NodePublishVolume(target_path=self.path("seen"), **there)
        self.addCleanup(self.other.NodeUnpublishVolume, volume_id=volume, target_path=self.path("seen"))
        with open(self.path("seen/new"), "w") as f:
            f.write("new")
            f.flush()
            os.fsync(f.fileno())
        moved = time.monotonic() - begun
        with open(self.path("seen/kept")) as f:
            self.assertEqual(f.read(), "kept")
        return unpublished, moved

    def end_both(self, volume, load):
        self.assertNotEqual(load.wait(60), 0, "the first node can write no more")
        self.end_use(volume)
        self.other.NodeUnpublishVolume(volume_id=volume, target_path=self.path("seen"))
        self.other.NodeUnstageVolume(volume_id=volume, staging_target_path=self.path("there"))
        self.other.ControllerUnpublishVolume(volume_id=volume, node_id=self.other_node)

    def test_a_volume_moves_while_the_first_node_writes(self):
        volume, load = self.start_on_first("moving")
        code, said = self.other.code("ControllerPublishVolume", volume_id=volume, node_id=self.other_node,
                                     volume_capability=mount())
        self.assertEqual(code, grpc.StatusCode.FAILED_PRECONDITION, said)
        self.assertIn(self.node, said)
        unpublished, moved = self.move(volume)
        print(f"moved from a node that writes: unpublished in {unpublished:.2f} s, written on the other in {moved:.2f} s")
        self.assertLess(moved, MOVE_SECONDS_MAX)
        self.end_both(volume, load)

    def test_a_volume_moves_though_the_first_nodes_frontend_is_frozen(self):
        volume, load = self.start_on_first("frozen")
        frontend = harness.cluster_lib.Cluster(self.cluster.dir).process("volume")
        frontend.signal(signal.SIGSTOP)
        self.addCleanup(frontend.signal, signal.SIGCONT)
        # By the driver that asked this frontend until now, and has its connection open.
        begun = time.monotonic()
        self.driver.ControllerUnpublishVolume(volume_id=volume, node_id=self.node)
        unpublished = time.monotonic() - begun
        _, moved = self.move(volume)
        print(f"moved from a frozen node: unpublished in {unpublished:.2f} s, written on the other in {moved:.2f} s")
        self.assertLess(unpublished, UNPUBLISH_SECONDS_MAX)
        self.assertLess(moved, MOVE_SECONDS_MAX)
        frontend.signal(signal.SIGCONT)
        self.end_both(volume, load)

    def test_a_volume_moves_though_the_first_nodes_frontend_is_dead(self):
        volume, load = self.start_on_first("orphaned")
        self.cluster.kill9("volume")
        unpublished, moved = self.move(volume)
        print(f"moved from a dead node: unpublished in {unpublished:.2f} s, written on the other in {moved:.2f} s")
        self.assertLess(unpublished, 2)
        self.assertLess(moved, MOVE_SECONDS_MAX)
        # It comes back, and must not get the volume again.
        self.cluster.ops("start", "volume")
        self.end_both(volume, load)
        self.assertEqual(harness.cluster_lib.Cluster(self.cluster.dir).running().keys() >= {"volume", "volume2"}, True)


if __name__ == "__main__":
    unittest.main()
