"""Which prefixes are kept for later prompts, and which of them a sequence starts with."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from mlx.nn.layers.base import Module
from mlx_lm.models.cache import make_prompt_cache

from service.engine.prefix_cache import PrefixCache, can_cut
from service.engine.sequence import LayerCache, Sequence

_FAILURES = 3
"""Times that caches cannot be copied before none are kept any more."""

logger = logging.getLogger(__name__)

_WORTH_KEEPING = 64
"""New tokens of a prompt for which it is kept before its answer is complete."""


class Prefixes:
    """The prefix cache as sequences use it.

    Caches that can be cut anywhere are kept once a prompt is processed, and with the answer when that is complete.
    The others are kept at boundaries, where prefill stops for that, since a prompt shares all of one or nothing.
    """

    def __init__(self, model: Module, max_bytes: int) -> None:
        self._cache = PrefixCache(max_bytes)
        self._failures = 0
        self._cuts_anywhere = can_cut(make_prompt_cache(model))

    def find(self, sequence: Sequence) -> None:
        """Give a sequence the cache of the longest prefix that is known, and the boundaries to stop at."""
        if not self._is_used_by(sequence):
            return
        if not self._cuts_anywhere:
            sequence.boundaries = [end for end in sequence.submit.boundaries if end < sequence.length]
        if sequence.cache is not None or sequence.scores_prompt:
            return
        found = None
        with self._at_no_risk():
            found = self._cache.match(sequence.prefix_key, sequence.tokens)
        if found is None:
            return
        sequence.cache, sequence.prefilled = found.cache, found.length
        if not sequence.generated:
            sequence.cached = found.length

    def keeps(self, sequence: Sequence) -> bool:
        """Whether a prompt is kept as soon as it is processed."""
        new = sequence.prefilled - sequence.cached
        return self._is_used_by(sequence) and (not self._cuts_anywhere or new >= _WORTH_KEEPING)

    def keep(self, sequence: Sequence, cache: list[LayerCache]) -> None:
        """Keep what is processed of a prompt; the caller may go on using its cache."""
        if self._is_used_by(sequence):
            with self._at_no_risk():
                self._cache.insert(sequence.prefix_key, sequence.tokens[: sequence.prefilled], cache)

    def keep_whole(self, sequence: Sequence, extract: Callable[[Sequence], list[LayerCache]]) -> None:
        """Keep a complete answer with its prompt: the next turn of the conversation starts with it."""
        if not self._is_used_by(sequence) or self._cache.peek(sequence.prefix_key, sequence.tokens) >= sequence.length:
            return
        with self._at_no_risk():
            self._cache.insert(sequence.prefix_key, sequence.tokens[: sequence.length], extract(sequence))

    def shrink(self, to_bytes: int) -> None:
        """Let the least recently used go until no more than this is held."""
        self._cache.shrink(to_bytes)

    def forget(self, lora: int) -> None:
        """Let those go that were made with a LoRA, which no sequence will have any more."""
        self._cache.drop(lambda key: isinstance(key, tuple) and key[0] == lora)

    def clear(self) -> tuple[int, int]:
        """Let all go; how many entries and bytes there were."""
        return self._cache.clear()

    @contextmanager
    def _at_no_risk(self) -> Iterator[None]:
        """Drop all prefixes, and keep none any more where that repeats: requests do not need them."""
        try:
            yield
        except Exception:  # caches are the models' own, of any kind
            self._failures += 1
            lasts = self._failures >= _FAILURES
            logger.exception("prefixes are not kept any more" if lasts else "all prefixes are dropped")
            self._cache = PrefixCache(0 if lasts else self._cache.max_bytes)

    def _is_used_by(self, sequence: Sequence) -> bool:
        return bool(self._cache.max_bytes) and not sequence.submit.bypass
