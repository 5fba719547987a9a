"""Sequences that come and go between steps, on real tiny models."""

import gc
import random
import time

import mlx.core as mx
import pytest
from mlx.nn.layers.base import Module
from mlx_lm.models.cache import make_prompt_cache

from service.engine.frames import Cleared, Sampling
from service.engine.memory import Footprint
from service.engine.prefix_cache import PrefixCache
from tests.service.engine.models import (
    GREEDY,
    MODELS,
    VOCAB,
    Engine,
    Faulty,
    Solitary,
    Unmergeable,
    Wrapped,
    alone,
    llama,
    wide,
)


def prompts(count: int, longest: int = 40, seed: int = 0) -> list[list[int]]:
    """Give prompts of 1 to `longest` tokens."""
    chance = random.Random(seed)
    lengths = [1, *(chance.randint(1, longest) for _ in range(count - 1))]
    return [[chance.randrange(VOCAB) for _ in range(length)] for length in lengths]


@pytest.fixture(scope="module", params=MODELS)
def model(request: pytest.FixtureRequest) -> Module:
    """Give a model of each kind of cache."""
    return MODELS[request.param]()


@pytest.fixture(scope="module")
def plain() -> Module:
    return llama()


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


def test_no_tokens_are_no_tokens(plain: Module) -> None:
    """The prompt is processed all the same, which scoring needs."""
    engine = Engine(plain)
    engine.submit(0, [1, 2, 3], max_tokens=0)
    engine.run()
    assert (engine.tokens[0], engine.finish(0)) == ([], "length")
    assert engine.processed[0] == [3]


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


def test_the_next_turn_starts_with_what_is_known(model: Module) -> None:
    """A prompt that goes on where an answer ended is not processed again, and the answer is the same."""
    engine = Engine(model, prefix_bytes=1 << 30)
    first = list(range(1, 30))
    engine.submit(0, first, max_tokens=12)
    engine.run()
    second = [*first, *engine.tokens[0], 7, 8, 9]
    engine.submit(1, second, max_tokens=12)
    engine.run()
    assert engine.cached == {0: 0, 1: len(first) + 11}  # the last token was never read
    assert engine.tokens[1] == alone(model, second, max_tokens=12)


def test_an_exact_repetition_leaves_one_token(model: Module) -> None:
    """There must be something to process."""
    engine = Engine(model, prefix_bytes=1 << 30)
    prompt = list(range(80))
    for seq in range(2):
        engine.submit(seq, prompt, max_tokens=9, boundaries=[40, 79])
        engine.run()
    assert engine.cached[1] == 79
    assert engine.tokens[0] == engine.tokens[1] == alone(model, prompt, max_tokens=9)


def test_prefixes_are_found_at_any_length_where_caches_can_be_cut(plain: Module) -> None:
    """Also while the first request is still running."""
    engine = Engine(plain, prefix_bytes=1 << 30)
    engine.submit(0, list(range(100)), max_tokens=40)
    while not engine.tokens[0]:
        engine.step()
    engine.submit(1, [*range(77), 200, 201])
    engine.run()
    assert engine.cached[1] == 77
    assert engine.tokens[1] == alone(plain, [*range(77), 200, 201])


@pytest.mark.parametrize("kind", ["sliding", "gemma", "mamba"])
def test_prefixes_are_found_at_boundaries_where_caches_cannot_be_cut(kind: str) -> None:
    """Such as the end of a system prompt that other conversations share."""
    model = MODELS[kind]()
    engine = Engine(model, prefix_bytes=1 << 30, prefill_chunk=16)
    engine.submit(0, [*range(100), 5, 6, 7], boundaries=[3, 100])
    engine.run()
    engine.submit(1, [*range(100), 200, 201])
    engine.submit(2, [*range(90), 200, 201])
    engine.run()
    assert (engine.cached[1], engine.cached[2]) == (100, 3)
    for seq, prompt in ((1, [*range(100), 200, 201]), (2, [*range(90), 200, 201])):
        assert engine.tokens[seq] == alone(model, prompt)


