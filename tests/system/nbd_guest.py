"""Run by nbd_kernel_test in a virtual machine, as root, with a kernel that has modules: the CSI driver attaches volumes by the kernel's NBD client.

    nbd_guest.py MODULES    a folder with the modules of fuse-loop's kernel and of nbd, insmod beside them
"""

import glob
import json
import mmap
import os
import signal
import subprocess
import sys
import tempfile
import time
import unittest

import grpc

from csi_case import SIZE, CsiCase, size_range
from csi_driver import MIB, Driver, block, fio, loop_devices, mount, mounts, processes
from harness import run, wait_until

MODULES = sys.argv[1]
PATIENCE_SECONDS = 90


def load_module(name):
    run(os.path.join(MODULES, "busybox"), "insmod", os.path.join(MODULES, name + ".ko"))


def backends():
    """device -> what it is, of those that are connected."""
    found = {}
    for path in glob.glob("/sys/block/nbd*/backend"):
        try:
            with open(path) as f:
                found[path.split("/")[3]] = f.read().strip()
        except OSError:
            pass
    return found


def queue(device, name):
    with open(f"/sys/block/{device}/queue/{name}") as f:
        return f.read().strip()


def parent_of(pid):
    with open(f"/proc/{pid}/stat") as f:
        return int(f.read().rsplit(")", 1)[1].split()[1])


class PatientDriver(Driver):
    """As the kubelet does, it calls again what was UNAVAILABLE: on an emulated machine a frontend may take longer than a driver waits for it."""

    def __getattr__(self, name):
        once = super().__getattr__(name)

        def call(**fields):
            deadline = time.monotonic() + PATIENCE_SECONDS
            while True:
                try:
                    return once(**fields)
                except grpc.RpcError as error:
                    if error.code() != grpc.StatusCode.UNAVAILABLE or time.monotonic() > deadline:
                        raise
                time.sleep(1)

        return call


class NbdCase(CsiCase):
    driver_type = PatientDriver

    def setUp(self):
        super().setUp()
        self.addCleanup(self.nothing_is_left)

    def nothing_is_left(self):
        state = os.path.join(self.cluster.dir, "csi-state")
        wait_until(lambda: not backends() and not self.weir_nbd(), 20, "no device and no weir-nbd is left")
        files = [os.path.join(root, name) for root, folders, names in os.walk(state) for name in folders + names]
        self.assertEqual(files, [])

    def weir_nbd(self):
        """(keeper, server) of the one device, or some of them; a server's parent is its keeper."""
        pids = [pid for pid in processes("--log=" + os.path.join(self.cluster.dir, "csi-state"))]
        return sorted(pids, key=lambda pid: parent_of(pid) in pids)

    def device_of(self, volume):
        (device,) = [name for name, backend in backends().items() if backend.startswith(f"weir:{volume}:")]
        return device

    def end_what_serves(self):
        """Both processes; the keeper first, which would start another server."""
        for pid in self.weir_nbd():
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not self.weir_nbd(), 10, "nobody serves it")

    def condition_is_gone(self, volume, target):
        condition = self.driver.NodeGetVolumeStats(volume_id=volume, volume_path=target).volume_condition
        self.assertTrue(condition.abnormal)
        self.assertIn("is gone", condition.message)

    def finished(self, load):
        out, err = load.communicate(timeout=240)
        self.assertEqual(load.returncode, 0, out + err)
        job = json.loads(out)["jobs"][0]
        self.assertEqual(job["error"], 0, out)
        return max(job["write"]["clat_ns"]["max"], job["sync"]["lat_ns"]["max"]) / 1e9, job["write"]["iops"]

    def begin(self, target, seconds):
        load = fio(target, seconds, "--size=32M")
        self.addCleanup(load.wait)
        self.addCleanup(load.kill)
        device = next(iter(backends()))
        begun = self.written(device)
        wait_until(lambda: self.written(device) > begun + 400, 60, "fio writes")
        return load

    def written(self, device):
        with open(f"/sys/block/{device}/stat") as f:
            return int(f.read().split()[6])


