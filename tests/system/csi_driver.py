"""A CSI driver as its callers see it: messages from our csi.proto, calls over its Unix socket."""

import glob
import subprocess

from grpc_caller import OK, Caller, load_messages  # noqa: F401

MIB = 1 << 20
pb = load_messages("csi.v1.csi_pb2", "csi/v1/csi.proto")
Mode = pb.VolumeCapability.AccessMode


def block(mode=Mode.SINGLE_NODE_WRITER):
    return pb.VolumeCapability(block=pb.VolumeCapability.BlockVolume(), access_mode=Mode(mode=mode))


def mount(fs_type="ext4", mode=Mode.SINGLE_NODE_WRITER, flags=(), group=""):
    volume = pb.VolumeCapability.MountVolume(fs_type=fs_type, mount_flags=flags, volume_mount_group=group)
    return pb.VolumeCapability(mount=volume, access_mode=Mode(mode=mode))


class Driver(Caller):
    def __init__(self, endpoint):
        super().__init__(endpoint, pb)


def loop_devices(below):
    found = []
    for path in glob.glob("/sys/block/loop*/loop/backing_file"):
        try:
            with open(path) as f:
                if f.read().startswith(below):
                    found.append(path.split("/")[3])
        except OSError:
            pass
    return found


def mounts(below):
    with open("/proc/self/mountinfo") as f:
        return [line.split()[4] for line in f if line.split()[4].startswith(below)]


def processes(word):
    """The pids whose command lines have this word in them."""
    found = []
    for path in glob.glob("/proc/[0-9]*/cmdline"):
        try:
            with open(path, "rb") as f:
                if word.encode() in f.read():
                    found.append(int(path.split("/")[2]))
        except OSError:
            pass
    return found


def fio(path, seconds, *more):
    """Starts fio on a device or file; its exit code is 0 unless a request has failed."""
    return subprocess.Popen(
        ["fio", "--name=w", f"--filename={path}", "--ioengine=libaio", "--direct=1", "--rw=randwrite", "--bs=4k",
         "--iodepth=8", "--fsync=32", "--time_based", f"--runtime={seconds}", "--output-format=json", *more],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