def test_prefixes_do_not_cross_salts(plain: Module) -> None:
    """What one tenant has sent must not show in another one's timing."""
    engine = Engine(plain, prefix_bytes=1 << 30)
    for seq, salt in enumerate(["a", "b", "a"]):
        engine.submit(seq, list(range(80)), salt=salt, max_tokens=2)
        engine.run()
    assert [engine.cached[seq] for seq in range(3)] == [0, 0, 79]


def test_bypass_neither_reads_nor_writes(plain: Module) -> None:
    """It is as if there were no cache."""
    engine = Engine(plain, prefix_bytes=1 << 30)
    for seq, bypass in enumerate([True, False, True]):
        engine.submit(seq, list(range(80)), bypass=bypass, max_tokens=2)
        engine.run()
    assert [engine.cached[seq] for seq in range(3)] == [0, 0, 0]


def test_a_cleared_cache_is_empty(plain: Module) -> None:
    """It says what was in it, and its memory is free."""
    gc.collect()
    before = mx.get_active_memory()
    engine = Engine(plain, prefix_bytes=1 << 30)
    engine.submit(0, list(range(80)), max_tokens=2)
    engine.run()
    cleared = engine.scheduler.clear_cache()
    assert cleared.entries >= 1
    assert cleared.bytes >= 80 * 512
    assert engine.scheduler.clear_cache() == Cleared(0, 0)
    gc.collect()
    assert mx.get_active_memory() <= before
    engine.submit(1, list(range(80)), max_tokens=2)
    assert engine.run().cached[1] == 0


def test_choices_share_one_prefill(plain: Module) -> None:
    """The prompt is processed once; each choice draws by itself; the first is what it would be without the others."""
    model = Faulty(plain)
    processed: list[int] = []
    model.fault = lambda tokens: bool(processed.append(len(tokens) * len(tokens[0])))  # type: ignore[func-returns-value]
    engine = Engine(model)
    sampling = Sampling(seed=3, temperature=2)
    processed.clear()
    engine.submit(0, list(range(60)), sampling, max_tokens=5, choices=4)
    engine.run()
    assert sum(processed) == 59 + 4 * 5
    texts = [tuple(engine.choices[0, choice]) for choice in range(4)]
    assert len(set(texts)) == 4
    assert list(texts[0]) == alone(plain, list(range(60)), sampling, max_tokens=5)


def test_choices_beyond_the_places_get_their_turn(plain: Module) -> None:
    """They go on from the same prefill, and say what they would say with places enough."""
    sampling = Sampling(seed=3, temperature=1)
    said = []
    for places in (3, 16):
        engine = Engine(plain, max_running=places)
        engine.submit(0, list(range(60)), sampling, max_tokens=5, choices=8)
        engine.run()
        assert {engine.finishes[0, choice] for choice in range(8)} == {"length"}
        said.append([engine.choices[0, choice] for choice in range(8)])
    assert said[0] == said[1]


def test_one_choice_may_be_aborted(plain: Module) -> None:
    """The others go on, those that still wait for a place too."""
    engine = Engine(plain, max_running=2)
    sampling = Sampling(seed=3, temperature=1)
    engine.submit(0, [1, 2, 3], sampling, max_tokens=6, choices=4)
    while not engine.tokens[0]:
        engine.step()
    engine.scheduler.abort(0, 1)
    engine.scheduler.abort(0, 3)
    engine.run()
    assert {choice for seq, choice in engine.finishes if seq == 0} == {0, 2}


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


def test_a_higher_priority_is_admitted_first(plain: Module) -> None:
    """And callers of one priority take turns."""
    engine = Engine(plain, max_running=1)
    for seq, (caller, priority) in enumerate([("a", 0), ("a", 0), ("a", 0), ("b", 0), ("a", 1)]):
        engine.submit(seq, [1, 2], max_tokens=3, caller=caller, priority=priority)
    engine.run()
    assert list(engine.ends) == [4, 3, 0, 1, 2]


