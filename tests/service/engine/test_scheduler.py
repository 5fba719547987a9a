"""Sequences that come and go between steps, on real tiny models."""

import gc
import time

import mlx.core as mx
import pytest
from mlx.nn.layers.base import Module

from service.engine.frames import Sampling
from tests.service.engine.models import (
    GREEDY,
    VOCAB,
    Engine,
    Faulty,
    Solitary,
    Unmergeable,
    Wrapped,
    alone,
    prompts,
    wide,
)


@pytest.mark.parametrize("prefill_chunk", [1, 7, 512])
def test_company_changes_no_text(model: Module, prefill_chunk: int) -> None:
    """Rows that are admitted at different steps say what each of them says alone, however prompts are cut."""
    given = prompts(6)
    engine = Engine(model, max_running=4, prefill_chunk=prefill_chunk)
    for seq, prompt in enumerate(given):
        engine.submit(seq, prompt, max_tokens=12 + 3 * seq)
        engine.step()
        engine.step()
    engine.run()
    for seq, prompt in enumerate(given):
        assert engine.tokens[seq] == alone(model, prompt, max_tokens=12 + 3 * seq)
        assert engine.finish(seq) == "length"


def test_a_seed_gives_the_same_tokens_in_company(model: Module) -> None:
    """Each row has a random stream of its own."""
    given = prompts(5, seed=1)
    engine = Engine(model)
    for seq, prompt in enumerate(given):
        engine.submit(seq, prompt, Sampling(seed=seq, temperature=1, top_p=0.9), max_tokens=10 + 2 * seq)
        engine.step()
    engine.run()
    for seq, prompt in enumerate(given):
        sampling = Sampling(seed=seq, temperature=1, top_p=0.9)
        assert engine.tokens[seq] == alone(model, prompt, sampling, max_tokens=10 + 2 * seq)


@pytest.mark.parametrize("make", [Solitary, Unmergeable])
def test_caches_that_cannot_merge_run_one_by_one(make: type[Wrapped]) -> None:
    """All get their turn, in their order."""
    dense = wide()
    model = make(dense)
    given = prompts(3, seed=2)
    engine = Engine(model)
    for seq, prompt in enumerate(given):
        engine.submit(seq, prompt, max_tokens=5)
    engine.run()
    assert list(engine.ends) == [0, 1, 2]
    for seq, prompt in enumerate(given):
        assert len(engine.tokens[seq]) == 5
        assert engine.tokens[seq] == alone(model, prompt, max_tokens=5)
        if make is Solitary:  # the other one's caches are less exact
            assert engine.tokens[seq] == alone(dense, prompt, max_tokens=5)


def test_one_place_is_one_sequence_at_a_time(plain: Module) -> None:
    """The second is not looked at before the first has ended."""
    engine = Engine(plain, max_running=1)
    engine.submit(0, [1, 2, 3], max_tokens=4)
    engine.submit(1, [4, 5, 6], max_tokens=4)
    while 0 not in engine.ends:
        assert engine.processed[1] == []
        engine.step()
    assert engine.run().tokens[1] == alone(plain, [4, 5, 6], max_tokens=4)


@pytest.mark.parametrize("steps", [0, 1, 6], ids=["waiting", "prefilling", "running"])
def test_an_aborted_sequence_is_gone(plain: Module, steps: int) -> None:
    """Wherever it is; nothing more is heard of it, its place is free, and the others are not concerned."""
    engine = Engine(plain, max_running=3, prefill_chunk=10)
    given = {0: [9, 8], 1: list(range(30)), 2: [7]}
    engine.submit(0, given[0], max_tokens=15)
    engine.step()
    engine.submit(1, given[1], max_tokens=15)
    engine.submit(2, given[2], max_tokens=15)
    for _ in range(steps):
        engine.step()
    heard = len(engine.tokens[1])
    engine.scheduler.abort(1)
    engine.run()
    assert (1 in engine.ends, len(engine.tokens[1])) == (False, heard)
    for seq in (0, 2):
        assert engine.tokens[seq] == alone(plain, given[seq], max_tokens=15)


