"""One of the answers to a prompt, from the engine's rows to pieces."""

from collections.abc import Sequence
from itertools import chain

from service.engine.frames import Row
from service.text.parser import Parser
from service.text.pieces import Ended, Piece, merged
from service.types import FinishReason


class Choice:
    """A choice that runs, or has ended: then `finish` says how."""

    def __init__(self, parser: Parser) -> None:
        self.parser = parser
        self.finish: Ended | None = None

    def take(self, rows: Sequence[Row]) -> list[Piece]:
        """What `rows`, which are all of this choice, come to. `Ended` comes once, last, and after it nothing.

        A reader that is slow gets many tokens in one piece.
        """
        row = rows[0] if len(rows) == 1 else _joined(rows)
        pieces = self.parser.feed(row.tokens, row.logprobs) if row.finish is None else self._end(row)
        if pieces and isinstance(pieces[-1], Ended):
            self.finish = pieces[-1]
        return pieces

    def _end(self, row: Row) -> list[Piece]:
        if row.finish != "stop":
            reason = FinishReason.STOP if row.finish == "complete" else FinishReason.LENGTH
            return merged(self.parser.feed(row.tokens, row.logprobs) + self.parser.end(reason))
        pieces = self.parser.feed(row.tokens[:-1], row.logprobs[:-1])
        return merged(pieces + self.parser.end(FinishReason.STOP, row.tokens[-1], row.logprobs[-1:]))


def _joined(rows: Sequence[Row]) -> Row:
    return Row(
        rows[0].seq,
        list(chain.from_iterable(row.tokens for row in rows)),
        rows[-1].finish,
        logprobs=list(chain.from_iterable(row.logprobs for row in rows)),
    )
