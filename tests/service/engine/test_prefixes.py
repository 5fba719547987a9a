"""What of earlier prompts and answers is found again, on real tiny models."""

import gc

import mlx.core as mx
import pytest
from mlx.nn.layers.base import Module

from service.engine.frames import Cleared
from service.engine.prefix_cache import PrefixCache
from tests.service.engine.models import MODELS, Engine, alone


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
