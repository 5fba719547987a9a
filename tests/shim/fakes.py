"""A service that replays what a test scripts, and the real shim on a real socket before it."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import uvicorn
from google.protobuf import any_pb2
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import error_details_pb2 as details
from google.rpc import status_pb2
from grpc import aio

from mlx_grpc.v1 import admin_pb2, models_pb2
from mlx_grpc.v1 import generation_pb2 as wire
from shim.app import create_app
from shim.config import Config
from shim.server import Server, bind, settings_for

TIMEOUT_S = 5.0
Context = aio.ServicerContext[Any, Any]


@dataclass(frozen=True)
class Failure:
    """A rich status to end a call with."""

    code: grpc.StatusCode
    message: str = "as scripted"
    details: tuple[Message, ...] = ()


class Block:
    """A step of a script that waits for the test, and tells when it is reached and when it is over."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self.go_on = asyncio.Event()
        self.cancelled = asyncio.Event()

    async def wait(self) -> None:
        self.reached.set()
        try:
            await self.go_on.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise


@dataclass(frozen=True)
class Reached:
    """A step that waits until other calls' scripts have come to their blocks."""

    blocks: Sequence[Block]

    async def wait(self) -> None:
        for block in self.blocks:
            await block.reached.wait()


class Flood:
    """A step that sends text until it is stopped."""

    def __init__(self) -> None:
        self.cancelled = asyncio.Event()
        self.sent = 0


Step = Message | Failure | Block | Reached | Flood


def started(request_id: str = "req-1") -> wire.ChatResponse:
    return wire.ChatResponse(started=wire.Started(request_id=request_id, model="tiny", prompt_tokens=3))


def text(words: str, index: int = 0, logprobs: Sequence[wire.TokenLogprob] = ()) -> wire.ChatResponse:
    return wire.ChatResponse(index=index, text=wire.TextDelta(text=words, logprobs=logprobs))


def token(data: bytes, logprob: float | None = -0.5, top: Mapping[bytes, float] | None = None) -> wire.TokenLogprob:
    alternatives = [wire.TopLogprob(token=other, logprob=value) for other, value in (top or {}).items()]
    return wire.TokenLogprob(token=data, logprob=logprob, top=alternatives)


def reasoning(words: str, logprobs: Sequence[wire.TokenLogprob] = ()) -> wire.ChatResponse:
    return wire.ChatResponse(reasoning=wire.ReasoningDelta(text=words, logprobs=logprobs))


def reasoning_done(seconds: float) -> wire.ChatResponse:
    duration = Duration()
    duration.FromNanoseconds(int(seconds * 1e9))
    return wire.ChatResponse(reasoning_done=wire.ReasoningDone(duration=duration))


def tool_call(
    arguments: str, name: str = "", call_id: str = "", tool_index: int = 0, logprobs: Sequence[wire.TokenLogprob] = ()
) -> wire.ChatResponse:
    delta = wire.ToolCallDelta(
        tool_index=tool_index, id=call_id, name=name, arguments_delta=arguments, logprobs=logprobs
    )
    return wire.ChatResponse(tool_call=delta)


def finish(
    reason: "wire.FinishReason.ValueType" = wire.FINISH_REASON_STOP, index: int = 0, stop_token: int | None = None
) -> wire.ChatResponse:
    told = wire.Finish(reason=reason) if stop_token is None else wire.Finish(reason=reason, stop_token_id=stop_token)
    return wire.ChatResponse(index=index, finish=told)


def completed() -> wire.ChatResponse:
    usage = wire.Usage(prompt_tokens=3, completion_tokens=4, cached_tokens=2, reasoning_tokens=1)
    return wire.ChatResponse(completed=wire.Completed(usage=usage))


ANSWER: list[Step] = [started(), text("Hello"), text(" world"), finish(), completed()]


def violation(path: str, description: str = "is out of range") -> details.BadRequest:
    return details.BadRequest(field_violations=[details.BadRequest.FieldViolation(field=path, description=description)])


