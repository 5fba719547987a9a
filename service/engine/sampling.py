"""Drawing the next token of every running sequence, on the host.

MLX's exp, softmax and sort over a vocabulary are many times slower than NumPy's on the CPU, and on Apple
silicon the logits are in memory that both can see.
"""

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from service.engine.frames import Sampling
from service.engine.mask import Mask
from service.engine.nucleus import Logits, pick

NOTHING_TO_DRAW = "the model's logits leave no token to draw"
_LARGEST = np.finfo(np.float32).max


class Sampler:
    """What one sequence's tokens are drawn by: its settings, its random stream and the tokens that it has seen."""

    def __init__(self, sampling: Sampling, prompt: Sequence[int], choice: int = 0) -> None:
        """`prompt` counts for the repetition penalty; `choice` tells sequences of one prompt and seed apart."""
        self.sampling = sampling
        # A stream of its own for each sequence makes the text a function of the seed, whatever else is running.
        self.random = np.random.Generator(np.random.Philox(key=choice << 64 | sampling.seed & (1 << 64) - 1))
        self._penalises = bool(
            sampling.frequency_penalty or sampling.presence_penalty or sampling.repetition_penalty != 1
        )
        self._bias_ids = np.fromiter(sampling.logit_bias, np.int64)
        self._bias = np.fromiter(sampling.logit_bias.values(), np.float32)
        # The distinct tokens that penalties concern, and how often each came in the output.
        self._seen = np.unique(np.array(prompt if sampling.repetition_penalty != 1 else [], np.int64))
        self._counts = np.zeros(len(self._seen))
        self._places = {token: place for place, token in enumerate(self._seen.tolist())}

    @property
    def is_argmax(self) -> bool:
        """Whether the likeliest token is always the one."""
        return self.sampling.temperature == 0 and not self.adjusts

    @property
    def adjusts(self) -> bool:
        """Whether it changes logits before the draw."""
        return self._penalises or self._bias_ids.size > 0

    def observe(self, token: int) -> None:
        """Count a token of the output."""
        if not self._penalises:
            return
        place = self._places.setdefault(token, len(self._places))
        if place == len(self._seen):
            # Twice the room, so that a long output is not copied at each new token.
            room = max(16, place)
            self._seen = np.concatenate([self._seen, np.zeros(room, np.int64)])
            self._counts = np.concatenate([self._counts, np.zeros(room)])
        self._seen[place] = token
        self._counts[place] += 1

    def adjust(self, logits: Logits) -> None:
        """Add the bias to a row of shape (vocabulary,), then the penalties, in place."""
        if self._bias_ids.size:
            logits[self._bias_ids] += self._bias
        if not self._places:
            return
        s = self.sampling
        ids, counts = self._seen[: len(self._places)], self._counts[: len(self._places)]
        before = logits[ids]
        seen = before.astype(np.float64)
        if s.repetition_penalty != 1:
            # Towards less likely on both sides of zero: arXiv 1909.05858, as every library has it since.
            seen = np.where(seen > 0, seen / s.repetition_penalty, seen * s.repetition_penalty)
        if s.frequency_penalty or s.presence_penalty:
            seen -= s.frequency_penalty * counts + s.presence_penalty * (counts > 0)
        # A penalty next to zero must not make a logit infinite, nor any penalty make an infinite one possible.
        np.clip(seen, -_LARGEST, _LARGEST, out=seen)
        logits[ids] = np.where(np.isfinite(before), seen, before)


def draw(
    samplers: Sequence[Sampler],
    banned: Sequence[Sequence[int]],
    logits: npt.NDArray[np.float32],
    masks: Sequence[Mask | None] = (),
) -> list[int | Exception]:
    """Draw one token for each row of `logits`, of shape (rows, vocabulary), which is only read.

    `banned[i]` are never drawn in row i, nor what its mask does not allow, if there are masks. A row whose settings
    cannot be applied, or that has no possible token (ValueError), as when a model gives NaN, has its error in the list.
    """
    if not samplers:
        return []
    tokens: list[int] = logits.argmax(axis=1).tolist()
    drawn: list[int | Exception] = []
    with np.errstate(over="ignore"):
        rows = zip(logits, samplers, banned, masks or [None] * len(samplers), tokens, strict=True)
        for row, sampler, ban, mask, token in rows:
            try:
                drawn.append(_draw(row, sampler, ban, mask, token))
            except Exception as error:  # noqa: BLE001 - a row's own settings or numbers must not take the others down
                drawn.append(error)
    return drawn


@lru_cache(maxsize=4)
def _adjusted(vocabulary: int) -> Logits:
    """A buffer for the row that is being adjusted; a fresh one would cost a page fault every 4 KiB."""
    return np.empty(vocabulary, np.float32)


def _draw(logits: Logits, sampler: Sampler, banned: Sequence[int], mask: Mask | None, token: int) -> int:
    """Draw from a row whose likeliest `token` is known."""
    if mask is not None and mask.ids is not None and not sampler.adjusts and not banned:
        few = logits[mask.ids]
        return int(mask.ids[_drawn(few, sampler, int(few.argmax()), logits.size)])
    if sampler.adjusts or banned or mask is not None:
        row = _adjusted(logits.size)
        np.copyto(row, logits)
        logits = row
        if sampler.adjusts:
            sampler.adjust(logits)
        if mask is not None:
            mask.apply(logits)
        if banned:
            logits[list(banned)] = -np.inf
        token = int(logits.argmax())
    return _drawn(logits, sampler, token, logits.size)


def _drawn(logits: Logits, sampler: Sampler, token: int, vocabulary: int) -> int:
    """Draw from logits that may be those of some tokens only; a place in them."""
    highest = float(logits[token])
    if not math.isfinite(highest):
        raise ValueError(NOTHING_TO_DRAW)
    if sampler.sampling.temperature == 0:
        return token
    return pick(logits, highest, sampler.sampling, sampler.random, vocabulary)
