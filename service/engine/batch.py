"""The running sequences, decoded together: one token for each in a step."""

from collections.abc import Sequence as Items

import mlx.core as mx
import numpy as np
from mlx.nn.layers.base import Module

from service.engine.sampling import NOTHING_TO_DRAW, Logits
from service.engine.sequence import LayerCache, Sequence


class Batch:
    """Rows that share one forward pass.

    A single row keeps its own plain caches, which need no padding mask; several rows share mlx-lm's merged ones.
    """

    def __init__(self, model: Module) -> None:
        """`model` maps token ids of shape (rows, tokens) to logits of shape (rows, tokens, vocabulary)."""
        self._model = model
        self._cache: list[LayerCache] = []
        self.rows: list[Sequence] = []

    def __len__(self) -> int:
        return len(self.rows)

    def join(self, arrivals: Items[Sequence]) -> None:
        """Add sequences whose prompts are processed. They give up their caches."""
        caches = [_take_cache(sequence) for sequence in arrivals]
        if len(self.rows) == 1:
            caches.insert(0, self._cache)
        joined = caches[0] if len(caches) == 1 and not self.rows else _merge(caches)
        if len(self.rows) > 1:
            for mine, theirs in zip(self._cache, joined, strict=True):
                mine.extend(theirs)
        else:
            self._cache = joined
        self.rows += arrivals

    def leave(self, leavers: Items[Sequence]) -> None:
        """Drop sequences and the memory of their caches."""
        gone = set(map(id, leavers))
        keep = [index for index, row in enumerate(self.rows) if id(row) not in gone]
        if len(keep) == len(self.rows):
            return
        if not keep:
            self._cache = []
        elif len(keep) == 1:
            self._cache = [layer.extract(keep[0]) for layer in self._cache]
        else:
            for layer in self._cache:
                layer.filter(keep)
        self.rows = [self.rows[index] for index in keep]

    def step(self) -> list[int | Exception]:
        """Decode one token for each row, in the order of `rows`; an error where a row could not draw one."""
        tokens = mx.array([[row.last_token] for row in self.rows])
        logits = self._model(tokens, cache=self._cache)[:, -1, :]
        if all(row.takes_argmax for row in self.rows):
            best = mx.argmax(logits, axis=-1)
            highest = mx.take_along_axis(logits, best[:, None], axis=-1).astype(mx.float32)
            mx.eval(best, highest)
            tokens_drawn = zip(np.array(best).tolist(), np.isfinite(np.array(highest)[:, 0]), strict=True)
            return [token if finite else ValueError(NOTHING_TO_DRAW) for token, finite in tokens_drawn]
        host: Logits = np.array(logits.astype(mx.float32))
        return [_draw(row, host[index]) for index, row in enumerate(self.rows)]


def can_merge(cache: list[LayerCache]) -> bool:
    """Whether rows with such caches can share a batch."""
    return all(can_merge(layer.caches) if hasattr(layer, "caches") else hasattr(layer, "merge") for layer in cache)


def _take_cache(sequence: Sequence) -> list[LayerCache]:
    cache, sequence.cache = sequence.cache, None
    if cache is None:
        raise RuntimeError("a sequence joined the batch twice")
    return cache


def _merge(caches: list[list[LayerCache]]) -> list[LayerCache]:
    return [layers[0].merge(list(layers)) for layers in zip(*caches, strict=True)]


def _draw(row: Sequence, logits: Logits) -> int | Exception:
    try:
        return row.sampler.draw(logits, row.banned)
    except Exception as error:  # noqa: BLE001 - a row's own settings or numbers must not take the others down
        return error
