"""What a gRPC client without our messages knows: those of reflection and of health, made here by hand."""

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

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


def reflect(channel, **asked):
    """The server's answer to one question."""
    call = channel.stream_stream(
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        request_serializer=lambda message: message.SerializeToString(),
        response_deserializer=MESSAGES["grpc.reflection.v1alpha.ServerReflectionResponse"].FromString)
    request = MESSAGES["grpc.reflection.v1alpha.ServerReflectionRequest"](**asked)
    return next(call(iter([request]), timeout=30))


def served(channel):
    """The names of all services that the server has."""
    return [one.name for one in reflect(channel, list_services="*").list_services_response.service]
