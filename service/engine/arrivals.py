"""What becomes of sequences whose prompts are processed."""

import copy

from service.engine.batch import Band
from service.engine.frames import Row
from service.engine.prefixes import Prefixes
from service.engine.sequence import LayerCache, Sequence
from service.engine.waiting import WaitingQueue


class Arrivals:
    """Keeps their prompts for later ones, and queues the other choices of their requests."""

    def __init__(self, prefixes: Prefixes, waiting: WaitingQueue) -> None:
        self._prefixes = prefixes
        self._waiting = waiting

    def settle(self, band: Band, rows: list[Row]) -> None:
        """Leave those in a band that are to be decoded; `rows` get the ends of the others."""
        for index, sequence in enumerate(band.rows):
            self._use(band, index, sequence)
        over = [row for row in band.rows if not row.submit.max_tokens or row.is_complete]
        for row in over:
            finish = "complete" if row.is_complete else "length"
            rows.extend(Row(row.submit.seq, [], finish, choice) for choice in range(row.submit.choices))
        if over:
            band.keep([index for index, row in enumerate(band.rows) if row not in over])

    def _use(self, band: Band, index: int, sequence: Sequence) -> None:
        keeps, multiplies = self._prefixes.keeps(sequence), _multiplies(sequence)
        cache = band.extract(index) if keeps or multiplies else []
        if keeps:
            self._prefixes.keep(sequence, cache)
        if multiplies:
            self._multiply(sequence, copy.deepcopy(cache))  # of a single row it is the row's own

    def _multiply(self, sequence: Sequence, cache: list[LayerCache]) -> None:
        """Queue the other choices of a request in its place. They share the memory of the prompt's cache until then."""
        sequence.multiplied = True
        for choice in range(1, sequence.submit.choices):
            sibling = sequence.sibling(choice)
            sibling.cache, sibling.prefilled = cache, sibling.length
            self._waiting.push(sibling)


def _multiplies(sequence: Sequence) -> bool:
    """Whether the other choices of its request start where it does."""
    request = sequence.submit
    begins = not sequence.choice and not sequence.multiplied and not sequence.is_complete
    return bool(request.choices > 1 and begins and request.max_tokens)
