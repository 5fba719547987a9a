"""Tries out on a model, before a request meets it, whether rows can share a forward pass."""

import copy
from collections.abc import Callable
from functools import cached_property

import mlx.core as mx
from mlx.nn.layers.base import Module
from mlx_lm.models.cache import make_prompt_cache

from service.engine.sequence import LayerCache

_PROMPTS: tuple[list[int], ...] = ([1, 2, 3, 4, 5], [6, 7], [])
"""With one that leaves nothing in the cache, as a prompt of one token does."""
_NEXT = [[8], [9], [10]]
_CLOSE, _ROUGH = 1e-3, 0.1
"""How far the logits may lie apart, as a part of the largest one: in float32, and in less exact types."""


class Probe:
    """Compares what rows get in company with what each gets alone, which is computed once."""

    def __init__(self, model: Module) -> None:
        """Nothing is computed yet."""
        self.model = model

    def shares(self, combine: Callable[[list[list[LayerCache]]], list[LayerCache]]) -> bool:
        """Whether rows get the logits that each gets alone, with their caches put together by `combine`."""
        alone = self._alone
        close = _CLOSE if alone.dtype == mx.float32 else _ROUGH
        expected = alone.astype(mx.float32)
        try:
            logits = self.model(mx.array(_NEXT), cache=combine(copy.deepcopy(self._caches))).astype(mx.float32)
            return bool(mx.abs(logits - expected).max() <= close * mx.maximum(1, mx.abs(expected).max()))
        except Exception:  # noqa: BLE001 - whatever a model makes of caches that it does not know, it cannot use them
            return False

    @cached_property
    def _caches(self) -> list[list[LayerCache]]:
        """What each prompt leaves."""
        caches = [make_prompt_cache(self.model) for _ in _PROMPTS]
        for cache, tokens in zip(caches, _PROMPTS, strict=True):
            if tokens:
                self.model(mx.array([tokens]), cache=cache)
        return caches

    @cached_property
    def _alone(self) -> mx.array:
        """The logits of each row."""
        caches = copy.deepcopy(self._caches)
        return mx.concatenate(
            [self.model(mx.array([token]), cache=cache) for token, cache in zip(_NEXT, caches, strict=True)]
        )
