"""Rows that are decoded together."""

import math
from typing import Any

import mlx.core as mx
import pytest
from mlx.nn.layers.base import Module
from mlx_lm.models.cache import CacheList, KVCache, QuantizedKVCache, RotatingKVCache, make_prompt_cache

from service.engine import bands
from service.engine.batch import Band, Batch, can_merge
from service.engine.forward import Forward
from service.engine.frames import Sampling, Submit
from service.engine.probe import Probe
from service.engine.sequence import Sequence
from tests.service.engine.models import GREEDY, Wrapped, alone, llama

SPOILS = 9


@pytest.fixture(scope="module")
def model() -> Module:
    return llama()


class Spoilt(Wrapped):
    """Gives a value in the place of every logit after the token SPOILS."""

    def __init__(self, inner: Module, value: float) -> None:
        super().__init__(inner)
        self.value = value

    def __call__(self, tokens: mx.array, cache: Any) -> mx.array:
        return mx.where(tokens[..., None] == SPOILS, self.value, super().__call__(tokens, cache))


def batch_of(model: Module) -> Batch:
    """Make an empty batch."""
    return Batch(Forward(model), banded=bands.enable(Probe(model)))


def prefilled(model: Module, seq: int, prompt: list[int], sampling: Sampling = GREEDY, **more: Any) -> Band:
    """Make a sequence that is ready to decode."""
    sequence = Sequence(Submit(seq, prompt, sampling, 100, **more))
    cache = make_prompt_cache(model)
    if len(prompt) > 1:
        model(mx.array([prompt[:-1]]), cache=cache)
    sequence.prefilled = len(prompt) - 1
    return Band([sequence], cache)


def step(batch: Batch) -> None:
    """Decode a token for each row."""
    batch.start()
    for drawn in batch.collect():
        assert isinstance(drawn.token, int)
        drawn.sequence.append(drawn.token)


def test_rows_join_and_leave_in_any_number(model: Module) -> None:
    """From one to many and back to one, short ones and a long one, each goes on where it was."""
    batch = batch_of(model)
    prompts = [[1, 2, 3], [4], list(range(20)), [7, 7] * 300]
    arriving = [prefilled(model, seq, prompt) for seq, prompt in enumerate(prompts)]
    rows = [band.rows[0] for band in arriving]
    for arrivals, leavers in (([0], []), ([1, 2], []), ([3], [1]), ([], [0, 3]), ([], []), ([], [2])):
        if arrivals:
            batch.join([arriving[seq] for seq in arrivals])
        step(batch)
        batch.leave([rows[seq] for seq in leavers])
    assert [row.generated for row in rows] == [4, 2, 5, 2]
    for row, prompt in zip(rows, prompts, strict=True):
        said = row.tokens[len(prompt) :]
        assert said == alone(model, prompt, max_tokens=5)[: len(said)]
    assert len(batch) == 0


def test_rows_may_leave_while_a_step_is_under_way(model: Module) -> None:
    """The others get the tokens that they would have got, whichever bands they are in."""
    batch = batch_of(model)
    prompts = [[1, 2, 3], [4], [5] * 700, [6] * 600, [7, 7]]
    arriving = [prefilled(model, seq, prompt) for seq, prompt in enumerate(prompts)]
    rows = [band.rows[0] for band in arriving]
    batch.join(arriving)
    for leaver in (0, 3, 2):
        batch.start()
        batch.leave([rows[leaver]])
        for drawn in batch.collect():
            assert isinstance(drawn.token, int)
            drawn.sequence.append(drawn.token)
    assert [row.generated for row in rows] == [0, 3, 2, 1, 3]
    for row, prompt in zip(rows, prompts, strict=True):
        said = row.tokens[len(prompt) :]
        assert said == alone(model, prompt, max_tokens=3)[: len(said)]


