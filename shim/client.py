"""The service's replicas: channels, turns, and failing over before a call's first event."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from grpc import StatusCode, aio

from mlx_grpc.v1.admin_pb2_grpc import AdminServiceStub
from mlx_grpc.v1.generation_pb2 import ChatRequest, ChatResponse, GenerateRequest, GenerateResponse, Started
from mlx_grpc.v1.generation_pb2_grpc import GenerationServiceStub
from mlx_grpc.v1.models_pb2_grpc import ModelServiceStub
from shim.caller import METADATA_KEY
from shim.errors import server_error

if TYPE_CHECKING:  # these classes exist for type checkers only
    from mlx_grpc.v1.admin_pb2_grpc import AdminServiceAsyncStub
    from mlx_grpc.v1.generation_pb2_grpc import GenerationServiceAsyncStub
    from mlx_grpc.v1.models_pb2_grpc import ModelServiceAsyncStub

E = TypeVar("E", bound=ChatResponse | GenerateResponse)
Q = TypeVar("Q", bound=ChatRequest | GenerateRequest)
E_co = TypeVar("E_co", bound=ChatResponse | GenerateResponse, covariant=True)
T = TypeVar("T")

_CHANNEL_OPTIONS = [
    ("grpc.enable_retries", 0),  # failing over is done here, and only before the first event
    ("grpc.enable_http_proxy", 0),  # a proxy is for the way out, not for the service
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.max_receive_message_length", 64 * 1024 * 1024),
    # A replica that comes back is to be found soon, not after gRPC's two minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1_000),
    ("grpc.max_reconnect_backoff_ms", 2_000),
]


class Events(Protocol[E_co]):
    """What the service has to say about a request that it has admitted."""

    started: Started

    def __aiter__(self) -> AsyncIterator[E_co]:
        """Iterate over what follows `started`; aio.AioRpcError where it fails."""

    def close(self) -> None:
        """End what still runs; may be called at any time and from any task."""


class EventStream(Generic[E]):
    """Events of one call."""

    def __init__(self, call: aio.Call, rest: AsyncIterator[E], started: Started) -> None:
        self._call = call
        self._rest = rest
        self.started = started

    @classmethod
    async def open(cls, call: "aio.UnaryStreamCall[Q, E]") -> "EventStream[E]":
        """Wait for the call's first event, which commits it; the call is cancelled if the wait is."""
        opened = False
        try:
            events = aiter(call)
            first = await anext(events, None)
            if first is None or first.WhichOneof("event") != "started":
                raise server_error()
            opened = True
            return cls(call, events, first.started)
        finally:
            if not opened:
                call.cancel()

    def __aiter__(self) -> AsyncIterator[E]:
        return self._rest

    def close(self) -> None:
        """Cancel the call unless it is over."""
        self._call.cancel()


@dataclass(frozen=True, slots=True)
class Replica:
    """One address of the service."""

    target: str
    channel: aio.Channel
    generation: "GenerationServiceAsyncStub"
    models: "ModelServiceAsyncStub"
    admin: "AdminServiceAsyncStub"

    @classmethod
    def connect(cls, target: str) -> "Replica":
        """Make the channel, which connects when it is first used."""
        channel = aio.insecure_channel(target, options=_CHANNEL_OPTIONS)
        return cls(
            target, channel, GenerationServiceStub(channel), ModelServiceStub(channel), AdminServiceStub(channel)
        )


class Replicas:
    """All replicas of the service, taken in turn. To be made on the event loop that uses it."""

    def __init__(self, targets: Sequence[str], deadline_s: float | None = None) -> None:
        self.all = [Replica.connect(target) for target in targets]
        self._deadline_s = deadline_s
        self._turn = 0

    async def chat(self, request: ChatRequest, caller: str | None = None) -> EventStream[ChatResponse]:
        """Start Chat and wait for it to be admitted; aio.AioRpcError where no replica does."""
        told = _metadata(caller)
        return await self.ask(
            lambda replica: EventStream.open(replica.generation.Chat(request, timeout=self._deadline_s, metadata=told))
        )

    async def generate(self, request: GenerateRequest, caller: str | None = None) -> EventStream[GenerateResponse]:
        """Start Generate and wait for it to be admitted; aio.AioRpcError where no replica does."""
        told = _metadata(caller)
        return await self.ask(
            lambda replica: EventStream.open(
                replica.generation.Generate(request, timeout=self._deadline_s, metadata=told)
            )
        )

    async def ask(self, attempt: Callable[[Replica], Awaitable[T]]) -> T:
        """Make the attempt at the replica whose turn it is, and at the next ones while they are UNAVAILABLE."""
        start, self._turn = self._turn, (self._turn + 1) % len(self.all)
        *others, last = self.all[start:] + self.all[:start]
        for replica in others:
            try:
                return await attempt(replica)
            except aio.AioRpcError as error:
                if error.code() is not StatusCode.UNAVAILABLE:
                    raise
        return await attempt(last)

    async def close(self) -> None:
        """Close the channels; calls that still run are cancelled."""
        for replica in self.all:
            await replica.channel.close()


def _metadata(caller: str | None) -> aio.Metadata:
    return aio.Metadata() if caller is None else aio.Metadata((METADATA_KEY, caller))
