"""The sequences that wait: by priority, and inside one in equal shares for the callers."""

from collections import Counter, defaultdict
from collections.abc import Iterator

from service.engine.sequence import Sequence

_REMEMBERED = 4096
"""Callers whose service is remembered while others keep the engine busy."""


class WaitingQueue:
    """Hands out the oldest sequence of the caller that was served least, among those of the highest priority.

    What a caller was served is counted in tokens, processed and generated. One that comes back from a pause starts
    level with the least served of those that wait, or with the one that was admitted last if none does, so that nobody
    saves up (virtual token counters: Sheng et al., "Fairness in Serving Large Language Models", OSDI 2024).
    """

    def __init__(self) -> None:
        self._waiting: dict[int, dict[str, list[Sequence]]] = defaultdict(dict)
        self._served: Counter[str] = Counter()
        self._last = ""
        """The caller that was admitted last."""

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def __iter__(self) -> Iterator[Sequence]:
        for callers in self._waiting.values():
            for sequences in callers.values():
                yield from sequences

    def push(self, sequence: Sequence) -> None:
        """Add a sequence, by its age: one that was put back is ahead of those that came after it."""
        caller = sequence.submit.caller
        waits = {other for callers in self._waiting.values() for other in callers}
        if caller not in waits:
            level = min((self._served[other] for other in waits), default=self._served[self._last])
            if len(self._served) > _REMEMBERED:
                self._served = Counter({other: self._served[other] for other in [*waits, caller, self._last]})
            self._served[caller] = max(self._served[caller], level)
        line = self._waiting[sequence.submit.priority].setdefault(caller, [])
        line.append(sequence)
        if len(line) > 1 and line[-2].age > sequence.age:
            line.sort(key=lambda waiting: waiting.age)

    def peek(self) -> Sequence | None:
        """The next one; None where nobody waits."""
        if not self._waiting:
            return None
        callers = self._waiting[max(self._waiting)]
        caller = min(callers, key=lambda name: (self._served[name], callers[name][0].age))
        return callers[caller][0]

    def admit(self, sequence: Sequence) -> None:
        """Take out one that is admitted."""
        self._last = sequence.submit.caller
        self.remove(sequence)

    def remove(self, sequence: Sequence) -> None:
        """Take out one that is gone."""
        priority, caller = sequence.submit.priority, sequence.submit.caller
        callers = self._waiting[priority]
        callers[caller].remove(sequence)
        if not callers[caller]:
            del callers[caller]
        if not callers:
            del self._waiting[priority]

    def charge(self, caller: str, tokens: int) -> None:
        """Count what a caller was served."""
        self._served[caller] += tokens

    def forget(self) -> None:
        """Nobody runs or waits any more: all start level."""
        self._served.clear()

    def in_order(self) -> Iterator[Sequence]:
        """All that wait, about as they will be taken: by priority, then by age."""
        return iter(sorted(self, key=lambda sequence: (-sequence.submit.priority, sequence.age)))
