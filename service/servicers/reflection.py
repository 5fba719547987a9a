"""Server reflection under both names that clients ask for: the older v1alpha, which the library serves, and v1."""

from collections.abc import Iterable

import grpc
from google.protobuf import descriptor_pool
from google.protobuf.descriptor import Descriptor, FileDescriptor
from google.protobuf.descriptor_pb2 import DescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.rpc import error_details_pb2
from grpc import aio
from grpc_reflection.v1alpha import reflection, reflection_pb2

_OLD = "grpc.reflection.v1alpha"
_NEW = "grpc.reflection.v1"


def add_reflection(services: Iterable[str], server: aio.Server) -> None:
    """Let clients list and describe `services`, given by their full names.

    The two versions differ in nothing but the package's name, so one servicer answers both.
    """
    known = [*services, f"{_OLD}.ServerReflection"]
    pool, added = DescriptorPool(), set[str]()
    for service in known:
        _add_file(pool, descriptor_pool.Default().FindFileContainingSymbol(service), added)
    _add_file(pool, error_details_pb2.DESCRIPTOR, added)  # by which clients read the details of a status
    _add_new_version(pool)
    names = [*known, f"{_NEW}.ServerReflection"]
    reflection.enable_server_reflection(names, server, pool)
    handler = grpc.stream_stream_rpc_method_handler(
        reflection.aio.ReflectionServicer(names, pool).ServerReflectionInfo,
        request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
        response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    handlers = {"ServerReflectionInfo": handler}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(f"{_NEW}.ServerReflection", handlers),))


def _add_file(pool: DescriptorPool, file: FileDescriptor, added: set[str]) -> None:
    """Add a file and those that it imports, with the JSON names of fields, by which grpcurl prints them.

    Python's generated code leaves them out.
    """
    if file.name in added:
        return
    added.add(file.name)
    for imported in file.dependencies:
        _add_file(pool, imported, added)
    copy = FileDescriptorProto()
    file.CopyToProto(copy)
    for message in copy.message_type:
        _name_fields(message, file.message_types_by_name[message.name])
    pool.AddSerializedFile(copy.SerializeToString())


def _name_fields(copy: DescriptorProto, message: Descriptor) -> None:
    for field in copy.field:
        field.json_name = message.fields_by_name[field.name].json_name
    for nested in copy.nested_type:
        _name_fields(nested, message.nested_types_by_name[nested.name])


def _add_new_version(pool: DescriptorPool) -> None:
    """Add v1's file, so that reflection can describe itself."""
    file = FileDescriptorProto()
    reflection_pb2.DESCRIPTOR.CopyToProto(file)
    file.name = file.name.replace("v1alpha", "v1")
    file.package = _NEW
    for field in (field for message in file.message_type for field in message.field if field.type_name):
        field.type_name = field.type_name.replace(f".{_OLD}.", f".{_NEW}.")
    for method in file.service[0].method:
        method.input_type = method.input_type.replace(f".{_OLD}.", f".{_NEW}.")
        method.output_type = method.output_type.replace(f".{_OLD}.", f".{_NEW}.")
    pool.AddSerializedFile(file.SerializeToString())
