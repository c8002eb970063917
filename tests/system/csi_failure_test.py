"""Calls of the CSI driver that fail or are cut off half-way leave nothing behind, and the same call again works."""

import contextlib
import os
import shutil
import signal
import unittest

import grpc

from csi_case import CsiCase, size_range
from csi_driver import OK, block, mount, mounts
from harness import wait_until
from mounted import why_no_block_device

Code = grpc.StatusCode
TOOLS = ("weir-fuse", "losetup", "blkid", "mkfs.ext4", "mount")
DEADLINE_SECONDS = 2


class Tools:
    """A folder for PATH with the node's tools, one of which can be told to fail, or to stop before or after its work."""

    def __init__(self, folder, weir_fuse):
        os.makedirs(folder)
        self.folder = folder
        for name in TOOLS:
            real = weir_fuse if name == "weir-fuse" else shutil.which(name)
            concerned = '[ "$1" = -f ]' if name == "losetup" else "true"  # it is asked to remove them as well
            path = os.path.join(folder, name)
            with open(path, "w") as f:
                f.write(f"""#!/bin/sh
{concerned} || exec {real} "$@"
at() {{ [ -e {path}.$1 ]; }}
stop() {{ echo $$ > {folder}/pid && mv {folder}/pid {folder}/stopped && exec sleep 1000; }}
at fails && echo "{name} fails as it was told" >&2 && exit 1
at before && stop
{real} "$@"
code=$?
at after && stop
exit $code
""")
            os.chmod(path, 0o755)

    def tell(self, name, what):
        """From now on until calm()."""
        open(os.path.join(self.folder, f"{name}.{what}"), "w").close()

    def calm(self):
        for name in os.listdir(self.folder):
            if name == "stopped" or name.endswith((".fails", ".before", ".after")):
                os.unlink(os.path.join(self.folder, name))

    def stopped(self):
        """The pid of the tool that has stopped where it was told to; None: not there yet."""
        try:
            with open(os.path.join(self.folder, "stopped")) as f:
                return int(f.read())
        except FileNotFoundError:
            return None


@unittest.skipIf(why_no_block_device(), why_no_block_device() or "")
class CsiFailureTest(CsiCase):
    def setUp(self):
        super().setUp()
        binaries = self.cluster.env["BIN"]
        self.tools = Tools(self.path("tools"), os.path.join(binaries, "weir-fuse"))
        self.own = self.own_driver("--fuse-program=" + self.path("tools/weir-fuse"),
                                   PATH=self.path("tools") + ":" + os.environ["PATH"])

    @contextlib.contextmanager
    def published(self, name, capability):
        """NodeStageVolume's words for a volume that is this node's meanwhile."""
        volume = self.driver.CreateVolume(name=name, capacity_range=size_range(), volume_capabilities=[capability]).volume.volume_id
        fields = dict(volume_id=volume, volume_capability=capability, publish_context=self.publish_to_node(volume, capability),
                      staging_target_path=self.path("staging", make=True))
        try:
            yield fields
        finally:
            # Whatever has happened, the next volume begins clean.
            self.tools.calm()
            self.own.NodeUnpublishVolume(volume_id=volume, target_path=self.path("target"))
            self.unstage(fields)
            self.driver.ControllerUnpublishVolume(volume_id=volume)
            self.driver.DeleteVolume(volume_id=volume)

    def unstage(self, fields):
        self.own.NodeUnstageVolume(**{key: fields[key] for key in ("volume_id", "staging_target_path")})

    def leftovers(self):
        pid = self.tools.stopped()
        stopped = [f"pid {pid}"] if pid and os.path.exists(f"/proc/{pid}") else []
        return self.own.leftovers() + mounts(self.path("staging")) + os.listdir(self.path("staging")) + stopped

    def assert_nothing_left(self):
        try:
            wait_until(lambda: not self.leftovers(), 10, "nothing is left")
        except AssertionError:
            self.assertEqual(self.leftovers(), [])

    def staged(self, fields):
        code, said = self.own.code("NodeStageVolume", **fields)
        self.assertIn(code, (OK, Code.ABORTED), said)
        return code == OK

    def assert_works(self, fields):
        """The same call again, as often as it says to come again; then what it is for."""
        wait_until(lambda: self.staged(fields), 20, "it is staged")
        self.own.NodePublishVolume(target_path=self.path("target"), **fields)
        file = self.path("target" if fields["volume_capability"].HasField("block") else "target/file")
        with open(file, "wb") as f:
            f.write(b"x" * 4096)
            f.flush()
            os.fsync(f.fileno())
        self.own.NodeUnpublishVolume(volume_id=fields["volume_id"], target_path=self.path("target"))
        self.unstage(fields)
        self.assert_nothing_left()

    def each(self, whens, check):
        """check(tool, when, fields) for each tool that staging needs, each in a sub-test with a volume of its own."""
        for capability in (mount(), block()):
            kind = capability.WhichOneof("access_type")
            for tool in TOOLS if kind == "mount" else TOOLS[:2]:
                for when in whens:
                    with self.subTest(tool=tool, when=when, kind=kind), \
                         self.published(f"{when}-{tool}-{kind}", capability) as fields:
                        check(tool, when, fields)

    def test_a_tool_that_fails_is_named_and_leaves_nothing(self):
        def check(tool, when, fields):
            self.tools.tell(tool, when)
            for _ in range(2):
                code, said = self.own.code("NodeStageVolume", **fields)
                self.assertEqual(code, Code.INTERNAL, said)
                self.assertIn(f"{tool} fails as it was told", said)
                self.assert_nothing_left()
            self.tools.calm()
            self.assert_works(fields)

        self.each(("fails",), check)

    def test_a_tool_that_hangs_is_ended_at_the_callers_deadline_and_leaves_nothing(self):
        def check(tool, when, fields):
            self.tools.tell(tool, when)
            code, said = self.own.code("NodeStageVolume", timeout=DEADLINE_SECONDS, **fields)
            self.assertEqual(code, Code.DEADLINE_EXCEEDED, said)
            self.assertTrue(self.tools.stopped(), "it has come so far")
            self.assert_nothing_left()
            self.tools.calm()
            self.assert_works(fields)

        self.each(("before", "after"), check)

    def stage_and_kill(self, fields, tool, when):
        """kill -9 of the driver while the tool has still to do its work, or has done it and not said so."""
        self.tools.tell(tool, when)
        call = self.own.start_call("NodeStageVolume", **fields)
        wait_until(self.tools.stopped, 20, f"{tool} is where it stops")
        self.own.kill9()
        self.assertEqual(call.code(), Code.UNAVAILABLE)
        os.kill(self.tools.stopped(), signal.SIGKILL)
        self.tools.calm()
        self.own.start()

    def test_a_driver_that_is_killed_while_it_stages_is_followed_by_one_that_goes_on(self):
        def check(tool, when, fields):
            self.stage_and_kill(fields, tool, when)
            self.assert_works(fields)

        self.each(("before", "after"), check)

    def test_a_driver_that_is_killed_while_it_stages_is_followed_by_one_that_clears_up(self):
        def check(tool, when, fields):
            self.stage_and_kill(fields, tool, when)
            self.unstage(fields)
            self.assert_nothing_left()

        self.each(("before", "after"), check)


if __name__ == "__main__":
    unittest.main()
