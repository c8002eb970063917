"""Calls of a gRPC service with messages from proto/, as any client in Python would make them."""

import glob
import importlib
import os
import sys
import tempfile

import grpc
from google.protobuf import descriptor_pb2

from harness import ROOT, run

OK = grpc.StatusCode.OK


def load_messages(module, *files):
    """The Python module of one of these files below proto/, made by protoc for this process."""
    proto = os.path.join(ROOT, "proto")
    with tempfile.TemporaryDirectory(prefix="weir-pb-") as folder:
        run("protoc", "-I", proto, f"--python_out={folder}", *files)
        sys.path.insert(0, folder)
        try:
            return importlib.import_module(module)
        finally:
            sys.path.pop(0)


def described_services():
    """Every service of proto/weir, by its full name: the names of its methods."""
    proto = os.path.join(ROOT, "proto")
    with tempfile.NamedTemporaryFile(prefix="weir-pb-") as out:
        run("protoc", "-I", proto, f"--descriptor_set_out={out.name}", *sorted(glob.glob(f"{proto}/weir/**/*.proto", recursive=True)))
        described = descriptor_pb2.FileDescriptorSet.FromString(out.read())
    return {f"{file.package}.{service.name}": [method.name for method in service.method]
            for file in described.file for service in file.service}


class Caller:
    """`caller.Method(field=value, ...)` is the response; an error is raised as grpc.RpcError."""

    def __init__(self, endpoint, messages):
        self.endpoint = endpoint
        self.channel = grpc.insecure_channel(endpoint)
        self.messages = messages
        self.services = {
            method.name: (service.full_name, method)
            for service in messages.DESCRIPTOR.services_by_name.values() for method in service.methods}

    def close(self):
        self.channel.close()

    def reconnect(self):
        """After the server was killed: a call on the old connection would be lost."""
        self.close()
        self.channel = grpc.insecure_channel(self.endpoint)

    def _method(self, name):
        service, method = self.services[name]
        request_type = getattr(self.messages, method.input_type.name)
        response_type = getattr(self.messages, method.output_type.name)
        return request_type, self.channel.unary_unary(
            f"/{service}/{name}", request_serializer=request_type.SerializeToString,
            response_deserializer=response_type.FromString)

    def __getattr__(self, name):
        if name not in self.services:
            raise AttributeError(name)

        def call(timeout=60, **fields):
            request_type, made = self._method(name)
            # As kubelet and the sidecars do, a server that is just being started is waited for.
            return made(request_type(**fields), timeout=timeout, wait_for_ready=True)

        return call

    def start_call(self, name, timeout=60, **fields):
        """A call under way: its code() and result() wait for its end."""
        request_type, made = self._method(name)
        return made.future(request_type(**fields), timeout=timeout, wait_for_ready=True)

    def code(self, method, /, **fields):
        """With what the call ends, and what it says."""
        try:
            getattr(self, method)(**fields)
            return OK, ""
        except grpc.RpcError as error:
            return error.code(), error.details()
