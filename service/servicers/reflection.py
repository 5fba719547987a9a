"""Server reflection under both names that clients ask for: the older v1alpha, which the library serves, and v1."""

from collections.abc import Iterable

import grpc
from google.protobuf import descriptor_pool
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc import aio
from grpc_reflection.v1alpha import reflection, reflection_pb2

_OLD = "grpc.reflection.v1alpha"
_NEW = "grpc.reflection.v1"


def add_reflection(services: Iterable[str], server: aio.Server) -> None:
    """Let clients list and describe `services`, given by their full names.

    The two versions differ in nothing but the package's name, so one servicer answers both.
    """
    names = [*services, f"{_OLD}.ServerReflection", f"{_NEW}.ServerReflection"]
    _describe_new()
    reflection.enable_server_reflection(names, server)
    handler = grpc.stream_stream_rpc_method_handler(
        reflection.aio.ReflectionServicer(names).ServerReflectionInfo,
        request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
        response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    handlers = {"ServerReflectionInfo": handler}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(f"{_NEW}.ServerReflection", handlers),))


def _describe_new() -> None:
    """Put v1's file into the descriptor pool, so that reflection can describe itself."""
    file = FileDescriptorProto()
    reflection_pb2.DESCRIPTOR.CopyToProto(file)
    file.name = file.name.replace("v1alpha", "v1")
    file.package = _NEW
    for field in (field for message in file.message_type for field in message.field if field.type_name):
        field.type_name = field.type_name.replace(f".{_OLD}.", f".{_NEW}.")
    for method in file.service[0].method:
        method.input_type = method.input_type.replace(f".{_OLD}.", f".{_NEW}.")
        method.output_type = method.output_type.replace(f".{_OLD}.", f".{_NEW}.")
    descriptor_pool.Default().AddSerializedFile(file.SerializeToString())
