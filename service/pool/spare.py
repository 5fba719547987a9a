"""An engine process that has imported everything and waits for a model."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import structlog

from service.engine.frames import Hello
from service.pool.courtesy import BACKGROUND, Courtesy
from service.pool.engine import Engine

log = structlog.get_logger()

_RETRY_S = 5.0
"""Pause after a spare that could not be started or has died."""

_SILENT_S = 5.0
"""A spare that has not been heard of for so long is not used."""

_HELLO_S = 120.0
"""How long one waits for its first word: it imports, and on a busy machine it yields to others."""


class Spare:
    """Keeps at most one spare engine, while `is_wanted` says so when it is asked."""

    def __init__(self, environment: Mapping[str, str], is_wanted: Callable[[], bool]) -> None:
        """`environment` is that of the processes."""
        self._environment = environment
        self._is_wanted = is_wanted
        self._engine: Engine | None = None
        self._starting = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None
        self._not_before = 0.0
        self._asked = 0
        """How many wait for its first word."""
        self._races = 0
        """How many are under way: each leaves a spare."""
        self._closed = False

    @property
    def pid(self) -> int | None:
        """Process id of the spare, if there is one."""
        return self._engine.pid if self._engine else None

    async def hello(self) -> Hello | None:
        """What an engine says of the device; None from one that died, or that has to, as it says nothing.

        It stays as the spare. Raises OSError.
        """
        self._asked += 1
        try:
            async with self._starting:
                if self._engine is not None and self._engine.lost.done():
                    await self._end()
                engine = self._engine or await self._offer(await Engine.start(self._environment))
            outcomes: list[asyncio.Future[Any]] = [engine.hello, engine.lost]
            await asyncio.wait(outcomes, timeout=_HELLO_S, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._asked -= 1
        if engine.hello.done():
            return engine.hello.result()
        engine.kill()
        return None

    async def take(self, courtesy: Courtesy) -> Engine:
        """The spare, or else a new engine of this courtesy, which need not have said hello yet. Raises OSError.

        A spare that is not ready yields to all else on the machine. Unless whoever asks does so too, it races with a
        new one, and the slower one is the next spare.
        """
        async with self._starting:
            spare, self._engine = self._engine, None
        if spare is not None and (spare.lost.done() or (spare.hello.done() and spare.silent_s > _SILENT_S)):
            spare.kill()
            await spare.stop()
            spare = None
        if spare is None:
            return await Engine.start(self._environment, courtesy)
        return spare if spare.hello.done() or courtesy.background_s else await self._race(spare)

    def review(self) -> None:
        """Start a spare, or end it, where what is wanted has changed."""
        if self._closed or (self._task is not None and not self._task.done()):
            return
        if (self._engine is not None) != self._is_due() or (self._engine and self._engine.lost.done()):
            self._task = asyncio.create_task(self._adjust())
            self._task.add_done_callback(_note_bug)

    async def stop(self) -> None:
        """End the spare, for good."""
        self._closed = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        await self._end()

    def _is_due(self) -> bool:
        """Whether there should be one: nobody takes it from those that wait for its first word."""
        return self._asked > 0 or (self._is_wanted() and not self._races)

    async def _race(self, spare: Engine) -> Engine:
        racers = [spare]
        self._races += 1
        try:
            racers.append(await Engine.start(self._environment))
            outcomes: list[asyncio.Future[Any]] = [end for racer in racers for end in (racer.hello, racer.lost)]
            await asyncio.wait(outcomes, return_when=asyncio.FIRST_COMPLETED)
            winner = next((racer for racer in racers if racer.hello.done()), racers[-1])
            racers.remove(winner)
        finally:
            self._races -= 1
            for racer in racers:
                await self._offer(racer)
        return winner

    async def _adjust(self) -> None:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(max(0.0, self._not_before - loop.time()))
        async with self._starting:
            if self._engine is not None and (self._engine.lost.done() or not self._is_due()):
                await self._end()
            if self._engine is None and self._is_wanted() and not self._races:
                self._not_before = loop.time() + _RETRY_S
                try:
                    await self._offer(await Engine.start(self._environment, BACKGROUND))
                except OSError as error:
                    log.warning("a spare engine cannot be started", reason=error.strerror or str(error))
                    loop.call_later(_RETRY_S, self.review)

    async def _offer(self, engine: Engine) -> Engine:
        """Make an engine the spare, or end it where another has come first; which of them is the spare."""
        if self._engine is None and not self._closed:
            self._engine = engine
            engine.hello.add_done_callback(self._well)
            engine.lost.add_done_callback(lambda _: self.review())
            return engine
        engine.kill()
        await engine.stop()
        return self._engine or engine

    def _well(self, hello: asyncio.Future[Hello]) -> None:
        if not hello.cancelled():
            self._not_before = 0.0

    async def _end(self) -> None:
        engine, self._engine = self._engine, None
        if engine is not None:
            await engine.stop()


def _note_bug(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("bug", exc_info=error)
