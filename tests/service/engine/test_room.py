"""Sequences that outgrow the memory for keys and values."""

import mlx.core as mx
import pytest
from mlx.nn.layers.base import Module

from service.engine.frames import Sampling
from service.engine.memory import Footprint
from tests.service.engine.models import MODELS, VOCAB, Engine


def test_a_row_is_put_back_once_for_each_that_leaves(plain: Module, caplog: pytest.LogCaptureFixture) -> None:
    """What finds no room waits for some, and is not processed over and over."""
    engine = Engine(plain, max_running=8, kv_bytes=9 * 256 * 512)
    with caplog.at_level("INFO"):
        for seq in range(6):
            engine.submit(seq, [seq] * (200 if seq < 3 else 20), max_tokens=600)
        engine.run()
    assert set(engine.finishes.values()) == {"length"}
    assert 0 < sum("put back" in message for message in caplog.messages) <= 12


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


def test_one_more_is_admitted_where_those_that_run_can_grow(plain: Module, caplog: pytest.LogCaptureFixture) -> None:
    """Else it waits: it would be put back before it had got far."""
    budget = Footprint.of(plain).bytes(400) * 2
    for longer, together in ((200, 2), (380, 1)):
        engine = Engine(plain, max_running=8, kv_bytes=budget)
        engine.submit(0, [1] * longer, max_tokens=20)
        engine.step()
        engine.submit(1, [2] * longer, max_tokens=20)
        most = 0
        with caplog.at_level("INFO"):
            while not engine.scheduler.is_idle:
                engine.step()
                most = max(most, len(engine.scheduler._batch))
        assert most == together
    assert not any("put back" in message for message in caplog.messages)