def test_aborting_what_is_not_there_does_nothing(plain: Module) -> None:
    """It may have just ended."""
    engine = Engine(plain)
    engine.scheduler.abort(5)
    engine.submit(0, [1], max_tokens=2)
    engine.run()
    engine.scheduler.abort(0)
    assert engine.scheduler.is_idle


def test_the_last_abort_makes_it_idle(plain: Module) -> None:
    """There is nothing left to step for."""
    engine = Engine(plain)
    for seq in range(3):
        engine.submit(seq, [1, 2])
    engine.step()
    for seq in range(3):
        engine.scheduler.abort(seq)
    assert engine.scheduler.is_idle


def test_a_stop_token_ends_a_sequence(plain: Module) -> None:
    """It is the last token; the others go on."""
    whole = alone(plain, [1, 2, 3])
    stop = next(token for index, token in enumerate(whole) if index > 2 and token not in whole[:index])
    engine = Engine(plain)
    engine.submit(0, [1, 2, 3], stop_ids=[stop, VOCAB - 1])
    engine.submit(1, [1, 2, 3])
    engine.run()
    assert (engine.tokens[0], engine.finish(0)) == (whole[: whole.index(stop) + 1], "stop")
    assert (engine.tokens[1], engine.finish(1)) == (whole, "length")


def test_min_tokens_keeps_stop_tokens_away(plain: Module) -> None:
    """They are not drawn before, and may be after."""
    first = alone(plain, [1, 2, 3])[0]
    tokens = alone(plain, [1, 2, 3], stop_ids=[first], min_tokens=5)
    assert len(tokens) >= 5
    assert first not in tokens[:5]
    assert alone(plain, [1, 2, 3], stop_ids=[first]) == [first]


def test_a_row_that_cannot_draw_fails_alone(plain: Module) -> None:
    """Its neighbours get the tokens that they would have got."""
    engine = Engine(plain)
    engine.submit(0, [1, 2])
    engine.submit(1, [3, 4], Sampling(seed=0, temperature=0, logit_bias={VOCAB + 5: 1.0}))
    engine.submit(2, [5, 6])
    engine.run()
    assert (engine.finish(1), engine.tokens[1]) == ("error", [])
    assert engine.ends[1].error
    for seq, prompt in ((0, [1, 2]), (2, [5, 6])):
        assert engine.tokens[seq] == alone(plain, prompt)


def test_a_fault_in_decode_fails_those_rows_and_no_more(plain: Module) -> None:
    """The engine goes on, with sequences that were waiting too."""
    model = Faulty(plain)
    engine = Engine(model, max_running=2)
    for seq in range(3):
        engine.submit(seq, [seq, 1])
    engine.step()
    model.fault = lambda tokens: len(tokens) == 2
    engine.step()
    model.fault = lambda _: False
    assert sorted(engine.ends) == [0, 1]
    assert {engine.finish(seq) for seq in (0, 1)} == {"error"}
    engine.submit(3, [1, 2, 3])
    engine.run()
    assert engine.tokens[2] == alone(plain, [2, 1])
    assert engine.tokens[3] == alone(plain, [1, 2, 3])


def test_memory_comes_back(plain: Module) -> None:
    """After many sequences, ended and aborted ones, nothing of them is kept."""
    alone(plain, [1, 2, 3])
    gc.collect()  # what tests before this one have left
    before = mx.get_active_memory()
    engine = Engine(plain, max_running=8)
    for seq, prompt in enumerate(prompts(100, seed=3)):
        engine.submit(seq, prompt, GREEDY if seq % 2 else Sampling(seed=seq), max_tokens=1 + seq % 7)
        if seq % 10 == 0:
            engine.step()
            engine.scheduler.abort(seq)
    engine.run()
    assert len(engine.ends) >= 85
    gc.collect()
    assert mx.get_active_memory() <= before


