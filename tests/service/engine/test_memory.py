"""What keys and values take."""

import mlx.core as mx
import pytest
from mlx_lm.models.cache import make_prompt_cache

from service.engine import memory
from service.engine.memory import Footprint
from tests.service.engine.models import MODELS, Unmergeable, wide


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("tokens", [1, 100, 256, 257, 700])
def test_the_footprint_is_what_the_caches_take(kind: str, tokens: int) -> None:
    """For keys and values, for windows, for states of one size; never less."""
    model = MODELS[kind]()
    cache = make_prompt_cache(model)
    for start in range(0, tokens, 64):
        model(mx.array([[1] * min(64, tokens - start)]), cache=cache)
    held = sum(layer.nbytes for layer in cache)
    said = Footprint.of(model).bytes(tokens)
    if kind in {"sliding", "gemma"}:  # a chunk's own tokens stay beside the window until the next one
        assert said <= held
    else:
        assert said == held


def test_quantised_caches_are_counted_too() -> None:
    """Their keys are three arrays each."""
    model = Unmergeable(wide())
    cache = model.make_cache()
    model(mx.array([[1] * 300]), cache=cache)
    assert Footprint.of(model).bytes(300) == sum(layer.nbytes for layer in cache)


def test_a_budget_is_so_many_tokens() -> None:
    """The longest that fits, and no more than anyone needs."""
    footprint = Footprint(fixed=10, per_token=2, windows=((1, 300),))
    longest = footprint.tokens(3000, most=100_000)
    assert footprint.bytes(longest) <= 3000 < footprint.bytes(longest + 1)
    assert footprint.tokens(1 << 40, most=5000) == 5000
    assert footprint.tokens(5, most=5000) == 0


def test_weights_leave_less_for_keys_and_values() -> None:
    """But always something."""
    assert memory.kv_budget(0) > memory.kv_budget(1 << 30) > memory.kv_budget(1 << 50) > 0
    assert 0 < memory.prefix_budget(1 << 30) < 1 << 30


def test_freed_buffers_are_bounded() -> None:
    """MLX does not hold on to more than the limit."""
    memory.limit_buffers(64 << 20)
    try:
        mx.clear_cache()
        mx.eval(mx.zeros((128 << 20) // 4) + 1)
        assert mx.get_cache_memory() <= 32 << 20
    finally:
        memory.limit_buffers(1 << 40)
