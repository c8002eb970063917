"""The CSI driver, call by call, against a live cluster: what each must be given, its codes, its repetition."""

import json
import os
import re
import tempfile
import threading
import time
import unittest

import grpc

from csi_case import SIZE, CsiCase, size_range
from csi_driver import MIB, OK, Mode, block, loop_devices, mount, mounts, pb, processes
from harness import ROOT, run, wait_until
from mounted import can_grow_mounted_ext4, why_no_block_device

Code = grpc.StatusCode
READ_ONLY_KEY = "csi.weir.dev/readOnly"


class CsiIdentityTest(CsiCase):
    def test_the_driver_says_who_it_is_and_that_it_can_work(self):
        info = self.driver.GetPluginInfo()
        self.assertRegex(info.name, r"^[a-z][a-z0-9.-]{0,61}[a-z]$")
        self.assertTrue(info.vendor_version)
        services = [c.service.type for c in self.driver.GetPluginCapabilities().capabilities if c.HasField("service")]
        kinds = pb.PluginCapability.Service
        self.assertIn(kinds.CONTROLLER_SERVICE, services)
        self.assertIn(kinds.VOLUME_ACCESSIBILITY_CONSTRAINTS, services)
        self.assertTrue(self.driver.Probe().ready.value)

    def test_the_node_says_where_it_is(self):
        info = self.driver.NodeGetInfo()
        self.assertEqual(info.node_id, "volume")
        self.assertEqual(dict(info.accessible_topology.segments), {"csi.weir.dev/zone": "a", "csi.weir.dev/rack": "7"})

    def test_prometheus_is_told_where_its_numbers_are(self):
        self.driver.GetPluginInfo()
        with tempfile.TemporaryDirectory() as folder:
            run(os.path.join(ROOT, "ops", "prometheus", "targets"), self.cluster.dir, folder)
            with open(os.path.join(folder, "weir-csi.json")) as f:
                (address,), = (job["targets"] for job in json.load(f))
        calls = re.findall(r'^weir_csi_calls_total\{code="OK",method="GetPluginInfo"\} (\d+)$',
                           run("curl", "-sf", f"http://{address}/metrics").stdout, re.MULTILINE)
        self.assertEqual(len(calls), 1)
        self.assertGreater(int(calls[0]), 0)

    def test_without_a_frontend_it_is_not_ready_and_comes_back_with_it(self):
        self.cluster.kill9("volume")
        # The broken connection is heard of a moment later.
        wait_until(lambda: not self.driver.Probe().ready.value, 10, "it is not ready")
        self.assert_code(Code.UNAVAILABLE, "CreateVolume", name="x", volume_capabilities=[block()])
        self.cluster.ops("start", "volume")
        wait_until(lambda: self.driver.Probe().ready.value, 10, "it is ready again")


class CsiRequestTest(CsiCase):
    """What is missing is said before what is unknown; an unknown id is NOT_FOUND."""

    def test_what_is_missing_is_invalid(self):
        absent = dict(volume_id="absent")
        for method, fields in (
                ("CreateVolume", dict(volume_capabilities=[block()])),
                ("CreateVolume", dict(name="x")),
                ("CreateVolume", dict(name="x", volume_capabilities=[pb.VolumeCapability()])),
                ("DeleteVolume", {}),
                ("ControllerPublishVolume", dict(node_id="n", volume_capability=block())),
                ("ControllerPublishVolume", dict(absent, volume_capability=block())),
                ("ControllerPublishVolume", dict(absent, node_id="n")),
                ("ControllerUnpublishVolume", dict(node_id="n")),
                ("ValidateVolumeCapabilities", dict(volume_capabilities=[block()])),
                ("ValidateVolumeCapabilities", absent),
                ("ControllerGetVolume", {}),
                ("NodeStageVolume", dict(staging_target_path="/s", volume_capability=block())),
                ("NodeStageVolume", dict(absent, volume_capability=block())),
                ("NodeStageVolume", dict(absent, staging_target_path="/s")),
                ("NodeUnstageVolume", dict(staging_target_path="/s")),
                ("NodeUnstageVolume", absent),
                ("NodePublishVolume", dict(target_path="/t", staging_target_path="/s", volume_capability=block())),
                ("NodePublishVolume", dict(absent, staging_target_path="/s", volume_capability=block())),
                ("NodePublishVolume", dict(absent, staging_target_path="/s", target_path="/t")),
                ("NodeUnpublishVolume", dict(target_path="/t")),
                ("NodeUnpublishVolume", absent),
                ("ControllerExpandVolume", dict(capacity_range=size_range())),
                ("ControllerExpandVolume", absent),
                ("CreateSnapshot", dict(name="s")),
                ("CreateSnapshot", dict(source_volume_id="absent")),
                ("DeleteSnapshot", {}),
                ("GetSnapshot", {}),
                ("CreateVolume", dict(name="x", volume_capabilities=[block()], volume_content_source=pb.VolumeContentSource())),
                ("NodeExpandVolume", dict(volume_path="/t")),
                ("NodeExpandVolume", absent),
                ("NodeGetVolumeStats", dict(volume_path="/t")),
                ("NodeGetVolumeStats", absent)):
            with self.subTest(method=method, given=sorted(fields)):
                self.assert_code(Code.INVALID_ARGUMENT, method, **fields)

    def test_what_is_unknown_is_not_found(self):
        for absent in ("absent", "Not A Volume's Name", "../../etc", "x" * 128):
            ids = dict(volume_id=absent)
            for method, fields in (
                    ("ControllerPublishVolume", dict(node_id="absent", volume_capability=block())),
                    ("ValidateVolumeCapabilities", dict(volume_capabilities=[block()])),
                    ("ControllerGetVolume", {}),
                    ("NodeStageVolume", dict(staging_target_path=self.folder, volume_capability=block())),
                    ("NodePublishVolume", dict(staging_target_path=self.folder, target_path=self.path("t"),
                                               volume_capability=block())),
                    ("ControllerExpandVolume", dict(capacity_range=size_range())),
                    ("NodeExpandVolume", dict(volume_path=self.folder)),
                    ("NodeExpandVolume", dict(volume_path="some/path")),
                    ("NodeGetVolumeStats", dict(volume_path=self.folder)),
                    ("NodeGetVolumeStats", dict(volume_path="some/path"))):
                with self.subTest(method=method, id=absent):
                    self.assert_code(Code.NOT_FOUND, method, **ids, **fields)
            # What is not there any more need not be ended.
            self.driver.DeleteVolume(**ids)
            self.driver.ControllerUnpublishVolume(**ids, node_id="absent")
            self.driver.NodeUnstageVolume(**ids, staging_target_path=self.folder)
            self.driver.NodeUnpublishVolume(**ids, target_path=self.path("t"))

    def test_what_is_not_announced_is_unimplemented(self):
        self.assert_code(Code.UNIMPLEMENTED, "ControllerModifyVolume", volume_id="x", mutable_parameters={"a": "b"})
        self.assert_code(Code.UNIMPLEMENTED, "GroupControllerGetCapabilities")


