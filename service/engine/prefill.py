"""Prompts on their way into the KV cache: a chunk a step, rows that arrive together as one batch."""

import copy
import time
from collections import deque
from dataclasses import dataclass, field

import mlx.core as mx
import numpy as np
from mlx_lm.models.cache import KVCache, RotatingKVCache, make_prompt_cache

from service.engine.batch import Band, merge
from service.engine.forward import Forward
from service.engine.frames import Logprob
from service.engine.logprobs import token_logprobs
from service.engine.prefix_cache import can_cut
from service.engine.sequence import LayerCache, Sequence

_TELLING = 32
"""Tokens from which on the time of a chunk says something about the next one."""
_SCORED = 128
"""Tokens of a prompt whose log-probabilities are computed at a time: each takes a row as wide as the vocabulary."""
_LONGEST_S = 0.4
"""What a part of a prompt may take, in seconds: so long it goes on after its client has left."""
_SMALLEST = 64
"""Tokens of a part that are worth a forward pass."""
_DEFERRED = 31
"""Tokens that are left for the first decode step where no other row waits for it, which saves a forward pass."""
_PADDING = 16
"""Tokens of padding that a short row may have in a batch with a longer one, however short it is."""


@dataclass(slots=True)
class Chunk:
    """Tokens that one forward pass processes: `counts` of each row. `cache` is merged, unless there is one row.

    Of a row that is alone `deferred` tokens are left for its first decode step; there is nothing to process then.
    """

    rows: list[Sequence]
    counts: list[int]
    deferred: int = 0
    cache: list[LayerCache] = field(default_factory=list)
    logits: mx.array | None = None
    error: Exception | None = None


@dataclass(slots=True)
class Processed:
    """What came of the chunks of a step."""

    advanced: list[Sequence] = field(default_factory=list)
    """Whose prompt has got on."""
    ready: list[Band] = field(default_factory=list)
    """Rows that can be decoded."""
    failed: list[tuple[Sequence, Exception]] = field(default_factory=list)
    scored: dict[int, list[Logprob | None]] = field(default_factory=dict)
    """Log-probabilities of the prompt's tokens, for those of `advanced` that asked, by `id`."""


