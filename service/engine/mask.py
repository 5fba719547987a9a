"""Which tokens may come next in a row."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from service.engine.nucleus import Ids, Logits

_FEW = 2048
"""Tokens up to which it pays to look at them alone."""
_SPARSE = 256
"""Bytes of a mask with any token in them, up to which it pays to leave the others alone."""
_MINUS_INFINITY = np.uint32(0xFF800000)
"""The bits of a float32."""


@dataclass(frozen=True, slots=True)
class Mask:
    """The tokens that a row may be given: told one by one where they are few, else by what is no token of theirs."""

    ids: Ids | None
    """Those that may come, ascending; None where they are many."""
    penalty: Logits
    """Where they are many, what is added to each token's logit: 0, or minus infinity. There may be more logits."""

    @classmethod
    def of(cls, bits: bytes, vocabulary: int, *, add: Iterable[int] = (), remove: Iterable[int] = ()) -> "Mask":
        """Read llguidance's, of a bit for each token, of which no more count than there are logits."""
        size = min(vocabulary, 8 * len(bits))
        added, removed = ([token for token in tokens if token < size] for tokens in (add, remove))
        packed = np.frombuffer(bits, np.uint8)
        used = np.flatnonzero(packed)
        if used.size <= _SPARSE:
            rows, places = np.nonzero(np.unpackbits(packed[used, None], axis=1, bitorder="little"))
            ids = 8 * used[rows] + places
            if added or removed:
                ids = np.union1d(np.setdiff1d(ids, removed), added).astype(np.int64)
            return cls(ids[: ids.searchsorted(size)], np.empty(0, np.float32))
        banned = np.unpackbits(np.invert(packed), count=size, bitorder="little")
        banned[removed] = 1
        banned[added] = 0
        return cls._banning(banned)

    @classmethod
    def _banning(cls, banned: npt.NDArray[np.uint8]) -> "Mask":
        if banned.size - np.count_nonzero(banned) <= _FEW:
            return cls(np.flatnonzero(banned == 0), np.empty(0, np.float32))
        # By the bits of the numbers, which is several times as fast as to choose between two.
        return cls(None, (banned * _MINUS_INFINITY).view(np.float32))

    @property
    def is_empty(self) -> bool:
        """Whether no token may come."""
        return self.ids is not None and not self.ids.size

    def allows(self, token: int) -> bool:
        """Whether a token may come."""
        if self.ids is None:
            return token < self.penalty.size and not self.penalty[token]
        place = int(self.ids.searchsorted(token))
        return place < self.ids.size and int(self.ids[place]) == token

    def without(self, tokens: Iterable[int]) -> "Mask":
        """The same without some tokens, unless nothing is left then."""
        if self.ids is not None:
            left = np.setdiff1d(self.ids, list(tokens)).astype(np.int64)
            return Mask(left, self.penalty) if left.size else self
        banned = (self.penalty != 0).view(np.uint8)
        banned[[token for token in tokens if token < banned.size]] = 1
        return self._banning(banned)

    def apply(self, logits: Logits) -> None:
        """Make all others impossible in a row of shape (vocabulary,), in place."""
        if self.ids is not None:
            kept = logits[self.ids]
            logits.fill(-np.inf)
            logits[self.ids] = kept
        else:
            logits[: self.penalty.size] += self.penalty
            logits[self.penalty.size :] = -np.inf
