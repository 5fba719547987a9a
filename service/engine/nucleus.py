"""One token from one row of logits: temperature, top_k, top_p and min_p, exactly and without sorting the vocabulary.

A row at a time, because the passes over it then find it in the cache, and because nothing that a row is given can
depend on its company.
"""

import math
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from service.engine.frames import Sampling

Logits = npt.NDArray[np.float32]
Ids = npt.NDArray[np.int64]

_BLOCK = 256
_LARGEST = float(np.finfo(np.float32).max)
_COLDEST = 1e-37
"""The least temperature whose inverse a float32 holds."""
_FOLD = 64


class Masses:
    """The masses of one row's tokens, exp(logit / temperature), scaled so that each of the likeliest has exactly 1.

    The work buffers serve one row after another, for fresh ones would cost more in page faults than the arithmetic.
    """

    def __init__(self, vocabulary: int) -> None:
        self._padded = np.empty(-(-vocabulary // _BLOCK) * _BLOCK, np.float32)
        self._blocks = self._padded.reshape(-1, _BLOCK)
        self._chosen = np.empty(vocabulary, np.bool_)
        self._weights = np.empty(vocabulary, np.float32)
        self._cumulative = np.empty(0)
        self.values: Logits = self._padded[:0]
        self.total = 0.0

    def fill(self, logits: Logits, highest: float, temperature: float = 1.0) -> None:
        """Take a row of at most a vocabulary's logits and its finite maximum.

        Overflow to -inf, as a temperature next to zero makes, is a mass of zero.
        """
        values = self._padded[: logits.size]
        np.subtract(logits, highest, out=values)
        if temperature != 1:
            np.multiply(values, 1 / max(temperature, _COLDEST), out=values)
        np.exp(values, out=values)
        self._padded[logits.size : -(-logits.size // _BLOCK) * _BLOCK] = 0
        self.values = values
        self._add_up()

    def at(self, point: float) -> int:
        """The token, in the vocabulary's order, on which `point` in [0, total) falls; its mass is positive."""
        block = int(self._cumulative.searchsorted(point, side="right"))
        inside = self._blocks[block].cumsum(dtype=np.float64)
        before = float(self._cumulative[block - 1]) if block else 0.0
        # The two sums over the block may differ by their rounding.
        rest = min(point - before, math.nextafter(inside[-1], 0))
        return block * _BLOCK + int(inside.searchsorted(rest, side="right"))

    def above(self, mass: float) -> float:
        """The sum of all masses greater than `mass`."""
        return float(np.dot(self.values, self._weigh(np.greater, mass)))

    def keep_above(self, mass: float) -> None:
        """Leave nothing to the tokens that have `mass` or less each."""
        np.multiply(self.values, self._weigh(np.greater, mass), out=self.values)
        self._add_up()

    def keep_from(self, mass: float) -> None:
        """Leave nothing to the tokens that have less than `mass` each."""
        np.multiply(self.values, self._weigh(np.greater_equal, mass), out=self.values)
        self._add_up()

    def _weigh(self, compare: np.ufunc, mass: float) -> Logits:
        """Give 1 to each token whose mass compares so, 0 to the others."""
        chosen, weights = self._chosen[: self.values.size], self._weights[: self.values.size]
        compare(self.values, mass, out=chosen)
        np.copyto(weights, chosen)
        return weights

    def _add_up(self) -> None:
        # Each block in single precision, the blocks in double: quick, and exact to less than one part in a million.
        used = self._blocks[: -(-self.values.size // _BLOCK)]
        self._cumulative = np.einsum("ij->i", used).cumsum(dtype=np.float64)
        self.total = float(self._cumulative[-1])


@lru_cache(maxsize=4)
def masses(vocabulary: int) -> Masses:
    """The work buffers for rows of that many tokens. They are for one thread."""
    return Masses(vocabulary)


def likeliest(logits: Logits, count: int) -> Ids:
    """The `count` likeliest tokens of a row of shape (vocabulary,) and all that tie with the last of them, ascending.

    Those that are not possible, at -inf, are left out.
    """
    # The count-th highest of the maxima of disjoint groups is no higher than that of all, and nearly as high.
    fold = min(_FOLD, logits.size // (4 * count))
    groups = logits[: logits.size - logits.size % fold].reshape(fold, -1).max(axis=0) if fold > 1 else logits
    tokens = np.flatnonzero(logits >= _nth_highest(groups, count))
    if len(tokens) > count:
        values = logits[tokens]
        tokens = tokens[values >= _nth_highest(values, count)]
    return tokens


def _nth_highest(values: Logits, count: int) -> float:
    if count >= values.size:
        return -_LARGEST
    return max(float(np.partition(values, values.size - count)[values.size - count]), -_LARGEST)


def pick(
    logits: Logits, highest: float, sampling: Sampling, random: np.random.Generator, vocabulary: int | None = None
) -> int:
    """Draw a token from a row whose maximum `highest` is finite: of shape (vocabulary,), or no longer than that.

    top_k keeps the k likeliest. Of their mass top_p keeps the smallest set of the likeliest that holds it, and min_p
    those that have such a part of the likeliest one's. Each keeps the tokens that tie with its last one.
    """
    row = masses(vocabulary or logits.size)
    if 0 < sampling.top_k < logits.size:
        tokens = likeliest(logits, sampling.top_k)
        row.fill(logits[tokens], highest, sampling.temperature)
        return int(tokens[_accepted(row, sampling, random)])
    row.fill(logits, highest, sampling.temperature)
    return _accepted(row, sampling, random)


def _accepted(row: Masses, sampling: Sampling, random: np.random.Generator) -> int:
    """Draw until a token is one that top_p and min_p keep.

    top_p keeps a token if, and only if, the likelier ones alone have less than that part of the whole. One that is not
    kept tells the same of all that are not likelier, so the next draw is among the likelier ones: of these the part
    to be kept is larger, and a handful of draws is enough however small top_p is.
    """
    enough = sampling.top_p * row.total
    least = float(np.float32(sampling.min_p))
    while True:
        token = row.at(random.random() * row.total)
        mass = float(row.values[token])
        if mass < least:
            row.keep_from(least)
        elif sampling.top_p >= 1 or mass == 1 or row.above(mass) < enough:
            return token
        else:
            row.keep_above(mass)
