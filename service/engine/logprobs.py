"""The log-probabilities of tokens under the model's own logits."""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from service.engine.frames import Logprob
from service.engine.nucleus import Logits, likeliest, masses


def token_logprobs(logits: npt.NDArray[np.float32], tokens: Sequence[int], top: Sequence[int]) -> list[Logprob]:
    """Give the natural log-softmax of each row at its token, and of the `top[i]` likeliest tokens of row i.

    `logits` has shape (rows, vocabulary) and is only read. Tokens that tie come by their ids; those that are not
    possible, at -inf, are no alternatives. A row without a finite maximum, as when a model gives NaN, has NaN.
    """
    highest: list[float] = logits.max(axis=1).tolist() if len(logits) else []
    with np.errstate(over="ignore"):
        return [
            _row(row, token, count, most) if math.isfinite(most) else Logprob(math.nan)
            for row, token, count, most in zip(logits, tokens, top, highest, strict=True)
        ]


def _row(logits: Logits, token: int, count: int, highest: float) -> Logprob:
    row = masses(logits.size)
    row.fill(logits, highest)
    normaliser = highest + math.log(row.total)
    if count <= 0:
        return Logprob(float(logits[token]) - normaliser)
    ids = likeliest(logits, count)
    values = logits[ids].astype(np.float64)
    # A stable sort of ascending ids leaves those that tie in that order.
    order = np.argsort(-values, kind="stable")[:count]
    alternatives = list(zip(ids[order].tolist(), (values[order] - normaliser).tolist(), strict=True))
    return Logprob(float(logits[token]) - normaliser, alternatives)
