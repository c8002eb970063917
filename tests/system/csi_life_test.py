"""One volume's life through two nodes' CSI drivers alone, from its creation to where nothing is left of it."""

import json
import os
import unittest

import grpc

import harness
from csi_case import SIZE, TwoNodesCase, size_range
from csi_driver import MIB, fio, loop_devices, mount, mounts, pb, processes
from harness import run, wait_until
from mounted import can_grow_mounted_ext4, checksums, why_no_block_device

SECONDS = 15  # about; see run
CAPABILITIES = {"ext4": SIZE, "xfs": 320 * MIB}
LARGER_BY = 64 * MIB


@unittest.skipIf(why_no_block_device(), why_no_block_device() or "")
class CsiLifeTest(TwoNodesCase):
    def everything(self):
        """What a volume could leave on this machine and in the cluster."""
        states = [harness.cluster_lib.Cluster(self.cluster.dir).csi_state(name) for name in ("csi", "csi2")]
        shown = lambda *words: json.loads(self.cluster.weirctl(*words, "--output=json").stdout)
        return {
            "mounts": mounts(self.folder) + [m for state in states for m in mounts(state)],
            "loop devices": [device for state in states for device in loop_devices(state)],
            "processes": [pid for state in states for pid in processes(state + "/")],
            "attached": [name for state in states if os.path.isdir(state) for name in os.listdir(state)],
            "paths": sorted(os.listdir(self.folder)),
            "volumes": [e.volume.volume_id for e in self.driver.ListVolumes().entries],
            # Those that Weir takes for clones too.
            "snapshots": shown("snapshot", "list")["snapshots"],
            "on replicas": [[v["volume_id"] for v in shown("replica", "show", f"replica{i}")["volumes"]] for i in (1, 2, 3)],
        }

    def put_to_use(self, driver, node, volume, capability, name):
        """Published to a node, staged and published there: mounted at `name`."""
        fields = dict(volume_id=volume, volume_capability=capability)
        context = driver.ControllerPublishVolume(node_id=node, **fields).publish_context
        fields.update(publish_context=context, staging_target_path=self.path(f"{name}-staging", make=True))
        self.addCleanup(self.take_from_use, driver, volume, name)
        driver.NodeStageVolume(**fields)
        driver.NodePublishVolume(target_path=self.path(name), **fields)
        return self.path(name)

    def take_from_use(self, driver, volume, name):
        driver.NodeUnpublishVolume(volume_id=volume, target_path=self.path(name))
        driver.NodeUnstageVolume(volume_id=volume, staging_target_path=self.path(f"{name}-staging"))
        if os.path.isdir(self.path(f"{name}-staging")):
            os.rmdir(self.path(f"{name}-staging"))  # which its caller has made

    def write_tree(self, root, name):
        for i in range(8):
            os.makedirs(os.path.join(root, name, str(i)))
            harness.random_file(os.path.join(root, name, str(i), "file"), MIB)
        run("sync", "-f", root)

    def tree(self, root, *names):
        """What is in the files below these folders of it."""
        run("sync", "-f", root)
        return {f"{name}/{path}": digest for name in names for path, digest in checksums(os.path.join(root, name)).items()}

    def grow(self, volume, capability, target, size):
        """Online, and on this node; where the kernel lets nobody grow a mounted ext4, with a new mount."""
        asked = size_range(size, size)
        grown = self.driver.ControllerExpandVolume(volume_id=volume, capacity_range=asked, volume_capability=capability)
        self.assertEqual((grown.capacity_bytes, grown.node_expansion_required), (size, True))
        if capability.mount.fs_type == "ext4" and not can_grow_mounted_ext4():
            self.take_from_use(self.driver, volume, "first")
            self.assertEqual(self.put_to_use(self.driver, self.node, volume, capability, "first"), target)
        done = self.driver.NodeExpandVolume(volume_id=volume, volume_path=target, capacity_range=asked)
        self.assertEqual(done.capacity_bytes, size)

    def usage(self, volume, target):
        stats = self.driver.NodeGetVolumeStats(volume_id=volume, volume_path=target)
        self.assertFalse(stats.volume_condition.abnormal, stats.volume_condition.message)
        return {u.unit: u for u in stats.usage}[pb.VolumeUsage.BYTES]

    def live(self, capability, size):
        kind = capability.mount.fs_type
        volume = self.create(f"life-{kind}", capability, size)
        target = self.put_to_use(self.driver, self.node, volume, capability, "first")
        self.write_tree(target, "early")
        early = self.tree(target, "early")

        snapshot = self.driver.CreateSnapshot(name=f"snap-{kind}", source_volume_id=volume).snapshot.snapshot_id
        self.addCleanup(self.driver.DeleteSnapshot, snapshot_id=snapshot)
        self.write_tree(target, "later")
        source = pb.VolumeContentSource(snapshot=pb.VolumeContentSource.SnapshotSource(snapshot_id=snapshot))
        copy = self.create(f"copy-{kind}", capability, size, volume_content_source=source)
        beside = self.put_to_use(self.driver, self.node, copy, capability, "copy")
        self.assertEqual(self.tree(beside, "early"), early)
        self.assertFalse(os.path.exists(os.path.join(beside, "later")))
        self.write_tree(beside, "own")
        self.assertFalse(os.path.exists(os.path.join(target, "own")))

        before = self.usage(volume, target)
        self.grow(volume, capability, target, size + LARGER_BY)
        after = self.usage(volume, target)
        self.assertGreater(after.total, before.total + LARGER_BY // 2)
        self.assertEqual(self.usage(copy, beside).total, before.total, "the copy has its own size")

        both = self.tree(target, "early", "later")
        filler = harness.random_file(os.path.join(target, "filler"), 16 * MIB)
        run("sync", "-f", target)
        full = self.usage(volume, target)
        os.unlink(filler)
        run("sync", "-f", target)
        self.assertRegex(run("fstrim", "-v", target).stdout, r": [1-9].* trimmed")
        self.assertLess(self.usage(volume, target).used, full.used - 15 * MIB)
        self.assertEqual(self.tree(target, "early", "later"), both)
        self.assertEqual(self.tree(beside, "early"), early, "the copy shares blocks that were not trimmed for it")
        return volume, copy, snapshot, target, both

    def sectors_written(self, device):
        with open(f"/sys/block/{device}/stat") as f:
            return int(f.read().split()[6])

    def move(self, volume, capability, target, tree):
        """To the second node, while the first one writes: it has all that was synced, and the first one can write no more."""
        load = fio(os.path.join(target, "load"), 120, "--size=16M")
        self.addCleanup(load.communicate)
        self.addCleanup(load.kill)
        device = os.path.basename(run("findmnt", "-n", "--nofsroot", "-o", "SOURCE", target).stdout.strip())
        begun = self.sectors_written(device)
        wait_until(lambda: self.sectors_written(device) > begun + 2000, 30, "fio writes")
        self.assertIsNone(load.poll())
        code, said = self.other.code("ControllerPublishVolume", volume_id=volume, node_id=self.other_node,
                                     volume_capability=capability)
        self.assertEqual(code, grpc.StatusCode.FAILED_PRECONDITION, said)
        self.other.ControllerUnpublishVolume(volume_id=volume, node_id=self.node)
        there = self.put_to_use(self.other, self.other_node, volume, capability, "second")
        self.assertEqual(self.tree(there, "early", "later"), tree)
        self.write_tree(there, "after-the-move")
        self.assertNotEqual(load.wait(60), 0, "the first node can write no more")
        self.take_from_use(self.driver, volume, "first")
        return there

    def test_a_volumes_whole_life_leaves_nothing(self):
        for kind, size in CAPABILITIES.items():
            with self.subTest(kind):
                before, capability = self.everything(), mount(kind)
                volume, copy, snapshot, target, tree = self.live(capability, size)
                there = self.move(volume, capability, target, tree)
                moved, of_copy = self.tree(there, "after-the-move"), self.tree(self.path("copy"), "early", "own")
                # Once more from the replicas, with nothing of it in memory.
                self.take_from_use(self.other, volume, "second")
                there = self.put_to_use(self.other, self.other_node, volume, capability, "second")
                self.assertEqual(self.tree(there, "early", "later"), tree)
                self.assertEqual(self.tree(there, "after-the-move"), moved)
                self.take_from_use(self.other, volume, "second")
                self.take_from_use(self.driver, copy, "copy")
                beside = self.put_to_use(self.driver, self.node, copy, capability, "copy")
                self.assertEqual(self.tree(beside, "early", "own"), of_copy)
                self.take_from_use(self.driver, copy, "copy")
                for one, node in ((volume, self.other_node), (copy, self.node)):
                    self.other.ControllerUnpublishVolume(volume_id=one, node_id=node)
                self.assert_code(grpc.StatusCode.FAILED_PRECONDITION, "DeleteVolume", volume_id=volume)
                self.other.DeleteVolume(volume_id=copy)
                self.other.DeleteSnapshot(snapshot_id=snapshot)
                self.other.DeleteVolume(volume_id=volume)
                # weir-fuse ends and replicas give back in the background.
                try:
                    wait_until(lambda: self.everything() == before, 20, "nothing is left")
                except AssertionError:
                    self.assertEqual(self.everything(), before)


if __name__ == "__main__":
    unittest.main()
