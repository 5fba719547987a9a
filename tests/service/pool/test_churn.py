"""Many loads, unloads and deaths in any order, with real engines; at the end the books equal the processes."""

import asyncio
import gc
import random
from pathlib import Path

import psutil
import pytest

from service.engine.frames import Sampling, Submit
from service.errors import ServiceError, Unavailable
from service.pool import deaths
from service.pool.pool import ModelPool
from service.pool.state import ModelState
from tests.service.pool.conftest import MakePool
from tests.service.pool.models import MIB, TWO, check_books, descriptors, engines, tiny

NAMES = "abcd"
ROUNDS = 100
CALLERS = 4
CHURN_S = 240
SHORT = Submit(0, [1, 2, 3], Sampling(seed=0, temperature=0), 5)


class Churn:
    """Callers that use, unload, pin and kill models at random; what became of each try."""

    def __init__(self, pool: ModelPool, seed: int) -> None:
        self.pool = pool
        self.left = ROUNDS
        self.served = self.cut = 0
        self._random = random.Random(seed)

    async def caller(self) -> None:
        """Do things until enough are done."""
        while self.left > 0:
            self.left -= 1
            name, kind = self._random.choice(NAMES), self._random.random()
            try:
                await self._do(name, kind)
            except Unavailable:
                self.cut += 1
            assert sum(self.pool.budget.reserved.values()) <= self.pool.budget.total

    async def _do(self, name: str, kind: float) -> None:
        if kind < 0.08:
            await self.pool.unload(name, force=kind < 0.04)
        elif kind < 0.12 and (pid := self.pool.get(name).engine_pid) is not None:
            psutil.Process(pid).kill()
        elif kind < 0.16:
            with pytest.raises((TimeoutError, ServiceError)):
                async with asyncio.timeout(0.01), self.pool.lease(name):
                    await asyncio.sleep(1)
        else:
            with await self.pool.acquire(name) as lease:
                stream = lease.model.submit(SHORT)
                while not stream.ended:
                    await stream.take()
                self.served += 1


@pytest.mark.timeout(CHURN_S + 60)
async def test_the_books_equal_the_processes(
    make_pool: MakePool, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No process, descriptor or byte is left behind, and every try has had its end."""
    monkeypatch.setattr(deaths, "_PAUSES_S", (0.01,) * 20)
    monkeypatch.setattr("service.pool.memory.PATIENCE_S", 0.5)
    pool = make_pool(*(tiny(name, tiny_model) for name in NAMES), memory_bytes=TWO)
    await pool.start()
    gc.collect()
    before = descriptors()
    churn = Churn(pool, seed=7)
    async with asyncio.timeout(CHURN_S):
        await asyncio.gather(*(churn.caller() for _ in range(CALLERS)))
        for model in pool.models:
            await pool.unload(model.name)
    assert churn.served > ROUNDS / 2
    assert {model.state for model in pool.models} == {ModelState.UNLOADED}
    assert all(model.in_use == model.reserved_bytes == 0 for model in pool.models)
    check_books(pool)
    await pool.stop()
    assert engines() == []
    gc.collect()
    assert descriptors() < before


def taken_bytes() -> int:
    """Memory of this process and its engines."""
    return sum(process.memory_info().rss for process in (psutil.Process(), *engines()))


async def test_unloading_gives_the_memory_back(make_pool: MakePool, tiny_model: Path) -> None:
    """All but 20 MiB, that of the service itself counted; and no more with each further load."""
    pool = make_pool(tiny("a", tiny_model), spare="always")
    await pool.start()
    async with asyncio.timeout(CHURN_S):
        await pool._spare.hello()
        before = taken_bytes()
        for _ in range(3):
            async with pool.lease("a") as model:
                stream = model.submit(SHORT)
                while not stream.ended:
                    await stream.take()
                assert taken_bytes() > before + 20 * MIB
            await pool.unload("a")
            while pool.spare_pid is None:  # noqa: ASYNC110 - nobody else waits for a spare
                await asyncio.sleep(0.05)
            await pool._spare.hello()
            assert taken_bytes() < before + 20 * MIB
