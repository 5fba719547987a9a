"""What is learned of the device before the first model comes."""

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from service.engine.frames import Event
from service.errors import Unavailable
from service.pool import spare
from service.pool.courtesy import Courtesy
from service.pool.engine_process import EngineProcess
from service.pool.state import ModelState
from tests.service.fakes import FakeEngines, FakeProcess
from tests.service.pool.conftest import MakePool, mine


def silence(engines: FakeEngines, monkeypatch: pytest.MonkeyPatch, *, first: int, lost: bool) -> None:
    """Let the first engines say nothing, and end at once if they are to be lost."""
    start: Callable[..., object] = EngineProcess.start

    async def silent(
        environment: Mapping[str, str], receive: Callable[[Event], None], courtesy: Courtesy
    ) -> FakeProcess:
        process: FakeProcess = await start(environment, receive, courtesy)  # type: ignore[misc]
        if len(engines.started) <= first:
            process._receive = lambda _: None
            if lost:
                process.lose()
        return process

    monkeypatch.setattr(EngineProcess, "start", silent)


@pytest.mark.parametrize("lost", [True, False])
async def test_an_engine_that_says_nothing_is_followed_by_another(
    make_pool: MakePool, engines: FakeEngines, fake_folder: Path, monkeypatch: pytest.MonkeyPatch, *, lost: bool
) -> None:
    """Whether it has died or hangs, the model that waits for it comes."""
    monkeypatch.setattr(spare, "_HELLO_S", 0.2)
    silence(engines, monkeypatch, first=2, lost=lost)
    pool = make_pool(mine(fake_folder), spare="never")
    async with asyncio.timeout(5), pool.lease("mine") as model:
        assert model.is_serving
    assert [process.lost.done() for process in engines.started] == [True, True, False]


async def test_a_machine_whose_engines_all_die_is_not_tried_for_ever(
    make_pool: MakePool, engines: FakeEngines, fake_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The model has failed then, and says why."""
    silence(engines, monkeypatch, first=100, lost=True)
    pool = make_pool(mine(fake_folder), spare="never")
    async with asyncio.timeout(5):
        with pytest.raises(Unavailable, match="before it had said a word, 3 times in a row"):
            await pool.acquire("mine")
    assert pool.get("mine").state is ModelState.FAILED
    assert len(engines.started) == 3


async def test_nobody_takes_an_engine_from_those_that_wait_for_its_first_word(
    make_pool: MakePool, engines: FakeEngines, fake_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though no spare is wanted, and something else changes meanwhile."""
    silence(engines, monkeypatch, first=1, lost=False)
    monkeypatch.setattr(spare, "_HELLO_S", 1.0)
    pool = make_pool(mine(fake_folder), spare="never")
    pool._started = True
    waiting = asyncio.create_task(pool.acquire("mine"))
    async with asyncio.timeout(5):
        while not engines.started:  # noqa: ASYNC110 - it tells nobody
            await asyncio.sleep(0.01)
    pool.pin("mine")
    await asyncio.sleep(0.2)
    assert not engines.process.lost.done()
    (await asyncio.wait_for(waiting, 5)).release()
