"""What a choice's tokens turn into."""

from collections.abc import Iterable
from itertools import chain, groupby
from typing import Any

import msgspec

from service.engine.frames import Logprob
from service.types import FinishReason


class Text(msgspec.Struct, frozen=True):
    """More of the answer, and the tokens since the last piece. Only ids may be left to tell: then `text` is empty.

    `logprobs` has one for each token, or none at all; None is that of a prompt's first token.
    """

    text: str
    token_ids: tuple[int, ...] = ()
    logprobs: tuple[Logprob | None, ...] = ()


class ReasoningText(msgspec.Struct, frozen=True):
    """More of the reasoning, as `Text`. The tokens of its markers belong to it."""

    text: str
    token_ids: tuple[int, ...] = ()
    logprobs: tuple[Logprob | None, ...] = ()


class ReasoningEnded(msgspec.Struct, frozen=True):
    """The model has stopped thinking after `duration` seconds."""

    duration: float


class CallText(msgspec.Struct, frozen=True):
    """More of a tool call, the `index`th of the answer. `id` and `name` are in its first piece only.

    `arguments` is more of their JSON text; tokens as in `Text`, those of the call's markers too.
    """

    index: int
    id: str = ""
    name: str = ""
    arguments: str = ""
    token_ids: tuple[int, ...] = ()
    logprobs: tuple[Logprob | None, ...] = ()


class Ended(msgspec.Struct, frozen=True):
    """The choice has ended. What matched is told for FinishReason.STOP."""

    reason: FinishReason
    stop_string: str | None = None
    stop_token: int | None = None


Piece = Text | ReasoningText | ReasoningEnded | CallText | Ended


def merged(pieces: Iterable[Piece]) -> list[Piece]:
    """`pieces` with neighbours of one kind, and of one call, joined."""
    result: list[Piece] = []
    for (kind, _), run in groupby(pieces, key=lambda piece: (type(piece), getattr(piece, "index", None))):
        parts: list[Any] = list(run)
        if kind in {Text, ReasoningText}:
            result.append(kind("".join(part.text for part in parts), *_tokens(parts)))
        elif kind is CallText:
            first, arguments = parts[0], "".join(part.arguments for part in parts)
            result.append(CallText(first.index, first.id, first.name, arguments, *_tokens(parts)))
        else:
            result += parts
    return result


def _tokens(parts: list[Any]) -> tuple[tuple[int, ...], tuple[Logprob | None, ...]]:
    return (
        tuple(chain.from_iterable(part.token_ids for part in parts)),
        tuple(chain.from_iterable(part.logprobs for part in parts)),
    )
