"""AdminService over a real channel."""

import asyncio
from importlib.metadata import version
from typing import Any

import grpc
import psutil
from grpc import aio

from mlx_grpc.v1 import admin_pb2, admin_pb2_grpc
from service.engine.frames import ClearCache, Cleared
from tests.calls import answer, refused, server_info, text_request
from tests.pooled import MIB, Operator
from tests.processes import ServiceProcess
from tests.service.servicers.conftest import Spoken


async def test_the_server_describes_itself(service: ServiceProcess, channel: aio.Channel) -> None:
    """Versions, device, models, addresses and limits."""
    stub: Any = admin_pb2_grpc.AdminServiceStub(channel)
    info = await stub.GetServerInfo(admin_pb2.GetServerInfoRequest())
    assert (info.version, info.mlx_version, info.mlx_lm_version) == tuple(
        version(name) for name in ("mlx-grpc", "mlx", "mlx-lm")
    )
    assert info.device in {"cpu", "gpu"}
    assert (list(info.models), list(info.addresses)) == (["tiny", "talker", "bare"], service.addresses)
    assert (info.max_running, info.max_queued, info.max_request_bytes) == (32, 256, 16 << 20)
    assert not info.draining


async def test_the_memory_of_all_models_is_told(channel: aio.Channel) -> None:
    """What the device has for models, and what is set aside for each of those that are loaded."""
    info = await server_info(channel)
    models = (await Operator(channel).models()).values()
    assert info.memory_reserved_bytes == sum(model.memory_bytes for model in models)
    assert len(models) * MIB < info.memory_reserved_bytes <= info.memory_bytes < psutil.virtual_memory().total


async def test_uptime_grows(channel: aio.Channel) -> None:
    """It counts from the start of the server."""
    stub: Any = admin_pb2_grpc.AdminServiceStub(channel)
    first, second = [(await stub.GetServerInfo(admin_pb2.GetServerInfoRequest())).uptime for _ in range(2)]
    assert 0 < first.ToNanoseconds() < second.ToNanoseconds()


def clear(channel: aio.Channel, model: str = "") -> Any:
    """Empty the prefix cache of a model, or of all."""
    stub: Any = admin_pb2_grpc.AdminServiceStub(channel)
    return stub.ClearCache(admin_pb2.ClearCacheRequest(model=model))


async def test_the_cache_of_one_model_is_cleared(spoken: Spoken) -> None:
    """The other's is left alone; what was in it is told, however much that is."""
    call = asyncio.ensure_future(clear(spoken.channel, "b"))
    await spoken.b.heard(ClearCache)
    spoken.b.say(Cleared(3, 1 << 40))
    assert await call == admin_pb2.ClearCacheResponse(entries=3, bytes=1 << 40)
    assert spoken.a.unheard == []


async def test_no_name_clears_the_caches_of_all(spoken: Spoken) -> None:
    """Their figures are added."""
    call = asyncio.ensure_future(clear(spoken.channel))
    for process in (spoken.a, spoken.b):
        await process.heard(ClearCache)
        process.say(Cleared(2, 10))
    assert await call == admin_pb2.ClearCacheResponse(entries=4, bytes=20)


async def test_an_unknown_model_has_no_cache(spoken: Spoken) -> None:
    """Nothing is cleared by mistake."""
    refusal = await refused(clear(spoken.channel, "nobody"))
    assert refusal.code == grpc.StatusCode.NOT_FOUND
    assert (spoken.a.unheard, spoken.b.unheard) == ([], [])


async def test_a_cleared_cache_is_empty(channel: aio.Channel) -> None:
    """What was cached is told, and is not found again."""
    request = text_request("A prompt that is sent twice, and is long enough to be kept.", stopping={"maxTokens": 1})
    await answer(channel, request)
    assert (await answer(channel, request)).usage.cached_tokens > 0
    cleared = await clear(channel, "tiny")
    assert cleared.entries > 0
    assert cleared.bytes > 0
    assert await clear(channel, "tiny") == admin_pb2.ClearCacheResponse()
    assert (await answer(channel, request)).usage.cached_tokens == 0
