"""What a gRPC client without our messages relies on: reflection and health, on replicas and frontends."""

import os
import signal

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

import harness

# Of grpc/reflection/v1alpha/reflection.proto and grpc/health/v1/health.proto what is used here: NAME:NUMBER:TYPE.
KNOWN = {
    "grpc.reflection.v1alpha.ServerReflectionRequest": "file_containing_symbol:4:string list_services:7:string",
    "grpc.reflection.v1alpha.FileDescriptorResponse": "file_descriptor_proto:1:bytes*",
    "grpc.reflection.v1alpha.ServiceResponse": "name:1:string",
    "grpc.reflection.v1alpha.ListServiceResponse": "service:1:.grpc.reflection.v1alpha.ServiceResponse*",
    "grpc.reflection.v1alpha.ServerReflectionResponse":
        "file_descriptor_response:4:.grpc.reflection.v1alpha.FileDescriptorResponse "
        "list_services_response:6:.grpc.reflection.v1alpha.ListServiceResponse",
    "grpc.health.v1.HealthCheckRequest": "service:1:string",
    "grpc.health.v1.HealthCheckResponse": "status:1:uint32",
}
SERVING, NOT_SERVING = 1, 2


def known_messages():
    """The classes of KNOWN, by name."""
    pool = descriptor_pool.DescriptorPool()
    Field = descriptor_pb2.FieldDescriptorProto
    for full_name, fields in KNOWN.items():
        package, name = full_name.rsplit(".", 1)
        file = descriptor_pb2.FileDescriptorProto(name=full_name, package=package, syntax="proto3")
        message = file.message_type.add(name=name)
        for field in fields.split():
            field_name, number, kind = field.split(":")
            made = message.field.add(name=field_name, number=int(number))
            made.label = Field.LABEL_REPEATED if kind.endswith("*") else Field.LABEL_OPTIONAL
            kind = kind.rstrip("*")
            if kind.startswith("."):
                made.type, made.type_name = Field.TYPE_MESSAGE, kind
                file.dependency.append(kind[1:])
            else:
                made.type = getattr(Field, f"TYPE_{kind.upper()}")
        pool.Add(file)
    factory = message_factory.MessageFactory(pool)
    return {name: factory.GetPrototype(pool.FindMessageTypeByName(name)) for name in KNOWN}


MESSAGES = known_messages()


class ReflectionTest(harness.ClusterTest):
    up_flags = ("--size=64MiB", "--replica-flags=--enable_fault_injection", "--volume-flags=--flush_interval=1h")

    def channel(self, address):
        channel = grpc.insecure_channel(address)
        self.addCleanup(channel.close)
        return channel

    def servers(self):
        """(channel, the service that it must have) of each process."""
        for address in self.cluster.env["REPLICA_ADDRS"].split():
            yield self.channel(address), "weir.v1.ReplicaService"
        yield self.channel(self.cluster.env["VOLUME_ADDR"]), "weir.v1.VolumeService"

    def reflect(self, channel, **asked):
        call = channel.stream_stream(
            "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=MESSAGES["grpc.reflection.v1alpha.ServerReflectionResponse"].FromString)
        request = MESSAGES["grpc.reflection.v1alpha.ServerReflectionRequest"](**asked)
        return next(call(iter([request]), timeout=30))

    def health(self, channel, service):
        call = channel.unary_unary(
            "/grpc.health.v1.Health/Check",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=MESSAGES["grpc.health.v1.HealthCheckResponse"].FromString)
        return call(MESSAGES["grpc.health.v1.HealthCheckRequest"](service=service), timeout=30).status

    def test_health_says_that_they_serve(self):
        for channel, service in self.servers():
            with self.subTest(service):
                self.assertEqual(self.health(channel, ""), SERVING)
                self.assertEqual(self.health(channel, service), SERVING)
                with self.assertRaises(grpc.RpcError) as caught:
                    self.health(channel, "weir.v1.NoSuchService")
                self.assertEqual(caught.exception.code(), grpc.StatusCode.NOT_FOUND)

    def test_health_knows_where_replicas_register_too(self):
        self.assertEqual(self.health(self.channel(self.cluster.env["VOLUME_ADDR"]), "weir.v1.RegistryService"), SERVING)

    def test_a_frontend_that_stops_does_not_serve_any_more(self):
        channel = self.channel(self.cluster.env["VOLUME_ADDR"])
        self.cluster.connect().pwrite(bytes(4096), 0)
        # Its last flush takes a while.
        self.cluster.weirctl("fault", "set", "replica1", "--op=flush", "--error=DELAY=3000", "--count=1")
        os.kill(self.cluster.pids()["volume"], signal.SIGTERM)
        harness.wait_until(lambda: self.health(channel, "weir.v1.VolumeService") == NOT_SERVING, 30, "it is said to stop")
        self.assertEqual(self.health(channel, ""), NOT_SERVING)
        self.cluster.ops("stop", "volume")
        self.cluster.ops("start", "volume")

    def test_services_are_listed(self):
        for channel, service in self.servers():
            with self.subTest(service):
                listed = self.reflect(channel, list_services="*").list_services_response.service
                self.assertIn(service, [one.name for one in listed])
                self.assertIn("grpc.health.v1.Health", [one.name for one in listed])

    def describe(self, channel, service):
        """The service as the server describes it, and the classes of its messages."""
        pool = descriptor_pool.DescriptorPool()
        files = {}
        for text in self.reflect(channel, file_containing_symbol=service).file_descriptor_response.file_descriptor_proto:
            file = descriptor_pb2.FileDescriptorProto.FromString(text)
            files[file.name] = file

        def add(name):  # what it depends on first
            file = files.pop(name, None)
            if file is not None:
                for needed in file.dependency:
                    add(needed)
                pool.Add(file)

        for name in list(files):
            add(name)
        return pool.FindServiceByName(service), message_factory.MessageFactory(pool)

    def test_a_client_can_call_what_reflection_describes(self):
        for channel, service in self.servers():
            with self.subTest(service):
                described, factory = self.describe(channel, service)
                method = described.methods_by_name["GetVolume" if service.endswith("VolumeService") else "GetReplica"]
                request = factory.GetPrototype(method.input_type)()
                if service.endswith("VolumeService"):
                    request.name = "demo"
                call = channel.unary_unary(
                    f"/{service}/{method.name}", request_serializer=lambda message: message.SerializeToString(),
                    response_deserializer=factory.GetPrototype(method.output_type).FromString)
                response = call(request, timeout=30)
                if service.endswith("VolumeService"):
                    self.assertEqual((response.volume.name, response.volume.size_bytes), ("demo", 64 << 20))
                else:
                    self.assertEqual(response.state, "SERVING")
