"""The running sequences, decoded together: one token for each in a step."""

from collections.abc import Sequence as Items
from dataclasses import dataclass

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
        self._ahead: _Likeliest | None = None
        self.rows: list[Sequence] = []

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def is_ahead(self) -> bool:
        """Whether the next step's tokens are already under way."""
        return self._ahead is not None

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
        self._ahead = self._ahead.of_rows(keep) if self._ahead is not None and keep else None

    def step(self, *, ahead: bool = False) -> list[int | Exception]:
        """Decode one token for each row, in the order of `rows`; an error where a row could not draw one.

        `ahead` starts on the tokens after these before they are handed out, if every row takes the likeliest: what
        is done with them then costs no time. Nothing may join before those were handed out too.
        """
        likeliest, self._ahead = self._ahead, None
        if likeliest is None:
            logits = self._forward(mx.array([row.last_token for row in self.rows]))
            if not all(row.takes_argmax for row in self.rows):
                host: Logits = np.array(logits.astype(mx.float32))
                return [_draw(row, host[index]) for index, row in enumerate(self.rows)]
            likeliest = _Likeliest.of(logits)
        if ahead:
            self._ahead = _Likeliest.of(self._forward(likeliest.tokens))
            mx.async_eval(self._ahead.tokens, self._ahead.logits)  # type: ignore[no-untyped-call]
        return likeliest.handed_out()

    def _forward(self, tokens: mx.array) -> mx.array:
        """Logits of shape (rows, vocabulary) after one more token a row."""
        logits: mx.array = self._model(tokens[:, None], cache=self._cache)[:, -1, :]
        return logits


@dataclass(frozen=True, slots=True)
class _Likeliest:
    """The likeliest token of each row and its logit, still on the device; both of shape (rows,)."""

    tokens: mx.array
    logits: mx.array

    @classmethod
    def of(cls, logits: mx.array) -> "_Likeliest":
        tokens = mx.argmax(logits, axis=-1)
        highest = mx.take_along_axis(logits, tokens[:, None], axis=-1)[:, 0]
        return cls(tokens, highest.astype(mx.float32))

    def of_rows(self, rows: list[int]) -> "_Likeliest":
        chosen = mx.array(rows)
        return _Likeliest(self.tokens[chosen], self.logits[chosen])

    def handed_out(self) -> list[int | Exception]:
        mx.eval(self.tokens, self.logits)
        finite = np.isfinite(np.array(self.logits))
        tokens = np.array(self.tokens).tolist()
        return [token if sound else ValueError(NOTHING_TO_DRAW) for token, sound in zip(tokens, finite, strict=True)]


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