def test_a_long_row_does_not_stretch_the_short_ones(model: Module) -> None:
    """It has a band of its own, until they are about as long."""
    batch = batch_of(model)
    batch.join([prefilled(model, seq, [seq] * 20) for seq in range(4)])
    batch.join([prefilled(model, 4, [1] * 1500)])
    assert [len(band.rows) for band in batch.bands] == [4, 1]
    batch.join([prefilled(model, 5, [1] * 1300), prefilled(model, 6, [1] * 60)])
    assert [sorted(row.submit.seq for row in band.rows) for band in batch.bands] == [[0, 1, 2, 3, 6], [4, 5]]


def test_without_bands_all_rows_are_in_one() -> None:
    """Families whose attention knows nothing of them work as well."""
    model = llama()
    batch = Batch(Forward(model), banded=False)
    prompts = [[1, 2, 3], [5] * 700]
    arriving = [prefilled(model, seq, prompt) for seq, prompt in enumerate(prompts)]
    batch.join(arriving)
    assert len(batch.bands) == 1
    for _ in range(3):
        step(batch)
    for row, prompt in zip(batch.rows, prompts, strict=True):
        assert row.tokens[len(prompt) :] == alone(model, prompt, max_tokens=3)


@pytest.mark.parametrize("sampling", [GREEDY, Sampling(seed=0)], ids=["greedy", "random"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_row_without_a_token_to_draw_fails_alone(model: Module, value: float, sampling: Sampling) -> None:
    """Where rows take the likeliest token, and where they draw."""
    spoilt_model = Spoilt(model, value)
    batch = Batch(Forward(spoilt_model), banded=False)
    prompts = [[1, 2, 3], [4, SPOILS], [5]]
    batch.join([prefilled(spoilt_model, seq, prompt, sampling) for seq, prompt in enumerate(prompts)])
    batch.start()
    first, spoilt, last = (drawn.token for drawn in batch.collect())
    assert isinstance(spoilt, ValueError)
    assert [first, last] == [alone(model, prompt, sampling, max_tokens=1)[0] for prompt in ([1, 2, 3], [5])]


def test_log_probabilities_are_there_for_those_that_asked(model: Module) -> None:
    """And for nobody else; the likeliest alternative of a greedy row is its token."""
    batch = batch_of(model)
    batch.join([prefilled(model, 0, [1, 2]), prefilled(model, 1, [1, 2], logprobs=3), prefilled(model, 2, [3])])
    batch.start()
    without, asked, other = batch.collect()
    assert (without.logprob, other.logprob) == (None, None)
    assert asked.logprob is not None
    assert asked.logprob.top[0] == (asked.token, asked.logprob.logprob)
    assert len(asked.logprob.top) == 3


def test_an_extracted_cache_holds_the_row(model: Module) -> None:
    """All but its last token."""
    batch = batch_of(model)
    arriving = [prefilled(model, seq, [seq] * (3 + 2 * seq)) for seq in range(3)]
    batch.join(arriving)
    for _ in range(4):
        step(batch)
    for row in batch.rows:
        cache = batch.extract(row)
        assert {layer.offset for layer in cache} == {row.length}


def test_caches_merge_or_do_not() -> None:
    """Those inside a list count too."""
    assert can_merge([KVCache(), RotatingKVCache(8), CacheList(KVCache(), KVCache())])  # type: ignore[no-untyped-call]
    assert not can_merge([KVCache(), QuantizedKVCache()])  # type: ignore[no-untyped-call]
    assert not can_merge([CacheList(KVCache(), QuantizedKVCache())])  # type: ignore[no-untyped-call]


def test_a_batch_that_is_cleared_starts_anew(model: Module) -> None:
    """The step that was under way gives nobody a token."""
    batch = batch_of(model)
    batch.join([prefilled(model, 0, [1, 2, 3]), prefilled(model, 1, [4, 5])])
    batch.start()
    batch.clear()
    assert len(batch) == 0
    arrival = prefilled(model, 2, [1, 2, 3])
    batch.join([arrival])
    assert batch.collect() == []
    step(batch)
    assert arrival.rows[0].tokens[3:] == alone(model, [1, 2, 3], max_tokens=1)
