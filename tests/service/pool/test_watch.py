"""Those that watch."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from service.config import ModelConfig
from service.pool.snapshot import Snapshot
from service.pool.state import ModelState
from service.pool.watch import Watchers


def snapshot(name: str, in_use: int = 0) -> Snapshot:
    config = ModelConfig(name, path="/m")
    return Snapshot(config, ModelState.READY, "", None, pinned=False, in_use=in_use, memory_bytes=0, progress=None)


async def read(watch: AsyncIterator[Snapshot], count: int) -> list[tuple[str, int]]:
    async with asyncio.timeout(5):
        return [(seen.name, seen.in_use) for seen in [await anext(watch) for _ in range(count)]]


async def test_the_present_comes_first_then_each_change() -> None:
    """To each of those that watch."""
    watchers = Watchers()
    watches = [watchers.watch(lambda: [snapshot("a"), snapshot("b")]) for _ in range(2)]
    for watch in watches:
        assert await read(watch, 2) == [("a", 0), ("b", 0)]
    for number in (1, 2):
        watchers.tell(lambda number=number: snapshot("b", number))  # type: ignore[misc]
    for watch in watches:
        assert await read(watch, 2) == [("b", 1), ("b", 2)]


async def test_a_slow_watcher_gets_the_latest_of_each() -> None:
    """And holds no more than a bounded number of changes."""
    watchers = Watchers()
    watch = watchers.watch(lambda: [snapshot("a"), snapshot("b")])
    await read(watch, 1)
    for number in range(10_000):
        watchers.tell(lambda number=number: snapshot("a", number))  # type: ignore[misc]
    watchers.tell(lambda: snapshot("b", 7))
    [watcher] = watchers._watchers
    assert len(watcher._news) < 200
    seen = dict(await read(watch, 1 + len(watcher._news)))
    assert seen == {"a": 9_999, "b": 7}


async def test_one_that_leaves_is_forgotten() -> None:
    """And no snapshot is taken for nobody."""
    watchers = Watchers()
    watch = watchers.watch(lambda: [snapshot("a")])
    await read(watch, 1)
    await watch.aclose()
    watchers.tell(lambda: pytest.fail("nobody watches"))
    assert watchers._watchers == set()