class Prefill:
    """Works through prompts under a budget of tokens a step. Chunks are started and collected, as the batch's steps."""

    def __init__(self, forward: Forward, *, chunk: int, can_batch: bool) -> None:
        """`chunk` is the most that a sequence gets in a step. All together get four times that at most, half at least.

        A slow model's sequences get less.
        """
        self._forward = forward
        self._chunk = chunk
        cache = make_prompt_cache(forward.model)
        self._can_batch = can_batch
        # Caches that cannot be cut are remembered where a prompt ends, so that it has to end there.
        self._can_defer = can_cut(cache) and forward.reads_several
        # A state that every token changes would be changed by padding too, unless the model sees to it.
        self._can_pad = all(type(layer) in {KVCache, RotatingKVCache} for layer in cache)
        self._rows: deque[Sequence] = deque()
        self._started: list[Chunk] = []
        self._start = 0.0
        self._decoding = 0
        self.token_s = 0.0
        """The least time that a token of a prompt has taken beside nothing else, in seconds; 0 before one is known."""
        self.best_token_s = 0.0
        """The same of chunks that were full, in which a token takes the least."""

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def rows(self) -> list[Sequence]:
        """The sequences, oldest first."""
        return list(self._rows)

    def add(self, sequence: Sequence) -> None:
        """Take a sequence, with the cache of its prefix or none."""
        if sequence.cache is None:
            sequence.cache = make_prompt_cache(self._forward.model)
        sequence.admitted = sequence.admitted or time.monotonic()
        self._rows.append(sequence)

    def drop(self, leavers: set[Sequence]) -> None:
        """Let sequences go, whether a chunk of theirs is under way or not."""
        self._rows = deque(row for row in self._rows if row not in leavers)
        if not self._rows:
            self._started = []  # nobody waits for what is under way

    def start(self, *, decoding: int) -> None:
        """Begin the chunks of a step, beside so many rows that are decoded and wait for them."""
        self._start, self._decoding = time.monotonic(), decoding
        for chunk in self._plan(self._budget(decoding)):
            self._try(chunk)

    def collect(self) -> Processed:
        """Wait for the chunks that were started."""
        chunks, self._started = self._started, []
        done = Processed()
        for chunk in chunks:
            try:
                self._finish(chunk, done)
            except Exception as error:  # noqa: BLE001 - as in _try
                done.failed += [(row, error) for row in chunk.rows if row in self._rows]
                self.drop(set(chunk.rows))
        self._learn(chunks)
        return done

    def doubt(self) -> None:
        """A prompt was refused for what the best time says, and will not show whether that was right: halve it."""
        self.best_token_s /= 2

    def _learn(self, chunks: list[Chunk]) -> None:
        tokens = sum(sum(chunk.counts) for chunk in chunks)
        if self._decoding or tokens < _TELLING:
            return
        token_s = (time.monotonic() - self._start) / tokens
        for chunk in chunks:
            for row in chunk.rows:
                row.token_s = token_s
        self.token_s = min(token_s, self.token_s or token_s)
        if tokens >= min(self._chunk, _timely(self.token_s)):
            self.best_token_s = min(token_s, self.best_token_s or token_s)

    def _try(self, chunk: Chunk) -> None:
        try:
            self._run(chunk)
        except Exception as error:  # noqa: BLE001 - whatever a model raises on a prompt concerns that prompt alone
            if len(chunk.rows) > 1:
                for row, count in zip(chunk.rows, chunk.counts, strict=True):
                    self._try(Chunk([row], [count]))
                return
            chunk.error = error
        self._started.append(chunk)

    def _budget(self, decoding: int) -> int:
        """Tokens for a step: the more, the more other rows would start with it, and the fewer are held up by it."""
        least, most = max(1, self._chunk // 2), 4 * self._chunk
        return max(least, min(most, most * (len(self._rows) - 1) // decoding)) if decoding else most

    def _plan(self, budget: int) -> list[Chunk]:
        """The work of a step: all prompts that can be finished, and part of another one.

        Short ones go first, but the oldest has half of the budget at least. The token that each leaves for the decode
        step counts too.
        """
        if not self._rows:
            return []
        oldest, *others = self._rows
        if not others and self._defers(oldest):
            return [Chunk([oldest], [0], oldest.to_prefill)]
        reserved = min(oldest.to_prefill + 1, max(1, budget // 2))
        whole: list[Sequence] = []
        for row in sorted(others, key=lambda row: row.to_prefill):
            if row.to_prefill + 1 > budget - reserved:
                break
            if row.to_prefill <= self._most(row):
                whole.append(row)
                budget -= row.to_prefill + 1
        if oldest.to_prefill <= min(budget, self._most(oldest)):
            whole.append(oldest)
            budget -= oldest.to_prefill + 1
        part = next((row for row in self._rows if row not in whole), None)
        if part is None or budget < 1:
            return self._grouped(whole)
        return [*self._grouped(whole), Chunk([part], [min(part.to_prefill, budget, self._most(part))])]

    def _defers(self, row: Sequence) -> bool:
        """Whether to leave the rest of a prompt, of the only row there is, for its first decode step."""
        is_short = 0 < row.to_prefill <= _DEFERRED and not row.scores_prompt
        is_one = row.submit.choices == 1 and row.submit.max_tokens > 0
        return self._can_defer and not self._decoding and is_short and is_one

    def _most(self, row: Sequence) -> int:
        """The most tokens that a chunk of this row may have."""
        boundary = next((end for end in row.boundaries if end > row.prefilled), len(row.tokens))
        chunk = _SCORED if row.scores_prompt else self._chunk
        if token_s := max(row.token_s, self.token_s):
            chunk = min(chunk, _timely(token_s))
        return min(boundary - row.prefilled, chunk)

    def _grouped(self, rows: list[Sequence]) -> list[Chunk]:
        """Rows whose last chunks are about of one length together."""
        groups: list[list[Sequence]] = []
        alone = [row for row in rows if row.scores_prompt or not self._can_batch]
        together = sorted(set(rows).difference(alone), key=lambda row: (row.to_prefill, row.length))
        for row in together:
            if groups and self._goes_with(groups[-1][0], row):
                groups[-1].append(row)
            else:
                groups.append([row])
        groups += [[row] for row in alone]
        return [Chunk(group, [row.to_prefill for row in group]) for group in groups]

    def _goes_with(self, first: Sequence, row: Sequence) -> bool:
        """Whether a row can be processed with one that has no more to do."""
        if not first.to_prefill or not self._can_pad:
            # With nothing to do, they are choices of one prompt, or else a band of their own suits them better. Nothing
            # can be taken out of a batch of caches that are empty.
            alike = row.length == first.length and row.prefilled > 0
            return row.to_prefill == first.to_prefill and (row.to_prefill > 0 or alike)
        return row.to_prefill <= 2 * first.to_prefill + _PADDING

    def _run(self, chunk: Chunk) -> None:
        """Build the forward pass of a chunk and let the device work on it."""
        caches = [_own_cache(row) for row in chunk.rows]
        longest = max(chunk.counts)
        if len(caches) > 1:
            chunk.cache = merge(caches)
        else:  # one that is complete may be shared by the choices of a prompt
            chunk.cache = caches[0] if longest or chunk.deferred else copy.deepcopy(caches[0])
        if not longest:
            return
        padding = [longest - count for count in chunk.counts]
        pieces = zip(chunk.rows, chunk.counts, padding, strict=True)
        tokens = mx.array([row.tokens[row.prefilled : row.prefilled + count] + [0] * pad for row, count, pad in pieces])
        if any(padding):
            for layer in chunk.cache:
                layer.prepare(lengths=chunk.counts, right_padding=padding)
        loras = [row.lora for row in chunk.rows]
        if chunk.rows[0].scores_prompt:
            chunk.logits = self._forward.logits(tokens, chunk.cache, loras)[0].astype(mx.float32)
        else:
            self._forward.prefill(tokens, chunk.cache, loras)
        if any(padding):
            for layer in chunk.cache:
                layer.finalize()
        mx.async_eval(_arrays(chunk))  # type: ignore[no-untyped-call]

    def _finish(self, chunk: Chunk, done: Processed) -> None:
        """Wait for a chunk, and let the rows go whose prompts are done."""
        if chunk.error is not None:
            raise chunk.error
        mx.eval(_arrays(chunk))
        for row, count in zip(chunk.rows, chunk.counts, strict=True):
            if row.scores_prompt:
                done.scored[id(row)] = _scores(row, count, chunk.logits)
            row.prefilled += count
        still_here = [index for index, row in enumerate(chunk.rows) if row in self._rows]
        done.advanced += [chunk.rows[index] for index in still_here]
        if chunk.rows[0].to_prefill > chunk.deferred or not still_here:
            return
        chunk.rows[0].deferred = chunk.deferred
        band = Band(chunk.rows, chunk.cache)
        if len(still_here) < len(chunk.rows):
            band.keep(still_here)
        for row in band.rows:
            self._rows.remove(row)
            row.cache = None
        done.ready.append(band)


def _timely(token_s: float) -> int:
    """How many tokens of a prompt can be processed in the time that a part may take, at this many seconds each."""
    return max(_SMALLEST, int(_LONGEST_S / token_s))


def _own_cache(row: Sequence) -> list[LayerCache]:
    if row.cache is None:
        raise RuntimeError("a sequence is processed without a cache")
    return row.cache


def _arrays(chunk: Chunk) -> list[object]:
    return [chunk.logits, *(layer.state for layer in chunk.cache if not layer.empty())]


def _scores(row: Sequence, count: int, logits: mx.array | None) -> list[Logprob | None]:
    """Log-probabilities of the tokens after those of the chunk, and for the first chunk None for the first token."""
    first: list[Logprob | None] = [] if row.prefilled else [None]
    if logits is None:
        return first
    following = row.tokens[row.prefilled + 1 : row.prefilled + 1 + count]
    tops = [row.submit.prompt_logprobs] * count
    return first + list(token_logprobs(np.array(logits, copy=False), following, tops))
