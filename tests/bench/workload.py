"""What the sides are asked: prompts of a set length, each unlike all others, and how their tokens are drawn."""

import random
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Tokenizer

PROMPT_TOKENS = 32
TOP_P = 0.9
_COLDEST, _WARMEST = 0.7, 1.2


@dataclass(frozen=True, slots=True)
class Sampling:
    """How one row's tokens are drawn."""

    temperature: float
    top_p: float
    seed: int


class Prompts:
    """Makes prompts of random words, one token each, so that ids and text of a prompt are two forms of the same.

    No two start with the same word, so that a prefix cache has nothing to give.
    """

    def __init__(self, tokenizer_file: Path, seed: int = 0) -> None:
        self._words = Tokenizer.from_file(str(tokenizer_file))
        self._chance = random.Random(seed)
        vocabulary = self._words.get_vocab()
        self._ids = sorted(
            number
            for token, number in vocabulary.items()
            if token[:1] == "Ġ" and token[1:].isascii() and token[1:].isalpha()
        )
        self._first = self._chance.sample(self._ids, len(self._ids))

    def one(self, length: int = PROMPT_TOKENS) -> list[int]:
        """A new prompt as token ids."""
        return [self._first.pop(), *self._chance.choices(self._ids, k=length - 1)]

    def many(self, count: int, length: int = PROMPT_TOKENS) -> list[list[int]]:
        """New prompts as token ids."""
        return [self.one(length) for _ in range(count)]

    def text(self, ids: list[int]) -> str:
        """The text of a prompt, which encodes to `ids` again."""
        text: str = self._words.decode(ids)
        assert self._words.encode(text).ids == ids
        return text

    def samplings(self, count: int) -> list[Sampling]:
        """As many ways to draw tokens, with temperatures from end to end of the usual range and new seeds."""
        step = (_WARMEST - _COLDEST) / max(count - 1, 1)
        return [
            Sampling(round(_COLDEST + row * step, 3), TOP_P, self._chance.randrange(1 << 32)) for row in range(count)
        ]
