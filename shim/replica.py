"""One replica of the service: its channel, its stubs, and what it is busy with."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from grpc import aio

from mlx_grpc.v1.admin_pb2_grpc import AdminServiceStub
from mlx_grpc.v1.generation_pb2 import ChatRequest, ChatResponse, GenerateRequest, GenerateResponse
from mlx_grpc.v1.generation_pb2_grpc import GenerationServiceStub
from mlx_grpc.v1.models_pb2_grpc import ModelServiceStub

if TYPE_CHECKING:  # these classes exist for type checkers only
    from mlx_grpc.v1.admin_pb2_grpc import AdminServiceAsyncStub
    from mlx_grpc.v1.generation_pb2_grpc import GenerationServiceAsyncStub
    from mlx_grpc.v1.models_pb2_grpc import ModelServiceAsyncStub

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


@dataclass(slots=True)
class Replica:
    """One address of the service."""

    target: str
    channel: aio.Channel
    models: "ModelServiceAsyncStub"
    admin: "AdminServiceAsyncStub"
    _generation: "GenerationServiceAsyncStub"
    in_flight: int = field(default=0, init=False)
    """Generating calls that have not ended."""

    @classmethod
    def connect(cls, target: str) -> "Replica":
        """Make the channel, which connects when it is first used."""
        channel = aio.insecure_channel(target, options=_CHANNEL_OPTIONS)
        return cls(
            target, channel, ModelServiceStub(channel), AdminServiceStub(channel), GenerationServiceStub(channel)
        )

    def chat(
        self, request: ChatRequest, timeout: float | None, metadata: aio.Metadata
    ) -> "aio.UnaryStreamCall[ChatRequest, ChatResponse]":
        """Call Chat; the timeout is in seconds."""
        call = self._generation.Chat(request, timeout=timeout, metadata=metadata)
        self._count(call)
        return call

    def generate(
        self, request: GenerateRequest, timeout: float | None, metadata: aio.Metadata
    ) -> "aio.UnaryStreamCall[GenerateRequest, GenerateResponse]":
        """Call Generate; the timeout is in seconds."""
        call = self._generation.Generate(request, timeout=timeout, metadata=metadata)
        self._count(call)
        return call

    def _count(self, call: aio.Call) -> None:
        self.in_flight += 1
        call.add_done_callback(self._uncount)

    def _uncount(self, _: object) -> None:
        self.in_flight -= 1
