"""Mixed traffic for a while: a minute in `make test`, ten minutes in `make soak`."""

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
from grpc_health.v1 import health_pb2, health_pb2_grpc

from mlx_grpc.v1 import admin_pb2, admin_pb2_grpc
from mlx_grpc.v1 import generation_pb2 as pb
from mlx_grpc.v1.generation_pb2_grpc import GenerationServiceStub
from tests.conftest import StartService

if TYPE_CHECKING:  # a class for type checkers only
    from mlx_grpc.v1.generation_pb2_grpc import GenerationServiceAsyncStub

pytestmark = [pytest.mark.soak, pytest.mark.timeout(0)]

SECONDS = float(os.environ.get("SOAK_S", "48"))
CLIENTS = 16
GROWTH = 64 << 20
"""Bytes that a process may grow by over the whole run."""
MEMORY = 4 << 20
"""Bytes for keys and values: less than what runs at a time may need, so that rows are put back."""


def request(chance: random.Random) -> pb.GenerateRequest:
    """Make a request of random length, sampling and, one time in ten, with something wrong."""
    bad = chance.random() < 0.1
    sampling = pb.SamplingParams(temperature=3 if bad else chance.choice([0, 0.7, 1]), top_p=0.9, seed=1)
    if chance.random() < 0.2:
        sampling.repetition_penalty = 1.2
        sampling.logit_bias[5] = -50
    return pb.GenerateRequest(
        text="The sky is blue. " * chance.randint(1, 60),
        sampling=sampling,
        stopping=pb.Stopping(max_tokens=chance.choice([1, 8, 64, 400]), stop=chance.choice([[], ["blue"]])),
        output=pb.OutputOptions(logprobs=chance.random() < 0.2, progress=chance.random() < 0.3),
        cache=pb.CacheOptions(salt=chance.choice(["", "other"]), bypass=chance.random() < 0.2),
        n=chance.choice([1, 1, 1, 3]),
        priority=chance.choice([0, 0, 1]),
    )


async def client(stub: "GenerationServiceAsyncStub", chance: random.Random, until: float) -> list[str]:
    """Send requests, and leave one in four in the middle; how each of them ended."""
    outcomes = []
    metadata = (("x-mlx-grpc-caller", chance.choice("abc")),)
    while time.monotonic() < until:
        call = stub.Generate(request(chance), metadata=metadata)
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
    flags = ("--max-running", "8", "--log-level", "warning", "--kv-cache-bytes", str(MEMORY))
    service = await start_service({"tiny": tiny_model}, *flags)
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
        cleared = await admin_pb2_grpc.AdminServiceStub(channel).ClearCache(admin_pb2.ClearCacheRequest())
        assert 0 < cleared.bytes <= MEMORY
        health = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
        assert health.status == health_pb2.HealthCheckResponse.SERVING
    assert last[-1].completed.usage.completion_tokens
    assert processes[1:] == service.engines, "the engine was never replaced"


async def test_a_burst_of_full_contexts(start_service: StartService, tiny_model: Path, tmp_path: Path) -> None:
    """More than the memory holds at a time, many times over: each is answered to the end of its context."""
    config = tmp_path / "burst.toml"
    config.write_text(
        f'max_running = 64\nmax_queued = 256\nkv_cache_bytes = {MEMORY}\nlog_level = "warning"\n'
        f'[[models]]\nname = "tiny"\npath = "{tiny_model}"\ncontext_length = 600\n'
    )
    service = await start_service({}, "--config", str(config))
    engines = service.engines
    async with aio.insecure_channel(service.address) as channel:
        stub = GenerationServiceStub(channel)

        async def ask(number: int) -> int:
            chance = random.Random(number)
            prompt = pb.TokenIds(ids=[chance.randrange(300) for _ in range(chance.choice([20, 400, 580]))])
            stopping = pb.Stopping(ignore_eos=True)
            events = [event async for event in stub.Generate(pb.GenerateRequest(token_ids=prompt, stopping=stopping))]
            usage = events[-1].completed.usage
            return usage.prompt_tokens + usage.completion_tokens

        assert set(await asyncio.gather(*map(ask, range(200)))) == {600}
    assert service.engines == engines, "the engine was never replaced"
