"""One request's way through a model: submit, parse, count, time."""

import time
from collections.abc import Iterator

from service.engine import frames
from service.errors import DeadlineExceeded, EngineFault
from service.pool.choice import Choice
from service.pool.events import Completed, Prefilled, Queued, Said, Started, Timings, Usage
from service.pool.facts import ModelFacts
from service.pool.model import Model
from service.pool.prompt import Prompt
from service.pool.stream import FAILURES
from service.pool.submission import submission
from service.text.parser import Parser
from service.text.pieces import Ended, Text
from service.types import Ask, Origin

_MAX_SCORES = 1 << 14
"""Log-probabilities in one piece of the prompt: a message stays small, and others get their turn between two."""


class Generation:
    """A request that runs. `take` gives its events in turn; `close` gives it up, whenever and however often."""

    def __init__(self, model: Model, facts: ModelFacts, prompt: Prompt, ask: Ask, origin: Origin) -> None:
        """Submit `prompt`. Raises ContextTooLong, InsufficientMemory, QueueFull and Unavailable."""
        self.model = model.name
        self.completed: Completed | None = None
        self._prompt = prompt
        self._output = ask.output
        self._prompt_logprobs: list[frames.Logprob | None] = []
        self._cached = 0
        self._processed = 0
        self._prefilled = False
        self._arrived = origin.arrived
        self._admitted = self._first = self._last = 0.0
        self._stream = model.submit(submission(facts, prompt, ask, origin))
        self._running = ask.n
        self._choices = [Choice(_parser(facts, prompt, ask)) for _ in range(ask.n)]

    @property
    def finishes(self) -> list[Ended | None]:
        """How each choice has ended; None for one that has not."""
        return [choice.finish for choice in self._choices]

    @property
    def usage(self) -> Usage:
        """Tokens so far."""
        parsers = [choice.parser for choice in self._choices]
        return Usage(
            prompt=len(self._prompt.ids),
            completion=sum(parser.completion_tokens for parser in parsers),
            reasoning=sum(parser.reasoning_tokens for parser in parsers),
            cached=self._cached,
        )

    @property
    def timings(self) -> Timings:
        """Durations so far."""
        now = time.monotonic()
        return Timings(
            queue=(self._admitted or now) - self._arrived,
            prefill=(self._first or now) - self._admitted if self._admitted else 0,
            first_token=self._first - self._arrived if self._first else 0,
            decode=self._last - self._first,
            total=now - self._arrived,
        )

    async def take(self) -> list[Said]:
        """What has happened since the last call, at least one event; empty after the end.

        Raises EngineFault, DeadlineExceeded, or Unavailable where the engine ended.
        """
        said: list[Said] = []
        while not said and self.completed is None:
            rows: dict[int, list[frames.Row]] = {}
            for item in await self._stream.take():
                if isinstance(item, frames.Row):
                    rows.setdefault(item.choice, []).append(item)
                elif isinstance(item, frames.Progress):
                    said += self._progress(item)
                elif not self._admitted:  # one that was put back waits too, which is no more than a pause
                    said.append((0, Queued(item.position)))
            for index, of_choice in rows.items():
                said += self._advance(index, of_choice)
            if not self._running:
                self.completed = Completed(self.usage, self.timings)
                said.append((0, self.completed))
        return said

    def close(self) -> None:
        """Give the request up; its sequence leaves the batch within one step."""
        self._stream.close()

    def _progress(self, progress: frames.Progress) -> Iterator[Said]:
        if self._prefilled:
            return  # it was put back to make room for others, and is processed once more
        starts = not self._admitted
        if starts:
            self._admitted = max(progress.admitted, self._arrived)
            yield 0, Started(self.model, len(self._prompt.ids))
        if self._output.progress and progress.processed > self._processed:  # after it was put back it is less
            self._processed = progress.processed
            yield 0, Prefilled(progress.processed, len(self._prompt.ids), progress.cached)
        self._cached = max(self._cached, progress.cached)
        if progress.logprobs[:1] == [None]:
            self._prompt_logprobs.clear()  # the prompt's first token again: as above
        self._prompt_logprobs += progress.logprobs
        self._prefilled = progress.processed >= len(self._prompt.ids)
        if self._output.prompt_logprobs is None:
            shown = [Text(self._prompt.text)] if starts and self._prompt.text else []
        else:
            shown = self._scored_prompt() if self._prefilled else []
        for index in range(len(self._choices)):
            yield from ((index, piece) for piece in shown)

    def _scored_prompt(self) -> list[Text]:
        """The prompt with its log-probabilities; the first piece has all of its text, if any is wanted."""
        ids, logprobs = self._prompt.ids, self._prompt_logprobs
        size = _MAX_SCORES // (1 + (self._output.prompt_logprobs or 0))
        return [
            Text("" if start else self._prompt.text, tuple(ids[start:end]), tuple(logprobs[start:end]))
            for start, end in ((start, start + size) for start in range(0, len(ids), size))
        ]

    def _advance(self, index: int, rows: list[frames.Row]) -> list[Said]:
        if rows[-1].finish in FAILURES:
            raise self._failure(rows[-1])
        if rows[0].tokens:
            self._last = time.monotonic()
            self._first = self._first or self._last
        pieces = self._choices[index].take(rows)
        if pieces and isinstance(pieces[-1], Ended):
            self._running -= 1
            self._stream.drop(index)
        return [(index, piece) for piece in pieces]

    def _failure(self, row: frames.Row) -> Exception:
        grammar = self._prompt.answer.grammar
        if row.finish == "deadline":
            return DeadlineExceeded()
        if row.finish == "invalid" and grammar is not None:
            return grammar.refusal(row.error)
        return EngineFault(row.error)


def _parser(facts: ModelFacts, prompt: Prompt, ask: Ask) -> Parser:
    form = prompt.answer
    return Parser(
        facts.tokenizer,
        ask.stopping,
        form.markup,
        reasoning_open=form.reasoning_open,
        calls=form.calls.syntax.reader(form.calls.tools) if form.calls else None,
        parallel=form.calls is None or form.calls.several,
    )
