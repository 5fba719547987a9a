"""Reflection under both of its names, for stubs and for the real grpcurl."""

import asyncio
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format
from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto
from grpc import aio
from grpc_reflection.v1alpha import reflection_pb2 as pb

from mlx_grpc.v1 import generation_pb2
from tests.calls import Answer, chat_request
from tests.processes import ServiceProcess

GRPCURL = shutil.which("grpcurl", path=Path(sys.executable).parent) or shutil.which("grpcurl")
PACKAGES = ["grpc.reflection.v1", "grpc.reflection.v1alpha"]
SERVICES = {
    *(f"mlx_grpc.v1.{name}Service" for name in ("Generation", "Model", "Lora", "Tokenizer", "Admin")),
    "grpc.health.v1.Health",
    *(f"{package}.ServerReflection" for package in PACKAGES),
}


async def ask(channel: aio.Channel, package: str, request: pb.ServerReflectionRequest) -> pb.ServerReflectionResponse:
    """Ask one question; the messages of both versions are the same on the wire."""
    method: Any = channel.stream_stream(
        f"/{package}.ServerReflection/ServerReflectionInfo",
        request_serializer=pb.ServerReflectionRequest.SerializeToString,
        response_deserializer=pb.ServerReflectionResponse.FromString,
    )

    async def questions() -> AsyncIterator[pb.ServerReflectionRequest]:
        yield request

    [response] = [response async for response in method(questions())]
    assert isinstance(response, pb.ServerReflectionResponse)
    return response


@pytest.mark.parametrize("package", PACKAGES)
async def test_all_services_are_listed(channel: aio.Channel, package: str) -> None:
    """Those of libraries too."""
    response = await ask(channel, package, pb.ServerReflectionRequest(list_services=""))
    assert {service.name for service in response.list_services_response.service} == SERVICES


@pytest.mark.parametrize("package", PACKAGES)
@pytest.mark.parametrize("symbol", sorted(SERVICES))
async def test_every_service_is_described(channel: aio.Channel, package: str, symbol: str) -> None:
    """By a file that declares it."""
    response = await ask(channel, package, pb.ServerReflectionRequest(file_containing_symbol=symbol))
    files = [FileDescriptorProto.FromString(data) for data in response.file_descriptor_response.file_descriptor_proto]
    assert symbol in {f"{file.package}.{service.name}" for file in files for service in file.service}


@pytest.mark.parametrize("package", PACKAGES)
async def test_the_schema_is_the_one_that_is_served(channel: aio.Channel, package: str) -> None:
    """A client that knows nothing gets the messages that the server was built with, and their fields' JSON names."""
    request = pb.ServerReflectionRequest(file_by_filename="mlx_grpc/v1/generation.proto")
    response = await ask(channel, package, request)
    files = [FileDescriptorProto.FromString(data) for data in response.file_descriptor_response.file_descriptor_proto]
    [file] = [file for file in files if file.name == "mlx_grpc/v1/generation.proto"]
    usage = next(message for message in file.message_type if message.name == "Usage")
    assert usage.field[0].json_name == "promptTokens"
    for field in (field for message in file.message_type for field in _fields(message)):
        field.ClearField("json_name")
    assert file == FileDescriptorProto.FromString(generation_pb2.DESCRIPTOR.serialized_pb)


def _fields(message: DescriptorProto) -> list[FieldDescriptorProto]:
    return [*message.field, *(field for nested in message.nested_type for field in _fields(nested))]


async def grpcurl(*arguments: str) -> str:
    """Run grpcurl; its output."""
    assert GRPCURL is not None
    process = await asyncio.create_subprocess_exec(
        GRPCURL, "-plaintext", *arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    output, errors = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 0, errors.decode()
    return output.decode()


@pytest.mark.skipif(GRPCURL is None, reason="there is no grpcurl for this machine")
async def test_grpcurl_lists_and_describes(service: ServiceProcess) -> None:
    """With nothing but an address."""
    assert set((await grpcurl(service.address, "list")).split()) >= SERVICES
    described = await grpcurl(service.address, "describe", "mlx_grpc.v1.ChatRequest")
    assert "repeated .mlx_grpc.v1.ChatMessage messages = 4;" in described


@pytest.mark.skipif(GRPCURL is None, reason="there is no grpcurl for this machine")
async def test_grpcurl_chats(service: ServiceProcess) -> None:
    """A call as a person types it."""
    request = json_format.MessageToJson(chat_request("What is two and two?"))
    output = await grpcurl("-d", request, service.address, "mlx_grpc.v1.GenerationService/Chat")
    assert '"completionTokens": 5' in output
    documents = output.replace("\n}\n{", "\n}\0{").split("\0")
    result = Answer([json_format.Parse(document, generation_pb2.ChatResponse()) for document in documents])
    assert (result.text, result.usage.completion_tokens) == ("Four.", 5)
