"""Tries out on a model, before a request meets it, whether rows can share a forward pass."""

from collections.abc import Callable

import mlx.core as mx
from mlx.nn.layers.base import Module
from mlx_lm.models.cache import make_prompt_cache

from service.engine.sequence import LayerCache

_PROMPTS: tuple[list[int], ...] = ([1, 2, 3, 4, 5], [6, 7], [])
"""With one that leaves nothing in the cache, as a prompt of one token does."""
_NEXT = [[8], [9], [10]]
_CLOSE, _ROUGH = 1e-3, 0.1
"""How far the logits may lie apart, as a part of the largest one: in float32, and in less exact types."""


def shares(model: Module, combine: Callable[[list[list[LayerCache]]], list[LayerCache]]) -> bool:
    """Whether rows get the logits that each gets alone, with their caches put together by `combine`."""
    alone, together = _caches(model), _caches(model)
    rows = [model(mx.array([token]), cache=cache) for token, cache in zip(_NEXT, alone, strict=True)]
    expected = mx.concatenate(rows).astype(mx.float32)
    close = _CLOSE if rows[0].dtype == mx.float32 else _ROUGH
    try:
        logits = model(mx.array(_NEXT), cache=combine(together)).astype(mx.float32)
        return bool(mx.abs(logits - expected).max() <= close * mx.maximum(1, mx.abs(expected).max()))
    except Exception:  # noqa: BLE001 - whatever a model makes of caches that it does not know, it cannot use them
        return False


def _caches(model: Module) -> list[list[LayerCache]]:
    caches = [make_prompt_cache(model) for _ in _PROMPTS]
    for cache, tokens in zip(caches, _PROMPTS, strict=True):
        if tokens:
            model(mx.array([tokens]), cache=cache)
    return caches
