"""A request's hold on a model."""

import asyncio
from pathlib import Path

import pytest

from service.errors import QueueFull, Unavailable
from service.pool.pool import ModelPool
from tests.service.fakes import FakeEngines
from tests.service.pool.conftest import MakePool, mine


@pytest.fixture
async def pool(make_pool: MakePool, engines: FakeEngines, fake_folder: Path) -> ModelPool:
    """Give a pool on fake engines."""
    made: ModelPool = make_pool(mine(fake_folder), max_queued=2)
    await made.start()
    return made


async def test_those_that_use_it_are_counted(pool: ModelPool) -> None:
    """Each once, however often it is given back."""
    leases = [await pool.acquire("mine") for _ in range(3)]
    assert (pool.get("mine").active, pool.get("mine").in_use) == (3, 3)
    for lease in leases:
        lease.release()
        lease.release()
    assert pool.get("mine").in_use == 0


async def test_one_that_fails_inside_is_given_back(pool: ModelPool) -> None:
    """As any block does."""
    with pytest.raises(ValueError, match="x"):
        async with pool.lease("mine"):
            raise ValueError("x")
    assert pool.get("mine").in_use == 0


async def test_whoever_waits_for_the_next_engine_counts_as_waiting(pool: ModelPool, engines: FakeEngines) -> None:
    """And uses it again once that is there; too many may not wait."""
    model = pool.get("mine")
    lease = pool.enter("mine")
    assert model.active == 1
    engines.process.lose()
    while model.is_open:
        await model.changed()
    waiting = asyncio.create_task(lease.ready())
    await asyncio.sleep(0)
    assert (model.active, model.waiting) == (0, 1)
    with pool.enter("mine"), pytest.raises(QueueFull):
        pool.enter("mine")
    await asyncio.wait_for(waiting, 5)
    assert (model.active, model.waiting) == (1, 0)
    lease.release()
    assert model.in_use == 0


async def test_nobody_is_let_in_once_it_goes(pool: ModelPool) -> None:
    """Until it is gone; one that holds it already may go on."""
    lease = await pool.acquire("mine")
    unloading = asyncio.create_task(pool.unload("mine"))
    await asyncio.sleep(0)
    with pytest.raises(Unavailable):
        await pool.acquire("mine")
    assert (await lease.ready()) is pool.get("mine").facts
    lease.release()
    await asyncio.wait_for(unloading, 5)
    (await pool.acquire("mine")).release()
