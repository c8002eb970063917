"""Each call of the CSI driver many times at once: one of them does it, the others find it done or are told to come again."""

import os
import threading
import unittest

import grpc

from csi_case import SIZE, CsiCase, size_range
from csi_driver import MIB, OK, block, loop_devices, mount, mounts, pb, processes
from harness import wait_until
from mounted import can_grow_mounted_ext4, why_no_block_device

THREADS = 4
LARGER = SIZE + 32 * MIB


class CsiRaceCase(CsiCase):
    def race(self, method, drivers=None, **fields):
        """The responses of those that were answered OK, at least one. Anything else but ABORTED fails."""
        drivers = drivers or [self.driver]
        together = threading.Barrier(THREADS)
        answers, errors = [], []

        def work(driver):
            together.wait()
            try:
                answers.append(getattr(driver, method)(**fields))
            except grpc.RpcError as error:
                errors.append((error.code(), error.details()))

        threads = [threading.Thread(target=work, args=(drivers[i % len(drivers)],)) for i in range(THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual([e for e in errors if e[0] != grpc.StatusCode.ABORTED], [], method)
        self.assertGreater(len(answers), 0, f"{method}: {errors}")
        self.assertEqual(len(answers) + len(errors), THREADS)
        return answers


class CsiControllerRaceTest(CsiRaceCase):
    """By two instances of the driver, which know nothing of each other, as when a leader is replaced."""

    def setUp(self):
        super().setUp()
        self.both = [self.driver, self.own_driver("--mode=controller")]

    def race_both(self, method, **fields):
        return self.race(method, self.both, **fields)

    def status(self, volume):
        return self.driver.ControllerGetVolume(volume_id=volume)

    def test_a_volume_is_made_published_grown_and_deleted_once(self):
        for i in range(3):
            fields = dict(name=f"raced-{i}", capacity_range=size_range(), volume_capabilities=[block()])
            self.addCleanup(self.driver.DeleteVolume, volume_id=f"raced-{i}")
            self.addCleanup(self.driver.ControllerUnpublishVolume, volume_id=f"raced-{i}")
            (volume,) = {made.volume.volume_id for made in self.race_both("CreateVolume", **fields)}
            self.assertEqual([e.volume.volume_id for e in self.driver.ListVolumes().entries], ["demo", volume])
            published = self.race_both("ControllerPublishVolume", volume_id=volume, node_id=self.node, volume_capability=block())
            self.assertTrue(all(p == published[0] for p in published))
            self.assertEqual(list(self.status(volume).status.published_node_ids), [self.node])
            for grown in self.race_both("ControllerExpandVolume", volume_id=volume, capacity_range=size_range(LARGER, LARGER)):
                self.assertEqual(grown.capacity_bytes, LARGER)
            self.assertEqual(self.status(volume).volume.capacity_bytes, LARGER)
            self.race_both("ControllerUnpublishVolume", volume_id=volume, node_id=self.node)
            self.assertEqual(list(self.status(volume).status.published_node_ids), [])
            self.race_both("DeleteVolume", volume_id=volume)
            self.assert_code(grpc.StatusCode.NOT_FOUND, "ControllerGetVolume", volume_id=volume)
            self.assertNotIn(volume, self.cluster.weirctl("volume", "list").stdout)

    def test_a_snapshot_and_a_volume_from_it_are_made_and_deleted_once(self):
        volume = self.create("source")
        for i in range(3):
            snapshots = self.race_both("CreateSnapshot", name=f"raced-{i}", source_volume_id=volume)
            self.assertTrue(all(s == snapshots[0] for s in snapshots))
            snapshot = snapshots[0].snapshot.snapshot_id
            self.addCleanup(self.driver.DeleteSnapshot, snapshot_id=snapshot)
            found = [e.snapshot.snapshot_id for e in self.driver.ListSnapshots().entries]
            self.assertEqual(found, [snapshot])
            source = pb.VolumeContentSource(snapshot=pb.VolumeContentSource.SnapshotSource(snapshot_id=snapshot))
            self.addCleanup(self.driver.DeleteVolume, volume_id="copy")
            made = self.race_both("CreateVolume", name="copy", capacity_range=size_range(), volume_capabilities=[block()],
                                  volume_content_source=source)
            self.assertEqual({m.volume.volume_id for m in made}, {"copy"})
            self.race_both("DeleteVolume", volume_id="copy")
            self.race_both("DeleteSnapshot", snapshot_id=snapshot)
            self.assertEqual(len(self.driver.ListSnapshots().entries), 0)
        self.assertEqual([e.volume.volume_id for e in self.driver.ListVolumes().entries], ["demo", volume])


@unittest.skipIf(why_no_block_device(), why_no_block_device() or "")
class CsiNodeRaceTest(CsiRaceCase):
    def test_a_volume_is_staged_published_grown_and_let_go_of_once(self):
        for capability in (block(), mount("ext4")):
            kind = capability.WhichOneof("access_type")
            with self.subTest(kind):
                volume = self.create(f"raced-{kind}", capability)
                context = self.publish_to_node(volume, capability)
                staging, target = self.path("staging", make=True), self.path("target")
                ids = dict(volume_id=volume)
                self.addCleanup(self.driver.NodeUnstageVolume, staging_target_path=staging, **ids)
                self.addCleanup(self.driver.NodeUnpublishVolume, target_path=target, **ids)
                fields = dict(ids, publish_context=context, staging_target_path=staging, volume_capability=capability)
                self.race("NodeStageVolume", **fields)
                staged = int(kind == "mount")
                self.assertEqual(len(processes(f"--volume={volume}")), 1)
                self.assertEqual(len(mounts(staging)), staged)
                self.assertEqual(len(loop_devices(self.cluster.dir)), 1)
                self.race("NodePublishVolume", target_path=target, **fields)
                self.assertEqual((len(mounts(staging)), len(mounts(target)), len(loop_devices(self.cluster.dir))), (staged, 1, 1))
                self.race("NodeGetVolumeStats", volume_path=target, **ids)
                self.driver.ControllerExpandVolume(capacity_range=size_range(LARGER), **ids)
                if kind == "block" or can_grow_mounted_ext4():
                    for grown in self.race("NodeExpandVolume", volume_path=target, capacity_range=size_range(LARGER), **ids):
                        self.assertEqual(grown.capacity_bytes, LARGER)
                    total = self.driver.NodeGetVolumeStats(volume_path=target, **ids).usage[0].total
                    self.assertGreater(total, SIZE if kind == "block" else SIZE - 8 * MIB)
                file = target if kind == "block" else os.path.join(target, "file")
                with open(file, "wb") as f:
                    f.write(bytes(MIB))
                    f.flush()
                    os.fsync(f.fileno())
                self.race("NodeUnpublishVolume", target_path=target, **ids)
                self.assertEqual((len(mounts(staging)), len(mounts(target)), os.path.lexists(target)), (staged, 0, False))
                self.race("NodeUnstageVolume", staging_target_path=staging, **ids)
                self.assertEqual((loop_devices(self.cluster.dir), mounts(self.folder)), ([], []))
                wait_until(lambda: not processes(f"--volume={volume}"), 10, "weir-fuse has ended")
                self.driver.ControllerUnpublishVolume(node_id=self.node, **ids)

    def test_volumes_are_staged_beside_each_other(self):
        """Other volumes' calls are in nobody's way: none is told to come again."""
        names = [f"beside-{i}" for i in range(THREADS)]
        capability = mount("ext4")
        fields = []
        for name in names:
            volume = self.create(name, capability)
            context = self.publish_to_node(volume, capability)
            fields.append(dict(volume_id=volume, publish_context=context, volume_capability=capability,
                               staging_target_path=self.path("staging-" + name, make=True)))
            self.addCleanup(self.driver.NodeUnstageVolume, volume_id=volume, staging_target_path=self.path("staging-" + name))
        codes = []
        for method, arguments in (("NodeStageVolume", fields),
                                  ("NodeUnstageVolume", [{k: f[k] for k in ("volume_id", "staging_target_path")} for f in fields])):
            codes.clear()
            threads = [threading.Thread(target=lambda one=one: codes.append(self.driver.code(method, **one))) for one in arguments]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            self.assertEqual(codes, [(OK, "")] * THREADS, method)
            self.assertEqual(len(loop_devices(self.cluster.dir)), THREADS if method == "NodeStageVolume" else 0)


if __name__ == "__main__":
    unittest.main()
