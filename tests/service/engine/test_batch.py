"""Rows that share a forward pass."""

import math
from typing import Any

import mlx.core as mx
import pytest
from mlx.nn.layers.base import Module
from mlx_lm.models.cache import CacheList, KVCache, QuantizedKVCache, RotatingKVCache, make_prompt_cache

from service.engine.batch import Batch, can_merge
from service.engine.frames import Sampling, Submit
from service.engine.sampling import Sampler
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


def prefilled(model: Module, seq: int, prompt: list[int], sampling: Sampling = GREEDY) -> Sequence:
    """Make a sequence that is ready to decode."""
    submit = Submit(seq, prompt, sampling, 100)
    sequence = Sequence(submit, Sampler(submit.sampling, prompt), make_prompt_cache(model))
    if len(prompt) > 1:
        model(mx.array([prompt[:-1]]), cache=sequence.cache)
    sequence.prefilled = len(prompt) - 1
    return sequence


def step(batch: Batch, *, ahead: bool = False) -> None:
    """Decode a token for each row."""
    for row, token in zip(batch.rows, batch.step(ahead=ahead), strict=True):
        assert isinstance(token, int)
        row.append(token)


def test_steps_taken_ahead_change_nothing(model: Module) -> None:
    """Rows leave while the next tokens are under way, others join after them, and each says what it says alone."""
    batch = Batch(model)
    prompts = [[1, 2, 3], [4], list(range(20)), [7, 7]]
    rows = [prefilled(model, seq, prompt) for seq, prompt in enumerate(prompts)]
    said: dict[int, list[int]] = {seq: [] for seq in range(4)}
    batch.join(rows[:3])
    plan: list[tuple[bool, int | None, int | None]] = [
        (True, None, None), (True, 1, None), (True, None, None), (False, None, 3),
        (True, None, None), (True, 0, None), (True, 3, None), (True, None, None),
    ]  # fmt: skip
    for ahead, leaver, arrival in plan:
        step(batch, ahead=ahead)
        assert batch.is_ahead == ahead
        for row in batch.rows:
            said[row.submit.seq].append(row.last_token)
        if leaver is not None:
            batch.leave([rows[leaver]])
        if arrival is not None:
            batch.join([rows[arrival]])
    assert [len(said[seq]) for seq in range(4)] == [6, 2, 8, 3]
    for seq, prompt in enumerate(prompts):
        assert said[seq] == alone(model, prompt, max_tokens=len(said[seq]))


def test_nothing_is_under_way_where_a_row_draws(model: Module) -> None:
    """A token that is drawn on the host cannot be read before it is."""
    batch = Batch(model)
    batch.join([prefilled(model, 0, [1, 2]), prefilled(model, 1, [3], Sampling(seed=1))])
    step(batch, ahead=True)
    assert not batch.is_ahead


def test_rows_join_and_leave_in_any_number(model: Module) -> None:
    """From one to many and back to one, each goes on where it was."""
    batch = Batch(model)
    prompts = [[1, 2, 3], [4], list(range(20)), [7, 7]]
    rows = [prefilled(model, seq, prompt) for seq, prompt in enumerate(prompts)]
    said: dict[int, list[int]] = {seq: [] for seq in range(4)}
    for arrivals, leavers in (([0], []), ([1, 2], []), ([3], [1]), ([], [0, 3]), ([], []), ([], [2])):
        if arrivals:
            batch.join([rows[seq] for seq in arrivals])
        step(batch)
        for row in batch.rows:
            said[row.submit.seq].append(row.last_token)
        batch.leave([rows[seq] for seq in leavers])
    assert [len(said[seq]) for seq in range(4)] == [4, 2, 5, 2]
    for seq, prompt in enumerate(prompts):
        assert said[seq] == alone(model, prompt, max_tokens=5)[: len(said[seq])]
    assert len(batch) == 0


@pytest.mark.parametrize("sampling", [GREEDY, Sampling(seed=0)], ids=["greedy", "random"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_row_without_a_token_to_draw_fails_alone(model: Module, value: float, sampling: Sampling) -> None:
    """Where all rows take the likeliest token, and where they draw."""
    batch = Batch(Spoilt(model, value))
    batch.join([prefilled(model, seq, prompt, sampling) for seq, prompt in enumerate([[1, 2, 3], [4, SPOILS], [5]])])
    first, spoilt, last = batch.step()
    assert isinstance(spoilt, ValueError)
    assert [first, last] == [alone(model, prompt, sampling, max_tokens=1)[0] for prompt in ([1, 2, 3], [5])]


def test_a_sequence_joins_once(model: Module) -> None:
    """Its caches are the batch's from then on."""
    sequence = prefilled(model, 0, [1, 2])
    Batch(model).join([sequence])
    with pytest.raises(RuntimeError, match="twice"):
        Batch(model).join([sequence])


def test_which_caches_can_merge() -> None:
    """Nested ones only if all in them can."""
    plain, rotating, quantised = KVCache(), RotatingKVCache(max_size=8), QuantizedKVCache()  # type: ignore[no-untyped-call]
    assert can_merge([plain, rotating])
    assert can_merge([CacheList(plain, rotating)])  # type: ignore[no-untyped-call]
    assert not can_merge([plain, quantised])
    assert not can_merge([CacheList(plain, quantised)])  # type: ignore[no-untyped-call]
