"""Prompts on their way into the cache, on real tiny models."""

import time
from typing import Any

import mlx.core as mx
import pytest
from mlx.nn.layers.base import Module
from mlx_lm.models.cache import make_prompt_cache

from service.engine.forward import Forward
from tests.service.engine.models import VOCAB, Engine, Faulty, alone


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """Give the shapes of the tokens of all forward passes, as they come."""
    shapes: list[tuple[int, ...]] = []
    for name in ("start", "logits"):
        run = getattr(Forward, name)

        def noted(self: Forward, tokens: mx.array, *more: Any, run: Any = run) -> Any:
            shapes.append(tokens.shape)
            return run(self, tokens, *more)

        monkeypatch.setattr(Forward, name, noted)
    return shapes


def by_itself(model: Module, prompt: list[int], count: int) -> list[int]:
    """Give the likeliest tokens, from one pass over all of them each."""
    tokens = list(prompt)
    for _ in range(count):
        logits = model(mx.array([tokens]), cache=make_prompt_cache(model))
        tokens.append(int(logits[0, -1].argmax().item()))
    return tokens[len(prompt) :]


def test_prompts_are_processed_in_chunks(plain: Module) -> None:
    """A running row gets its token in each step beside them."""
    engine = Engine(plain, prefill_chunk=20)
    engine.submit(0, [1], max_tokens=50)
    while not engine.tokens[0]:
        engine.step()
    engine.submit(1, list(range(35)), max_tokens=1)
    for step in range(1, 6):
        engine.step()
        assert len(engine.tokens[0]) == 1 + step
    assert engine.processed[1] == [10, 20, 30, 35]  # half of what a step may have, as another row is decoded
    engine.step()
    assert engine.finish(1) == "length"


def test_prompts_that_arrive_together_are_one_forward_pass(plain: Module) -> None:
    """They start together too."""
    model = Faulty(plain)
    shapes: list[tuple[int, int]] = []
    model.fault = lambda tokens: bool(shapes.append((len(tokens), len(tokens[0]))))  # type: ignore[func-returns-value]
    engine = Engine(model, prefill_chunk=32)
    shapes.clear()
    for seq in range(4):
        engine.submit(seq, [1, 2, 3, 4, seq][seq % 2 :], max_tokens=2)
    engine.run()
    assert shapes == [(4, 4), (4, 1), (4, 1)]
    for seq in range(4):
        assert engine.tokens[seq] == alone(plain, [1, 2, 3, 4, seq][seq % 2 :], max_tokens=2)


def test_the_rest_of_a_lone_prompt_goes_with_its_first_token(plain: Module, passes: list[tuple[int, ...]]) -> None:
    """A short one, and what is new after a prefix, take one pass; rows that come meanwhile join it after that."""
    engine = Engine(plain, prefill_chunk=64, prefix_bytes=1 << 30)
    prompt = [(7 * place) % VOCAB for place in range(90)]
    for seq, (length, expected) in enumerate(((20, [(1, 20)]), (80, [(1, 59), (1, 1)]), (90, [(1, 10)]))):
        passes.clear()
        engine.submit(seq, prompt[:length], max_tokens=3)
        engine.run()
        assert passes == [*expected, (1, 1), (1, 1)]
        assert engine.tokens[seq] == by_itself(plain, prompt[:length], 3)
        assert engine.processed[seq][-1] == length
    assert engine.cached[2] == 80
    passes.clear()
    engine.submit(3, [5, 6, 7], max_tokens=4)
    engine.step()
    engine.submit(4, [8, 9, 10], max_tokens=4)
    engine.run()
    assert passes == [(1, 3), (1, 2), (2, 1), (2, 1), (2, 1), (1, 1)]
    assert engine.tokens[3] == by_itself(plain, [5, 6, 7], 4)
    assert engine.tokens[4] == by_itself(plain, [8, 9, 10], 4)


@pytest.mark.parametrize("put_back", [False, True])
def test_what_is_left_for_the_first_token_is_not_lost(plain: Module, *, put_back: bool) -> None:
    """Neither where its row leaves before that, nor where it has to wait again."""
    engine = Engine(plain, prefix_bytes=1 << 30)
    engine.submit(0, [1, 2, 3, 4])
    engine.step()
    (row,) = engine.scheduler._prefill.rows
    if put_back:
        engine.scheduler._running.put_back(row)
        engine.scheduler._waiting.push(row)
    else:
        engine.scheduler.abort(0)
        assert engine.scheduler.is_idle
        engine.submit(0, [1, 2, 3, 4])
    assert engine.run().tokens[0] == by_itself(plain, [1, 2, 3, 4], 20)


