"""The gate that generating calls pass: shut while the server finishes what runs."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from service.errors import Unavailable

_RETRY_S = 5.0


class Drain:
    """Counts the calls that run, and lets no new ones in once it has begun."""

    def __init__(self) -> None:
        self.begun = False
        self._running = 0
        self._empty = asyncio.Event()
        self._empty.set()

    @property
    def running(self) -> int:
        """How many calls run."""
        return self._running

    @contextmanager
    def admitted(self) -> Iterator[None]:
        """Count a call for as long as it runs. Raises Unavailable once draining has begun."""
        if self.begun:
            raise Unavailable("the server is shutting down", retry_after=_RETRY_S)
        self._running += 1
        self._empty.clear()
        try:
            yield
        finally:
            self._running -= 1
            if not self._running:
                self._empty.set()

    async def finish(self, seconds: float) -> bool:
        """Let no more calls in and wait up to `seconds` for those that run; whether all have ended."""
        self.begun = True
        try:
            async with asyncio.timeout(seconds):
                await self._empty.wait()
        except TimeoutError:
            return False
        return True
