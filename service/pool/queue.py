"""The requests that an engine has not admitted yet."""

import time
from collections import deque
from collections.abc import Callable

_SEEN = 2
"""Turns of the engine after which it has surely read what was sent before them."""
_REMEMBERED = 32
_RETRY_S = (1.0, 30.0)


class Queue:
    """Who waits for admission, and how soon a place will be free. `clock` is in seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._turn = 0
        self._joined: dict[int, int] = {}
        """The turn in which each was sent."""
        self._admissions: deque[float] = deque(maxlen=_REMEMBERED)

    def __contains__(self, seq: int) -> bool:
        """Whether a sequence waits."""
        return seq in self._joined

    def join(self, seq: int) -> None:
        """A sequence was sent."""
        self._joined[seq] = self._turn

    def admit(self, seq: int) -> None:
        """The engine has begun with a sequence, if it had not before."""
        if self._joined.pop(seq, None) is not None:
            self._admissions.append(self._clock())

    def leave(self, seq: int) -> None:
        """A sequence has ended."""
        self._joined.pop(seq, None)

    def turn(self) -> None:
        """The engine has done a step; those that were there and that it did not admit have to wait."""
        self._turn += 1

    def waiting(self, free: int) -> int:
        """How many wait. Of those that the engine may not have seen yet, `free` rows take as many."""
        new = sum(self._turn < joined + _SEEN for joined in self._joined.values())
        return len(self._joined) - min(new, max(free, 0))

    @property
    def retry_after(self) -> float:
        """Seconds until the next place is free, going by the last admissions."""
        least, most = _RETRY_S
        if not self._admissions:
            return least
        pause = (self._clock() - self._admissions[0]) / len(self._admissions)
        return min(max(pause, least), most)
