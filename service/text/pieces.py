"""What a choice's tokens turn into."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain, groupby
from typing import Any

from service.types import FinishReason


@dataclass(frozen=True, slots=True)
class Text:
    """More of the answer, and the tokens since the last piece. Only ids may be left to tell: then `text` is empty."""

    text: str
    token_ids: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class ReasoningText:
    """More of the reasoning, as `Text`. The tokens of its markers belong to it."""

    text: str
    token_ids: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class ReasoningEnded:
    """The model has stopped thinking after `duration` seconds."""

    duration: float


@dataclass(frozen=True, slots=True)
class Ended:
    """The choice has ended. What matched is told for FinishReason.STOP."""

    reason: FinishReason
    stop_string: str | None = None
    stop_token: int | None = None


Piece = Text | ReasoningText | ReasoningEnded | Ended


def merged(pieces: Iterable[Piece]) -> list[Piece]:
    """`pieces` with neighbouring texts of one kind joined."""
    result: list[Piece] = []
    for kind, run in groupby(pieces, key=type):
        parts = list(run)
        result += [_joined(kind, parts)] if kind in {Text, ReasoningText} else parts
    return result


def _joined(kind: type[Any], parts: list[Any]) -> Piece:
    text = "".join(part.text for part in parts)
    joined: Piece = kind(text, tuple(chain.from_iterable(part.token_ids for part in parts)))
    return joined