def test_a_higher_priority_is_admitted_first(plain: Module) -> None:
    """And callers of one priority take turns."""
    engine = Engine(plain, max_running=1)
    for seq, (caller, priority) in enumerate([("a", 0), ("a", 0), ("a", 0), ("b", 0), ("a", 1)]):
        engine.submit(seq, [1, 2], max_tokens=3, caller=caller, priority=priority)
    engine.run()
    assert list(engine.ends) == [4, 3, 0, 1, 2]


def test_work_past_its_deadline_stops(plain: Module) -> None:
    """Wherever it is; work that has time left goes on."""
    engine = Engine(plain, max_running=2, prefill_chunk=8)
    soon = time.monotonic() + 0.2
    engine.submit(0, [1], max_tokens=1 << 20, deadline=soon)
    engine.submit(1, [1], max_tokens=1 << 20, deadline=soon)
    engine.submit(2, [1, 2, 3], max_tokens=5, deadline=soon)
    engine.submit(3, [1, 2, 3], max_tokens=5, deadline=soon + 1000)
    engine.run()
    assert [engine.finish(seq) for seq in range(4)] == ["deadline", "deadline", "deadline", "length"]
    assert engine.tokens[2] == []
    assert engine.tokens[3] == alone(plain, [1, 2, 3], max_tokens=5)


def test_work_that_cannot_start_in_time_is_refused(plain: Module) -> None:
    """Once the engine knows how fast it is: a prompt that takes longer than there is time for is not begun."""
    engine = Engine(plain, prefill_chunk=64)
    engine.submit(0, [1] * 400, max_tokens=1)
    engine.run()
    engine.submit(1, [2] * 30_000, max_tokens=1, deadline=time.monotonic() + 0.05)
    engine.submit(2, [3] * 10, max_tokens=1, deadline=time.monotonic() + 60)
    engine.step()
    assert engine.finish(1) == "deadline"
    engine.run()
    assert (engine.processed[1], engine.finish(2)) == ([], "length")


def test_an_idle_engine_waits_a_moment_for_company(plain: Module) -> None:
    """The longer the prompts that wait will take; not while anything runs, nor before it knows how fast it is."""
    engine = Engine(plain, prefill_chunk=64)
    engine.submit(0, [1] * 400, max_tokens=3)
    assert engine.scheduler.patience_s == 0
    engine.run()
    engine.submit(1, [2] * 10, max_tokens=1)
    little = engine.scheduler.patience_s
    engine.submit(2, [3] * 100, max_tokens=1)
    assert 0 < little < engine.scheduler.patience_s <= 0.02
    engine.step()
    assert engine.scheduler.patience_s == 0


def test_no_more_run_than_may(plain: Module) -> None:
    """Choices count as rows; those of one request go first, in its place."""
    engine = Engine(plain, max_running=4)
    for seq in range(3):
        engine.submit(seq, list(range(20 + seq)), Sampling(seed=seq), max_tokens=6, choices=3)
    most = 0
    while not engine.scheduler.is_idle:
        engine.step()
        most = max(most, len(engine.scheduler._batch) + len(engine.scheduler._prefill))
    assert most == 4
    assert len(engine.finishes) == 9


def test_an_engine_outlives_what_a_models_caches_raise(plain: Module, monkeypatch: pytest.MonkeyPatch) -> None:
    """What ran is lost, and the next request is served."""
    engine = Engine(plain)
    for seq in range(3):
        engine.submit(seq, [seq, 1, 2], max_tokens=5 + seq)
    with monkeypatch.context() as context:
        context.setattr("mlx_lm.models.cache.BatchKVCache.filter", lambda *_: 1 / 0)
        while len(engine.ends) < 3:
            engine.step()
    assert [engine.finish(seq) for seq in range(3)] == ["length", "error", "error"]
    engine.submit(3, [1, 2, 3], max_tokens=5)
    assert engine.run().tokens[3] == alone(plain, [1, 2, 3], max_tokens=5)
