"""The whole service as a process: health, drain, and what happens when an engine dies."""

import asyncio
import signal
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import psutil
import pytest
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from mlx_grpc.v1 import models_pb2 as models_pb
from mlx_grpc.v1 import models_pb2_grpc as models_grpc
from tests.calls import ENDLESS, answer, call, chat_request, first_text, refusal, refused, server_info, text_request
from tests.conftest import StartService
from tests.processes import ServiceProcess, run_to_end

PROMPT = "The sky is"
ONE = {"maxTokens": 1}
NOTICED_S = 1.0
"""How soon the death of an engine must be known."""
RESTART_S = 60.0
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
SERVICE_UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN


class Watch:
    """What health says of a name, as it changes."""

    def __init__(self, channel: aio.Channel, name: str) -> None:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        self._call = stub.Watch(health_pb2.HealthCheckRequest(service=name))
        self._states = aiter(self._call)

    async def until(self, state: int) -> None:
        """Read until a state comes."""
        async with asyncio.timeout(RESTART_S):
            while (await anext(self._states)).status != state:
                pass

    def cancel(self) -> None:
        self._call.cancel()


@asynccontextmanager
async def connected(process: ServiceProcess) -> AsyncIterator[aio.Channel]:
    async with aio.insecure_channel(process.address) as channel:
        yield channel


async def check(channel: aio.Channel, name: str) -> int:
    stub: Any = health_pb2_grpc.HealthStub(channel)
    status: int = (await stub.Check(health_pb2.HealthCheckRequest(service=name))).status
    return status


@pytest.mark.parametrize(
    "name",
    [
        "",
        *(f"mlx_grpc.v1.{name}Service" for name in ("Generation", "Model", "Tokenizer", "Admin")),
        *("model/tiny", "model/talker", "model/bare"),
    ],
)
async def test_everything_that_serves_says_so(channel: aio.Channel, name: str) -> None:
    """The server, its services and its models, each by its own name, asked or watched."""
    assert await check(channel, name) == SERVING
    watch = Watch(channel, name)
    await watch.until(SERVING)
    watch.cancel()


async def test_health_does_not_know_other_names(channel: aio.Channel) -> None:
    """As the health protocol has it."""
    assert (await refused(check(channel, "nobody"))).code == grpc.StatusCode.NOT_FOUND
    watch = Watch(channel, "nobody")
    await watch.until(SERVICE_UNKNOWN)
    watch.cancel()


async def test_a_killed_engine_ends_its_streams_and_comes_back(start_service: StartService, tiny_model: Path) -> None:
    """Callers may try again at once, wait for the new engine, and are answered by it; others are not concerned."""
    process = await start_service({"tiny": tiny_model, "other": tiny_model})
    async with connected(process) as channel:
        watch, aside = Watch(channel, "model/tiny"), Watch(channel, "model/other")
        await watch.until(SERVING)
        await aside.until(SERVING)
        running, unconcerned = (
            call(channel, text_request(PROMPT, model=name, stopping=ENDLESS)) for name in ("tiny", "other")
        )
        await first_text(running)
        await first_text(unconcerned)
        engine = process.engines[0]

        engine.kill()
        killed = time.monotonic()
        with pytest.raises(aio.AioRpcError) as raised:
            _ = [event async for event in running]
        noticed = time.monotonic()
        await watch.until(NOT_SERVING)
        await answer(channel, text_request(PROMPT, stopping=ONE))
        await watch.until(SERVING)

        ended = refusal(raised.value)
        assert (ended.code, list(ended.details)) == (grpc.StatusCode.UNAVAILABLE, ["RetryInfo"])
        assert noticed - killed < NOTICED_S
        assert engine.pid not in {child.pid for child in process.engines}
        assert await first_text(unconcerned)
        assert await check(channel, "model/other") == SERVING
        unconcerned.cancel()


async def test_a_model_that_is_started_again_says_so(start_service: StartService, tiny_model: Path) -> None:
    """It is loading, and requests wait for it as long as they like."""
    process = await start_service({"tiny": tiny_model})
    async with connected(process) as channel:
        watch = Watch(channel, "")
        await watch.until(SERVING)
        process.engines[0].kill()
        await watch.until(NOT_SERVING)
        stub: Any = models_grpc.ModelServiceStub(channel)
        [model] = (await stub.ListModels(models_pb.ListModelsRequest())).models
        assert model.state == models_pb.MODEL_STATE_LOADING
        with pytest.raises(aio.AioRpcError) as raised:
            _ = [event async for event in call(channel, text_request(PROMPT), timeout=0.05)]
        assert raised.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        waiting = [answer(channel, text_request(PROMPT, stopping=ONE)) for _ in range(3)]
        assert [result.usage.completion_tokens for result in await asyncio.gather(*waiting)] == [1, 1, 1]


