"""One request's way through a model: submit, parse, count, time."""

import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass

from service.engine import frames
from service.errors import ContextTooLong, EngineFault
from service.pool.facts import ModelFacts
from service.pool.model import Model
from service.pool.stream import Stream
from service.text.parser import Ended, Parser, Piece, Text
from service.text.pieces import merged
from service.types import FinishReason, Sampling, Stopping

_SEED_BITS = 63


@dataclass(frozen=True, slots=True)
class Started:
    """The request is admitted and the first chunk of its prompt is processed. `model` is the model's alias."""

    model: str
    prompt_tokens: int


@dataclass(frozen=True, slots=True)
class Usage:
    """Token counts."""

    prompt: int
    completion: int
    reasoning: int


@dataclass(frozen=True, slots=True)
class Timings:
    """Durations in seconds; those of parts that were not reached are 0."""

    queue: float
    prefill: float
    first_token: float
    decode: float
    total: float


@dataclass(frozen=True, slots=True)
class Completed:
    """The request has ended well."""

    usage: Usage
    timings: Timings


GenerationEvent = Started | Piece | Completed


class Generation:
    """A request that runs. `take` gives its events in turn; `close` gives it up, whenever and however often."""

    def __init__(
        self,
        model: Model,
        facts: ModelFacts,
        prompt: Sequence[int],
        parser: Parser,
        sampling: Sampling,
        stopping: Stopping,
        *,
        echo: str = "",
        arrived: float,
    ) -> None:
        """Submit `prompt`. `echo` is text to start the answer with, `arrived` the request's monotonic arrival time.

        Raises ContextTooLong where the prompt leaves no room, QueueFull and Unavailable.
        """
        room = facts.context_length - len(prompt)
        if room < 0 or (room == 0 and stopping.max_tokens != 0):
            raise ContextTooLong(facts.context_length, len(prompt))
        self.model = model.name
        self._prompt_tokens = len(prompt)
        self._parser = parser
        self._echo = echo
        self._arrived = arrived
        self._admitted = self._first = self._last = 0.0
        self.completed: Completed | None = None
        self.finish: Ended | None = None
        # A family's tokens may lie beyond the vocabulary of a model that was cut down.
        own_stops = [] if stopping.ignore_eos else [i for i in facts.format.stop_ids if i < facts.loaded.vocab_size]
        self._stream: Stream = model.submit(
            list(prompt),
            _resolve(sampling, facts.loaded.defaults),
            max_tokens=room if stopping.max_tokens is None else min(stopping.max_tokens, room),
            min_tokens=stopping.min_tokens,
            stop_ids=[*{*own_stops, *stopping.stop_token_ids}],
        )

    @property
    def usage(self) -> Usage:
        """Tokens so far."""
        return Usage(self._prompt_tokens, self._parser.completion_tokens, self._parser.reasoning_tokens)

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

    async def take(self) -> list[GenerationEvent]:
        """What has happened since the last call, at least one event; empty after the end.

        Raises EngineFault, or Unavailable where the engine ended.
        """
        events: list[GenerationEvent] = []
        while not events and self.completed is None:
            tokens: list[int] = []
            finish: str | None = None
            for item in await self._stream.take():
                match item:
                    case frames.Progress():
                        events += self._start(item)
                    case frames.Row(finish="error", error=error):
                        raise EngineFault(error)
                    case frames.Row():
                        # A reader that is slow gets many tokens in one message.
                        tokens += item.tokens
                        finish = item.finish
            events += self._advance(tokens, finish)
            if self.finish is not None:
                self._stream.close()
                self.completed = Completed(self.usage, self.timings)
                events.append(self.completed)
        return events

    def close(self) -> None:
        """Give the request up; its sequence leaves the batch within one step."""
        self._stream.close()

    def _start(self, progress: frames.Progress) -> list[GenerationEvent]:
        if self._admitted:
            return []
        self._admitted = max(progress.admitted, self._arrived)
        return [Started(self.model, self._prompt_tokens), *([Text(self._echo, ())] if self._echo else [])]

    def _advance(self, tokens: list[int], finish: str | None) -> list[Piece]:
        if tokens:
            self._last = time.monotonic()
            self._first = self._first or self._last
        pieces = self._parse(tokens, finish)
        if pieces and isinstance(pieces[-1], Ended):
            self.finish = pieces[-1]
        return pieces

    def _parse(self, tokens: list[int], finish: str | None) -> list[Piece]:
        if finish is None:
            return self._parser.feed(tokens)
        text, stop = (tokens[:-1], tokens[-1]) if finish == "stop" else (tokens, None)
        pieces = self._parser.feed(text)
        return merged(pieces + self._parser.end(FinishReason.LENGTH if stop is None else FinishReason.STOP, stop))


def _resolve(sampling: Sampling, defaults: frames.Defaults) -> frames.Sampling:
    """Fill what the request leaves open with the model's defaults, and those with neutral values."""

    def first(*values: float | None) -> float:
        return next(value for value in values if value is not None)

    return frames.Sampling(
        seed=secrets.randbits(_SEED_BITS) if sampling.seed is None else sampling.seed,
        temperature=first(sampling.temperature, defaults.temperature, 1.0),
        top_p=first(sampling.top_p, defaults.top_p, 1.0),
        top_k=int(first(sampling.top_k, defaults.top_k, 0)),
        min_p=first(sampling.min_p, defaults.min_p, 0.0),
        repetition_penalty=first(sampling.repetition_penalty, defaults.repetition_penalty, 1.0),
        frequency_penalty=first(sampling.frequency_penalty, 0.0),
        presence_penalty=first(sampling.presence_penalty, 0.0),
        logit_bias=dict(sampling.logit_bias),
    )
