"""Tokens and text become pieces: every token is in exactly one of them, in order."""

from service.engine.frames import Logprob
from service.text.pieces import CallText, Ended, Piece, ReasoningEnded, ReasoningText, Text


class Assembler:
    """Makes one piece at a time. Its tokens are those up to its last text; later ones wait for theirs."""

    def __init__(self) -> None:
        self.ids: list[int] = []
        """Tokens that are in no piece yet."""
        self.logprobs: list[Logprob] = []
        """Of the same tokens, if they have any."""
        self.reasoning_tokens = 0
        """Tokens in the pieces of reasoning so far."""
        self.kind: type[Text | ReasoningText | CallText] = Text
        """Of the piece that is being made."""
        self.calls = 0
        """Calls begun."""
        self._texts: list[str] = []
        self._settled = 0
        """How many of `ids` belong to the piece."""
        self._id = self._name = ""
        """Of a call that no piece has told yet."""
        self._pieces: list[Piece] = []

    def say(self, text: str) -> None:
        """Add to the piece; the tokens so far belong to it."""
        if text:
            self._texts.append(text)
            self._settled = len(self.ids)

    def settle(self) -> None:
        """Let all tokens so far belong to the piece: no text of theirs will come."""
        self._settled = len(self.ids)

    def turn(self, kind: type[Text | ReasoningText]) -> None:
        """Begin a piece of another kind, if this is not one."""
        if self.kind is not kind:
            self._cut()
            self.kind = kind

    def begin_call(self, call_id: str, name: str) -> None:
        """Begin the pieces of another call; the tokens so far belong to its first."""
        self._cut()
        self.kind = CallText
        self.calls += 1
        self._id, self._name = call_id, name
        self.settle()

    def add(self, piece: ReasoningEnded | Ended) -> None:
        """Add what has no text, after all that came before it."""
        self.settle()
        self._cut()
        self._pieces.append(piece)

    def take(self) -> list[Piece]:
        """Return the pieces that are finished now."""
        self._cut()
        pieces, self._pieces = self._pieces, []
        return pieces

    def _cut(self) -> None:
        """Finish the piece, if there is one."""
        count = self._settled
        if not (count or self._texts or self._name):
            return
        text = "".join(self._texts)
        ids, logprobs = tuple(self.ids[:count]), tuple(self.logprobs[:count])
        self._texts.clear()
        del self.ids[:count], self.logprobs[:count]
        self._settled = 0
        self._pieces.append(self._piece(text, ids, logprobs))

    def _piece(self, text: str, ids: tuple[int, ...], logprobs: tuple[Logprob, ...]) -> Piece:
        if self.kind is Text:
            return Text(text, ids, logprobs)
        if self.kind is ReasoningText:
            self.reasoning_tokens += len(ids)
            return ReasoningText(text, ids, logprobs)
        told, self._id, self._name = (self._id, self._name), "", ""
        return CallText(self.calls - 1, *told, text, ids, logprobs)