def test_prompts_get_more_of_a_step_the_fewer_rows_wait_for_it(plain: Module) -> None:
    """One row that is decoded does not hold back many that could start; many are not held up by one."""
    model = Faulty(plain)
    sizes: list[int] = []
    model.fault = lambda tokens: bool(sizes.append(len(tokens) * len(tokens[0])))  # type: ignore[func-returns-value]
    for running, arriving, expected in ((1, 8, 8 * 15), (4, 4, 4 * 15), (8, 1, 15)):
        engine = Engine(model, max_running=16, prefill_chunk=64)
        for seq in range(running):
            engine.submit(seq, [seq, 1], max_tokens=60)
        while not all(engine.tokens[seq] for seq in range(running)):
            engine.step()
        sizes.clear()
        for seq in range(arriving):
            engine.submit(100 + seq, [seq] * 16, max_tokens=1)
        engine.step()
        assert sizes == [running, expected]


def test_a_fault_in_prefill_fails_that_sequence(plain: Module) -> None:
    """Those before and after it in the queue are served."""
    model = Faulty(plain)
    engine = Engine(model)
    model.fault = lambda tokens: any(row[:2] == [5, 6] for row in tokens)
    for seq, prompt in enumerate(([1, 2, 3, 4], [5, 6, 7], [8])):
        engine.submit(seq, prompt)
    engine.run()
    assert [engine.finish(seq) for seq in range(3)] == ["length", "error", "length"]
    assert "the model failed" in engine.ends[1].error
    assert engine.tokens[0] == alone(plain, [1, 2, 3, 4])
    assert engine.tokens[2] == alone(plain, [8])


def test_a_prompt_is_scored(model: Module) -> None:
    """Each token but the first has the log-probability that the model gave it, whatever is in the prefix cache."""
    prompt = [(7 * place) % VOCAB for place in range(150)]
    engine = Engine(model, prefill_chunk=64, prefix_bytes=1 << 30)
    engine.submit(0, prompt, max_tokens=2)
    engine.run()
    engine.submit(1, prompt, max_tokens=0, prompt_logprobs=2)
    engine.submit(2, prompt[:40], max_tokens=3, prompt_logprobs=0, logprobs=0)
    engine.run()
    logits = model(mx.array([prompt]), cache=make_prompt_cache(model))[0]
    expected = (logits - mx.logsumexp(logits, axis=-1, keepdims=True)).tolist()
    for seq, length in ((1, 150), (2, 40)):
        scores = engine.scores[seq]
        assert scores[0] is None
        assert len(scores) == length
        for place, score in enumerate(scores[1:], start=1):
            assert score is not None
            assert score.logprob == pytest.approx(expected[place - 1][prompt[place]], abs=1e-3)
    assert engine.scores[1][9] is not None
    assert len(engine.scores[1][9].top) == 2
    assert [len(engine.logprobs[2, 0]), engine.scores[2][1].top] == [3, []]  # type: ignore[union-attr]


def test_who_comes_and_goes_during_a_step_counts_for_the_next(plain: Module, passes: list[tuple[int, ...]]) -> None:
    """Once the device is done with what it had to do, nothing more is started for those who have left."""
    engine = Engine(plain, prefill_chunk=64)
    engine.submit(0, [1] * 3000)
    engine.step()

    def listen() -> None:
        engine.scheduler.abort(0)
        engine.submit(1, [5, 6, 7], max_tokens=2)

    passes.clear()
    engine.scheduler.step(listen)
    engine.run()
    assert passes == [(1, 3), (1, 1)]
    assert engine.tokens[1] == by_itself(plain, [5, 6, 7], 2)


def test_an_engine_that_idles_by_an_abort_forgets_what_was_under_way(plain: Module) -> None:
    """How long nobody came says nothing of how long a prompt takes."""
    engine = Engine(plain, prefill_chunk=64)
    engine.submit(0, [1] * 3000)
    engine.step()
    engine.scheduler.abort(0)
    time.sleep(0.5)
    engine.submit(1, [2] * 100, max_tokens=2, deadline=time.monotonic() + 30)
    engine.run()
    assert engine.finish(1) == "length"
    assert engine.scheduler._prefill.best_token_s < 0.003


def test_a_prompt_gets_the_smaller_parts_the_longer_they_take(plain: Module) -> None:
    """Each by what its own last part took: those that come late see more tokens before them."""
    engine = Engine(plain, prefill_chunk=256)
    for seq in range(2):
        engine.submit(seq, [1 + seq] * 2000)
    for _ in range(3):
        engine.step()
    prefill = engine.scheduler._prefill
    first, second = prefill.rows
    assert first.token_s > 0
    assert [prefill._most(row) for row in (first, second)] == [256, 256]
    first.token_s = 0.005
    assert [prefill._most(row) for row in (first, second)] == [80, 256]
    first.token_s = 1.0
    assert [prefill._most(row) for row in (first, second)] == [64, 256]
