"""Decides, step by step, which sequences are processed: admission, chunked prefill, decode, memory."""

import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import mlx.core as mx
from mlx.nn.layers.base import Module
from mlx_lm.models.cache import make_prompt_cache

from service.engine import bands, reports
from service.engine.arrivals import Arrivals
from service.engine.batch import Batch, can_merge, merge
from service.engine.compiler import Compiler
from service.engine.drawing import Drawn
from service.engine.forward import Forward
from service.engine.frames import Cleared, Row, Step, Submit
from service.engine.limits import Limits
from service.engine.lobby import Lobby
from service.engine.loras import Answer, Loras
from service.engine.memory import Footprint
from service.engine.places import Places
from service.engine.prefill import Prefill
from service.engine.prefixes import Prefixes
from service.engine.probe import Probe
from service.engine.room import Room
from service.engine.running import Running
from service.engine.scores import Scores
from service.engine.sequence import Sequence
from service.engine.waiting import WaitingQueue

logger = logging.getLogger(__name__)

_CLEAR_EVERY = 256
"""Steps between two clearings of MLX's buffer cache under load."""
_PATIENCE = 0.2
"""The part of the time that prompts will take for which more of them are waited for."""
_MOST_PATIENCE_S = 0.02
_GLANCE_S = 0.05
"""How often deadlines are looked at while there is nothing to do but wait for grammars."""
_LORAS_S, _IDLE_LORAS_S = 0.004, 0.05
"""How long a step, and an engine that has none to do, work on LoRAs that come and go."""


