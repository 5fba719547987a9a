"""All at once for a while: a minute in `make test`, ten minutes in `make soak`. Afterwards all is as it should be."""

import asyncio
import contextlib
import json
import os
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import pytest
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from mlx_grpc.v1 import models_pb2
from tests.calls import answer, server_info, text_request
from tests.pooled import LOAD_S, MIB, Operator, engines, tiny, write_config, write_lora
from tests.processes import ServiceProcess
from tests.soak.chaos import Chaos

pytestmark = [pytest.mark.soak, pytest.mark.timeout(0)]

SECONDS = float(os.environ.get("SOAK_S", "40"))
CALLERS = 12
NAMES = "abcde"
DEEDS = {"load", "unload", "unload by force", "load a LoRA", "unload a LoRA", "pin", "kill", "stop"}
MEMORY = 480 * MIB
"""For three of them, and not for four."""
STOP_S = 10.0
"""Within which an engine that is not needed any more has ended: it may be told to while it imports."""
GROWTH = 64 * MIB
"""Bytes that the service itself may grow by."""
DESCRIPTORS = 8
"""By how many its open files may differ: connections to it come and go."""


def events(service: ServiceProcess) -> list[dict[str, Any]]:
    """What the service has logged."""
    return [json.loads(line) for line in service.errors.splitlines()]


def most_taken(chaos: Chaos, log: list[dict[str, Any]]) -> int:
    """Bytes that all engines with a model took at most; a spare has none yet."""
    told = {
        event["pid"]: datetime.fromisoformat(event["timestamp"]) for event in log if event["event"] == "loading model"
    }
    never = datetime.max.replace(tzinfo=UTC)
    return max(sum(rss for pid, rss in taken.items() if told.get(pid, never) <= when) for when, taken in chaos.samples)


async def rested(operator: Operator, service: ServiceProcess) -> None:
    """Wait until nothing is loaded and one spare is all that there is."""
    await operator.reset()
    async with asyncio.timeout(LOAD_S):
        while len(engines(service)) != 1:  # noqa: ASYNC110 - processes tell nobody
            await asyncio.sleep(0.1)


async def test_chaos_leaves_all_as_it_was(tiny_model: Path, tmp_path: Path) -> None:
    """Every call has one end, the memory is never passed, the books equal the processes, and every model answers."""
    loras = [write_lora(tmp_path / "loras" / f"l{seed}", tiny_model, seed=seed) for seed in range(3)]
    config = write_config(
        tmp_path / "service.toml",
        {name: tiny(tiny_model) for name in NAMES},
        memory_bytes=MEMORY,
        hang_timeout_s=3,
        model_folders=[str(tmp_path / "loras")],
        max_running=8,
        cache_dir=str(tmp_path / "cache"),
    )
    service = await ServiceProcess.start("--config", str(config))
    with service:
        process = psutil.Process(service.process.pid)
        async with aio.insecure_channel(service.address) as channel:
            operator = Operator(channel)
            await operator.load("a")
            await rested(operator, service)
            before = (process.memory_info().rss, process.num_fds())

            chaos = Chaos(service, channel, NAMES, loras, seed=5)
            await chaos.rage(SECONDS, callers=CALLERS)

            assert chaos.faults == []
            assert {"completed", "cut", "left", "late"} <= set(chaos.outcomes), chaos.outcomes
            assert set(chaos.done) == DEEDS, chaos.done
            for name in NAMES:
                await operator.load(name)
                assert (await answer(channel, text_request("Hi", model=name, stopping={"maxTokens": 1}))).usage
            await check_books(operator, channel, service)
            await check_loras(operator, channel, loras)
            stub: Any = health_pb2_grpc.HealthStub(channel)
            for name in ("", *(f"model/{name}" for name in NAMES)):
                health = await stub.Check(health_pb2.HealthCheckRequest(service=name))
                assert health.status == health_pb2.HealthCheckResponse.SERVING, name

            await rested(operator, service)
            await check_books(operator, channel, service)
            after = (process.memory_info().rss, process.num_fds())
            assert after[0] < before[0] + GROWTH
            assert after[1] <= before[1] + DESCRIPTORS
        check_log(chaos, events(service))


async def check_loras(operator: Operator, channel: aio.Channel, loras: list[Path]) -> None:
    """Nobody uses one any more, and all can be taken off and put on again, and say something else than the model."""
    for lora in await operator.loras():
        assert (lora.in_use, lora.draining) == (0, False), lora
        await operator.unload_lora(lora.model, lora.name)
    for path in loras:
        await operator.load_lora("a", path.name, path)
    few = {"maxTokens": 8, "ignoreEos": True}
    named = ["", *(path.name for path in loras)]
    requests = [text_request("Hi", model="a", lora=name, stopping=few, output={"tokenIds": True}) for name in named]
    answers = await asyncio.gather(*(answer(channel, request) for request in requests))
    assert len({tuple(each.ids) for each in answers}) == len(named)


async def check_books(operator: Operator, channel: aio.Channel, service: ServiceProcess) -> None:
    """Each model that is in memory has a process and its bytes; beside them there is at most a spare, and no zombie."""
    models = (await operator.models()).values()
    assert {model.state for model in models} <= {models_pb2.MODEL_STATE_READY, models_pb2.MODEL_STATE_UNLOADED}
    assert {model.in_use for model in models} == {0}
    ready = [model for model in models if model.state == models_pb2.MODEL_STATE_READY]
    assert all((model in ready) == (model.memory_bytes > 0) for model in models)
    assert (await server_info(channel)).memory_reserved_bytes == sum(model.memory_bytes for model in models) <= MEMORY
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(STOP_S):
            while len(engines(service)) > len(ready) + 1:  # noqa: ASYNC110 - processes tell nobody
                await asyncio.sleep(0.1)
    running = {engine.pid: engine.status() for engine in engines(service)}
    told = {event["pid"]: event["model"] for event in events(service) if event["event"] == "loading model"}
    assert len(running) - len(ready) in {0, 1}, [(pid, told.get(pid), status) for pid, status in running.items()]
    assert psutil.STATUS_ZOMBIE not in running.values()


def check_log(chaos: Chaos, log: list[dict[str, Any]]) -> None:
    """No bug; each request that nobody left has one end there too; and at no time was there too little memory."""
    assert [event for event in log if event["event"] == "bug"] == []
    ends = Counter(event["request_id"] for event in log if event["event"] == "request")
    assert set(ends.values()) == {1}
    assert set(chaos.answered) <= set(ends)
    assert max(chaos.reserved) <= MEMORY
    assert most_taken(chaos, log) <= MEMORY