class CsiCreateTest(CsiCase):
    def test_the_same_request_makes_one_volume_and_another_one_is_refused(self):
        fields = dict(name="twice", capacity_range=size_range(SIZE, SIZE), volume_capabilities=[block()],
                      parameters={"replicas": "3", "minInSync": "2"})
        volume = self.create("twice", parameters=fields["parameters"])
        again = self.driver.CreateVolume(**fields).volume
        self.assertEqual((again.volume_id, again.capacity_bytes), (volume, SIZE))
        for other in (dict(capacity_range=size_range(SIZE + 4096)), dict(capacity_range=size_range(1, SIZE - 4096)),
                      dict(parameters={"replicas": "1"}), dict(volume_capabilities=[mount()])):
            with self.subTest(other=sorted(other)):
                self.assert_code(Code.ALREADY_EXISTS, "CreateVolume", **{**fields, **other})
        # A wider range holds it still.
        self.driver.CreateVolume(**{**fields, "capacity_range": size_range(1, 2 * SIZE)})
        self.driver.DeleteVolume(volume_id=volume)
        self.driver.DeleteVolume(volume_id=volume)
        self.assert_code(Code.NOT_FOUND, "ControllerGetVolume", volume_id=volume)

    def test_any_name_that_the_specification_allows_is_a_volume(self):
        ids = set()
        for name in ("Sanity Test", "sanity test", "n" * 128, "n" * 127, "tab\tand\nmore", "ä-é", "-", "pvc-1"):
            ids.add(self.create(name))
        self.assertEqual(len(ids), 8)
        for name in ("", "n" * 129, "bell\a"):
            self.assert_code(Code.INVALID_ARGUMENT, "CreateVolume", name=name, volume_capabilities=[block()])

    def test_sizes(self):
        one = dict(volume_capabilities=[block()])
        for name, wanted, got in (("exact", size_range(5 * MIB, 5 * MIB), 5 * MIB), ("round", size_range(5 * MIB + 1), 5 * MIB + 4096),
                                  ("none", None, 1 << 30), ("limit", size_range(0, 8 * MIB), 8 * MIB)):
            with self.subTest(name):
                made = self.driver.CreateVolume(name=name, capacity_range=wanted, **one).volume
                self.addCleanup(self.driver.DeleteVolume, volume_id=made.volume_id)
                self.assertEqual(made.capacity_bytes, got)
        for wanted in (size_range(2 * MIB, MIB), size_range(-1), size_range(0, -1), size_range(5 * MIB + 1, 5 * MIB + 2),
                       size_range((1 << 63) - 1)):
            self.assert_code(Code.OUT_OF_RANGE, "CreateVolume", name="wrong", capacity_range=wanted, **one)
        self.assert_code(Code.RESOURCE_EXHAUSTED, "CreateVolume", name="wrong", capacity_range=size_range(1 << 50), **one)

    def test_what_cannot_be_made_is_refused_and_nothing_is_left(self):
        one = dict(name="refused", capacity_range=size_range(), volume_capabilities=[block()])
        invalid = (
            dict(parameters={"color": "red"}), dict(parameters={"replicas": "many"}), dict(mutable_parameters={"replicas": "3"}),
            dict(volume_capabilities=[block(Mode.MULTI_NODE_MULTI_WRITER)]), dict(volume_capabilities=[block(), mount("ntfs")]))
        for wrong in invalid:
            with self.subTest(wrong=str(wrong)):
                self.assert_code(Code.INVALID_ARGUMENT, "CreateVolume", **{**one, **wrong})
        for lacking in (dict(parameters={"replicas": "5"}),
                        dict(accessibility_requirements=pb.TopologyRequirement(
                            requisite=[pb.Topology(segments={"csi.weir.dev/zone": "elsewhere"})]))):
            self.assert_code(Code.RESOURCE_EXHAUSTED, "CreateVolume", **{**one, **lacking})
        self.assertNotIn("refused", self.cluster.weirctl("volume", "list").stdout)

    def test_a_place_where_a_node_is_will_do(self):
        places = [pb.Topology(segments={"csi.weir.dev/zone": zone}) for zone in ("elsewhere", "a")]
        both = pb.TopologyRequirement(requisite=places, preferred=places[1:])
        volume = self.create("placed", accessibility_requirements=both)
        # The same name: what it can meet too is the same volume, what it cannot is another.
        one = dict(name="placed", capacity_range=size_range(), volume_capabilities=[block()])
        for same in (both, pb.TopologyRequirement(requisite=places[1:]), None):
            self.assertEqual(self.driver.CreateVolume(accessibility_requirements=same, **one).volume.volume_id, volume)
        self.assert_code(Code.ALREADY_EXISTS, "CreateVolume", accessibility_requirements=pb.TopologyRequirement(requisite=places[:1]),
                         **one)

    def test_many_at_once_make_one_volume(self):
        fields = dict(name="raced", capacity_range=size_range(), volume_capabilities=[block()])
        self.addCleanup(self.driver.DeleteVolume, volume_id="raced")
        codes = []
        threads = [threading.Thread(target=lambda: codes.append(self.driver.code("CreateVolume", **fields)[0]))
                   for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertLessEqual(set(codes), {OK, Code.ABORTED})
        self.assertIn(OK, codes)
        self.assertEqual(self.cluster.weirctl("volume", "list").stdout.count("raced"), 1)

    def test_a_volume_of_somebody_else_is_shown_and_not_deleted(self):
        self.assert_code(Code.FAILED_PRECONDITION, "DeleteVolume", volume_id="demo")
        self.assert_code(Code.ALREADY_EXISTS, "CreateVolume", name="demo", capacity_range=size_range(), volume_capabilities=[block()])
        self.assertEqual(self.driver.ControllerGetVolume(volume_id="demo").volume.capacity_bytes, SIZE)


class CsiQuestionTest(CsiCase):
    def test_a_list_in_pages_misses_nothing_though_volumes_go_and_come(self):
        for i in (3, 0, 4, 1, 2):
            self.create(f"list-{i}")
        everything = [e.volume.volume_id for e in self.driver.ListVolumes().entries]
        # As they were made; demo was not made by this driver.
        self.assertEqual(everything, ["demo", "list-3", "list-0", "list-4", "list-1", "list-2"])
        first = self.driver.ListVolumes(max_entries=3)
        self.assertEqual(len(first.entries), 3)
        self.assertTrue(first.next_token)
        self.driver.DeleteVolume(volume_id=first.entries[-1].volume.volume_id)
        self.create("a-new-one")
        rest = self.driver.ListVolumes(starting_token=first.next_token)
        self.assertEqual([e.volume.volume_id for e in rest.entries], everything[3:] + ["a-new-one"])
        self.assertFalse(rest.next_token)
        self.assertFalse(self.driver.ListVolumes(max_entries=6).next_token, "exactly as many as there are")
        self.assert_code(Code.ABORTED, "ListVolumes", starting_token="invalid-token")
        self.assert_code(Code.INVALID_ARGUMENT, "ListVolumes", max_entries=-1)

    def test_lists_and_questions_say_where_a_volume_is_and_how_it_does(self):
        volume = self.create("shown")
        self.assertFalse(self.driver.ControllerGetVolume(volume_id=volume).status.published_node_ids)
        self.publish_to_node(volume, block())
        status = self.driver.ControllerGetVolume(volume_id=volume).status
        self.assertEqual(list(status.published_node_ids), [self.node])
        self.assertFalse(status.volume_condition.abnormal, status.volume_condition.message)
        entry = [e for e in self.driver.ListVolumes().entries if e.volume.volume_id == volume][0]
        self.assertEqual(list(entry.status.published_node_ids), [self.node])
        self.cluster.kill9("replica2")
        try:
            wait_until(lambda: self.driver.ControllerGetVolume(volume_id=volume).status.volume_condition.abnormal, 30,
                       "a volume without one of its replicas is abnormal")
            said = self.driver.ControllerGetVolume(volume_id=volume).status.volume_condition.message
            self.assertIn("replica2", said)
        finally:
            self.cluster.ops("start", "replica2")
        wait_until(lambda: not self.driver.ControllerGetVolume(volume_id=volume).status.volume_condition.abnormal, 60,
                   "and well again")

    def test_capabilities_are_confirmed_or_the_message_says_why_not(self):
        volume = self.create("validated", parameters={"replicas": "3"})
        ask = dict(volume_id=volume, volume_capabilities=[block(), mount("xfs")])
        confirmed = self.driver.ValidateVolumeCapabilities(parameters={"replicas": "3"}, **ask)
        self.assertEqual(len(confirmed.confirmed.volume_capabilities), 2)
        for wrong in (dict(volume_capabilities=[block(), block(Mode.MULTI_NODE_MULTI_WRITER)]),
                      dict(parameters={"replicas": "1"}), dict(parameters={"color": "red"})):
            refused = self.driver.ValidateVolumeCapabilities(**{**ask, **wrong})
            self.assertFalse(refused.HasField("confirmed"))
            self.assertTrue(refused.message)

    def test_capacity_is_that_of_the_replicas(self):
        there = self.driver.GetCapacity(volume_capabilities=[mount()])
        self.assertGreater(there.available_capacity, SIZE)
        self.assertGreater(there.minimum_volume_size.value, 0)
        self.assertEqual(self.driver.GetCapacity(parameters={"replicas": "5"}).available_capacity, 0)
        self.assertEqual(self.driver.GetCapacity(volume_capabilities=[block(Mode.MULTI_NODE_MULTI_WRITER)]).available_capacity, 0)
        for zone, some in (("a", True), ("elsewhere", False)):
            place = pb.Topology(segments={"csi.weir.dev/zone": zone})
            self.assertEqual(self.driver.GetCapacity(accessible_topology=place).available_capacity > 0, some)
        self.assert_code(Code.INVALID_ARGUMENT, "GetCapacity", parameters={"color": "red"})


def from_snapshot(snapshot):
    return pb.VolumeContentSource(snapshot=pb.VolumeContentSource.SnapshotSource(snapshot_id=snapshot))


def from_volume(volume):
    return pb.VolumeContentSource(volume=pb.VolumeContentSource.VolumeSource(volume_id=volume))


class CsiSnapshotTest(CsiCase):
    def snapshot(self, name, volume):
        made = self.driver.CreateSnapshot(name=name, source_volume_id=volume).snapshot
        self.addCleanup(self.driver.DeleteSnapshot, snapshot_id=made.snapshot_id)
        return made

    def test_a_snapshot_is_taken_once_by_name(self):
        volume, other = self.create("snapped"), self.create("snapped-other")
        made = self.snapshot("Snap One", volume)
        self.assertEqual((made.source_volume_id, made.size_bytes, made.ready_to_use), (volume, SIZE, True))
        self.assertGreater(made.creation_time.seconds, 0)
        self.assertEqual(self.driver.CreateSnapshot(name="Snap One", source_volume_id=volume).snapshot, made)
        self.assertEqual(self.driver.GetSnapshot(snapshot_id=made.snapshot_id).snapshot, made)
        self.assert_code(Code.ALREADY_EXISTS, "CreateSnapshot", name="Snap One", source_volume_id=other)
        self.assert_code(Code.NOT_FOUND, "CreateSnapshot", name="none", source_volume_id="absent")
        self.assert_code(Code.INVALID_ARGUMENT, "CreateSnapshot", name="s", source_volume_id=volume, parameters={"color": "red"})
        self.assert_code(Code.FAILED_PRECONDITION, "DeleteVolume", volume_id=volume)
        for _ in range(2):
            self.driver.DeleteSnapshot(snapshot_id=made.snapshot_id)
        for absent in (made.snapshot_id, "absent", "absent@absent", "../x@y"):
            self.assert_code(Code.NOT_FOUND, "GetSnapshot", snapshot_id=absent)
            self.driver.DeleteSnapshot(snapshot_id=absent)

    def test_snapshots_are_listed_all_or_by_one_or_by_volume_and_in_pages(self):
        one, two = self.create("listed-one"), self.create("listed-two")
        made = [self.snapshot(f"{volume}-{i}", volume).snapshot_id for volume in (one, two) for i in range(3 if volume == one else 2)]
        found = lambda **fields: [e.snapshot.snapshot_id for e in self.driver.ListSnapshots(**fields).entries]
        self.assertEqual(len(made), 5)
        self.assertEqual(found(), sorted(made))
        self.assertEqual(found(source_volume_id=two), made[3:])
        self.assertEqual(found(snapshot_id=made[1]), [made[1]])
        self.assertEqual(found(snapshot_id="absent@absent"), [])
        self.assertEqual(found(source_volume_id="absent"), [])
        pages, token = [], ""
        while not pages or token:
            page = self.driver.ListSnapshots(max_entries=2, starting_token=token)
            self.assertLessEqual(len(page.entries), 2)
            pages += [e.snapshot.snapshot_id for e in page.entries]
            token = page.next_token
        self.assertEqual(pages, sorted(made))
        self.assert_code(Code.ABORTED, "ListSnapshots", starting_token="invalid-token")
        self.assert_code(Code.INVALID_ARGUMENT, "ListSnapshots", max_entries=-1)

    def test_a_snapshot_outlives_what_was_made_from_it(self):
        volume = self.create("parent")
        made = self.snapshot("used", volume)
        copy = self.create("child", volume_content_source=from_snapshot(made.snapshot_id))
        said = self.assert_code(Code.FAILED_PRECONDITION, "DeleteSnapshot", snapshot_id=made.snapshot_id)
        self.assertIn("child", said)
        # Nothing has changed: it is there, and more can be made from it.
        self.assertEqual(self.driver.GetSnapshot(snapshot_id=made.snapshot_id).snapshot, made)
        second = self.create("second-child", volume_content_source=from_snapshot(made.snapshot_id))
        for child in (copy, second):
            self.driver.DeleteVolume(volume_id=child)
        self.driver.DeleteSnapshot(snapshot_id=made.snapshot_id)
        self.assertEqual(len(self.driver.ListSnapshots(source_volume_id=volume).entries), 0)

    def test_of_a_volume_that_is_being_deleted_nothing_is_made_and_its_deletion_goes_on(self):
        volume = self.create("going")
        self.cluster.kill9("replica2")
        try:
            for _ in range(2):
                said = self.assert_code(Code.UNAVAILABLE, "DeleteVolume", volume_id=volume)
                self.assertIn("replica2", said)
            one = dict(capacity_range=size_range(), volume_capabilities=[block()])
            for method, wanted, fields in (
                    ("CreateSnapshot", Code.ABORTED, dict(name="late", source_volume_id=volume)),
                    ("CreateVolume", Code.INVALID_ARGUMENT,
                     dict(one, name="late", volume_content_source=from_volume(volume))),
                    ("CreateVolume", Code.ABORTED, dict(one, name="going")),
                    ("ControllerPublishVolume", Code.ABORTED,
                     dict(volume_id=volume, node_id=self.node, volume_capability=block())),
                    ("ControllerExpandVolume", Code.ABORTED,
                     dict(volume_id=volume, capacity_range=size_range(2 * SIZE)))):
                with self.subTest(method=method, name=fields.get("name")):
                    self.assertIn("being deleted", self.assert_code(wanted, method, **fields))
            status = self.driver.ControllerGetVolume(volume_id=volume).status
            self.assertEqual((list(status.published_node_ids), status.volume_condition.abnormal), ([], True))
        finally:
            self.cluster.ops("start", "replica2")
        wait_until(lambda: self.driver.code("DeleteVolume", volume_id=volume)[0] == OK, 30, "it is deleted")
        self.assert_code(Code.NOT_FOUND, "CreateSnapshot", name="late", source_volume_id=volume)
        self.assertEqual([e.volume.volume_id for e in self.driver.ListVolumes().entries], ["demo"])
        self.assertEqual(len(self.driver.ListSnapshots().entries), 0)

    def test_a_volume_made_from_another_is_refused_where_it_cannot_be(self):
        volume = self.create("source")
        made = self.snapshot("of-source", volume)
        for source in (from_snapshot(made.snapshot_id), from_volume(volume)):
            with self.subTest(source=source.WhichOneof("type")):
                copy = self.create("copy", volume_content_source=source)
                self.assertEqual(self.driver.CreateVolume(
                    name="copy", capacity_range=size_range(), volume_capabilities=[block()],
                    volume_content_source=source).volume.content_source, source)
                self.assert_code(Code.ALREADY_EXISTS, "CreateVolume", name="copy", capacity_range=size_range(),
                                 volume_capabilities=[block()])
                # What Weir keeps for a clone is none of its user's snapshots.
                self.assertEqual([e.snapshot.snapshot_id for e in self.driver.ListSnapshots().entries], [made.snapshot_id])
                self.driver.DeleteVolume(volume_id=copy)
        self.driver.DeleteSnapshot(snapshot_id=made.snapshot_id)
        copy = self.create("copy", volume_content_source=from_volume(volume))
        said = self.assert_code(Code.FAILED_PRECONDITION, "DeleteVolume", volume_id=volume)
        self.assertIn("copy", said, "a source outlives its clones")
        self.driver.DeleteVolume(volume_id=copy)
        one = dict(name="refused", volume_capabilities=[block()])
        self.assert_code(Code.OUT_OF_RANGE, "CreateVolume", capacity_range=size_range(0, SIZE - MIB),
                         volume_content_source=from_volume(volume), **one)
        for absent in (from_volume("absent"), from_snapshot(f"{volume}@absent"), from_snapshot("absent"), from_volume("../x")):
            self.assert_code(Code.NOT_FOUND, "CreateVolume", volume_content_source=absent, **one)


class CsiPublishTest(CsiCase):
    def test_publishing_is_repeatable_and_anything_else_is_refused(self):
        volume = self.create("published")
        fields = dict(volume_id=volume, node_id=self.node, volume_capability=block())
        self.assert_code(Code.NOT_FOUND, "ControllerPublishVolume", **{**fields, "node_id": "absent"})
        first = self.driver.ControllerPublishVolume(**fields)
        self.assertEqual(dict(first.publish_context), {READ_ONLY_KEY: "false"})
        self.assertEqual(self.driver.ControllerPublishVolume(**fields), first)
        for other in (dict(readonly=True), dict(volume_capability=block(Mode.SINGLE_NODE_MULTI_WRITER)),
                      dict(volume_capability=mount())):
            self.assert_code(Code.ALREADY_EXISTS, "ControllerPublishVolume", **{**fields, **other})
        self.assert_code(Code.FAILED_PRECONDITION, "DeleteVolume", volume_id=volume)
        self.driver.ControllerUnpublishVolume(volume_id=volume, node_id="some-other-node")
        self.assertTrue(self.driver.ControllerGetVolume(volume_id=volume).status.published_node_ids)
        self.driver.ControllerUnpublishVolume(volume_id=volume, node_id=self.node)
        self.driver.ControllerUnpublishVolume(volume_id=volume, node_id=self.node)
        self.assertFalse(self.driver.ControllerGetVolume(volume_id=volume).status.published_node_ids)
        again = self.driver.ControllerPublishVolume(**{**fields, "readonly": True})
        self.assertEqual(dict(again.publish_context), {READ_ONLY_KEY: "true"})

    def test_what_the_driver_knows_it_has_from_the_catalog(self):
        volume = self.create("kept", parameters={"lanes": "2"})
        context = self.publish_to_node(volume, block())
        self.restart_driver()
        self.assertEqual(list(self.driver.ControllerGetVolume(volume_id=volume).status.published_node_ids), [self.node])
        self.assertEqual(self.publish_to_node(volume, block()), context)
        self.assert_code(Code.ALREADY_EXISTS, "CreateVolume", name="kept", capacity_range=size_range(),
                         volume_capabilities=[block()])


    def test_a_node_has_no_more_volumes_than_it_may(self):
        limited = self.own_driver("--mode=all", "--max-volumes=2")
        self.assertEqual(limited.NodeGetInfo().max_volumes_per_node, 2)
        volumes = [self.create(f"many-{i}") for i in range(3)]
        fields = [dict(volume_id=v, node_id=self.node, volume_capability=block()) for v in volumes]
        for one in fields[:2]:
            limited.ControllerPublishVolume(**one)
        code, said = limited.code("ControllerPublishVolume", **fields[2])
        self.assertEqual(code, Code.RESOURCE_EXHAUSTED, said)
        self.assertIn(self.node, said)
        self.assertFalse(self.driver.ControllerGetVolume(volume_id=volumes[2]).status.published_node_ids, "nothing is half-published")
        # One that is there already is not one more.
        limited.ControllerPublishVolume(**fields[0])
        limited.ControllerUnpublishVolume(volume_id=volumes[0], node_id=self.node)
        limited.ControllerPublishVolume(**fields[2])


class CsiModeTest(CsiCase):
    """What a driver of one mode does not serve is UNIMPLEMENTED; who it is it says in any."""

    def calls_of(self, service):
        (found,) = (s for s in pb.DESCRIPTOR.services_by_name.values() if s.name == service)
        return [method.name for method in found.methods]

    def test_a_controller_and_a_node_serve_each_its_own_and_none_of_the_others(self):
        plain = self.driver.GetPluginInfo(), self.driver.GetPluginCapabilities(), self.driver.Probe()
        for mode, own, others in (("controller", "Controller", "Node"), ("node", "Node", "Controller")):
            driver = self.own_driver(f"--mode={mode}")
            self.assertEqual((driver.GetPluginInfo(), driver.GetPluginCapabilities(), driver.Probe()), plain)
            for method in self.calls_of(others):
                with self.subTest(mode=mode, method=method):
                    self.assertEqual(driver.code(method)[0], Code.UNIMPLEMENTED)
            for method in self.calls_of(own):
                with self.subTest(mode=mode, method=method):
                    # Asked for nothing, each says what is missing, or answers.
                    missing = {OK, Code.INVALID_ARGUMENT} if method != "ControllerModifyVolume" else {Code.UNIMPLEMENTED}
                    self.assertIn(driver.code(method)[0], missing)


@unittest.skipIf(why_no_block_device(), why_no_block_device() or "")
class CsiSecretsTest(CsiCase):
    """Weir wants no secrets; those that a class names come all the same, in good calls and in bad ones."""

    def test_secrets_are_in_no_log_no_message_and_no_attribute(self):
        secret = "hunter2-" + os.urandom(8).hex()
        secrets = {f"key-{secret}": f"value-{secret}"}
        capability = mount()
        said = []

        def call(method, **fields):
            said.append(self.driver.code(method, secrets=secrets, **fields))
            return said[-1][0]

        volume = self.create("secret", capability, secrets=secrets)
        ids = dict(volume_id=volume)
        one = dict(capacity_range=size_range(), volume_capabilities=[capability])
        self.assertEqual(call("CreateVolume", name="secret", **one), OK)
        self.assertEqual(call("CreateVolume", name="secret", parameters={"replicas": "1"}, **one), Code.ALREADY_EXISTS)
        self.assertEqual(call("CreateVolume", name="s", parameters={"color": "red"}, **one), Code.INVALID_ARGUMENT)
        self.assertEqual(call("ControllerPublishVolume", node_id="absent", volume_capability=capability, **ids), Code.NOT_FOUND)
        context = self.publish_to_node(volume, capability)
        there = dict(ids, publish_context=context, volume_capability=capability, staging_target_path=self.path("staging"))
        self.assertEqual(call("NodeStageVolume", **there), Code.FAILED_PRECONDITION)
        self.stage(volume, capability, context, secrets=secrets)
        self.assertEqual(call("NodePublishVolume", target_path=self.path("absent/target"), **there), Code.FAILED_PRECONDITION)
        self.assertEqual(call("NodePublishVolume", target_path=self.path("target"), **there), OK)
        self.addCleanup(self.driver.NodeUnpublishVolume, target_path=self.path("target"), **ids)
        self.assertEqual(call("ControllerExpandVolume", capacity_range=size_range(1, MIB), **ids), Code.OUT_OF_RANGE)
        self.assertEqual(call("NodeExpandVolume", volume_path=self.path("target"), capacity_range=size_range(2 * SIZE), **ids),
                         Code.OUT_OF_RANGE)
        self.assertEqual(call("CreateSnapshot", name="s", source_volume_id=volume), OK)
        self.assertEqual(call("CreateSnapshot", name="s", source_volume_id="absent"), Code.ALREADY_EXISTS)
        self.assertEqual(call("DeleteSnapshot", snapshot_id=f"{volume}@s"), OK)
        self.assertEqual(call("DeleteVolume", **ids), Code.FAILED_PRECONDITION)
        logs = self.cluster.log("csi")
        self.assertIn("NodeStageVolume done", logs, "the log is there to be looked at")
        for root, _folders, names in os.walk(os.path.join(self.cluster.dir, "csi-state")):
            for name in names:
                if name == "log":
                    with open(os.path.join(root, name)) as f:
                        logs += f.read()
        logs += self.cluster.log("volume") + self.cluster.metrics("csi")
        logs += self.cluster.weirctl("volume", "show", volume, "--output=json").stdout + str(said)
        self.assertNotIn(secret, logs)


@unittest.skipIf(why_no_block_device(), why_no_block_device() or "")
class CsiNodeTest(CsiCase):
    def setUp(self):
        super().setUp()
        self.addCleanup(lambda: wait_until(lambda: not processes("--log=" + os.path.join(self.cluster.dir, "csi-state")), 10,
                                           "what served the devices has ended"))

    def test_a_block_volume_is_a_device_and_keeps_what_is_written(self):
        volume, target = self.use("block", block())
        run("fio", "--name=v", f"--filename={target}", "--rw=randwrite", "--bs=4k", "--direct=1", "--ioengine=libaio",
            "--iodepth=16", "--size=16M", "--verify=crc32c", "--do_verify=1", "--verify_fatal=1", "--verify_state_save=0")
        self.assertEqual(int(run("blockdev", "--getsize64", target).stdout), SIZE)
        self.assertEqual(run("blockdev", "--getss", target).stdout.strip(), "4096")
        with open(target, "wb") as f:
            f.write(b"weir" * 1024)
            f.flush()
            os.fsync(f.fileno())
        stats = self.driver.NodeGetVolumeStats(volume_id=volume, volume_path=target)
        self.assertEqual([(u.unit, u.total) for u in stats.usage], [(pb.VolumeUsage.BYTES, SIZE)])
        self.assertFalse(stats.volume_condition.abnormal, stats.volume_condition.message)
        self.assert_code(Code.NOT_FOUND, "NodeGetVolumeStats", volume_id=volume, volume_path=self.folder)
        self.end_use(volume)
        self.assertFalse(os.path.lexists(target))
        context = self.publish_to_node(volume, block())
        self.stage(volume, block(), context)
        self.publish(volume, block(), context)
        with open(target, "rb") as f:
            self.assertEqual(f.read(4096), b"weir" * 1024)
        self.assert_code(Code.FAILED_PRECONDITION, "NodeUnstageVolume", volume_id=volume, staging_target_path=self.path("staging"))

    def test_file_systems_are_made_once_and_mounted_with_their_flags(self):
        for fs_type, size in (("ext4", SIZE), ("xfs", 320 * MIB)):
            with self.subTest(fs_type):
                capability = mount(fs_type, flags=["noatime"])
                volume, target = self.use(f"fs-{fs_type}", capability, size)
                found = run("findmnt", "-n", "-o", "FSTYPE,OPTIONS", self.path("staging")).stdout
                self.assertIn(fs_type, found)
                self.assertIn("noatime", found)
                with open(os.path.join(target, "file"), "w") as f:
                    f.write("kept")
                usage = {u.unit: u for u in self.driver.NodeGetVolumeStats(volume_id=volume, volume_path=target).usage}
                self.assertGreater(usage[pb.VolumeUsage.BYTES].available, 0)
                self.assertGreater(usage[pb.VolumeUsage.INODES].total, 0)
                run("fstrim", target)
                self.end_use(volume)
                self.assertFalse(os.path.exists(target))
                other = mount("xfs" if fs_type == "ext4" else "ext4")
                context = self.publish_to_node(volume, other)
                self.assert_code(Code.FAILED_PRECONDITION, "NodeStageVolume", volume_id=volume, publish_context=context,
                                 staging_target_path=self.path("staging"), volume_capability=other)
                self.driver.ControllerUnpublishVolume(volume_id=volume, node_id=self.node)
                context = self.publish_to_node(volume, capability)
                self.stage(volume, capability, context)
                self.publish(volume, capability, context)
                with open(os.path.join(target, "file")) as f:
                    self.assertEqual(f.read(), "kept")
                self.end_use(volume)

    def test_staging_is_repeatable_and_otherwise_refused(self):
        volume = self.create("staged", mount())
        self.assert_code(Code.FAILED_PRECONDITION, "NodeStageVolume", volume_id=volume, volume_capability=mount(),
                         staging_target_path=self.path("staging", make=True))  # not published to this node
        context = self.publish_to_node(volume, mount())
        self.assert_code(Code.FAILED_PRECONDITION, "NodeStageVolume", volume_id=volume, publish_context=context,
                         staging_target_path=self.path("absent"), volume_capability=mount())
        fields = self.stage(volume, mount(), context)
        self.driver.NodeStageVolume(**fields)
        self.assertEqual(len(loop_devices(self.cluster.dir)), 1)
        for other in (dict(volume_capability=block()), dict(volume_capability=mount(flags=["noatime"])),
                      dict(staging_target_path=self.path("other", make=True))):
            self.assert_code(Code.ALREADY_EXISTS, "NodeStageVolume", **{**fields, **other})
        self.assert_code(Code.FAILED_PRECONDITION, "NodeStageVolume",
                         **{**fields, "volume_capability": mount(mode=Mode.MULTI_NODE_MULTI_WRITER)})
        # Staged elsewhere than this asks for: nothing to do.
        self.driver.NodeUnstageVolume(volume_id=volume, staging_target_path=self.path("other"))
        self.assertEqual(len(loop_devices(self.cluster.dir)), 1)
        for _ in range(2):
            self.driver.NodeUnstageVolume(volume_id=volume, staging_target_path=self.path("staging"))
        self.assertEqual(loop_devices(self.cluster.dir), [])

    def test_a_stage_that_fails_leaves_nothing(self):
        wrong = mount(flags=["no-such-flag"])
        volume = self.create("failing", mount())
        context = self.publish_to_node(volume, wrong)
        said = self.assert_code(Code.INTERNAL, "NodeStageVolume", volume_id=volume, publish_context=context,
                                staging_target_path=self.path("staging", make=True), volume_capability=wrong)
        self.assertIn("mount", said)
        self.assertEqual(loop_devices(self.cluster.dir), [])

    def test_publishing_on_the_node_is_repeatable_and_otherwise_refused(self):
        for make in (mount, block):
            with self.subTest(make.__name__):
                volume = self.create(f"paths-{make.__name__}", make())
                context = self.publish_to_node(volume, make())
                early = dict(volume_id=volume, publish_context=context, volume_capability=make(),
                             staging_target_path=self.path("staging", make=True), target_path=self.path("target"))
                self.assert_code(Code.FAILED_PRECONDITION, "NodePublishVolume", **early)
                self.assert_code(Code.FAILED_PRECONDITION, "NodePublishVolume", **{**early, "staging_target_path": ""})
                self.stage(volume, make(), context)
                fields = self.publish(volume, make(), context)
                self.driver.NodePublishVolume(**fields)
                self.assert_code(Code.ALREADY_EXISTS, "NodePublishVolume", **{**fields, "readonly": True})
                self.assert_code(Code.ALREADY_EXISTS, "NodePublishVolume",
                                 **{**fields, "volume_capability": make(mode=Mode.SINGLE_NODE_SINGLE_WRITER)})
                self.assert_code(Code.FAILED_PRECONDITION, "NodePublishVolume", **{**fields, "target_path": self.path("two")})
                self.driver.NodeUnpublishVolume(volume_id=volume, target_path=self.path("target"))
                self.driver.NodeUnpublishVolume(volume_id=volume, target_path=self.path("target"))
                self.assert_code(Code.FAILED_PRECONDITION, "NodePublishVolume",
                                 **{**fields, "target_path": self.path("absent/target")})
                self.driver.NodeUnstageVolume(volume_id=volume, staging_target_path=self.path("staging"))

    def test_several_writers_of_one_node_have_several_paths_one_of_them_read_only(self):
        for make in (mount, block):
            with self.subTest(make.__name__):
                several = make(mode=Mode.SINGLE_NODE_MULTI_WRITER)
                volume = self.create(f"several-{make.__name__}", several)
                context = self.publish_to_node(volume, several)
                self.stage(volume, several, context)
                self.publish(volume, several, context, "one")
                fields = self.publish(volume, several, context, "two", readonly=True)
                self.driver.NodePublishVolume(**fields)
                self.assert_code(Code.ALREADY_EXISTS, "NodePublishVolume", **{**fields, "readonly": False})
                writable, read_only = (self.path(p + ("/file" if make is mount else "")) for p in ("one", "two"))
                with open(writable, "wb") as f:
                    f.write(b"x" * 4096)
                    f.flush()
                    os.fsync(f.fileno())
                with open(read_only, "rb") as f:
                    self.assertEqual(f.read(4096), b"x" * 4096)
                with self.assertRaises(OSError), open(read_only, "r+b", buffering=0) as f:
                    f.write(bytes(4096))
                self.driver.NodeUnpublishVolume(volume_id=volume, target_path=self.path("one"))
                with open(read_only, "rb") as f:
                    self.assertEqual(f.read(1), b"x")
                self.driver.NodeUnpublishVolume(volume_id=volume, target_path=self.path("two"))
                self.driver.NodeUnstageVolume(volume_id=volume, staging_target_path=self.path("staging"))
                self.assertEqual(loop_devices(self.cluster.dir), [])

    def test_published_read_only_by_the_controller_nothing_can_write(self):
        volume, target = self.use("read-only", mount())
        with open(os.path.join(target, "file"), "w") as f:
            f.write("kept")
        self.end_use(volume)
        context = self.publish_to_node(volume, mount(), readonly=True)
        self.stage(volume, mount(), context)
        self.publish(volume, mount(), context, readonly=True)
        with open(os.path.join(target, "file")) as f:
            self.assertEqual(f.read(), "kept")
        with self.assertRaises(OSError):
            open(os.path.join(target, "other"), "w")
        device = run("findmnt", "-n", "-o", "SOURCE", self.path("staging")).stdout.strip()
        self.assertEqual(run("blockdev", "--getro", device).stdout.strip(), "1")
        self.end_use(volume)
        empty = self.create("read-only-empty", mount())
        context = self.publish_to_node(empty, mount(), readonly=True)
        self.assert_code(Code.FAILED_PRECONDITION, "NodeStageVolume", volume_id=empty, publish_context=context,
                         staging_target_path=self.path("staging"), volume_capability=mount())

    def test_a_volume_for_one_reader_is_read_and_never_written(self):
        for make in (mount, block):
            with self.subTest(make.__name__):
                volume, target = self.use(f"reader-{make.__name__}", make())
                file = target if make is block else os.path.join(target, "file")
                with open(file, "wb") as f:
                    f.write(b"x" * 4096)
                    f.flush()
                    os.fsync(f.fileno())
                self.end_use(volume)
                reader = make(mode=Mode.SINGLE_NODE_READER_ONLY)
                context = self.publish_to_node(volume, reader)
                self.assertEqual(context, {READ_ONLY_KEY: "true"})
                self.stage(volume, reader, context)
                fields = self.publish(volume, reader, context)
                self.driver.NodePublishVolume(**fields)
                self.assert_code(Code.FAILED_PRECONDITION, "NodePublishVolume", **{**fields, "target_path": self.path("two")})
                with open(file, "rb") as f:
                    self.assertEqual(f.read(4096), b"x" * 4096)
                with self.assertRaises(OSError), open(file, "r+b", buffering=0) as f:
                    f.write(bytes(4096))
                (device,) = loop_devices(self.cluster.dir)
                self.assertEqual(run("blockdev", "--getro", "/dev/" + device).stdout.strip(), "1")
                self.end_use(volume)

    def test_a_file_system_that_is_mounted_read_only_does_not_grow_and_does_once_it_may_be_written(self):
        for fs_type, size in (("ext4", SIZE), ("xfs", 320 * MIB)):
            with self.subTest(fs_type):
                capability, larger = mount(fs_type), size + 64 * MIB
                volume, target = self.use(f"small-{fs_type}", capability, size)
                before = os.statvfs(target).f_blocks
                self.end_use(volume)
                context = self.publish_to_node(volume, capability, readonly=True)
                self.stage(volume, capability, context)
                self.publish(volume, capability, context, readonly=True)
                ask = dict(volume_id=volume, volume_path=target)
                # As large as it should be: there is nothing to do.
                for wanted in (None, size_range(size)):
                    self.assertEqual(self.driver.NodeExpandVolume(capacity_range=wanted, **ask).capacity_bytes, size)
                self.driver.ControllerExpandVolume(volume_id=volume, capacity_range=size_range(larger))
                for _ in range(2):
                    said = self.assert_code(Code.FAILED_PRECONDITION, "NodeExpandVolume", capacity_range=size_range(larger), **ask)
                    self.assertIn("read-only", said)
                self.assertEqual(os.statvfs(target).f_blocks, before)
                self.end_use(volume)
                context = self.publish_to_node(volume, capability)
                self.stage(volume, capability, context)
                self.publish(volume, capability, context)
                self.assertGreater(os.statvfs(target).f_blocks, before)
                self.end_use(volume)

    def test_what_has_a_file_open_keeps_its_volume_until_it_closes_it(self):
        for make in (mount, block):
            with self.subTest(make.__name__):
                volume, target = self.use(f"busy-{make.__name__}", make())
                paths = dict(volume_id=volume, target_path=target), dict(volume_id=volume, staging_target_path=self.path("staging"))
                with open(target if make is block else os.path.join(target, "file"), "wb", buffering=0) as f:
                    said = self.assert_code(Code.FAILED_PRECONDITION, "NodeUnpublishVolume", **paths[0])
                    self.assertIn("in use", said)
                    self.assert_code(Code.FAILED_PRECONDITION, "NodeUnstageVolume", **paths[1])
                    # It works on as if nothing had been.
                    f.write(b"y" * 4096)
                    os.fsync(f.fileno())
                    self.assertEqual(os.path.exists(target), True)
                self.driver.NodeUnpublishVolume(**paths[0])
                self.assertFalse(os.path.lexists(target))
                # Staged, with something open below the staging path or on the device itself.
                (device,) = loop_devices(self.cluster.dir)
                held = "/dev/" + device if make is block else os.path.join(self.path("staging"), "file")
                with open(held, "rb") as f:
                    said = self.assert_code(Code.FAILED_PRECONDITION, "NodeUnstageVolume", **paths[1])
                    self.assertIn("in use", said)
                    self.assertEqual(f.read(4096), b"y" * 4096)
                self.driver.NodeUnstageVolume(**paths[1])
                self.assertEqual((loop_devices(self.cluster.dir), mounts(self.folder)), ([], []))
                self.driver.ControllerUnpublishVolume(volume_id=volume, node_id=self.node)

    def test_a_volume_grows_while_it_is_used(self):
        for capability, size in ((block(), SIZE), (mount("ext4"), SIZE), (mount("xfs"), 320 * MIB)):
            with self.subTest(str(capability.WhichOneof("access_type")) + capability.mount.fs_type):
                larger = size + 64 * MIB
                volume, target = self.use(f"grow-{capability.mount.fs_type or 'block'}", capability, size)
                self.assert_code(Code.OUT_OF_RANGE, "NodeExpandVolume", volume_id=volume, volume_path=target,
                                 capacity_range=size_range(larger))
                before = self.driver.NodeGetVolumeStats(volume_id=volume, volume_path=target).usage[0].total
                for _ in range(2):
                    grown = self.driver.ControllerExpandVolume(volume_id=volume, capacity_range=size_range(larger, larger))
                    self.assertEqual((grown.capacity_bytes, grown.node_expansion_required), (larger, True))
                ask = dict(volume_id=volume, volume_path=target, capacity_range=size_range(larger))
                if capability.mount.fs_type == "ext4" and not can_grow_mounted_ext4():
                    # Then it grows when it is staged anew.
                    self.assert_code(Code.FAILED_PRECONDITION, "NodeExpandVolume", **ask)
                    self.end_use(volume)
                    context = self.publish_to_node(volume, capability)
                    self.stage(volume, capability, context)
                    self.publish(volume, capability, context)
                for _ in range(2):
                    self.assertEqual(self.driver.NodeExpandVolume(**ask).capacity_bytes, larger)
                total = self.driver.NodeGetVolumeStats(volume_id=volume, volume_path=target).usage[0].total
                self.assertGreater(total, before)
                if capability.HasField("mount"):
                    self.write_and_sync(os.path.join(target, "file"), size + 16 * MIB if size == SIZE else MIB)
                self.assert_code(Code.OUT_OF_RANGE, "ControllerExpandVolume", volume_id=volume, capacity_range=size_range(1, size))
                self.assert_code(Code.INVALID_ARGUMENT, "ControllerExpandVolume", volume_id=volume,
                                 capacity_range=size_range(larger), volume_capability=block(Mode.MULTI_NODE_MULTI_WRITER))
                self.end_use(volume)
                # What has grown while nobody used it grows with its file system when it is staged.
                self.driver.ControllerExpandVolume(volume_id=volume, capacity_range=size_range(larger + 64 * MIB))
                context = self.publish_to_node(volume, capability)
                self.stage(volume, capability, context)
                self.publish(volume, capability, context)
                self.assertGreater(self.driver.NodeGetVolumeStats(volume_id=volume, volume_path=target).usage[0].total, total)
                self.end_use(volume)

    def write_and_sync(self, path, length):
        with open(path, "wb") as f:
            for _ in range(length // MIB):
                f.write(os.urandom(MIB))
            f.flush()
            os.fsync(f.fileno())

    def test_a_volume_and_its_copies_are_mounted_beside_each_other_and_go_their_own_ways(self):
        for fs_type, size in (("ext4", SIZE), ("xfs", 320 * MIB)):
            with self.subTest(fs_type):
                capability = mount(fs_type)
                volume, target = self.use(f"life-{fs_type}", capability, size)
                self.write_and_sync(os.path.join(target, "kept"), 4 * MIB)
                run("sync", "-f", target)
                snapshot = self.driver.CreateSnapshot(name=f"life-{fs_type}-snap", source_volume_id=volume).snapshot.snapshot_id
                self.write_and_sync(os.path.join(target, "later"), MIB)
                copies = []
                for name, source in (("restored", from_snapshot(snapshot)), ("cloned", from_volume(volume))):
                    copy = self.create(f"{name}-{fs_type}", capability, size + 64 * MIB, volume_content_source=source)
                    context = self.publish_to_node(copy, capability)
                    self.stage(copy, capability, context, f"staging-{name}")
                    self.publish(copy, capability, context, name, f"staging-{name}")
                    self.assertEqual(run("cmp", os.path.join(target, "kept"), self.path(f"{name}/kept")).returncode, 0)
                    self.assertGreater(os.statvfs(self.path(name)).f_blocks, os.statvfs(target).f_blocks, "it fills its volume")
                    copies.append((copy, name))
                self.assertFalse(os.path.exists(self.path("restored/later")), "what came after the snapshot is not in it")
                self.write_and_sync(self.path("restored/own"), MIB)
                self.assertFalse(os.path.exists(os.path.join(target, "own")))
                run("fstrim", target)
                for copy, name in copies:
                    self.driver.NodeUnpublishVolume(volume_id=copy, target_path=self.path(name))
                    self.driver.NodeUnstageVolume(volume_id=copy, staging_target_path=self.path(f"staging-{name}"))
                    self.driver.ControllerUnpublishVolume(volume_id=copy, node_id=self.node)
                    self.driver.DeleteVolume(volume_id=copy)
                self.driver.DeleteSnapshot(snapshot_id=snapshot)
                self.end_use(volume)
                self.driver.DeleteVolume(volume_id=volume)

    def test_a_group_gets_what_is_there_and_what_comes(self):
        capability = mount(group="4321")
        volume, target = self.use("group", capability)
        os.makedirs(os.path.join(target, "made"))
        for path in (target, os.path.join(target, "made")):
            self.assertEqual(os.stat(path).st_gid, 4321)
        self.assertEqual(os.stat(target).st_mode & 0o2070, 0o2070)
        self.end_use(volume)

    def test_what_is_at_a_path_and_not_ours_stays(self):
        volume = self.create("careful", block())
        os.makedirs(self.path("target/data"))
        self.assertNotEqual(self.driver.code("NodeUnpublishVolume", volume_id=volume, target_path=self.path("target"))[0], OK)
        self.assertTrue(os.path.isdir(self.path("target/data")))

    def test_a_device_that_is_served_no_more_is_abnormal_and_staged_anew(self):
        volume, target = self.use("orphan", block())
        for pid in processes(f"--volume={volume}"):
            os.kill(pid, 9)
        wait_until(lambda: not processes(f"--volume={volume}"), 10, "weir-fuse is gone")
        self.assertTrue(self.driver.NodeGetVolumeStats(volume_id=volume, volume_path=target).volume_condition.abnormal)
        with self.assertRaises(OSError, msg="its users get errors, and can be ended"), open(target, "rb") as f:
            f.read(4096)
        self.driver.NodeUnpublishVolume(volume_id=volume, target_path=target)
        context = self.publish_to_node(volume, block())
        self.stage(volume, block(), context)
        self.publish(volume, block(), context)
        with open(target, "rb") as f:
            self.assertEqual(f.read(4096), bytes(4096))
        self.end_use(volume)


class CsiUnlabelledTest(CsiCase):
    up_flags = ("--csi", "--size=64MiB")

    def test_a_node_without_labels_is_known_by_its_name(self):
        place = self.driver.NodeGetInfo().accessible_topology
        self.assertEqual(dict(place.segments), {"csi.weir.dev/node": self.node})
        self.create("placed", accessibility_requirements=pb.TopologyRequirement(requisite=[place]))
        self.assertGreater(self.driver.GetCapacity(accessible_topology=place).available_capacity, 0)
        self.assert_code(Code.RESOURCE_EXHAUSTED, "CreateVolume", name="x", volume_capabilities=[block()],
                         accessibility_requirements=pb.TopologyRequirement(
                             requisite=[pb.Topology(segments={"csi.weir.dev/node": "another"})]))


@unittest.skipIf(why_no_block_device(), why_no_block_device() or "")
class CsiDownTest(CsiCase):
    def test_a_cluster_that_goes_down_takes_with_it_what_is_mounted(self):
        volume, target = self.use("mounted", mount())
        with open(os.path.join(target, "file"), "w") as f:
            f.write("kept")
        self.cluster.ops("down")
        self.assertEqual((loop_devices(self.cluster.dir), mounts(self.folder), mounts(self.cluster.dir)), ([], [], []))
        self.assertEqual(processes("--volume=" + volume), [])
        self.assertFalse(os.path.exists(os.path.join(self.cluster.dir, "csi", "csi.sock")))
        self.cluster.up()
        self.driver.reconnect()
        context = self.publish_to_node(volume, mount())
        self.stage(volume, mount(), context)
        self.publish(volume, mount(), context)
        with open(os.path.join(target, "file")) as f:
            self.assertEqual(f.read(), "kept")

    def test_it_does_not_wait_long_for_a_frontend_that_is_away(self):
        volume, target = self.use("stranded", mount())
        with open(os.path.join(target, "dirty"), "wb") as f:
            f.write(b"d" * 8 * MIB)
        self.cluster.kill9("volume")
        begun = time.monotonic()
        self.cluster.ops("down")
        self.assertLess(time.monotonic() - begun, 90, "those that serve would wait for 5 minutes")
        self.assertEqual((loop_devices(self.cluster.dir), mounts(self.folder), mounts(self.cluster.dir)), ([], [], []))
        self.assertEqual(processes("--volume=" + volume), [])
        self.assertFalse(os.path.exists(os.path.join(self.cluster.dir, "csi-state")))
        self.cluster.up()
        self.driver.reconnect()


if __name__ == "__main__":
    unittest.main()
