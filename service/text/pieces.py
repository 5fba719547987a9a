"""What a choice's tokens turn into."""

from dataclasses import dataclass

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


def merged(pieces: list[Piece]) -> list[Piece]:
    """`pieces` with neighbours of one kind joined."""
    result: list[Piece] = []
    for piece in pieces:
        match (result[-1] if result else None), piece:
            case Text() as last, Text():
                result[-1] = Text(last.text + piece.text, last.token_ids + piece.token_ids)
            case ReasoningText() as last, ReasoningText():
                result[-1] = ReasoningText(last.text + piece.text, last.token_ids + piece.token_ids)
            case _:
                result.append(piece)
    return result
