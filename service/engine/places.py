"""How many sequences are ahead of those that wait."""

from service.engine.frames import Queued
from service.engine.waiting import WaitingQueue


class Places:
    """The places that were told last, to those that ask for them."""

    def __init__(self) -> None:
        self._told: dict[int, int] = {}

    def changes(self, waiting: WaitingQueue) -> list[Queued]:
        """The places that have changed since the last call."""
        if not any(sequence.submit.report for sequence in waiting):
            self._told.clear()
            return []
        before = self._told
        self._told = {s.submit.seq: place for place, s in enumerate(waiting.in_order()) if s.submit.report}
        return [Queued(seq, place) for seq, place in self._told.items() if before.get(seq) != place]
