"""One sequence's tokens on their way from the engine to the request that waits for them."""

import asyncio
from collections.abc import Callable

from service.engine.frames import Progress, Row
from service.errors import ServiceError

Item = Progress | Row


class Stream:
    """What the engine says of one sequence. A slow reader gets what has gathered in one go."""

    def __init__(self, seq: int, abort: Callable[["Stream"], None]) -> None:
        """`abort` tells the engine that nobody waits for the sequence any more."""
        self.seq = seq
        self._abort = abort
        self._items: list[Item] = []
        self._error: ServiceError | None = None
        self._arrived = asyncio.Event()
        self.ended = False

    def put(self, item: Item) -> None:
        """Add what the engine said."""
        self._items.append(item)
        self.ended = isinstance(item, Row) and item.finish is not None
        self._arrived.set()

    def fail(self, error: ServiceError) -> None:
        """End the stream with an error, after what has already arrived."""
        self._error = error
        self.ended = True
        self._arrived.set()

    async def take(self) -> list[Item]:
        """Everything that has arrived; waits for at least one item. Raises the error that ended the stream."""
        await self._arrived.wait()
        items, self._items = self._items, []
        if self._error is None:
            self._arrived.clear()
        elif not items:
            raise self._error
        return items

    def close(self) -> None:
        """Give the sequence up; the engine stops within one step. Does nothing after its end, or twice."""
        if not self.ended:
            self.ended = True
            self._abort(self)
