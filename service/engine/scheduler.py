"""Decides, step by step, which sequences are processed: admission, chunked prefill, decode."""

import logging
import time
from collections import deque

import mlx.core as mx
from mlx.nn.layers.base import Module
from mlx_lm.models.cache import make_prompt_cache

from service.engine.batch import Batch, can_merge
from service.engine.frames import Progress, Row, Step, Submit
from service.engine.sampling import Sampler
from service.engine.sequence import Sequence

logger = logging.getLogger(__name__)

_CLEAR_EVERY = 256
"""Steps between two clearings of MLX's buffer cache under load."""


class Scheduler:
    """Continuous batching: sequences join and leave between any two steps.

    A step gives every running sequence one token and processes at most one chunk of prompts, so that a long
    prompt holds running sequences up for no longer than a chunk takes.
    """

    def __init__(self, model: Module, *, max_running: int, prefill_chunk: int) -> None:
        """`max_running` bounds the sequences in memory, `prefill_chunk` the prompt tokens in a step."""
        self._model = model
        self._batch = Batch(model)
        self._waiting: deque[Sequence] = deque()
        self._prefilling: deque[Sequence] = deque()
        self._prefill_chunk = prefill_chunk
        self._steps = 0
        # Caches that cannot merge (quantised, chunked ones) run one sequence at a time.
        self._max_running = max_running if can_merge(make_prompt_cache(model)) else 1

    @property
    def is_idle(self) -> bool:
        """Whether there is nothing to do."""
        return not (self._waiting or self._prefilling or self._batch)

    def submit(self, submit: Submit) -> None:
        """Queue a sequence, first come first served."""
        self._waiting.append(Sequence(submit, Sampler(submit.sampling, submit.prompt)))

    def abort(self, seq: int) -> None:
        """Drop a sequence, wherever it is. Unknown ones are ignored."""

        def others(sequence: Sequence) -> bool:
            return sequence.submit.seq != seq

        self._waiting = deque(filter(others, self._waiting))
        self._prefilling = deque(filter(others, self._prefilling))
        self._batch.leave([row for row in self._batch.rows if row.submit.seq == seq])

    def step(self) -> Step:
        """Do one step's work and say what came of it."""
        done = Step(rows=[], progress=[])
        self._admit()
        arrivals = self._prefill(done)
        self._decode(arrivals, done)
        self._steps += 1
        # An idle engine gives its spare buffers back, and a busy one does not let them pile up.
        if self.is_idle or self._steps % _CLEAR_EVERY == 0:
            mx.clear_cache()
        return done

    def _admit(self) -> None:
        while self._waiting and len(self._prefilling) + len(self._batch) < self._max_running:
            sequence = self._waiting.popleft()
            sequence.admitted = time.monotonic()
            sequence.cache = make_prompt_cache(self._model)
            self._prefilling.append(sequence)

    def _prefill(self, done: Step) -> list[Sequence]:
        """Process one chunk's worth of prompt tokens, oldest sequence first; those that are ready to decode."""
        budget = self._prefill_chunk
        ready: list[Sequence] = []
        while self._prefilling and budget > 0:
            sequence = self._prefilling[0]
            count = min(budget, sequence.to_prefill)
            budget -= count + 1  # the token that is left for the decode step counts too
            try:
                self._process(sequence, count)
            except Exception as error:  # noqa: BLE001 - whatever a model raises on one prompt concerns that prompt alone
                self._prefilling.popleft()
                done.rows.append(_failed(sequence, error))
                continue
            done.progress.append(Progress(sequence.submit.seq, sequence.processed, sequence.admitted))
            if sequence.to_prefill:
                break
            self._prefilling.popleft()
            if sequence.submit.max_tokens:
                ready.append(sequence)
            else:
                done.rows.append(Row(sequence.submit.seq, [], "length"))
        return ready

    def _process(self, sequence: Sequence, count: int) -> None:
        """Put the next `count` tokens of the prompt into the sequence's cache."""
        if not count:
            return
        chunk = sequence.submit.prompt[sequence.prefilled : sequence.prefilled + count]
        self._model(mx.array([chunk]), cache=sequence.cache)
        # The caches alone are evaluated, so the output head never sees the prompt.
        mx.eval([layer.state for layer in sequence.cache or ()])
        sequence.prefilled += count

    def _decode(self, arrivals: list[Sequence], done: Step) -> None:
        """Give every row one token; rows that ended leave, and arrivals join, now or after what is under way."""
        try:
            if arrivals and not self._batch.is_ahead:
                self._batch.join(arrivals)
                arrivals = []
            if self._batch:
                self._advance(self._batch.step(ahead=not arrivals and self._goes_on), done)
            if arrivals:
                self._batch.join(arrivals)
        except Exception as error:  # noqa: BLE001 - the pass is one for all rows, so all are lost; the engine goes on
            done.rows.extend(_failed(sequence, error) for sequence in dict.fromkeys([*self._batch.rows, *arrivals]))
            self._batch = Batch(self._model)

    @property
    def _goes_on(self) -> bool:
        """Whether some row may have a token after the next one."""
        return any(row.generated + 1 < row.submit.max_tokens for row in self._batch.rows)

    def _advance(self, drawn: list[int | Exception], done: Step) -> None:
        rows = [_taken(sequence, token) for sequence, token in zip(self._batch.rows, drawn, strict=True)]
        done.rows.extend(rows)
        self._batch.leave([s for s, row in zip(self._batch.rows, rows, strict=True) if row.finish])


def _taken(sequence: Sequence, token: int | Exception) -> Row:
    if isinstance(token, Exception):
        return _failed(sequence, token)
    return Row(sequence.submit.seq, [token], sequence.append(token))


def _failed(sequence: Sequence, error: Exception) -> Row:
    logger.error("sequence %d failed", sequence.submit.seq, exc_info=error)
    return Row(sequence.submit.seq, [], "error", f"{type(error).__name__}: {error}")
