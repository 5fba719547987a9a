"""Rows of different length in one forward pass."""

from typing import Any

import mlx.core as mx
import pytest
from mlx.nn.layers.base import Module
from mlx_lm.models import llama as llama_module
from mlx_lm.models.cache import make_prompt_cache

from service.engine import bands
from service.engine.attention import NAME, plain
from service.engine.batch import merge
from service.engine.probe import Probe
from service.engine.sequence import LayerCache
from tests.service.engine.models import MODELS, VOCAB, Unmergeable, Wrapped, wide

LENGTHS = [3, 5, 40, 41, 42, 200]
SIZES = [2, 3, 1]


def prefilled(model: Module, length: int) -> list[LayerCache]:
    """Make caches of a prompt."""
    cache = make_prompt_cache(model)
    model(mx.array([[(7 * place + length) % VOCAB for place in range(length)]]), cache=cache)
    return cache


def banded(caches: list[list[LayerCache]]) -> list[Any]:
    """Put rows into three bands."""
    parts = [merge(caches[:2]), merge(caches[2:5]), caches[5]]
    return [bands.BandedCache(list(layers), SIZES) for layers in zip(*parts, strict=True)]


@pytest.mark.parametrize("kind", ["llama", "sliding", "gemma"])
def test_bands_change_no_logits(kind: str) -> None:
    """Over many steps, past the windows and the growth of the caches, each row has the logits that it has alone."""
    model = MODELS[kind]()
    assert bands.enable(Probe(model))
    alone = [prefilled(model, length) for length in LENGTHS]
    together = banded([prefilled(model, length) for length in LENGTHS])
    tokens = [1] * len(LENGTHS)
    for _ in range(70):
        expected = [model(mx.array([[token]]), cache=cache) for token, cache in zip(tokens, alone, strict=True)]
        logits = model(mx.array([[token] for token in tokens]), cache=together)
        assert mx.allclose(logits, mx.concatenate(expected), atol=1e-4)
        tokens = mx.argmax(logits[:, -1], axis=-1).tolist()  # type: ignore[assignment]


def test_a_state_that_is_no_keys_and_values_has_no_bands() -> None:
    """Nor have caches of another kind."""
    assert not bands.enable(Probe(MODELS["mamba"]()))
    assert not bands.enable(Probe(Unmergeable(wide())))


class Careless(Wrapped):
    """Looks into the caches."""

    def __call__(self, tokens: mx.array, cache: Any) -> mx.array:
        logits = super().__call__(tokens, cache)
        return logits if cache[0].keys.shape[0] == len(tokens) else logits + 1


class Peculiar(Wrapped):
    """Gives other logits in company."""

    def __call__(self, tokens: mx.array, cache: Any) -> mx.array:
        return super().__call__(tokens, cache) + float(len(tokens) > 1)


@pytest.mark.parametrize("make", [Careless, Peculiar])
def test_a_model_that_does_not_understand_is_left_as_it_was(make: type[Wrapped]) -> None:
    """It is found out before a request meets it."""
    inner = MODELS["llama"]()
    setattr(llama_module, NAME, plain)
    assert not bands.enable(Probe(make(inner)))
    assert getattr(llama_module, NAME) is plain
    assert bands.enable(Probe(inner))