def invalid(path: str) -> Failure:
    return Failure(grpc.StatusCode.INVALID_ARGUMENT, details=(violation(path),))


def error_info(reason: str) -> details.ErrorInfo:
    return details.ErrorInfo(reason=reason, domain="mlx_grpc")


def retry_info(seconds: float) -> details.RetryInfo:
    delay = Duration()
    delay.FromNanoseconds(int(seconds * 1e9))
    return details.RetryInfo(retry_delay=delay)


async def _abort(context: Context, failure: Failure) -> None:
    packed = []
    for detail in failure.details:
        packed.append(any_pb2.Any())
        packed[-1].Pack(detail)
    rich = status_pb2.Status(code=failure.code.value[0], message=failure.message, details=packed)
    trailers = (("grpc-status-details-bin", rich.SerializeToString()),)
    await context.abort(failure.code, failure.message, trailing_metadata=trailers)


Answer = Message | Failure


class FakeService:
    """Records requests and replays `script`, for Generate with the same events as for Chat.

    It serves what the shim calls; gRPC itself refuses the rest of the wire as UNIMPLEMENTED.
    """

    def __init__(self) -> None:
        self.script: Sequence[Step] = ANSWER
        self.scripts: dict[str, Sequence[Step]] = {}
        """Instead of it, for Generate: what becomes of a prompt."""
        self.requests: list[wire.ChatRequest | wire.GenerateRequest] = []
        self.callers: list[object] = []
        """What each generating call said in its metadata; None where it said nothing."""
        self.asked: list[Message] = []
        """The requests of the other calls."""
        self.failure: Failure | None = None
        """What these answer instead."""
        self.draining = False
        self.models = [
            models_pb2.Model(name="tiny", state=models_pb2.MODEL_STATE_READY, created=Timestamp(seconds=1700000000)),
            models_pb2.Model(name="org/big", state=models_pb2.MODEL_STATE_LOADING),
        ]
        self.address = ""

    @property
    def chats(self) -> list[wire.ChatRequest]:
        return [request for request in self.requests if isinstance(request, wire.ChatRequest)]

    @property
    def generates(self) -> list[wire.GenerateRequest]:
        return [request for request in self.requests if isinstance(request, wire.GenerateRequest)]

    async def chat(self, request: wire.ChatRequest, context: Context) -> AsyncIterator[wire.ChatResponse]:
        await self._record(request, context)
        async for event in self._replay(self.script, context):
            yield event

    async def generate(self, request: wire.GenerateRequest, context: Context) -> AsyncIterator[wire.GenerateResponse]:
        await self._record(request, context)
        async for event in self._replay(self.scripts.get(request.text, self.script), context):
            kind = event.WhichOneof("event")
            assert kind is not None
            yield wire.GenerateResponse(index=event.index, **{kind: getattr(event, kind)})

    async def _record(self, request: wire.ChatRequest | wire.GenerateRequest, context: Context) -> None:
        self.requests.append(request)
        self.callers.append(dict(context.invocation_metadata() or ()).get("x-mlx-grpc-caller"))
        loras = {model.name: ["", *model.loras] for model in self.models}
        if request.lora not in loras.get(request.model, ()):
            await _abort(context, Failure(grpc.StatusCode.NOT_FOUND, f"no {request.model!r} with {request.lora!r}"))

    async def _replay(self, script: Sequence[Step], context: Context) -> AsyncIterator[wire.ChatResponse]:
        for step in script:
            match step:
                case wire.ChatResponse():
                    yield step
                case Failure():
                    await _abort(context, step)
                case Block() | Reached():
                    await step.wait()
                case Flood():
                    try:
                        while True:
                            yield text("x" * 10_000)
                            step.sent += 1
                    finally:
                        step.cancelled.set()

    def list_models(self, _: models_pb2.ListModelsRequest) -> Answer:
        return models_pb2.ListModelsResponse(models=self.models)

    def get_model(self, request: models_pb2.GetModelRequest) -> Answer:
        for model in self.models:
            if model.name == request.name:
                return models_pb2.GetModelResponse(model=model)
        return Failure(grpc.StatusCode.NOT_FOUND, f"no model {request.name}")

    def get_server_info(self, _: admin_pb2.GetServerInfoRequest) -> Answer:
        return admin_pb2.GetServerInfoResponse(draining=self.draining)

    def handlers(self) -> dict[str, dict[str, Any]]:
        """What serves each method of each service."""
        return {
            "GenerationService": {
                "Chat": _streaming(self.chat, wire.ChatRequest),
                "Generate": _streaming(self.generate, wire.GenerateRequest),
            },
            "ModelService": {
                "ListModels": self._answering(self.list_models, models_pb2.ListModelsRequest),
                "GetModel": self._answering(self.get_model, models_pb2.GetModelRequest),
            },
            "AdminService": {
                "GetServerInfo": self._answering(self.get_server_info, admin_pb2.GetServerInfoRequest),
            },
        }

    def _answering(self, answer: Callable[[Any], Answer], kind: type[Message]) -> Any:
        async def call(request: Message, context: Context) -> Answer:
            self.asked.append(request)
            answered = self.failure or answer(request)
            if isinstance(answered, Failure):
                await _abort(context, answered)
            return answered

        return grpc.unary_unary_rpc_method_handler(call, kind.FromString, _bytes_of)


