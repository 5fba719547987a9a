"""Rows of very different length in one forward pass: attention is computed band by band, all else for all at once.

mlx-lm's batch caches are left-padded, so that in one of them a long row stretches the attention of every short one.
A band is such a cache for rows of about one length.
"""

from collections.abc import Sequence as Items
from itertools import accumulate, pairwise
from typing import Any

import mlx.core as mx
from mlx_lm.models.cache import KVCache, RotatingKVCache, make_prompt_cache

from service.engine.attention import NAME, library, plain
from service.engine.patches import replace
from service.engine.probe import Probe
from service.engine.sequence import LayerCache


class Banded:
    """A part for each band, handed through a model's attention as if it were one array."""

    def __init__(self, parts: Items[Any]) -> None:
        self.parts = parts


class BandedCache:
    """One layer's caches of several bands, in the place of one cache."""

    def __init__(self, caches: list[LayerCache], sizes: Items[int]) -> None:
        """`sizes` are the rows of each band, in the batch's order."""
        self._caches = caches
        self._bounds = [0, *accumulate(sizes)]

    @property
    def offset(self) -> mx.array:
        """Tokens before the next one, for each row."""
        return mx.concatenate([mx.array(c.offset).reshape(-1) for c in self._caches])

    @property
    def state(self) -> list[Any]:
        """Everything there is to evaluate."""
        return [cache.state for cache in self._caches]

    def split(self, array: mx.array) -> list[mx.array]:
        """The rows of each band."""
        return [array[start:end] for start, end in pairwise(self._bounds)]

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> tuple[Banded, Banded]:
        """Append keys and values; all there are, band by band."""
        parts = zip(self._caches, self.split(keys), self.split(values), strict=True)
        both = [cache.update_and_fetch(k, v) for cache, k, v in parts]
        return Banded([k for k, _ in both]), Banded([v for _, v in both])

    def make_mask(self, count: int, **options: Any) -> Banded:
        """The masks of `count` more tokens."""
        return Banded([cache.make_mask(count, **options) for cache in self._caches])


def attention(
    queries: mx.array, keys: Any, values: Any, cache: Any, scale: float, mask: Any, sinks: mx.array | None = None
) -> mx.array:
    """mlx-lm's attention, which also takes bands."""
    if not isinstance(keys, Banded):
        return plain(queries, keys, values, cache, scale, mask, sinks)
    masks = mask.parts if isinstance(mask, Banded) else [mask] * len(keys.parts)
    bands = zip(cache.split(queries), keys.parts, values.parts, masks, strict=True)
    return mx.concatenate([plain(q, k, v, None, scale, m, sinks) for q, k, v, m in bands])


def enable(probe: Probe) -> bool:
    """Teach the attention of the probe's model about bands; whether it has understood.

    Families that compute attention in a way of their own, or keep other state than keys and values, do not.
    """
    model = probe.model
    if not all(type(layer) in {KVCache, RotatingKVCache} for layer in make_prompt_cache(model)):
        return False
    patched = replace(model, NAME, {library, plain, attention}, attention)
    if patched and probe.shares(_banded):
        return True
    for module in patched:
        setattr(module, NAME, plain)
    return False


def _banded(caches: list[list[LayerCache]]) -> list[LayerCache]:
    """A band for each row."""
    return [BandedCache(list(layers), [1] * len(layers)) for layers in zip(*caches, strict=True)]
