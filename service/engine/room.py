"""The memory for keys and values: what sequences take of it, and who gives way where they outgrow it."""

import logging

from service.engine.memory import Footprint
from service.engine.running import Running
from service.engine.sequence import Sequence
from service.engine.waiting import WaitingQueue

logger = logging.getLogger(__name__)

_GROWTH = 256
"""Tokens that must be free for each running sequence when another is admitted, so that it is not put back at once."""


class Room:
    """A `budget` of bytes. Sequences come before the prefix cache, which gets what they leave."""

    def __init__(self, budget: int, footprint: Footprint, running: Running, waiting: WaitingQueue) -> None:
        self._budget = budget
        self._footprint = footprint
        self._running = running
        self._waiting = waiting

    @property
    def in_use(self) -> int:
        """Bytes that sequences take, without what only the prefix cache holds."""
        size = self._footprint.bytes
        held = {s.submit.seq: size(s.prefilled) for s in self._waiting if s.cache is not None}
        return self._running.bytes(size) + sum(held.values())

    def beside(self, sequence: Sequence) -> int | None:
        """Bytes that are left once a sequence has its place; None while it has to wait for one."""
        running = len(self._running)
        if running and self._running.is_full:
            return None
        left = self._budget - self.in_use - self._running.grows_by(sequence, self._footprint.bytes)
        soon = running * (self._footprint.bytes(_GROWTH) - self._footprint.fixed)
        return None if running and left < soon else max(0, left)

    def make(self) -> int:
        """Bring what sequences take inside the budget; the bytes that are left.

        What waits gives way first, then the youngest that run. What they had is computed again when there is room.
        """
        while (in_use := self.in_use) > self._budget:
            if holders := [sequence for sequence in self._waiting if sequence.cache is not None]:
                _take_back(holders)
            elif len(self._running) > 1:
                self._put_back(max(self._running, key=lambda row: row.age))
            else:
                break
        return max(0, self._budget - in_use)

    def _put_back(self, sequence: Sequence) -> None:
        logger.info("sequence %d is put back for want of memory", sequence.submit.seq)
        self._running.put_back(sequence)
        self._waiting.push(sequence)


def _take_back(holders: list[Sequence]) -> None:
    """Free the cache that the choices of the youngest request wait with."""
    youngest = max(holders, key=lambda holder: holder.age)
    for holder in holders:
        if holder.submit.seq == youngest.submit.seq:
            holder.put_back()