def test_places_in_the_queue_are_told(plain: Module) -> None:
    """To those that ask, each time that they change."""
    engine = Engine(plain, max_running=1)
    for seq in range(4):
        engine.submit(seq, [1, 2], max_tokens=2, report=seq != 2)
    engine.run()
    assert engine.places == {1: [0], 3: [2, 1, 0]}


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


def test_prompts_get_more_of_a_step_the_fewer_rows_wait_for_it(plain: Module) -> None:
    """One row that is decoded does not hold back many that could start; many are not held up by one."""
    model = Faulty(plain)
    sizes: list[int] = []
    model.fault = lambda tokens: bool(sizes.append(len(tokens) * len(tokens[0])))  # type: ignore[func-returns-value]
    for running, arriving, expected in ((1, 8, 8 * 15), (8, 1, 15)):
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


@pytest.mark.parametrize("make", [Solitary, Unmergeable])
def test_choices_of_caches_that_cannot_merge_run_one_by_one(make: type[Wrapped]) -> None:
    """They start where the first one did."""
    model = make(wide())
    sampling = Sampling(seed=3, temperature=2)
    engine = Engine(model)
    engine.submit(0, [1, 2, 3, 4], sampling, max_tokens=5, choices=3)
    engine.run()
    assert set(engine.finishes.values()) == {"length"}
    assert engine.choices[0, 0] == alone(model, [1, 2, 3, 4], sampling, max_tokens=5)


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


def test_a_row_is_put_back_once_for_each_that_leaves(plain: Module, caplog: pytest.LogCaptureFixture) -> None:
    """What finds no room waits for some, and is not processed over and over."""
    engine = Engine(plain, max_running=8, kv_bytes=9 * 256 * 512)
    with caplog.at_level("INFO"):
        for seq in range(6):
            engine.submit(seq, [seq] * (200 if seq < 3 else 20), max_tokens=600)
        engine.run()
    assert set(engine.finishes.values()) == {"length"}
    assert 0 < sum("put back" in message for message in caplog.messages) <= 12


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


def test_a_cache_that_cannot_be_copied_costs_prefixes_alone(
    plain: Module, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Requests are served as before, without them."""
    monkeypatch.setattr(PrefixCache, "insert", lambda *_: 1 / 0)
    engine = Engine(plain, prefix_bytes=1 << 30)
    for seq in range(3):
        engine.submit(seq, list(range(90)), max_tokens=5)
        engine.run()
        assert engine.tokens[seq] == alone(plain, list(range(90)), max_tokens=5)
    assert ["not kept" in message for message in caplog.messages] == [False, False, True]


@pytest.mark.parametrize("kind", ["llama", "mamba"])
def test_choices_stay_inside_the_memory(kind: str) -> None:
    """However many there are of a long prompt; each gets its turn."""
    model = MODELS[kind]()
    budget = Footprint.of(model).bytes(1000) * 4
    engine = Engine(model, max_running=32, kv_bytes=budget)
    mx.clear_cache()
    before = mx.get_active_memory()
    engine.submit(0, [place % VOCAB for place in range(900)], Sampling(seed=1), max_tokens=3, choices=20)
    most = 0
    while not engine.scheduler.is_idle:
        engine.step()
        most = max(most, mx.get_active_memory() - before)
    assert set(engine.finishes.values()) == {"length"}
    assert len(engine.finishes) == 20
    assert most < 2 * budget + (1 << 20)  # a band that grows is there twice for a moment


def test_padding_counts_where_a_short_row_joins_long_ones(plain: Module) -> None:
    """It is not processed before there is room for what it takes beside them."""
    engine = Engine(plain, max_running=8, kv_bytes=Footprint.of(plain).bytes(2100) * 2 + 400_000)
    for seq in range(2):
        engine.submit(seq, [(seq + place) % VOCAB for place in range(2000)], max_tokens=40)
    while len(engine.scheduler._batch) < 2:
        engine.step()
    engine.submit(2, [1] * 1000, max_tokens=40)
    engine.run()
    assert engine.processed[2][-1] == 1000
    assert len(engine.processed[2]) == len(set(engine.processed[2])), "its prompt was processed more than once"


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
