"""Decides, step by step, which sequences are processed: admission, chunked prefill, decode, memory."""

import copy
import logging
import math
import time
from dataclasses import dataclass

import mlx.core as mx
from mlx.nn.layers.base import Module
from mlx_lm.models.cache import make_prompt_cache

from service.engine import bands, reports
from service.engine.batch import Band, Batch, can_merge, merge
from service.engine.compiler import Compiler
from service.engine.compiling import Compiling
from service.engine.drawing import Drawn
from service.engine.forward import Forward
from service.engine.frames import Cleared, Row, Step, Submit
from service.engine.loras import Answer, Loras
from service.engine.memory import Footprint
from service.engine.places import Places
from service.engine.prefill import Prefill, Processed
from service.engine.prefixes import Prefixes
from service.engine.probe import shares
from service.engine.room import Room
from service.engine.sequence import LayerCache, Sequence
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


@dataclass(frozen=True, slots=True)
class Limits:
    """What the engine may use."""

    max_running: int
    """Sequences in memory at a time."""
    prefill_chunk: int
    """Prompt tokens in a step."""
    kv_bytes: int
    """Memory for keys and values."""
    prefix_bytes: int
    """The part of it for the prefix cache."""


class Scheduler:
    """Continuous batching: sequences join and leave between any two steps.

    A step hands out what the device has computed, starts it on the next tokens and on a chunk of prompts, and returns
    while it works. A chunk is small, so that a long prompt does not hold running sequences up.
    """

    def __init__(self, model: Module, limits: Limits, footprint: Footprint, compiler: Compiler | None = None) -> None:
        """Without a `compiler`, requests with a grammar fail."""
        self._compiling = Compiling(compiler)
        self._room = Room(limits.kv_bytes, footprint)
        self._forward = Forward(model)
        self._refused: list[Row] = []
        """The ends of those that nothing can be done for."""
        self._answers: list[Answer] = []
        """What came of the work on LoRAs."""
        self._banded = bands.enable(model)
        # Caches that cannot merge (quantised, chunked ones), and models that compute something else of merged ones than
        # of each alone, run one sequence at a time.
        can_batch = can_merge(make_prompt_cache(model)) and shares(model, merge)
        if not can_batch:
            logger.warning("this model's sequences cannot share a batch, so that one runs at a time")
        self._max_running = limits.max_running if can_batch else 1
        self._waiting = WaitingQueue()
        self._prefill = Prefill(self._forward, chunk=limits.prefill_chunk, can_batch=can_batch)
        self._batch = Batch(self._forward, banded=self._banded)
        self._prefixes = Prefixes(model, limits.prefix_bytes)
        self._places = Places()
        self._unscored: list[tuple[Row, Drawn]] = []
        """What the last step gave to those that asked for log-probabilities."""
        self._is_full = False
        """Whether a row was put back since the last one left: until another leaves, none is admitted."""
        self._steps = 0

    @property
    def loras(self) -> Loras:
        """The LoRAs of the model."""
        return self._forward.loras

    @property
    def is_idle(self) -> bool:
        """Whether there is nothing to do for any sequence."""
        return not (self._waiting or self._prefill or self._batch or self._compiling or self._refused)

    @property
    def leisure_s(self) -> float:
        """How long the engine may wait for commands, in seconds, unless it is woken for a grammar that is there."""
        if self._waiting or self._prefill or self._batch or self._refused or self.loras.is_busy:
            return 0.0
        return _GLANCE_S if self._compiling else math.inf

    @property
    def patience_s(self) -> float:
        """How long to wait for more requests before those that wait are begun, in seconds.

        Prompts that are processed together take less time than one after the other, so that an idle engine that is
        about to take long for the first one loses little by waiting for the second.
        """
        if self._prefill or self._batch:
            return 0.0
        expected = self._prefill.token_s * sum(sequence.to_prefill for sequence in self._waiting)
        return min(_MOST_PATIENCE_S, _PATIENCE * expected)

    def submit(self, submit: Submit) -> None:
        """Queue a request; its further choices appear when its prompt is processed."""
        number = self.loras.number(submit.lora)
        if number is None:  # taken off before it came
            self._refuse(submit)
            return
        sequence = Sequence(submit, lora=number)
        if submit.grammar:
            self._compiling.add(sequence)
        else:
            self._waiting.push(sequence)

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
        self.loras.unload(name, lambda: {sequence.lora for sequence in self._all()})

    def take_answers(self) -> list[Answer]:
        """What came of the loading and unloading of LoRAs, which steps go on with; while there are none, this does."""
        if self.is_idle:
            self._answers += self.loras.work(_IDLE_LORAS_S)
        answers, self._answers = self._answers, []
        return answers

    def step(self) -> Step:
        """Take what the last step's work gave, start the next, and say what came of it."""
        done = Step(rows=[], progress=[], queued=[])
        try:
            self._work(done)
        except Exception as error:  # noqa: BLE001 - whatever a model's caches raise; what ran is lost, the engine goes on
            running = self._prefill.rows
            self._prefill.drop(set(running))
            self._lose_batch(error, done, running)
        done.queued.extend(self._places.changes(self._waiting))
        self._steps += 1
        if self.is_idle:
            self._rest()
        elif self._steps % _CLEAR_EVERY == 0:  # spare buffers do not pile up under load either
            mx.clear_cache()
        return done

    def _work(self, done: Step) -> None:
        done.rows.extend(self._refused)
        self._refused.clear()
        self._expire(done)
        self._take_grammars(done)
        self._take_tokens(done)
        self._take_prompts(self._prefill.collect(), done)
        self._make_room()
        self._answers += self.loras.work(_LORAS_S)  # here the device has nothing else to do
        self._start_decoding(done)
        self._score()
        self._admit(done)
        self._prefill.start(decoding=len(self._batch))

    def _rest(self) -> None:
        """There is nothing to do: spare buffers go back, and all callers start level."""
        self._waiting.forget()
        mx.clear_cache()

    def _all(self) -> list[Sequence]:
        return [*self._compiling, *self._waiting, *self._prefill.rows, *self._batch.rows]

    def _refuse(self, submit: Submit) -> None:
        error = LookupError(f"there is no LoRA {submit.lora!r}")
        self._refused += [reports.failed(Sequence(submit), error, choice) for choice in range(submit.choices)]

    def _drop(self, leavers: list[Sequence]) -> None:
        gone = set(leavers)
        self._compiling.drop(gone)
        for sequence in gone.intersection(self._waiting):
            self._waiting.remove(sequence)
        if gone.intersection([*self._prefill.rows, *self._batch.rows]):
            self._prefill.drop(gone)
            self._batch.leave(leavers)
            self._is_full = False

    # What has been computed.

    def _take_grammars(self, done: Step) -> None:
        """Queue those whose grammars have been compiled."""
        for sequence in self._compiling.collect(done.rows):
            self._waiting.push(sequence)

    def _take_tokens(self, done: Step) -> None:
        self._unscored = []
        try:
            drawn = self._batch.collect()
        except Exception as error:  # noqa: BLE001 - the pass is one for all rows, so all are lost; the engine goes on
            self._lose_batch(error, done)
            return
        leavers = []
        for each in drawn:
            row = reports.taken(each)
            done.rows.append(row)
            if each.logits is not None and row.tokens:
                self._unscored.append((row, each))
            self._waiting.charge(each.sequence.submit.caller, 1)
            if row.finish is not None:
                leavers.append(each.sequence)
                if row.finish != "error":
                    self._prefixes.keep_whole(each.sequence, self._batch.extract)
        if leavers:
            self._batch.leave(leavers)
            self._is_full = False

    def _take_prompts(self, processed: Processed, done: Step) -> None:
        for sequence, error in processed.failed:
            done.rows.append(reports.failed(sequence, error))
        for sequence in processed.advanced:
            scores = processed.scored.get(id(sequence), [])
            if not sequence.generated:  # one that was put back has told it before
                done.progress.append(reports.progress(sequence, scores))
            if sequence.cache is not None and sequence.prefilled in sequence.boundaries:
                self._prefixes.keep(sequence, sequence.cache)
        for band in processed.ready:
            self._welcome(band, done)

    def _welcome(self, band: Band, done: Step) -> None:
        """Let rows be decoded whose prompts are processed, and queue the other choices of their requests."""
        arrivals = list(band.rows)
        try:
            for index, sequence in enumerate(arrivals):
                keeps, multiplies = self._prefixes.keeps(sequence), _multiplies(sequence)
                cache = band.extract(index) if keeps or multiplies else []
                if keeps:
                    self._prefixes.keep(sequence, cache)
                if multiplies:
                    self._multiply(sequence, copy.deepcopy(cache))  # of a single row it is the row's own
            over = [row for row in arrivals if not row.submit.max_tokens or row.is_complete]
            for row in over:
                finish = "complete" if row.is_complete else "length"
                done.rows.extend(Row(row.submit.seq, [], finish, choice) for choice in range(row.submit.choices))
            if over:
                band.keep([index for index, row in enumerate(arrivals) if row not in over])
            if band.rows:
                self._batch.join([band])
        except Exception as error:  # noqa: BLE001 - as in a step
            self._lose_batch(error, done, arrivals)

    def _multiply(self, sequence: Sequence, cache: list[LayerCache]) -> None:
        """Queue the other choices of a request in its place. They share the memory of the prompt's cache until then."""
        sequence.multiplied = True
        for choice in range(1, sequence.submit.choices):
            sibling = sequence.sibling(choice)
            sibling.cache, sibling.prefilled = cache, sibling.length
            self._waiting.push(sibling)

    def _start_decoding(self, done: Step) -> None:
        try:
            self._batch.start()
        except Exception as error:  # noqa: BLE001 - as in a step
            self._lose_batch(error, done)

    def _score(self) -> None:
        """Add the log-probabilities that were asked for, while the device works."""
        for row, drawn in self._unscored:
            if (logprob := drawn.logprob) is not None:
                row.logprobs.append(logprob)
        self._unscored = []

    def _lose_batch(self, error: Exception, done: Step, arrivals: list[Sequence] | None = None) -> None:
        told = {(row.seq, row.choice) for row in done.rows if row.finish is not None}
        lost = dict.fromkeys([*self._batch.rows, *(arrivals or ())])
        done.rows.extend(reports.failed(row, error) for row in lost if (row.submit.seq, row.choice) not in told)
        self._batch = Batch(self._forward, banded=self._banded)

    # Who comes next.

    @property
    def _running(self) -> int:
        return len(self._prefill) + len(self._batch)

    def _admit(self, done: Step) -> None:
        while (sequence := self._waiting.peek()) is not None and self._running < self._max_running:
            if self._is_full and self._running:
                return
            needed = self._room.needed(sequence, self._batch)
            free = self._room.budget - self._in_use
            if self._running and free < needed + self._room.growth(self._running):
                return
            self._waiting.admit(sequence)
            self._prefixes.shrink(max(0, free - needed))
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

    # Memory.

    @property
    def _in_use(self) -> int:
        """Bytes of keys and values, without those that only the prefix cache holds."""
        return self._room.in_use(self._batch, self._prefill.rows, self._waiting)

    def _make_room(self) -> None:
        """Where rows outgrow the memory, the prefix cache gives way, then what waits, then the youngest rows.

        What they had is computed again when there is room.
        """
        while (in_use := self._in_use) > self._room.budget:
            if holders := [sequence for sequence in self._waiting if sequence.cache is not None]:
                youngest = max(holders, key=lambda holder: holder.age)
                for holder in holders:
                    if holder.submit.seq == youngest.submit.seq:
                        holder.put_back()
            elif self._running > 1:
                self._put_back(max([*self._prefill.rows, *self._batch.rows], key=lambda row: row.age))
            else:
                break
        self._prefixes.shrink(max(0, self._room.budget - in_use))

    def _put_back(self, sequence: Sequence) -> None:
        logger.info("sequence %d is put back for want of memory", sequence.submit.seq)
        self._drop([sequence])
        sequence.put_back()
        self._waiting.push(sequence)
        self._is_full = True


def _multiplies(sequence: Sequence) -> bool:
    """Whether the other choices of its request start where it does."""
    request = sequence.submit
    begins = not sequence.choice and not sequence.multiplied and not sequence.is_complete
    return bool(request.choices > 1 and begins and request.max_tokens)
