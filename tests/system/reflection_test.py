"""What a gRPC client without our messages relies on: reflection and health, on replicas and frontends."""

import os
import signal

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

import harness
from grpc_reflection import MESSAGES, reflect, served

SERVING, NOT_SERVING = 1, 2


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
                self.assertIn(service, served(channel))
                self.assertIn("grpc.health.v1.Health", served(channel))

    def describe(self, channel, service):
        """The service as the server describes it, and the classes of its messages."""
        pool = descriptor_pool.DescriptorPool()
        files = {}
        for text in reflect(channel, file_containing_symbol=service).file_descriptor_response.file_descriptor_proto:
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
