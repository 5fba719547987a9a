"""Requests from plain values, and answers folded from their events."""

import asyncio
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import grpc
import pytest
from google.protobuf import json_format
from google.protobuf.message import Message
from google.rpc import error_details_pb2
from google.rpc.status_pb2 import Status
from grpc import aio

from mlx_grpc.v1 import admin_pb2, admin_pb2_grpc
from mlx_grpc.v1 import generation_pb2 as pb
from mlx_grpc.v1 import generation_pb2_grpc as pb_grpc

Request = pb.ChatRequest | pb.GenerateRequest
Event = pb.ChatResponse | pb.GenerateResponse
Call = aio.UnaryStreamCall[Any, Any]
Result = TypeVar("Result")

ENDLESS = {"maxTokens": 30_000, "ignoreEos": True}
"""Stopping of a request that runs for longer than a test does."""
GREEDY = {"temperature": 0}


def chat_request(question: str | None = None, **fields: Any) -> pb.ChatRequest:
    """Make a greedy request to the talker; `fields` are those of the wire's JSON."""
    messages = [] if question is None else [{"role": "ROLE_USER", "content": [{"text": question}]}]
    filled = {"model": "talker", "messages": messages, "sampling": GREEDY} | fields
    return json_format.ParseDict(filled, pb.ChatRequest())


def text_request(text: str | None = None, **fields: Any) -> pb.GenerateRequest:
    """Make a greedy request to the random model; `fields` are those of the wire's JSON."""
    prompt = {} if text is None else {"text": text}
    return json_format.ParseDict({"model": "tiny", "sampling": GREEDY} | prompt | fields, pb.GenerateRequest())


@dataclass(frozen=True)
class Answer:
    """All events of a call."""

    events: Sequence[Event]

    @property
    def kinds(self) -> list[str]:
        """Kinds of the events in order, with repetitions left out."""
        kinds = [event.WhichOneof("event") or "" for event in self.events]
        return [kind for index, kind in enumerate(kinds) if index == 0 or kind != kinds[index - 1]]

    @property
    def text(self) -> str:
        return "".join(event.text.text for event in self.events)

    @property
    def reasoning(self) -> str:
        return "".join(event.reasoning.text for event in self.events if isinstance(event, pb.ChatResponse))

    @property
    def ids(self) -> list[int]:
        """Token ids of answer and reasoning; empty unless they were asked for."""
        ids: list[int] = []
        for event in self.events:
            ids += event.text.token_ids
            ids += event.reasoning.token_ids if isinstance(event, pb.ChatResponse) else ()
        return ids

    @property
    def started(self) -> pb.Started:
        return self.events[0].started

    @property
    def finish(self) -> pb.Finish:
        return next(event.finish for event in self.events if event.HasField("finish"))

    @property
    def usage(self) -> pb.Usage:
        return self.events[-1].completed.usage

    @property
    def timings(self) -> pb.Timings:
        return self.events[-1].completed.timings


def call(channel: aio.Channel, request: Request, timeout: float | None = 60) -> Call:
    """Start a generating call."""
    stub: Any = pb_grpc.GenerationServiceStub(channel)
    started: Call = (stub.Chat if isinstance(request, pb.ChatRequest) else stub.Generate)(request, timeout=timeout)
    return started


async def answer(channel: aio.Channel, request: Request) -> Answer:
    """Read a call to its end."""
    return Answer([event async for event in call(channel, request)])


async def started(running: Call) -> pb.Started:
    """Read a call's first event, which says that it has started."""
    first: Event = await anext(aiter(running))
    assert first.HasField("started")
    return first.started


async def first_text(running: Call) -> str:
    """Read a call up to its first text."""
    async for event in running:
        if event.HasField("text"):
            text: str = event.text.text
            return text
    raise AssertionError("the call ended without text")


async def server_info(channel: aio.Channel) -> admin_pb2.GetServerInfoResponse:
    """Ask for what costs a server next to nothing."""
    stub: Any = admin_pb2_grpc.AdminServiceStub(channel)
    info: admin_pb2.GetServerInfoResponse = await stub.GetServerInfo(admin_pb2.GetServerInfoRequest())
    return info


@dataclass(frozen=True)
class Beside:
    """How long a call took, and the longest that another caller waited for an answer meanwhile, in seconds."""

    took: float
    longest_wait: float


async def beside(channel: aio.Channel, awaitable: Awaitable[Result]) -> tuple[Result, Beside]:
    """Await a call, and let another caller ask for something small all the while."""
    clock = asyncio.get_running_loop().time
    began = clock()
    task = asyncio.ensure_future(awaitable)
    longest = 0.0
    while not task.done():
        asked = clock()
        await server_info(channel)
        longest = max(longest, clock() - asked)
        await asyncio.wait([task], timeout=0.02)
    return await task, Beside(clock() - began, longest)


@dataclass(frozen=True)
class Refusal:
    """How a call failed: its code, its message and its rich details by their types."""

    code: grpc.StatusCode
    message: str
    details: dict[str, Message]

    @property
    def fields(self) -> list[str]:
        """Paths of the fields that are to blame."""
        request = self.details.get("BadRequest")
        assert isinstance(request, error_details_pb2.BadRequest)
        return [violation.field for violation in request.field_violations]

    @property
    def info(self) -> error_details_pb2.ErrorInfo:
        info = self.details["ErrorInfo"]
        assert isinstance(info, error_details_pb2.ErrorInfo)
        return info


async def refused(awaitable: Any) -> Refusal:
    """Await something that must fail with a status."""
    with pytest.raises(aio.AioRpcError) as raised:
        await awaitable
    return refusal(raised.value)


def refusal(error: aio.AioRpcError) -> Refusal:
    """Decode a failed call."""
    trailers = dict(error.trailing_metadata() or ())
    status = (
        Status.FromString(trailers["grpc-status-details-bin"]) if "grpc-status-details-bin" in trailers else Status()
    )
    details: dict[str, Message] = {}
    for packed in status.details:
        kind = packed.TypeName().rpartition(".")[2]
        details[kind] = getattr(error_details_pb2, kind)()
        packed.Unpack(details[kind])
    if details:
        assert (status.code, status.message) == (error.code().value[0], error.details())
    return Refusal(error.code(), error.details() or "", details)
