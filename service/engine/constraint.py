"""A row's grammar: what it has consumed, and which tokens may come next."""

import os
import time
from collections.abc import Sequence
from concurrent.futures import Executor, Future

from llguidance import LLMatcher

from service.engine import grammar
from service.engine.mask import Mask

THREADS = max(1, min(4, (os.cpu_count() or 1) - 1))
"""That compute masks."""
_LONGEST_S = 0.1
"""Processor time for a mask; a grammar of which one takes longer holds all other rows up."""


class GrammarFailed(Exception):
    """A grammar that was good when it was compiled is too much for the library at this place."""


Computed = Mask | GrammarFailed


class Constraint:
    """Belongs to the engine's thread. What takes long is done by others, while the device runs the forward pass."""

    def __init__(
        self, base: LLMatcher, stop_ids: frozenset[int], ends: frozenset[int], vocabulary: int, threads: Executor
    ) -> None:
        """`base` is at the beginning of its language; `ends` are the tokens that llguidance takes for its end.

        `stop_ids` are the row's own, which stand in for those, and `vocabulary` is the number of logits.
        """
        self._base = base
        self._matcher = base.deep_copy()
        self._stop_ids = stop_ids
        self._ends = ends
        self._vocabulary = vocabulary
        self.threads = threads
        self._pending: Future[list[Computed]] | None = None
        self._place = 0
        """Its own in what is pending."""

    def fresh(self) -> "Constraint":
        """The same grammar for another row, from its beginning."""
        return Constraint(self._base, self._stop_ids, self._ends, self._vocabulary, self.threads)

    @property
    def is_complete(self) -> bool:
        """Whether nothing may follow what has been consumed."""
        return self._matcher.is_stopped() and not self._matcher.is_error()

    def consume(self, token: int) -> None:
        """Go on by a token, once the mask before it is there. Raises GrammarFailed."""
        if self._pending is not None:
            self._pending.exception()
            self._pending = None
        if not self._matcher.consume_token(token):
            raise GrammarFailed(grammar.explained(self._matcher.get_error()))

    def accepts(self, tokens: list[int]) -> bool:
        """Whether these tokens may follow, just after one was consumed."""
        return bool(self._matcher.validate_tokens(tokens) == len(tokens))

    def mask(self) -> Mask:
        """Wait for the mask; one without any token means that the output is complete. Raises GrammarFailed."""
        prepare([self])
        if self._pending is None:
            raise GrammarFailed("nothing may follow")
        mask = self._pending.result()[self._place]
        if isinstance(mask, GrammarFailed):
            raise mask
        return mask

    @property
    def lacks_mask(self) -> bool:
        """Whether nobody has computed the mask for the next token, of which there may be one."""
        return self._pending is None and not self._matcher.is_stopped()

    def expect(self, pending: Future[list[Computed]], place: int) -> None:
        """The mask for the next token will be there, in a place among others."""
        self._pending, self._place = pending, place

    def compute(self) -> Computed:
        """The mask for the next token, in any thread."""
        start = time.thread_time()
        bits = self._matcher.compute_bitmask()
        taken = time.thread_time() - start
        if self._matcher.is_error():
            return GrammarFailed(grammar.explained(self._matcher.get_error()))
        if taken > _LONGEST_S:
            return GrammarFailed(f"it takes too long to say which tokens may follow: {1e3 * taken:.0f} ms")
        if not self._matcher.is_accepting():
            return Mask.of(bits, self._vocabulary)
        return Mask.of(bits, self._vocabulary, add=self._stop_ids, remove=self._ends)


def prepare(constraints: Sequence[Constraint]) -> None:
    """Let the masks for the next tokens be computed, but for those that are already: in few threads, some in each."""
    waiting = [constraint for constraint in constraints if constraint.lacks_mask]
    for first in range(min(THREADS, len(waiting))):
        some = waiting[first::THREADS]
        pending = some[0].threads.submit(_computed, some)
        for place, constraint in enumerate(some):
            constraint.expect(pending, place)


def _computed(constraints: Sequence[Constraint]) -> list[Computed]:
    return [constraint.compute() for constraint in constraints]
