"""Rotary embeddings that share their angles give the bits of mlx-lm's."""

from collections.abc import Callable
from typing import Any

import mlx.core as mx
import pytest
from mlx.nn.layers.base import Module
from mlx.nn.layers.positional_encoding import RoPE
from mlx_lm.models.cache import make_prompt_cache

from service.engine.batch import merge
from service.engine.rotary import SharedRoPE, share_angles
from tests import tiny
from tests.service.engine.models import VOCAB, gemma, llama, mamba, sliding

LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
PROMPTS = ([1, 2, 3, 4, 5, 6, 7], [8, 9], list(range(10, 50)))


def llama3() -> Module:
    """Build one whose frequencies are a table of its own."""
    return tiny.build(tiny.llama_config(VOCAB, rope_scaling=LLAMA3))


def linear() -> Module:
    """Build one whose positions are scaled."""
    return tiny.build(tiny.llama_config(VOCAB, rope_scaling={"rope_type": "linear", "factor": 3.0}))


def ropes(model: Module) -> list[SharedRoPE]:
    return [module for module in model.modules() if isinstance(module, SharedRoPE)]  # type: ignore[no-untyped-call]


def run(model: Module) -> list[mx.array]:
    """Logits of prompts alone, of the same together, and of steps of both, in turn."""
    alone = [make_prompt_cache(model) for _ in PROMPTS]
    logits = [model(mx.array([prompt]), cache=cache) for prompt, cache in zip(PROMPTS, alone, strict=True)]
    again = [make_prompt_cache(model) for _ in PROMPTS]
    for prompt, cache in zip(PROMPTS, again, strict=True):
        logits.append(model(mx.array([prompt]), cache=cache))
    together: list[Any] = merge(again)
    for step in range(4):
        logits.append(model(mx.array([[step + row] for row in range(len(PROMPTS))]), cache=together))
        logits.append(model(mx.array([[step, 3]] * len(PROMPTS)), cache=together))
        logits += [model(mx.array([[step]]), cache=cache) for cache in alone]
    mx.eval(logits)
    return logits


@pytest.mark.parametrize("make", [llama, llama3, linear, sliding, gemma])
def test_the_logits_are_the_librarys(make: Callable[[], Module]) -> None:
    """To the last bit, for rows alone and together, and for several tokens at once, whatever came before."""
    mx.random.seed(0)
    expected = run(make())
    mx.random.seed(0)
    model = make()
    share_angles(model)
    assert ropes(model)
    for ours, theirs in zip(run(model), expected, strict=True):
        assert mx.array_equal(ours, theirs)


def test_a_part_of_the_width_can_be_turned() -> None:
    """The rest stays as it is."""
    rope: Any = RoPE(8, base=100.0)

    class Holder(Module):
        layers = (0,)

        def make_cache(self) -> list[Any]:
            return []

    holder: Any = Holder()  # type: ignore[no-untyped-call]
    holder.rope = rope
    share_angles(holder)
    x = mx.random.normal((2, 3, 4, 20))
    for offset in (0, 5, mx.array([7]), mx.array([3, 9])):
        assert mx.array_equal(holder.rope(x, offset=offset), rope(x, offset=offset))
    low = x.astype(mx.float16)
    assert mx.array_equal(holder.rope(low, offset=5), rope(low, offset=5))


def test_they_are_shared_once() -> None:
    """However often it is asked for."""
    model = llama()
    share_angles(model)
    before = list(map(id, ropes(model)))
    share_angles(model)
    assert list(map(id, ropes(model))) == before


def test_layers_that_may_be_elsewhere_share_nothing() -> None:
    """As in models whose caches are of another kind."""
    model = mamba()
    share_angles(model)
    assert not ropes(model)


def test_the_angles_are_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the first layer, for its queries and its keys, where each row has a place of its own."""
    model = llama()
    share_angles(model)
    rows = merge([make_prompt_cache(model) for _ in range(2)])
    model(mx.array([[1], [2]]), cache=rows)
    calls: list[mx.array] = []
    cos = mx.cos

    def counted(angles: mx.array) -> mx.array:
        calls.append(angles)
        return cos(angles)

    monkeypatch.setattr(mx, "cos", counted)
    model(mx.array([[1], [2]]), cache=rows)
    assert len(calls) == 2
    assert len(ropes(model)) > 1
