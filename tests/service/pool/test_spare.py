"""An engine process that waits for a model."""

import asyncio
from collections.abc import Mapping
from pathlib import Path

import psutil
import pytest

from service.pool.blas import engine_environment
from service.pool.courtesy import NONE, Courtesy
from service.pool.engine import Engine
from service.pool.pool import ModelPool
from service.pool.spare import Spare
from tests.service.pool.conftest import LOAD_S, MakePool, mine
from tests.service.pool.models import check_books, engines, tiny


async def spare_of(pool: ModelPool, other_than: int | None = None) -> int:
    """Wait until there is a spare."""
    async with asyncio.timeout(LOAD_S):
        while (pid := pool.spare_pid) in {None, other_than}:  # noqa: ASYNC110 - nobody else waits for a spare
            await asyncio.sleep(0.02)
        assert pid is not None
        await pool._spare.hello()
        return pid


async def test_the_spare_becomes_the_engine(make_pool: MakePool, tiny_model: Path) -> None:
    """Another one takes its place while some model is not in memory; then there is none."""
    pool = make_pool(*(tiny(name, tiny_model) for name in "ab"))
    await pool.start()
    for name in "ab":
        spare = await spare_of(pool)
        async with pool.lease(name) as model:
            assert model.engine_pid == spare
    await asyncio.sleep(0.5)
    assert pool.spare_pid is None
    assert len(engines()) == 2
    await pool.unload("a")
    await spare_of(pool)
    check_books(pool)


async def test_there_is_none_where_nobody_wants_one(make_pool: MakePool, tiny_model: Path) -> None:
    """A service with all its models in memory does not pay for one."""
    for setting in ("auto", "never"):
        pool = make_pool(mine(tiny_model), spare=setting)
        await pool.start()
        await asyncio.sleep(0.3)
        assert pool.spare_pid is None
        await pool.stop()
    pool = make_pool(mine(tiny_model), spare="always")
    await pool.start()
    await spare_of(pool)


async def test_a_dead_spare_is_replaced_and_never_used(make_pool: MakePool, tiny_model: Path) -> None:
    """One that does not answer is not used either."""
    pool = make_pool(*(tiny(name, tiny_model) for name in "ab"), spare="always")
    await pool.start()
    first = await spare_of(pool)
    psutil.Process(first).kill()
    second = await spare_of(pool, first)
    psutil.Process(second).suspend()
    await asyncio.sleep(5.5)
    async with asyncio.timeout(LOAD_S), pool.lease("a") as model:
        assert model.engine_pid not in {first, second}
    assert not psutil.pid_exists(second)


async def test_one_that_is_not_ready_races_with_a_new_one(make_pool: MakePool, tiny_model: Path) -> None:
    """So that nobody waits for a process that yields to all others; the slower one is the next spare."""
    pool = make_pool(*(tiny(name, tiny_model) for name in "ab"), spare="always")
    await pool.start()
    first = await spare_of(pool)
    async with asyncio.timeout(LOAD_S):
        async with pool.lease("a") as model:
            assert model.engine_pid == first
        while (slow := pool.spare_pid) is None:  # noqa: ASYNC110 - nobody else waits for a spare
            await asyncio.sleep(0.001)
        psutil.Process(slow).suspend()
        async with pool.lease("b") as model:
            assert model.engine_pid not in {first, slow}
        assert pool.spare_pid == slow
        psutil.Process(slow).resume()
    check_books(pool)


async def test_a_race_is_run_by_two() -> None:
    """No third process is started for a spare, as the slower one will be that."""
    spare = Spare(engine_environment(1), lambda: True)
    spare.review()
    async with asyncio.timeout(LOAD_S):
        while spare.pid is None:  # noqa: ASYNC110 - nobody else waits for a spare
            await asyncio.sleep(0.001)
        loser = spare.pid
        psutil.Process(loser).suspend()
        spare._not_before = 0.0
        taking = asyncio.create_task(spare.take(NONE))
        while not taking.done():
            spare.review()
            assert len(engines()) <= 2
            await asyncio.sleep(0.01)
        winner = await taking
        assert winner.pid != loser == spare.pid
        psutil.Process(loser).resume()
    await spare.stop()
    await winner.stop()
    assert not engines()


async def test_the_loser_of_a_race_is_nobody_elses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where another spare is being started meanwhile, one of the two ends: no process is left without an owner."""
    start, raced, is_slow = Engine.start, asyncio.Event(), False

    async def delayed(environment: Mapping[str, str], courtesy: Courtesy = NONE) -> Engine:
        engine = await start(environment, courtesy)
        if is_slow:
            await raced.wait()
        return engine

    monkeypatch.setattr(Engine, "start", delayed)
    spare = Spare(engine_environment(1), lambda: True)
    assert await spare.hello() is not None
    await spare.stop()
    spare = Spare(engine_environment(1), lambda: True)
    spare.review()
    async with asyncio.timeout(LOAD_S):
        while spare.pid is None:  # noqa: ASYNC110 - nobody else waits for a spare
            await asyncio.sleep(0.01)
        taking = asyncio.create_task(spare.take(NONE))
        while len(engines()) < 2:  # noqa: ASYNC110 - they are processes
            await asyncio.sleep(0.001)
        is_slow = True
        asking = asyncio.create_task(spare.hello())
        winner = await taking
        raced.set()
        assert await asking is not None
    assert {process.pid for process in engines()} == {winner.pid, spare.pid}
    await spare.stop()
    await winner.stop()
    assert not engines()
