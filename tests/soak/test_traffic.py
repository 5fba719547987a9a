"""Mixed traffic for a while: a fifth of a minute in `make test`, ten minutes in `make soak`."""

import asyncio
import os
import random
import time
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import psutil
import pytest
from grpc import aio

from mlx_grpc.v1 import generation_pb2 as pb
from mlx_grpc.v1.generation_pb2_grpc import GenerationServiceStub
from tests.conftest import StartService

if TYPE_CHECKING:  # a class for type checkers only
    from mlx_grpc.v1.generation_pb2_grpc import GenerationServiceAsyncStub

pytestmark = [pytest.mark.soak, pytest.mark.timeout(0)]

SECONDS = float(os.environ.get("SOAK_S", "12"))
CLIENTS = 12
GROWTH = 64 << 20
"""Bytes that a process may grow by over the whole run."""


def request(chance: random.Random) -> pb.GenerateRequest:
    """Make a request of random length, sampling and, one time in ten, with something wrong."""
    bad = chance.random() < 0.1
    return pb.GenerateRequest(
        text="The sky is blue. " * chance.randint(1, 60),
        sampling=pb.SamplingParams(temperature=3 if bad else chance.choice([0, 0.7, 1]), top_p=0.9, seed=1),
        stopping=pb.Stopping(max_tokens=chance.randint(1, 64), stop=chance.choice([[], ["blue"]])),
    )


async def client(stub: "GenerationServiceAsyncStub", chance: random.Random, until: float) -> list[str]:
    """Send requests, and leave one in four in the middle; how each of them ended."""
    outcomes = []
    while time.monotonic() < until:
        call = stub.Generate(request(chance))
        patience = chance.randint(1, 20) if chance.random() < 0.25 else 1 << 30
        try:
            last = ""
            async for event in call:
                last = event.WhichOneof("event") or ""
                patience -= 1
                if not patience:
                    call.cancel()
            outcomes.append(last)
        except asyncio.CancelledError:
            outcomes.append("left")
        except aio.AioRpcError as error:
            outcomes.append("refused" if error.code() is grpc.StatusCode.INVALID_ARGUMENT else str(error))
    return outcomes


async def test_mixed_traffic_leaves_nothing_behind(start_service: StartService, tiny_model: Path) -> None:
    """Every request ends as it should, memory stays flat, and the server is as good as new."""
    service = await start_service({"tiny": tiny_model}, "--max-running", "8", "--log-level", "warning")
    processes = [psutil.Process(service.process.pid), *service.engines]
    async with aio.insecure_channel(service.address) as channel:
        stub = GenerationServiceStub(channel)

        async def traffic(seconds: float, seed: int) -> set[str]:
            until = time.monotonic() + seconds
            runs = (client(stub, random.Random(f"{seed} {number}"), until) for number in range(CLIENTS))
            return {outcome for outcomes in await asyncio.gather(*runs) for outcome in outcomes}

        await traffic(SECONDS / 4, seed=1)
        before = [process.memory_info().rss for process in processes]
        assert await traffic(SECONDS, seed=2) == {"completed", "left", "refused"}
        growth = [process.memory_info().rss - start for process, start in zip(processes, before, strict=True)]
        assert max(growth) < GROWTH, growth
        short = pb.GenerateRequest(text="The sky", stopping=pb.Stopping(max_tokens=8))
        last = [event async for event in stub.Generate(short, timeout=60)]
    assert last[-1].completed.usage.completion_tokens
    assert processes[1:] == service.engines, "the engine was never replaced"
