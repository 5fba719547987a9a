"""Calls of Generate whose messages stay bytes until the time has been taken."""

import asyncio
import time
from collections.abc import Sequence
from typing import Any, Self

from grpc import aio

from mlx_grpc.v1 import generation_pb2 as pb
from tests.bench.client.answer import Answer
from tests.bench.workload import Sampling

_METHOD = "/mlx_grpc.v1.GenerationService/Generate"
_OWN_CONNECTION = [("grpc.use_local_subchannel_pool", 1)]


def generate(
    prompt: list[int],
    tokens: int,
    sampling: Sampling | None = None,
    *,
    schema: str = "",
    top_logprobs: int = 0,
    bypass: bool = False,
) -> bytes:
    """A request for so many tokens, greedy unless it is told how to draw them; `bypass` is the prefix cache's.

    They are held to a JSON `schema`, and come with the log-probabilities of so many alternatives, if there are any.
    """
    drawn = pb.SamplingParams(temperature=0)
    if sampling:
        drawn = pb.SamplingParams(temperature=sampling.temperature, top_p=sampling.top_p, seed=sampling.seed)
    request = pb.GenerateRequest(
        token_ids=pb.TokenIds(ids=prompt),
        sampling=drawn,
        stopping=pb.Stopping(max_tokens=tokens, ignore_eos=True),
    )
    if schema:
        request.constraint.json_schema = schema
    if top_logprobs:
        request.output.logprobs = True
        request.output.top_logprobs = top_logprobs
    if bypass:
        request.cache.bypass = True
    return request.SerializeToString()


class GrpcCall:
    """A running call."""

    def __init__(self, call: Any) -> None:
        self._sent = time.perf_counter()
        self._call = call
        self._arrivals: list[tuple[float, bytes]] = []

    async def read(self, count: int | None = None) -> None:
        """Take `count` more messages, or all that are left. Raises AioRpcError."""
        clock, arrivals, call = time.perf_counter, self._arrivals, self._call
        until = None if count is None else len(arrivals) + count
        while len(arrivals) != until and (message := await call.read()) is not aio.EOF:
            arrivals.append((clock(), message))

    def cancel(self) -> None:
        """Leave it."""
        self._call.cancel()

    def answer(self) -> Answer:
        """What came so far."""
        messages = [(at, pb.GenerateResponse.FromString(message)) for at, message in self._arrivals]
        texts = [at for at, message in messages if message.HasField("text")]
        last = messages[-1][1]
        usage = last.completed.usage
        return Answer(self._sent, texts, messages[-1][0], usage.completion_tokens, usage.cached_tokens)


class GrpcClient:
    """One connection to a service. Belongs to the event loop that it is made on."""

    def __init__(self, address: str) -> None:
        self._channel = aio.insecure_channel(address, options=_OWN_CONNECTION)
        self._method: Any = self._channel.unary_stream(_METHOD)

    @classmethod
    async def connected(cls, address: str) -> Self:
        """One whose connection is there."""
        client = cls(address)
        await client._channel.channel_ready()
        return client

    def call(self, request: bytes) -> GrpcCall:
        """Start a call."""
        return GrpcCall(self._method(request))

    async def answer(self, request: bytes) -> Answer:
        """Make a call and read it to its end."""
        call = self.call(request)
        await call.read()
        return call.answer()

    async def answers(self, requests: Sequence[bytes]) -> list[Answer]:
        """Make calls at once and read all to their ends."""
        calls = [self.call(request) for request in requests]
        await asyncio.gather(*(call.read() for call in calls))
        return [call.answer() for call in calls]

    async def close(self) -> None:
        """End the connection and what runs on it."""
        await self._channel.close()
