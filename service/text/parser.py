"""One choice's way from tokens to pieces: detokenize, split reasoning out, find calls, look for stop strings."""

import time
from collections.abc import Callable, Sequence

from service.engine.frames import Logprob
from service.text.assembler import Assembler
from service.text.detokenizer import Detokenizer
from service.text.markup import Kind, Markup, Segment, Splitter
from service.text.pieces import Ended, Piece, ReasoningEnded, ReasoningText, Text
from service.text.stops import StopMatcher
from service.text.tokenizer import Tokenizer
from service.text.tools.syntax import Arguments, Began, CallReader, Closed, Event, Plain
from service.types import FinishReason, Stopping

__all__ = ["Ended", "Parser", "Piece", "ReasoningEnded", "ReasoningText", "Text"]


class Parser:
    """Turns a choice's tokens into pieces. Every counted token is in exactly one of them, in order.

    Tokens are taken one at a time, so that the result does not depend on how they arrive; stop
    strings are looked for in the answer only, which is cut where reasoning or a call comes between.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        stopping: Stopping,
        markup: Markup | None = None,
        *,
        reasoning_open: bool = False,
        calls: CallReader | None = None,
        parallel: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`reasoning_open`: the prompt ended with the opening marker. `clock` is in seconds.

        `calls` finds the calls in the answer, which none is looked for without; unless `parallel`, the first ends it.
        """
        shown = tokenizer.specials_inside(markup.literals) if markup else frozenset[int]()
        if calls:
            shown |= tokenizer.specials_inside(calls.literals)
        self._detokenizer = Detokenizer(tokenizer, shown=shown)
        self._splitter = Splitter(markup, reasoning_open=reasoning_open) if markup else None
        self._stops = StopMatcher(stopping.stop, include_stop=stopping.include_stop)
        self._min_tokens = stopping.min_tokens
        self._include_stop = stopping.include_stop
        self._calls = calls
        self._answer: Callable[[str], None] = self._find if calls else self._plain
        self._parallel = parallel
        self._clock = clock
        self._kind = self._splitter.kind if self._splitter else Kind.ANSWER
        self._since: float | None = None
        self._ending = False
        """Whether the engine has ended the choice."""
        self._assembler = Assembler()
        if self._kind is Kind.REASONING:
            self._assembler.turn(ReasoningText)
        self.ended = False
        self.completion_tokens = 0
        """Tokens generated; the stop token is one, what came after a stop string is not."""

    @property
    def reasoning_tokens(self) -> int:
        """Tokens in the pieces of reasoning so far."""
        return self._assembler.reasoning_tokens

    def feed(self, tokens: Sequence[int], logprobs: Sequence[Logprob] = ()) -> list[Piece]:
        """Take tokens that were generated, with the `logprobs` of each or none.

        Those after a stop string, which gives `Ended`, are ignored.
        """
        for place, token in enumerate(tokens):
            if self.ended:
                break
            self._count(token)
            if logprobs:
                self._assembler.logprobs.append(logprobs[place])
            if text := self._detokenizer.add(token):
                self._take(text)
        return self._assembler.take()

    def end(self, reason: FinishReason, stop_token: int | None = None, logprobs: Sequence[Logprob] = ()) -> list[Piece]:
        """Take the engine's word that the choice has ended, at `stop_token`, which was not fed, if there is one.

        All that was held back comes out; a stop string that is complete only then counts. `logprobs` are those of
        the stop token.
        """
        if self.ended:
            return []
        self._ending = True
        if text := self._detokenizer.flush():
            self._take(text)
        if not self.ended and self._splitter:
            self._sort(self._splitter.flush())
        if not self.ended and self._calls:
            self._follow(self._calls.flush())
        if not self.ended:
            self._close(reason, stop_token, logprobs)
        return self._assembler.take()

    def _count(self, token: int) -> None:
        self.completion_tokens += 1
        self._assembler.ids.append(token)
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
                self._assembler.say(segment.text)

    def _turn(self, kind: Kind) -> None:
        """Go from answer to reasoning or back."""
        if kind is Kind.REASONING:
            if self._calls:
                self._follow(self._calls.flush())
            self._say(self._stops.flush())
            self._assembler.turn(ReasoningText)
            self._since = self._clock()
        else:
            self._end_reasoning()
        self._kind = kind

    def _end_reasoning(self) -> None:
        now = self._clock()
        self._assembler.add(ReasoningEnded(now - (now if self._since is None else self._since)))
        self._assembler.turn(Text)
        self._since = None

    def _find(self, text: str) -> None:
        if self._calls:
            self._follow(self._calls.feed(text))

    def _follow(self, events: list[Event]) -> None:
        for event in events:
            if self.ended:
                return
            match event:
                case Plain(text):
                    self._plain(text)
                case Began(call_id, name):
                    self._say(self._stops.flush())
                    self._assembler.begin_call(call_id, name)
                case Arguments(text):
                    self._assembler.say(text)
                case Closed():
                    self._close_call()

    def _close_call(self) -> None:
        if self._assembler.kind is not Text:
            self._assembler.settle()
        if not (self._parallel or self._ending):
            self._finish(Ended(FinishReason.STOP))

    def _plain(self, text: str) -> None:
        if self.completion_tokens < self._min_tokens:
            self._say(text)
            return
        self._say(self._stops.feed(text))
        if self._stops.matched is not None:
            self._finish(Ended(FinishReason.STOP, stop_string=self._stops.matched))

    def _say(self, text: str) -> None:
        """Add to the answer's text."""
        if text:
            self._assembler.turn(Text)
            self._assembler.say(text)

    def _close(self, reason: FinishReason, stop_token: int | None, logprobs: Sequence[Logprob]) -> None:
        if self._kind is Kind.ANSWER:
            self._say(self._stops.flush())
        if stop_token is not None:
            self._count(stop_token)
            self._assembler.logprobs += logprobs
            if self._include_stop:
                shown = self._detokenizer.add(stop_token, show=True) + self._detokenizer.flush()
                self._assembler.say(shown) if self._kind is Kind.REASONING else self._say(shown)
        if self._kind is Kind.REASONING:
            self._end_reasoning()
        self._finish(Ended(reason, stop_token=stop_token))

    def _finish(self, ended: Ended) -> None:
        if ended.reason is FinishReason.STOP and self._assembler.calls:
            ended = Ended(FinishReason.TOOL_CALLS, ended.stop_string, ended.stop_token)
        self._assembler.add(ended)
        self.ended = True
