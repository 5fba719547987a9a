"""The sequences that have a place in memory."""

from collections.abc import Callable, Collection, Iterator

from service.engine.batch import Batch
from service.engine.prefill import Prefill
from service.engine.sequence import Sequence


class Running:
    """Those whose prompts are processed, and then are decoded."""

    def __init__(self, prefill: Prefill, batch: Batch) -> None:
        self._prefill = prefill
        self._batch = batch
        self.is_full = False
        """Whether a sequence was put back since the last one left: until another leaves, none is admitted."""

    def __len__(self) -> int:
        return len(self._prefill) + len(self._batch)

    def __iter__(self) -> Iterator[Sequence]:
        return iter([*self._prefill.rows, *self._batch.rows])

    def leave(self, leavers: Collection[Sequence]) -> None:
        """Let sequences go, and the memory of their caches."""
        self._prefill.drop(set(leavers))
        self._batch.leave(leavers)
        self.is_full = False

    def put_back(self, sequence: Sequence) -> None:
        """Let a sequence go that has to wait again. What it had is computed once more."""
        self.leave([sequence])
        sequence.put_back()
        self.is_full = True

    def bytes(self, size: Callable[[int], int]) -> int:
        """Memory that all take, the padding beside rows of one band counted; `size` is that of a row by its length."""
        decoded = sum(len(band.rows) * size(band.length + 1) for band in self._batch.bands)
        return decoded + sum(size(row.length + 1) for row in self._prefill.rows)

    def grows_by(self, sequence: Sequence, size: Callable[[int], int]) -> int:
        """Memory that another one would take once it is decoded."""
        return self._batch.grows_by(sequence, size)
