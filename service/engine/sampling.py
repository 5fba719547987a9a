"""Drawing tokens from logits, on the host.

MLX's exp, softmax and sort over a vocabulary are many times slower than NumPy's on the CPU, and on Apple
silicon the logits are in memory that both can see.
"""

from collections import Counter

import numpy as np
import numpy.typing as npt

from service.engine.frames import Sampling

Logits = npt.NDArray[np.float32]

NOTHING_TO_DRAW = "the model's logits leave no token to draw"
_LARGEST = np.finfo(np.float32).max


class Sampler:
    """Draws one sequence's tokens: its settings, its random stream and what it has seen."""

    def __init__(self, sampling: Sampling, prompt: list[int]) -> None:
        """`prompt` counts for the repetition penalty."""
        self._sampling = sampling
        # A stream of its own for each sequence makes the text a function of the seed, whatever else is running.
        self._random = np.random.Generator(np.random.Philox(key=sampling.seed & (1 << 64) - 1))
        self._output: Counter[int] = Counter()
        self._seen = set(prompt) if sampling.repetition_penalty != 1 else set()
        self._bias_ids = np.fromiter(sampling.logit_bias, np.int64)
        self._bias = np.fromiter(sampling.logit_bias.values(), np.float32)

    @property
    def is_argmax(self) -> bool:
        """Whether the likeliest token is always the one."""
        return self._sampling.temperature == 0 and not self._adjusts

    @property
    def _adjusts(self) -> bool:
        s = self._sampling
        return bool(s.logit_bias or s.frequency_penalty or s.presence_penalty or s.repetition_penalty != 1)

    def draw(self, logits: Logits, banned: list[int]) -> int:
        """The next token. `logits` has the vocabulary's shape and is changed; `banned` ids are never drawn.

        Raises ValueError where no token is possible, as when a model gives NaN.
        """
        if self._adjusts:
            self._adjust(logits)
        if banned:
            logits[banned] = -np.inf
        token = int(logits.argmax())
        if not np.isfinite(logits[token]):
            raise ValueError(NOTHING_TO_DRAW)
        return token if self._sampling.temperature == 0 else self._sample(logits, logits[token])

    def observe(self, token: int) -> None:
        """Count a token of the output."""
        if self._adjusts:
            self._output[token] += 1
            if self._sampling.repetition_penalty != 1:
                self._seen.add(token)

    def _adjust(self, logits: Logits) -> None:
        s = self._sampling
        logits[self._bias_ids] += self._bias
        if self._seen:
            ids = np.fromiter(self._seen, np.int64, len(self._seen))
            seen = logits[ids].astype(np.float64)
            # Towards less likely on both sides of zero: arXiv 1909.05858, as every library has it since.
            with np.errstate(over="ignore"):
                seen = np.where(seen > 0, seen / s.repetition_penalty, seen * s.repetition_penalty)
            # A penalty next to zero must not make a logit infinite.
            logits[ids] = np.clip(seen, -_LARGEST, _LARGEST)
        if self._output and (s.frequency_penalty or s.presence_penalty):
            ids = np.fromiter(self._output, np.int64, len(self._output))
            counts = np.fromiter(self._output.values(), np.float32, len(self._output))
            logits[ids] -= s.frequency_penalty * counts + s.presence_penalty

    def _sample(self, logits: Logits, highest: np.float32) -> int:
        s = self._sampling
        # In double precision, so that adding up a vocabulary of small masses stays exact. A temperature next to
        # zero may overflow to -inf, which is a mass of zero.
        with np.errstate(over="ignore"):
            mass = np.exp((logits.astype(np.float64) - highest) / s.temperature)
        if 0 < s.top_k < mass.size:
            mass[mass < np.partition(mass, -s.top_k)[-s.top_k]] = 0
        if s.top_p < 1:
            mass[mass < _nucleus_floor(mass, s.top_p)] = 0
        if s.min_p > 0:
            mass[mass < s.min_p] = 0  # the likeliest token's mass is 1
        # In the vocabulary's order, so that two tokens of nearly equal mass cannot change places with the
        # rounding of a different batch.
        cumulative = mass.cumsum()
        return int(cumulative.searchsorted(self._random.random() * cumulative[-1], side="right"))


def _nucleus_floor(mass: npt.NDArray[np.float64], top_p: float) -> float:
    """The least mass in the smallest set of the likeliest tokens that holds `top_p` of the whole."""
    total = mass.sum()
    # All the tokens below this bound together hold less than 1 - top_p, so only the rest needs sorting.
    candidates = np.sort(mass[mass >= (1 - top_p) * total / mass.size])[::-1]
    index = int(candidates.cumsum().searchsorted(top_p * total))
    return float(candidates[min(index, candidates.size - 1)])