# Names decide the order.
class BeforeTheModuleTest(CsiCase):
    driver_type = PatientDriver

    def test_a_without_the_module_auto_takes_a_loop_device(self):
        said = run(os.path.join(self.cluster.env["BIN"], "weir-nbd"), f"--frontend={self.cluster.env['VOLUME_ADDR']}", "--volume=demo",
                   check=False)
        self.assertEqual(said.returncode, 1)
        self.assertIn("modprobe nbd", said.stderr)
        volume, _ = self.use("loop", block())
        self.assertEqual(len(loop_devices(self.cluster.dir)), 1)
        # The module comes while it is in use: it stays what it is, and ends as it was made.
        load_module("nbd")
        self.restart_driver()
        self.end_use(volume)


class KernelNbdTest(NbdCase):
    def test_b_a_file_systems_life(self):
        begun = time.monotonic()
        volume, target = self.use("life", mount())
        print(f"staged and published in {time.monotonic() - begun:.1f} s", flush=True)
        device = self.device_of(volume)
        self.assertEqual(run("findmnt", "-n", "-o", "SOURCE", target).stdout.strip().split("[")[0], f"/dev/{device}")
        self.assertEqual([queue(device, n) for n in ("logical_block_size", "write_cache", "fua", "rotational")],
                         ["4096", "write back", "1", "0"])
        with open(os.path.join(target, "kept"), "w") as f:
            f.write("kept" * 100000)
            f.flush()
            os.fsync(f.fileno())

        load = self.begin(os.path.join(target, "file"), 12)
        for _ in range(2):
            self.restart_driver()
            fields = dict(volume_id=volume, volume_capability=mount(), staging_target_path=self.path("staging"),
                          publish_context=self.publish_to_node(volume, mount()))
            self.driver.NodeStageVolume(**fields)
            self.driver.NodePublishVolume(target_path=target, **fields)
        longest, iops = self.finished(load)
        print(f"driver killed twice: 0 errors, longest request {longest:.2f} s, {iops:.0f} writes/s", flush=True)

        load = self.begin(os.path.join(target, "file"), 15)
        self.cluster.kill9("volume")
        self.cluster.ops("start", "volume")
        longest, iops = self.finished(load)
        print(f"frontend killed: 0 errors, longest request {longest:.2f} s, {iops:.0f} writes/s", flush=True)

        self.driver.ControllerExpandVolume(volume_id=volume, capacity_range=size_range(2 * SIZE))
        grown = self.driver.NodeExpandVolume(volume_id=volume, volume_path=target, capacity_range=size_range(2 * SIZE)).capacity_bytes
        self.assertEqual(grown, 2 * SIZE)
        # A replica may have fallen behind when the frontend died.
        wait_until(lambda: not self.driver.NodeGetVolumeStats(volume_id=volume, volume_path=target).volume_condition.abnormal, 120,
                   "the volume is well again")
        stats = self.driver.NodeGetVolumeStats(volume_id=volume, volume_path=target)
        self.assertGreater(stats.usage[0].total, SIZE)
        run("fstrim", target)
        with open(os.path.join(target, "past-the-old-end"), "wb") as f:
            f.write(b"x" * (SIZE + 8 * MIB))
            f.flush()
            os.fsync(f.fileno())
        with open(os.path.join(target, "kept")) as f:
            self.assertEqual(f.read(), "kept" * 100000)
        self.driver.NodeUnpublishVolume(volume_id=volume, target_path=target)
        self.driver.NodeUnstageVolume(volume_id=volume, staging_target_path=self.path("staging"))
        self.nothing_is_left()
        # Anew, from the replicas.
        self.stage(volume, mount(), self.publish_to_node(volume, mount()))
        with open(os.path.join(self.path("staging"), "kept")) as f:
            self.assertEqual(f.read(), "kept" * 100000)

    def test_c_what_serves_dies_and_no_request_fails(self):
        volume, target = self.use("server", mount())
        load = self.begin(os.path.join(target, "file"), 20)
        keeper, server = self.weir_nbd()
        os.kill(server, signal.SIGKILL)
        wait_until(lambda: len(self.weir_nbd()) == 2 and server not in self.weir_nbd(), 60, "another one serves")
        longest, iops = self.finished(load)
        print(f"what serves the device killed: 0 errors, longest request {longest:.2f} s, {iops:.0f} writes/s", flush=True)
        # Together with its frontend.
        load = self.begin(os.path.join(target, "file"), 20)
        keeper, server = self.weir_nbd()
        os.kill(server, signal.SIGKILL)
        self.cluster.kill9("volume")
        self.cluster.ops("start", "volume")
        longest, iops = self.finished(load)
        print(f"and its frontend with it: 0 errors, longest request {longest:.2f} s, {iops:.0f} writes/s", flush=True)
        self.end_use(volume)

    def test_d_a_device_in_use_is_not_taken_away(self):
        volume, target = self.use("busy", block())
        device = self.device_of(volume)
        user = os.open(f"/dev/{device}", os.O_RDWR | os.O_DIRECT)
        try:
            self.driver.NodeUnpublishVolume(volume_id=volume, target_path=target)
            said = self.assert_code(grpc.StatusCode.FAILED_PRECONDITION, "NodeUnstageVolume", volume_id=volume,
                                    staging_target_path=self.path("staging"))
            self.assertIn("in use", said)
        finally:
            os.close(user)
        self.assertEqual(self.device_of(volume), device, "it did not end behind the driver's back")
        self.driver.NodeUnstageVolume(volume_id=volume, staging_target_path=self.path("staging"))
        self.assertEqual(backends(), {})

    def test_e_a_device_that_nobody_serves_any_more_is_staged_anew(self):
        volume, target = self.use("lost", block())
        device = self.device_of(volume)
        load = self.begin(target, 300)
        self.end_what_serves()
        self.condition_is_gone(volume, target)
        begun = time.monotonic()
        load.communicate(timeout=90)
        self.assertNotEqual(load.returncode, 0, "its requests have failed")
        print(f"what serves a raw block device and its keeper killed under load: all has failed after {time.monotonic() - begun:.1f} s", flush=True)
        # While it is published its number is not to become another volume's.
        self.assertEqual(self.device_of(volume), device)
        self.condition_is_gone(volume, target)
        with self.assertRaises(OSError), open(target, "rb") as f:
            f.read(4096)
        # Who answers with errors is ended too, and followed by another one.
        self.end_what_serves()
        self.condition_is_gone(volume, target)
        self.assertEqual(len(self.weir_nbd()), 2)
        self.end_use(volume)
        self.nothing_is_left()
        self.use("lost", block())
        # A driver that fails in the middle leaves nothing either: there is no such volume.
        said = run(os.path.join(self.cluster.env["BIN"], "weir-nbd"), f"--frontend={self.cluster.env['VOLUME_ADDR']}", "--volume=absent",
                   "--log=" + self.path("log"), check=False)
        self.assertEqual(said.returncode, 1)
        self.assertIn("absent", said.stderr)
        self.assertEqual(len(backends()), 1)

    def test_e_requests_that_nobody_will_answer_end_with_an_error(self):
        volume, target = self.use("stuck", mount())
        load = self.begin(os.path.join(target, "file"), 300)
        self.end_what_serves()
        # A pod that waits for an answer could not be ended; the kubelet asks about volumes all the time.
        self.condition_is_gone(volume, target)
        begun = time.monotonic()
        load.communicate(timeout=60)
        self.assertNotEqual(load.returncode, 0, "its requests have failed")
        print(f"what serves a mounted device and its keeper killed under load: all has failed after {time.monotonic() - begun:.1f} s", flush=True)
        self.end_use(volume)
        self.nothing_is_left()
        # Nobody has asked, and unmounting has much to write.
        volume, target = self.use("stuck", mount())
        with open(os.path.join(target, "dirty"), "wb") as f:
            f.write(b"d" * 8 * MIB)
        self.end_what_serves()
        begun = time.monotonic()
        self.end_use(volume)
        print(f"and unmounted with what was not written: after {time.monotonic() - begun:.1f} s", flush=True)
        self.nothing_is_left()
        self.use("stuck", mount())

    def test_e_writes_that_may_be_lost_are_errors_and_not_waited_for(self):
        volume, target = self.use("refused", mount())
        load = self.begin(os.path.join(target, "file"), 300)
        keeper, server = self.weir_nbd()
        os.kill(keeper, signal.SIGSTOP)
        os.kill(server, signal.SIGKILL)
        self.cluster.weirctl("volume", "detach", volume)
        os.kill(keeper, signal.SIGCONT)
        begun = time.monotonic()
        load.communicate(timeout=120)
        self.assertNotEqual(load.returncode, 0, "its requests have failed")
        print(f"no server may go on: all has failed after {time.monotonic() - begun:.1f} s", flush=True)
        self.condition_is_gone(volume, target)
        self.end_use(volume)
        self.nothing_is_left()

    def test_f_read_only_and_by_hand(self):
        self.cluster.weirctl("volume", "create", "hand", "--size=64MiB")
        program = os.path.join(self.cluster.env["BIN"], "weir-nbd")
        flags = (f"--frontend={self.cluster.env['VOLUME_ADDR']}", "--volume=hand", "--note=by-hand")
        config, log = os.path.join(tempfile.mkdtemp(), "config"), tempfile.TemporaryFile()
        with open(config, "w") as f:
            f.write("log_format=json\n")
        by_hand = subprocess.Popen([program, *flags, "--read_only", f"--config={config}"], stdout=subprocess.PIPE, stderr=log, text=True)
        device = by_hand.stdout.readline().strip()
        self.assertEqual(list(backends()), [os.path.basename(device)])
        self.assertRegex(backends()[os.path.basename(device)], "^weir:hand:by-hand:[0-9a-f]+$")
        self.assertEqual(run("blockdev", "--getro", device).stdout.strip(), "1")
        user = os.open(device, os.O_RDONLY)
        by_hand.send_signal(signal.SIGHUP)  # as of a terminal that is closed
        by_hand.terminate()
        time.sleep(1)
        self.assertIsNone(by_hand.poll(), "not while somebody has it open")
        # Of the process that serves, which the other one has told.
        self.assertRegex(os.pread(log.fileno(), 1 << 20, 0).decode(), r'(?m)^\{"time":.*"message":"SIGHUP: read ')
        os.close(user)
        self.assertEqual(by_hand.wait(20), 0)
        self.assertEqual(backends(), {})

    def test_g_a_device_made_by_hand_is_not_the_drivers(self):
        volume = self.create("repair", mount())
        context = self.publish_to_node(volume, mount())
        by_hand = subprocess.Popen([os.path.join(self.cluster.env["BIN"], "weir-nbd"), f"--frontend={self.cluster.env['VOLUME_ADDR']}",
                                    f"--volume={volume}"], stdout=subprocess.PIPE, text=True)
        device = by_hand.stdout.readline().strip()
        user = os.open(device, os.O_RDWR | os.O_DIRECT)
        fields = dict(volume_id=volume, staging_target_path=self.path("staging", make=True))
        said = self.assert_code(grpc.StatusCode.FAILED_PRECONDITION, "NodeStageVolume", volume_capability=mount(),
                                publish_context=context, **fields)
        self.assertIn(device, said)
        self.driver.NodeUnstageVolume(**fields)
        os.preadv(user, [mmap.mmap(-1, 4096)], 0)
        os.close(user)
        by_hand.terminate()
        self.assertEqual(by_hand.wait(20), 0)
        self.stage(volume, mount(), context)

    def test_h_a_cluster_that_goes_down_takes_its_devices_with_it(self):
        volume, target = self.use("down", mount())
        with open(os.path.join(target, "kept"), "w") as f:
            f.write("kept")
        raw = self.create("raw", block())
        context = self.publish_to_node(raw, block())
        self.stage(raw, block(), context, "raw-staging")
        self.publish(raw, block(), context, "raw-target", "raw-staging", readonly=True)
        self.cluster.ops("down")
        self.nothing_is_left()
        self.assertEqual((mounts(self.folder), loop_devices("/dev/nbd")), ([], []))
        self.cluster.up()
        self.driver.reconnect()
        context = self.publish_to_node(volume, mount())
        self.stage(volume, mount(), context)
        self.publish(volume, mount(), context)
        with open(os.path.join(target, "kept")) as f:
            self.assertEqual(f.read(), "kept")
        # With much to write, and nobody who serves.
        with open(os.path.join(target, "dirty"), "wb") as f:
            f.write(b"d" * 8 * MIB)
        self.end_what_serves()
        begun = time.monotonic()
        self.cluster.ops("down")
        print(f"a cluster went down whose device nobody served: after {time.monotonic() - begun:.1f} s", flush=True)
        self.nothing_is_left()
        self.assertEqual(mounts(self.folder), [])
        self.cluster.up()
        self.driver.reconnect()


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], "-v"], warnings="ignore")
