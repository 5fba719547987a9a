"""Which LoRA each row of a forward pass has."""

from collections.abc import Sequence as Items
from dataclasses import dataclass

import mlx.core as mx
import numpy as np

NONE = 0
"""The number of no LoRA."""

Numbers = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Places:
    """Where the rows of a pass find their factors, among those of some LoRAs."""

    only: int | None
    """The place of all rows, where they have the same LoRA."""
    index: mx.array
    """The place of each row, of shape (rows,); any for a row that has none of them."""
    has: mx.array | None
    """Which rows have one at all, of shape (rows, 1, 1); None where all have."""
    own: mx.array
    """Which of all factors, put together, are those of a row, of shape (rows, LoRAs * rank)."""
    nothing: mx.array
    """Zeros of that shape, which are faster to choose from than a single one."""


class Selection:
    """The LoRAs of a pass's rows, by their numbers."""

    def __init__(self, rows: Items[int]) -> None:
        self.rows = tuple(rows)
        self._places: dict[tuple[Numbers, int, mx.Dtype], Places | None] = {}

    def places(self, numbers: Numbers, rank: int, dtype: mx.Dtype) -> Places | None:
        """The rows' places among LoRAs of one rank and type; None where no row has one of them."""
        key = (numbers, rank, dtype)
        if key not in self._places:
            self._places[key] = self._found(numbers, rank, dtype)
        return self._places[key]

    def _found(self, numbers: Numbers, rank: int, dtype: mx.Dtype) -> Places | None:
        hot = np.array(self.rows)[:, None] == np.array(numbers)[None]
        has = hot.any(axis=1)
        if not has.any():
            return None
        index = hot.argmax(axis=1)
        only = int(index[0]) if has.all() and (index == index[0]).all() else None
        return Places(
            only=only,
            index=mx.array(index.astype(np.uint32)),
            has=None if has.all() else mx.array(has[:, None, None]),
            own=mx.array(np.repeat(hot, rank, axis=1)),
            nothing=mx.zeros((len(self.rows), len(numbers) * rank), dtype),
        )
