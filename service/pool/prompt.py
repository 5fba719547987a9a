"""What a model is to continue, and what is known of it beforehand."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from service.text.answer import AnswerForm

_FIRST, _LAST = 2, 3
"""How many boundaries are kept of a conversation's start, which others share, and of its end, where it goes on."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt's token ids, and its `text` where the answer may begin with it.

    `boundaries` are the lengths of those of its prefixes that other prompts are likely to share, ascending.
    """

    ids: list[int]
    text: str = ""
    answer: AnswerForm = field(default_factory=AnswerForm)
    boundaries: Sequence[int] = ()


def boundaries(ids: Sequence[int], ends: Collection[int]) -> list[int]:
    """Lengths of the prefixes that end with one of `ends`: the first ones, after a system prompt, and the last ones."""
    found = [length for length, token in enumerate(ids[:-1], start=1) if token in ends]
    return found if len(found) <= _FIRST + _LAST else found[:_FIRST] + found[-_LAST:]