def _streaming(answer: Callable[..., AsyncIterator[Message]], kind: type[Message]) -> Any:
    return grpc.unary_stream_rpc_method_handler(answer, kind.FromString, _bytes_of)


def _bytes_of(message: Message) -> bytes:
    return message.SerializeToString()


@asynccontextmanager
async def running_service() -> AsyncIterator[FakeService]:
    """Serve a fake on a free port."""
    fake = FakeService()
    server = aio.server()
    for name, methods in fake.handlers().items():
        handler = grpc.method_handlers_generic_handler(f"mlx_grpc.v1.{name}", methods)
        server.add_generic_rpc_handlers((handler,))
    fake.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    try:
        yield fake
    finally:
        await server.stop(None)


@dataclass
class Shim:
    """A shim that runs in the test's own event loop."""

    url: str
    port: int
    drain: Callable[[], None] = field(repr=False)


class _QuickServer(Server):
    """Ends without uvicorn's pauses, which add up over many tests."""

    def __init__(self, config: uvicorn.Config, on_ready: Callable[[], None]) -> None:
        super().__init__(config, on_ready)
        self.stop = asyncio.Event()

    async def main_loop(self) -> None:
        await self.on_tick(0)
        await self.stop.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()
        for listening in sockets or ():
            listening.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        if self.server_state.tasks:
            await asyncio.wait(self.server_state.tasks, timeout=TIMEOUT_S)
        await self.lifespan.shutdown()


@asynccontextmanager
async def running_shim(config: Config) -> AsyncIterator[Shim]:
    """Serve the real app on a free port."""
    app = create_app(config)
    bound = bind(Config(listen="127.0.0.1:0").address)
    ready = asyncio.Event()
    server = _QuickServer(settings_for(app, config), ready.set)
    task = asyncio.create_task(server.serve(sockets=[bound]))
    port: int = bound.getsockname()[1]
    await asyncio.wait_for(ready.wait(), TIMEOUT_S)
    try:
        yield Shim(f"http://127.0.0.1:{port}", port, app.state.lifecycle.drain)
    finally:
        server.stop.set()
        await task


async def eventually(is_so: Callable[[], bool]) -> None:
    """Wait until it is so."""
    async with asyncio.timeout(TIMEOUT_S):
        while not is_so():  # noqa: ASYNC110 - what is waited for tells nobody
            await asyncio.sleep(0.02)


def free_port() -> int:
    """Find a port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
