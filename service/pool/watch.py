"""Those that watch the models of a pool."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable

from service.pool.snapshot import Snapshot

_MOST = 64
"""Changes that are kept for a slow reader; beyond them it gets the latest of each model."""


class Watcher:
    """One that watches: what has happened since it last looked."""

    def __init__(self, present: Iterable[Snapshot]) -> None:
        self._news = list(present)
        self._least = len(self._news)
        self._arrived = asyncio.Event()

    def put(self, snapshot: Snapshot) -> None:
        """A model has changed."""
        self._news.append(snapshot)
        if len(self._news) > max(_MOST, 2 * self._least):
            latest = {news.name: news for news in self._news}
            self._news = list(latest.values())
            self._least = len(self._news)
        self._arrived.set()

    async def take(self) -> list[Snapshot]:
        """All news, at least one."""
        while not self._news:
            self._arrived.clear()
            await self._arrived.wait()
        news, self._news = self._news, []
        return news


class Watchers:
    """All that watch; the place that every change goes through."""

    def __init__(self) -> None:
        self._watchers: set[Watcher] = set()

    def tell(self, snapshot: Callable[[], Snapshot]) -> None:
        """Let all know of a change; the snapshot is taken only where somebody watches."""
        if self._watchers:
            taken = snapshot()
            for watcher in self._watchers:
                watcher.put(taken)

    async def watch(self, present: Callable[[], Iterable[Snapshot]]) -> AsyncGenerator[Snapshot]:
        """The present state of each model, then each change as it comes."""
        watcher = Watcher(present())
        self._watchers.add(watcher)
        try:
            while True:
                for snapshot in await watcher.take():
                    yield snapshot
        finally:
            self._watchers.discard(watcher)