async def test_a_silent_engine_is_not_serving(start_service: StartService, tiny_model: Path, tmp_path: Path) -> None:
    """An engine that hangs is reported after the time that is set, and again when it goes on."""
    config = tmp_path / "service.toml"
    config.write_text("heartbeat_timeout_s = 1.5\n")
    process = await start_service({"tiny": tiny_model}, "--config", str(config))
    async with connected(process) as channel:
        watch = Watch(channel, "model/tiny")
        await watch.until(SERVING)
        [engine] = process.engines
        engine.suspend()
        stub: Any = models_grpc.ModelServiceStub(channel)
        try:
            await watch.until(NOT_SERVING)
            [silent] = (await stub.ListModels(models_pb.ListModelsRequest())).models
        finally:
            engine.resume()
        await watch.until(SERVING)
        [well] = (await stub.ListModels(models_pb.ListModelsRequest())).models
        assert (silent.state, bool(silent.error)) == (models_pb.MODEL_STATE_LOADING, True)
        assert (well.state, well.error) == (models_pb.MODEL_STATE_READY, "")
        assert [child.pid for child in process.engines] == [engine.pid]
        assert (await answer(channel, text_request(PROMPT, stopping=ONE))).usage.completion_tokens == 1


async def test_sigterm_lets_what_runs_finish(start_service: StartService, tiny_model: Path) -> None:
    """Health turns first, new calls are turned away, the stream ends as it would have, and the exit code is 0."""
    process = await start_service({"tiny": tiny_model})
    async with connected(process) as channel:
        watch = Watch(channel, "")
        await watch.until(SERVING)
        request = text_request(PROMPT, stopping={"maxTokens": 1500, "ignoreEos": True}, output={"tokenIds": True})
        running = call(channel, request)
        await first_text(running)
        engines = process.engines

        process.signal(signal.SIGTERM)
        await watch.until(NOT_SERVING)
        late = await refused(answer(channel, text_request(PROMPT)))
        assert (await server_info(channel)).draining
        events = [event async for event in running]

        assert (late.code, list(late.details)) == (grpc.StatusCode.UNAVAILABLE, ["RetryInfo"])
        assert events[-1].completed.usage.completion_tokens == 1500
        watch.cancel()
    assert await process.exit_code() == 0
    assert not any(engine.is_running() for engine in engines)
    assert "Traceback" not in process.errors


async def test_a_stream_that_does_not_finish_is_cut(start_service: StartService, tiny_model: Path) -> None:
    """The time that draining may take is bounded; the caller may try again, and the exit is still a clean one."""
    process = await start_service({"tiny": tiny_model}, "--drain-s", "0.2")
    async with connected(process) as channel:
        running = call(channel, text_request(PROMPT, stopping=ENDLESS))
        await first_text(running)
        process.signal(signal.SIGTERM)
        with pytest.raises(aio.AioRpcError) as raised:
            _ = [event async for event in running]
        ended = refusal(raised.value)
        assert (ended.code, list(ended.details)) == (grpc.StatusCode.UNAVAILABLE, ["RetryInfo"])
    assert await process.exit_code() == 0


async def test_a_second_signal_does_not_wait(start_service: StartService, tiny_model: Path) -> None:
    """Whoever asks twice means it; no engine is left behind."""
    process = await start_service({"tiny": tiny_model})
    async with connected(process) as channel:
        watch = Watch(channel, "")
        await watch.until(SERVING)
        running = call(channel, text_request(PROMPT, stopping=ENDLESS))
        await first_text(running)
        engines = process.engines
        process.signal(signal.SIGTERM)
        await watch.until(NOT_SERVING)
        process.signal(signal.SIGINT)
        assert await process.exit_code() == 1
        _, alive = await asyncio.to_thread(psutil.wait_procs, engines, 5)
        assert alive == []


async def test_engines_end_when_the_service_is_killed(start_service: StartService, tiny_model: Path) -> None:
    """Nobody is left to tell them, and they notice, in the middle of a stream too."""
    process = await start_service({"tiny": tiny_model})
    async with connected(process) as channel:
        await first_text(call(channel, text_request(PROMPT, stopping=ENDLESS)))
        engines = process.engines
        process.process.kill()
        _, alive = await asyncio.to_thread(psutil.wait_procs, engines, 5)
        assert len(engines) == 1
        assert alive == []


async def test_a_unix_socket_serves_too(start_service: StartService, talker_model: Path, socket_path: Path) -> None:
    """All addresses are named in the line, a port of 0 by the one that it became."""
    flags = ("--listen", f"unix:{socket_path}", "--listen", "127.0.0.1:0")
    process = await start_service({"talker": talker_model}, *flags)
    unix, tcp = process.addresses
    assert unix == f"unix:{socket_path}"
    assert 0 < int(tcp.rpartition(":")[2]) < 1 << 16
    for address in (unix, tcp):
        async with aio.insecure_channel(address) as channel:
            assert (await answer(channel, chat_request("What is two and two?"))).text == "Four."


async def test_only_a_dead_unix_socket_is_taken_over(
    start_service: StartService, tiny_model: Path, socket_path: Path, tmp_path: Path
) -> None:
    """One that a killed service has left is used again; one that is served stays with whoever serves it."""
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(socket_path))
    flags = ("--listen", f"unix:{socket_path}")
    first = await start_service({"first": tiny_model}, *flags)
    code, errors = await run_to_end(*flags, "--model", f"second={tiny_model}", "--cache-dir", str(tmp_path))
    assert (code, errors.count("\n")) == (1, 1)
    assert str(socket_path) in errors
    async with connected(first) as channel:
        assert (await server_info(channel)).models == ["first"]