class Scheduler:
    """Continuous batching: sequences join and leave between any two steps.

    A step hands out what the device has computed, starts it on the next tokens and on a chunk of prompts, and returns
    while it works. A chunk is small, so that a long prompt does not hold running sequences up.
    """

    def __init__(self, model: Module, limits: Limits, footprint: Footprint, compiler: Compiler | None = None) -> None:
        """Without a `compiler`, requests with a grammar fail."""
        self._forward = Forward(model)
        probe = Probe(model)
        banded = bands.enable(probe)
        # Caches that cannot merge (quantised, chunked ones), and models that compute something else of merged ones than
        # of each alone, run one sequence at a time.
        can_batch = can_merge(make_prompt_cache(model)) and probe.shares(merge)
        if not can_batch:
            logger.warning("this model's sequences cannot share a batch, so that one runs at a time")
        self._max_running = limits.max_running if can_batch else 1
        self._waiting = WaitingQueue()
        self._lobby = Lobby(compiler, self._waiting)
        self._prefill = Prefill(self._forward, chunk=limits.prefill_chunk, can_batch=can_batch)
        self._batch = Batch(self._forward, banded=banded)
        self._running = Running(self._prefill, self._batch)
        self._room = Room(limits.kv_bytes, footprint, self._running, self._waiting)
        self._prefixes = Prefixes(model, limits.prefix_bytes)
        self._arrivals = Arrivals(self._prefixes, self._waiting)
        self._places = Places()
        self._scores = Scores()
        self._answers: list[Answer] = []
        """What came of the work on LoRAs."""
        self._steps = 0

    @property
    def loras(self) -> Loras:
        """The LoRAs of the model."""
        return self._forward.loras

    @property
    def is_idle(self) -> bool:
        """Whether there is nothing to do for any sequence."""
        return not (self._lobby or self._running)

    @property
    def leisure_s(self) -> float:
        """How long the engine may wait for commands, in seconds, unless it is woken for a grammar that is there."""
        if self._lobby.is_ready or self._running or self.loras.is_busy:
            return 0.0
        return _GLANCE_S if self._lobby else math.inf

    @property
    def patience_s(self) -> float:
        """How long to wait for more requests before those that wait are begun, in seconds.

        Prompts that are processed together take less time than one after the other, so that an idle engine that is
        about to take long for the first one loses little by waiting for the second.
        """
        if self._running:
            return 0.0
        expected = self._prefill.token_s * sum(sequence.to_prefill for sequence in self._waiting)
        return min(_MOST_PATIENCE_S, _PATIENCE * expected)

    def submit(self, submit: Submit) -> None:
        """Queue a request; its further choices appear when its prompt is processed."""
        self._lobby.enter(submit, self.loras.number(submit.lora))

    def abort(self, seq: int, choice: int | None = None) -> None:
        """Drop a choice, or with None all of a request, wherever they are. Unknown ones are ignored."""
        self._drop([s for s in self._all() if s.submit.seq == seq and choice in {None, s.choice}])
        if self.is_idle:
            self._rest()

    def clear_cache(self) -> Cleared:
        """Empty the prefix cache."""
        cleared = Cleared(*self._prefixes.clear())
        if self.is_idle:
            mx.clear_cache()
        return cleared

    def unload_lora(self, name: str) -> None:
        """Begin to take a LoRA off, unless a sequence uses it."""
        self.loras.unload(name, lambda: {sequence.lora for sequence in self._all()}, self._prefixes.forget)

    def take_answers(self) -> list[Answer]:
        """What came of the loading and unloading of LoRAs, which steps go on with; while there are none, this does."""
        if self.is_idle:
            self._answers += self.loras.work(_IDLE_LORAS_S)
        answers, self._answers = self._answers, []
        return answers

    def step(self, listen: Callable[[], None] = lambda: None) -> Step:
        """Take what the last step's work gave, start the next, and say what came of it.

        In between `listen` is called: whom it submits or aborts need not wait for the next step.
        """
        done = Step(rows=[], progress=[], queued=[])
        with self._at_all_risk(done):
            self._take(done)
        listen()
        with self._at_all_risk(done):
            self._start(done)
        done.queued.extend(self._places.changes(self._waiting))
        self._steps += 1
        if self.is_idle:
            self._rest()
        elif self._steps % _CLEAR_EVERY == 0:  # spare buffers do not pile up under load either
            mx.clear_cache()
        return done

    def _take(self, done: Step) -> None:
        self._expire(done)
        self._lobby.collect(done.rows)
        self._take_tokens(done)
        self._take_prompts(done)

    def _start(self, done: Step) -> None:
        self._prefixes.shrink(self._room.make())
        self._answers += self.loras.work(_LORAS_S)  # here the device has nothing else to do
        with self._at_risk(done):
            self._batch.start()
        self._scores.add()
        self._admit(done)
        self._prefill.start(decoding=len(self._batch))

    def _rest(self) -> None:
        """There is nothing to do: spare buffers go back, and all callers start level."""
        self._waiting.forget()
        mx.clear_cache()

    def _all(self) -> list[Sequence]:
        return [*self._lobby, *self._running]

    def _drop(self, leavers: list[Sequence]) -> None:
        gone = set(leavers)
        self._lobby.drop(gone)
        if gone.intersection(self._running):
            self._running.leave(leavers)

    # What has been computed.

    def _take_tokens(self, done: Step) -> None:
        self._scores.forget()
        drawn: list[Drawn] = []
        with self._at_risk(done):
            drawn = self._batch.collect()
        leavers = []
        for each in drawn:
            row = reports.taken(each)
            done.rows.append(row)
            self._scores.owe(row, each)
            self._waiting.charge(each.sequence.submit.caller, 1)
            if row.finish is not None:
                leavers.append(each.sequence)
                if row.finish != "error":
                    self._prefixes.keep_whole(each.sequence, self._batch.extract)
        if leavers:
            self._running.leave(leavers)

    def _take_prompts(self, done: Step) -> None:
        processed = self._prefill.collect()
        for sequence, error in processed.failed:
            done.rows.append(reports.failed(sequence, error))
        for sequence in processed.advanced:
            scores = processed.scored.get(id(sequence), [])
            if not sequence.generated:  # one that was put back has told it before
                done.progress.append(reports.progress(sequence, scores))
            if sequence.cache is not None and sequence.prefilled in sequence.boundaries:
                self._prefixes.keep(sequence, sequence.cache)
        for band in processed.ready:
            with self._at_risk(done, list(band.rows)):
                self._arrivals.settle(band, done.rows)
                if band.rows:
                    self._batch.join([band])

    @contextmanager
    def _at_risk(self, done: Step, arrivals: Iterable[Sequence] = ()) -> Iterator[None]:
        """Lose the batch, and those that were about to join it, where what is done with it fails; the engine goes on.

        Its rows share one forward pass and their caches.
        """
        try:
            yield
        except Exception as error:  # noqa: BLE001 - as in a step
            self._lose_batch(error, done, arrivals)

    @contextmanager
    def _at_all_risk(self, done: Step) -> Iterator[None]:
        """Lose all that runs where a part of a step fails, whatever a model's caches raise; the engine goes on."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 - as it says
            running = self._prefill.rows
            self._prefill.drop(set(running))
            self._lose_batch(error, done, running)

    def _lose_batch(self, error: Exception, done: Step, arrivals: Iterable[Sequence]) -> None:
        told = {(row.seq, row.choice) for row in done.rows if row.finish is not None}
        lost = dict.fromkeys([*self._batch.rows, *arrivals])
        done.rows.extend(reports.failed(row, error) for row in lost if (row.submit.seq, row.choice) not in told)
        self._batch.clear()

    # Who comes next.

    def _admit(self, done: Step) -> None:
        while (sequence := self._waiting.peek()) is not None and len(self._running) < self._max_running:
            left = self._room.beside(sequence)
            if left is None:
                return
            self._waiting.admit(sequence)
            self._prefixes.shrink(left)
            self._prefixes.find(sequence)
            if self._comes_too_late(sequence):
                self._prefill.doubt()
                done.rows.append(Row(sequence.submit.seq, [], "deadline"))
                continue
            if not sequence.admitted:  # one that was put back has paid for its prompt
                self._waiting.charge(sequence.submit.caller, sequence.to_prefill)
            self._prefill.add(sequence)

    def _comes_too_late(self, sequence: Sequence) -> bool:
        """Whether its first token cannot be there in time, were it alone."""
        deadline = sequence.submit.deadline
        return deadline is not None and time.monotonic() + sequence.to_prefill * self._prefill.best_token_s > deadline

    def _expire(self, done: Step) -> None:
        """End what has passed its deadline."""
        now = time.monotonic()
        late = [s for s in self._all() if s.submit.deadline is not None and s.submit.deadline < now]
        if late:
            done.rows.extend(Row(seq, [], "deadline") for seq in dict.fromkeys(s.submit.seq for s in late))
            self._drop(late)
