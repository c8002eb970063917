"""A CSI driver as its callers see it: messages from our csi.proto, calls over its Unix socket."""

import glob
import importlib
import os
import subprocess
import sys
import tempfile

import grpc

from harness import ROOT, run

MIB = 1 << 20


def _load_messages():
    """csi_pb2, made by protoc for this process."""
    with tempfile.TemporaryDirectory(prefix="weir-csi-pb-") as folder:
        run("protoc", "-I", os.path.join(ROOT, "proto"), f"--python_out={folder}", "csi/v1/csi.proto")
        sys.path.insert(0, os.path.join(folder, "csi", "v1"))
        try:
            return importlib.import_module("csi_pb2")
        finally:
            sys.path.pop(0)


pb = _load_messages()
Mode = pb.VolumeCapability.AccessMode
OK = grpc.StatusCode.OK


def block(mode=Mode.SINGLE_NODE_WRITER):
    return pb.VolumeCapability(block=pb.VolumeCapability.BlockVolume(), access_mode=Mode(mode=mode))


def mount(fs_type="ext4", mode=Mode.SINGLE_NODE_WRITER, flags=(), group=""):
    volume = pb.VolumeCapability.MountVolume(fs_type=fs_type, mount_flags=flags, volume_mount_group=group)
    return pb.VolumeCapability(mount=volume, access_mode=Mode(mode=mode))


class Driver:
    """`driver.Method(field=value, ...)` is the response; an error is raised as grpc.RpcError."""

    def __init__(self, endpoint):
        self.endpoint = endpoint
        self.channel = grpc.insecure_channel(endpoint)
        self.services = {
            method.name: (service.full_name, method)
            for service in pb.DESCRIPTOR.services_by_name.values() for method in service.methods}

    def close(self):
        self.channel.close()

    def reconnect(self):
        """After the driver was killed: a call on the old connection would be lost."""
        self.close()
        self.channel = grpc.insecure_channel(self.endpoint)

    def __getattr__(self, name):
        service, method = self.services[name]
        request_type = getattr(pb, method.input_type.name)
        response_type = getattr(pb, method.output_type.name)

        def call(timeout=60, **fields):
            made = self.channel.unary_unary(
                f"/{service}/{name}", request_serializer=request_type.SerializeToString,
                response_deserializer=response_type.FromString)
            # As kubelet and the sidecars do, a driver that is just being started is waited for.
            return made(request_type(**fields), timeout=timeout, wait_for_ready=True)

        return call

    def code(self, method, /, **fields):
        """With what the call ends, and what it says."""
        try:
            getattr(self, method)(**fields)
            return OK, ""
        except grpc.RpcError as error:
            return error.code(), error.details()


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
