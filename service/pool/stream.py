"""What the engine says of one sequence, on its way to the request that waits for it."""

import asyncio
from collections.abc import Callable

from service.engine.frames import Progress, Queued, Row
from service.errors import ServiceError

Item = Queued | Progress | Row

FAILURES = frozenset({"error", "deadline", "invalid"})
"""Finish reasons of a whole sequence; the others are those of a choice."""


class Stream:
    """What the engine says of one sequence. A slow reader gets what has gathered in one go."""

    def __init__(self, seq: int, abort: Callable[["Stream", int | None], None], *, choices: int = 1) -> None:
        """`abort` tells the engine that nobody waits for a choice any more, or with None for any of them."""
        self.seq = seq
        self._abort = abort
        self._running = set(range(choices))
        self._items: list[Item] = []
        self._error: ServiceError | None = None
        self._reader: asyncio.Future[None] | None = None
        """Done once there is something for the one who waits; a future is half of an Event's work for a token."""

    @property
    def choices(self) -> int:
        """How many of its choices have not ended."""
        return len(self._running)

    @property
    def ended(self) -> bool:
        """Whether nothing more will come."""
        return not self._running

    def put(self, item: Item) -> None:
        """Add what the engine said."""
        self._items.append(item)
        if isinstance(item, Row) and item.finish is not None:
            self._running.discard(item.choice)
            if item.finish in FAILURES:
                self.close()  # the other choices fail with this one, whether or not they have ended in the engine
        self._wake()

    def fail(self, error: ServiceError) -> None:
        """End the stream with an error, after what has already arrived."""
        self._error = error
        self._running.clear()
        self._wake()

    async def take(self) -> list[Item]:
        """Everything that has arrived; waits for at least one item. Raises the error that ended the stream.

        For one reader at a time.
        """
        if not self._items and self._error is None:
            self._reader = asyncio.get_running_loop().create_future()
            await self._reader
        items, self._items = self._items, []
        if not items and self._error is not None:
            raise self._error
        return items

    def drop(self, choice: int) -> None:
        """Give one choice up; the engine stops it within one step. Does nothing after its end, or twice."""
        if self._running == {choice}:
            self.close()
        elif choice in self._running:
            self._running.remove(choice)
            self._abort(self, choice)

    def close(self) -> None:
        """Give the sequence up; the engine stops within one step. Does nothing after its end, or twice."""
        if self._running:
            self._running.clear()
            self._abort(self, None)

    def _wake(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)
