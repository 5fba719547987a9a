"""The output head on the host: from hidden states to logits, in NumPy."""

from collections.abc import Iterator
from collections.abc import Sequence as Items
from dataclasses import dataclass

import mlx.core as mx
import numpy as np
import numpy.typing as npt
from mlx.nn.layers.base import Module
from mlx_lm.models.cache import make_prompt_cache

from service.engine.blocks import block_of
from service.engine.nucleus import Logits

_BLOCK = 2048
"""Tokens of the vocabulary at a time: what is computed of them is still in the processor's cache when it is turned."""
_SMALL = 4096
"""Numbers in the hidden states up to which BLAS profits without small blocks: with more, it is bound by arithmetic."""
_FOLD = 32
"""Tokens of a block that are compared at a time, so that NumPy's inner loop is a long one."""
_MANY = 8
"""Rows from which on it pays to leave logits as they come."""
_PROBE = [1, 2, 3]
_CLOSE = 1e-4
"""How far the head's two forms may lie apart, as a part of the largest logit."""


@dataclass(frozen=True, slots=True)
class Glance:
    """What a step gave of each row at first sight."""

    tokens: npt.NDArray[np.int64]
    """The likeliest token of each row, the first of those that tie."""
    highest: Logits
    """Its logit; NaN where there is a NaN."""
    whole: Logits
    """The logits of the rows that were asked for, of shape (those, vocabulary)."""
    table: Logits
    """All logits, of shape (rows, vocabulary), which may be slow to read by rows."""

    @classmethod
    def of(cls, logits: Logits, whole: Items[int] = ()) -> "Glance":
        """Find what is likeliest in logits of shape (rows, vocabulary)."""
        tokens = logits.argmax(axis=1)
        return cls(tokens, logits[np.arange(len(logits)), tokens], logits[list(whole)], logits)


class HostHead:
    """Multiplies by the output head's weights where they lie.

    BLAS is two to ten times as fast with the vocabulary as the long side of the result as it is in the form that a
    model asks for, (rows, vocabulary), and twice as fast again in small blocks, where it has them.
    """

    def __init__(self, weights: npt.NDArray[np.float32]) -> None:
        """`weights` has shape (vocabulary, width)."""
        self._weights = weights
        self._turned = np.empty(0, np.float32)
        self._logits = np.empty((0, len(weights)), np.float32)

    def suits(self, rows: int) -> bool:
        """Whether it is faster than MLX for so many rows."""
        width = len(self._weights[0])
        return rows * width <= _SMALL or block_of(_BLOCK, width, rows) > 0

    def __call__(self, hidden: npt.NDArray[np.float32]) -> Logits:
        """Logits of shape (rows, vocabulary) after hidden states of shape (rows, width), until the next call."""
        rows, vocabulary = len(hidden), len(self._weights)
        if len(self._logits) < rows:
            self._logits = np.empty((rows, vocabulary), np.float32)
        logits = self._logits[:rows]
        if rows == 1:
            np.dot(self._weights, hidden[0], out=logits[0])
            return logits
        for start, turned in self._blocks(hidden, in_place=True):
            logits[:, start : start + len(turned)] = turned.T
        return logits

    def glance(self, hidden: npt.NDArray[np.float32], whole: Items[int] = ()) -> Glance:
        """The likeliest token of each row, and all logits of some rows; both until the next call.

        Those of the others are never put in the rows' order, which costs a third of the whole for many rows.
        """
        rows = len(hidden)
        if rows < _MANY:
            return Glance.of(self(hidden), whole)
        blocks = [(start, turned, _highest(turned)) for start, turned in self._blocks(hidden, in_place=False)]
        tops = np.array([top for _, _, top in blocks])
        at = tops.argmax(axis=0)
        highest = tops[at, np.arange(rows)]
        tokens = np.empty(rows, np.int64)
        for row, block in enumerate(at):
            start, turned, _ = blocks[block]
            tokens[row] = start + (turned[:, row] == highest[row]).argmax()
        vocabulary = len(self._weights)
        table = self._turned[: vocabulary * rows].reshape(vocabulary, rows).T
        if len(self._logits) < len(whole):
            self._logits = np.empty((rows, vocabulary), np.float32)
        logits = self._logits[: len(whole)]
        for place, row in enumerate(whole):
            logits[place] = table[row]
        return Glance(tokens, highest, logits, table)

    def _blocks(self, hidden: npt.NDArray[np.float32], *, in_place: bool) -> Iterator[tuple[int, Logits]]:
        """Logits of shape (tokens, rows), block by block, and where each begins; `in_place` of the one before."""
        rows, vocabulary = len(hidden), len(self._weights)
        if len(self._turned) < vocabulary * rows:
            self._turned = np.empty(vocabulary * rows, np.float32)
        columns = np.ascontiguousarray(hidden.T)
        for start in range(0, vocabulary, _BLOCK):
            block = self._weights[start : start + _BLOCK]
            place = 0 if in_place else start * rows
            turned = self._turned[place : place + len(block) * rows].reshape(-1, rows)
            if size := block_of(len(block), len(columns), rows):
                np.matmul(block.reshape(-1, size, len(columns)), columns, out=turned.reshape(-1, size, rows))
            else:
                np.dot(block, hidden.T, out=turned)
            yield start, turned


def host_head(model: Module) -> HostHead | None:
    """The head of a model whose logits are nothing but the product of its weights with the last layer's output."""
    weights = _weights(model)
    if weights is None or weights.dtype != mx.float32:
        return None
    tokens = mx.array([_PROBE])
    try:
        logits = model(tokens, cache=make_prompt_cache(model))[0]
        hidden = model.model(tokens, cache=make_prompt_cache(model))[0]
        mx.eval(weights, logits, hidden)
        head = HostHead(np.array(weights, copy=False))
        apart = np.abs(head(np.array(hidden)) - np.array(logits)).max()
    except (AttributeError, TypeError, ValueError, RuntimeError):  # a model that is built in another way
        return None
    return head if apart <= _CLOSE * max(1.0, float(mx.abs(logits).max())) else None


def _highest(turned: Logits) -> Logits:
    """The highest logit of each row in a block of shape (tokens, rows)."""
    tokens, rows = turned.shape
    if tokens % _FOLD == 0:
        turned = turned.reshape(tokens // _FOLD, _FOLD * rows).max(axis=0).reshape(_FOLD, rows)
    highest: Logits = turned.max(axis=0)
    return highest


def _weights(model: Module) -> mx.array | None:
    """Weights of shape (vocabulary, width), of a head of its own or of the embedding that serves as one."""
    head = getattr(model, "lm_head", None) or getattr(getattr(model, "model", None), "embed_tokens", None)
    weights = getattr(head, "weight", None)
    return weights if isinstance(weights, mx.array) and "bias" not in (head or {}) else None
