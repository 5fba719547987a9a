"""The parent's side of an engine."""

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import psutil
import pytest

from service.engine.frames import Event, Heartbeat, Hello, Load, Loaded, Loading, Refused
from service.pool.blas import engine_environment
from service.pool.engine_process import EngineProcess

Start = Callable[[Path], Awaitable[tuple[EngineProcess, "asyncio.Queue[Event]"]]]


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Start]:
    """Start engines that end with the test; their events are in the queue."""
    started: list[EngineProcess] = []

    async def start(folder: Path) -> tuple[EngineProcess, asyncio.Queue[Event]]:
        events: asyncio.Queue[Event] = asyncio.Queue()
        engine = await EngineProcess.start(engine_environment(1), events.put_nowait)
        engine.send(Load(str(folder), str(tmp_path), max_running=1, reserved_bytes=1 << 30, prefill_chunk=8))
        started.append(engine)
        return engine, events

    yield start
    for engine in started:
        engine.kill()
        await engine.stop()


async def test_an_engine_loads_idles_and_stops(start: Start, tiny_model: Path) -> None:
    """It says when it is ready, then that it is well, and ends when it is told to."""
    engine, events = await start(tiny_model)
    async with asyncio.timeout(60):
        assert isinstance(await events.get(), Hello)
        told = [await events.get()]
        while isinstance(told[-1], Loading):
            told.append(await events.get())
        assert isinstance(told[-1], Loaded)
        assert {event.stage for event in told if isinstance(event, Loading)} == {"weights", "warming"}
        for _ in range(2):
            beat = await events.get()
            assert isinstance(beat, Heartbeat)
            assert beat.rss_bytes > 1 << 20
        assert not engine.lost.done()
        assert await engine.stop() == 0
    assert not psutil.pid_exists(engine.pid)


async def test_a_killed_engine_is_lost_at_once(start: Start, tiny_model: Path) -> None:
    """Its exit code is the signal's."""
    engine, events = await start(tiny_model)
    await asyncio.wait_for(events.get(), 60)
    engine.kill()
    await asyncio.wait_for(engine.lost, 1)
    assert await engine.stop() == -signal.SIGKILL


async def test_an_engine_that_does_not_stop_is_killed(
    start: Start, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody waits for one that hangs."""
    monkeypatch.setattr("service.pool.engine_process._STOP_S", 0.1)
    engine, events = await start(tiny_model)
    await asyncio.wait_for(events.get(), 60)
    psutil.Process(engine.pid).suspend()
    assert await engine.stop() == -signal.SIGKILL


async def test_a_refusal_arrives_before_the_end(start: Start, tmp_path: Path) -> None:
    """The reason is one line."""
    engine, events = await start(tmp_path)
    await asyncio.wait_for(engine.lost, 60)
    told = [events.get_nowait() for _ in range(events.qsize())]
    refused = told[-1]
    assert isinstance(refused, Refused)
    assert refused.reason
    assert "\n" not in refused.reason
