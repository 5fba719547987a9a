"""The engine's scheduler under random load, in one process: what it leaves behind can be counted."""

import gc
import os
import random
import time

import mlx.core as mx
import pytest

from service.engine.frames import Sampling
from tests.service.engine.models import GREEDY, MODELS, VOCAB, Engine

pytestmark = [pytest.mark.soak, pytest.mark.timeout(0)]

SECONDS = float(os.environ.get("SOAK_S", "20")) / len(MODELS)
MEMORY = 24 * 256 * 512
"""Bytes for keys and values: less than what runs at a time may need."""


def arrive(engine: Engine, chance: random.Random, seq: int) -> None:
    """Queue a request of any kind, one in twenty with a bias that raises."""
    shared = [1] * chance.choice([0, 0, 20, 100])
    prompt = [*shared, *(chance.randrange(VOCAB) for _ in range(chance.choice([1, 2, 10, 50, 300])))]
    bias = {VOCAB + 1: 1.0} if chance.random() < 0.05 else {}
    drawn = Sampling(seq, temperature=chance.choice([0.0, 0.7, 1.5]), top_p=chance.choice([0.9, 1.0]), logit_bias=bias)
    engine.submit(
        seq,
        prompt,
        chance.choice([GREEDY, drawn]),
        chance.choice([0, 1, 5, 30, 200]),
        choices=chance.choice([1, 1, 1, 2, 5]),
        priority=chance.choice([0, 0, 0, 1, -1]),
        caller=chance.choice("abc"),
        salt=chance.choice(["", "", "salt"]),
        bypass=chance.random() < 0.1,
        logprobs=chance.choice([-1, -1, 0, 5]),
        prompt_logprobs=chance.choice([-1, -1, -1, 2]),
        deadline=chance.choice([None, None, time.monotonic() + chance.random()]),
        boundaries=[len(shared)] if shared else [],
        stop_ids=[chance.randrange(VOCAB)],
        report=chance.random() < 0.2,
    )


@pytest.mark.parametrize("kind", MODELS)
def test_random_load_leaves_nothing_behind(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    """Every request ends once; then no row, no queue entry and no cache is left, and memory is what it was."""
    caplog.set_level("CRITICAL", logger="service.engine")  # a record of a row that failed would hold on to its arrays
    model = MODELS[kind]()
    chance = random.Random(kind)
    engine = Engine(model, max_running=8, prefill_chunk=64, kv_bytes=MEMORY, prefix_bytes=MEMORY // 4)
    gc.collect()
    mx.clear_cache()
    before = mx.get_active_memory()
    left: set[int] = set()
    until, seq = time.monotonic() + SECONDS, 0
    while time.monotonic() < until:
        while len(engine.tokens) - len(engine.ends) - len(left) < 24 and chance.random() < 0.7:
            arrive(engine, chance, seq)
            seq += 1
        if chance.random() < 0.1 and seq:
            leaver = chance.randrange(seq)
            if leaver not in engine.ends:
                left.add(leaver)
                engine.scheduler.abort(leaver)
        engine.step()
    engine.run()
    assert seq > 10
    assert set(engine.ends) | left == set(range(seq))
    scheduler = engine.scheduler
    assert scheduler.is_idle
    assert not list(scheduler._waiting)
    assert (len(scheduler._prefill), len(scheduler._batch), scheduler._room.in_use) == (0, 0, 0)
    assert scheduler._batch._cache == []
    scheduler.clear_cache()
    gc.collect()
    assert mx.get_active_memory() <= before
