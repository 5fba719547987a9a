"""The memory for keys and values: how much of it the sequences take."""

from collections.abc import Iterable

from service.engine.batch import Batch
from service.engine.memory import Footprint
from service.engine.sequence import Sequence

_GROWTH = 256
"""Tokens that must be free for each running sequence when another is admitted, so that it is not put back at once."""


class Room:
    """What sequences take of a `budget`, both in bytes. What only the prefix cache holds is not counted."""

    def __init__(self, budget: int, footprint: Footprint) -> None:
        self.budget = budget
        self._footprint = footprint

    def in_use(self, batch: Batch, prefilling: Iterable[Sequence], waiting: Iterable[Sequence]) -> int:
        """Bytes of keys and values."""
        size = self._footprint.bytes
        decoded = sum(len(band.rows) * size(band.length + 1) for band in batch.bands)
        processed = sum(size(row.length + 1) for row in prefilling)
        held = {s.submit.seq: size(s.prefilled) for s in waiting if s.cache is not None}
        return decoded + processed + sum(held.values())

    def needed(self, sequence: Sequence, batch: Batch) -> int:
        """Bytes that a sequence would take in the batch."""
        return batch.grows_by(sequence, self._footprint.bytes)

    def growth(self, running: int) -> int:
        """Bytes that so many sequences will soon take more."""
        return running * (self._footprint.bytes(_GROWTH) - self._footprint.fixed)
