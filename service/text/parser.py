"""One choice's way from tokens to pieces: detokenize, split reasoning out, look for stop strings."""

import time
from collections.abc import Callable, Sequence

from service.engine.frames import Logprob
from service.text.detokenizer import Detokenizer
from service.text.markup import Kind, Markup, Segment, Splitter
from service.text.pieces import Ended, Piece, ReasoningEnded, ReasoningText, Text
from service.text.stops import StopMatcher
from service.text.tokenizer import Tokenizer
from service.types import FinishReason, Stopping

__all__ = ["Ended", "Parser", "Piece", "ReasoningEnded", "ReasoningText", "Text"]


class Parser:
    """Turns a choice's tokens into pieces. Every counted token is in exactly one of them, in order.

    Tokens are taken one at a time, so that the result does not depend on how they arrive; stop
    strings are looked for in the answer only, which is cut where reasoning comes between.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        stopping: Stopping,
        markup: Markup | None = None,
        *,
        reasoning_open: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`reasoning_open`: the prompt ended with the opening marker. `clock` is in seconds."""
        shown = tokenizer.specials_inside(markup.literals) if markup else frozenset[int]()
        self._detokenizer = Detokenizer(tokenizer, shown=shown)
        self._splitter = Splitter(markup, reasoning_open=reasoning_open) if markup else None
        self._stops = StopMatcher(stopping.stop, include_stop=stopping.include_stop)
        self._min_tokens = stopping.min_tokens
        self._include_stop = stopping.include_stop
        self._clock = clock
        self._kind = self._splitter.kind if self._splitter else Kind.ANSWER
        self._since: float | None = None
        self._ids: list[int] = []
        """Tokens that are in no piece yet."""
        self._logprobs: list[Logprob] = []
        """Of the same tokens, if they have any."""
        self._texts: list[str] = []
        """Of the piece that is being made."""
        self._settled = 0
        """How many of `_ids` belong to that piece; the others wait for the text that they are part of."""
        self._pieces: list[Piece] = []
        self.ended = False
        self.completion_tokens = 0
        """Tokens generated; the stop token is one, what came after a stop string is not."""
        self.reasoning_tokens = 0
        """Tokens in the pieces of reasoning so far."""

    def feed(self, tokens: Sequence[int], logprobs: Sequence[Logprob] = ()) -> list[Piece]:
        """Take tokens that were generated, with the `logprobs` of each or none.

        Those after a stop string, which gives `Ended`, are ignored.
        """
        for place, token in enumerate(tokens):
            if self.ended:
                break
            self._count(token)
            if logprobs:
                self._logprobs.append(logprobs[place])
            if text := self._detokenizer.add(token):
                self._take(text)
        return self._deliver()

    def end(self, reason: FinishReason, stop_token: int | None = None, logprobs: Sequence[Logprob] = ()) -> list[Piece]:
        """Take the engine's word that the choice has ended, at `stop_token`, which was not fed, if there is one.

        All that was held back comes out; a stop string that is complete only then counts. `logprobs` are those of
        the stop token.
        """
        if self.ended:
            return []
        if text := self._detokenizer.flush():
            self._take(text)
        if not self.ended and self._splitter:
            self._sort(self._splitter.flush())
        if not self.ended:
            self._close(reason, stop_token, logprobs)
        return self._deliver()

    def _count(self, token: int) -> None:
        self.completion_tokens += 1
        self._ids.append(token)
        if self._kind is Kind.REASONING and self._since is None:
            self._since = self._clock()

    def _take(self, text: str) -> None:
        if self._splitter is None:
            self._answer(text)
        else:
            self._sort(self._splitter.feed(text))

    def _sort(self, segments: list[Segment]) -> None:
        for segment in segments:
            if self.ended:
                return
            if segment.kind is not self._kind:
                self._turn(segment.kind)
            if segment.kind is Kind.ANSWER:
                self._answer(segment.text)
            else:
                self._say(segment.text)

    def _turn(self, kind: Kind) -> None:
        """Go from answer to reasoning or back."""
        if kind is Kind.REASONING:
            self._say(self._stops.flush())
            self._cut()
            self._since = self._clock()
        else:
            self._end_reasoning()
        self._kind = kind

    def _end_reasoning(self) -> None:
        self._settle()
        now = self._clock()
        self._pieces.append(ReasoningEnded(now - (now if self._since is None else self._since)))
        self._since = None

    def _answer(self, text: str) -> None:
        if self.completion_tokens < self._min_tokens:
            self._say(text)
            return
        self._say(self._stops.feed(text))
        if self._stops.matched is not None:
            self._finish(Ended(FinishReason.STOP, stop_string=self._stops.matched))

    def _close(self, reason: FinishReason, stop_token: int | None, logprobs: Sequence[Logprob]) -> None:
        self._say(self._stops.flush())
        if stop_token is not None:
            self._count(stop_token)
            self._logprobs += logprobs
            if self._include_stop:
                self._say(self._detokenizer.add(stop_token, show=True) + self._detokenizer.flush())
        if self._kind is Kind.REASONING:
            self._end_reasoning()
        self._finish(Ended(reason, stop_token=stop_token))

    def _finish(self, ended: Ended) -> None:
        self._settle()
        self._pieces.append(ended)
        self.ended = True

    def _say(self, text: str) -> None:
        """Add to the piece that is being made; the tokens so far belong to it."""
        if text:
            self._texts.append(text)
            self._settled = len(self._ids)

    def _settle(self) -> None:
        """Finish the piece that is being made, with all tokens that are left: no text of theirs will come."""
        self._settled = len(self._ids)
        self._cut()

    def _cut(self) -> None:
        """Finish the piece that is being made, if there is one."""
        count = self._settled
        if not (count or self._texts):
            return
        text = "".join(self._texts)
        ids, logprobs = tuple(self._ids[:count]), tuple(self._logprobs[:count])
        self._texts.clear()
        del self._ids[:count], self._logprobs[:count]
        self._settled = 0
        if self._kind is Kind.REASONING:
            self.reasoning_tokens += count
            self._pieces.append(ReasoningText(text, ids, logprobs))
        else:
            self._pieces.append(Text(text, ids, logprobs))

    def _deliver(self) -> list[Piece]:
        self._cut()
        pieces, self._pieces = self._pieces, []
        return pieces
