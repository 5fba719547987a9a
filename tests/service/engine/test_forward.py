"""The forward pass and its output head."""

from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from mlx.nn.layers.base import Module
from mlx_lm.models.cache import make_prompt_cache

from service.engine import blocks
from service.engine.forward import Forward
from service.engine.head import HostHead
from tests import tiny
from tests.service.engine.models import MODELS, VOCAB, Wrapped


def tied() -> Module:
    """Build a llama whose embedding is its output head."""
    return tiny.build(tiny.llama_config(VOCAB, tie_word_embeddings=True))


def logits_of(model: Module, tokens: list[list[int]]) -> Any:
    """Give the model's own logits after the last token of each row."""
    caches = [make_prompt_cache(model) for _ in tokens]
    rows = [model(mx.array([row]), cache=cache)[0, -1] for row, cache in zip(tokens, caches, strict=True)]
    return np.array(mx.stack(rows))


@pytest.fixture(params=[False, True])
def small_blocks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """With and without a BLAS that is fast in small blocks: the numbers are the same."""
    monkeypatch.setattr(blocks, "are_fast", lambda: request.param)


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("make", [*MODELS.values(), tied])
@pytest.mark.parametrize("rows", [1, 3])
def test_rows_have_the_logits_of_the_model(make: Any, rows: int) -> None:
    """With the head on the host, where that is possible."""
    model = make()
    tokens = [[5, 6, 7], [8, 9, 10], [1, 2, 3]][:rows]
    cache = [layer.merge([layer] * rows) if rows > 1 else layer for layer in make_prompt_cache(model)]
    logits = Forward(model).start(mx.array(tokens), cache).logits()
    assert logits.shape == (rows, VOCAB)
    np.testing.assert_allclose(logits, logits_of(model, tokens), rtol=1e-4, atol=1e-4)


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("rows", [1, 2, 5, 40])
@pytest.mark.parametrize("vocabulary", [3, 2048, 5000])
def test_the_head_is_a_product(rows: int, vocabulary: int) -> None:
    """However many rows there are, after more and after fewer, and whatever remains of the last block."""
    chance = np.random.default_rng(0)
    weights = chance.standard_normal((vocabulary, 64), np.float32)
    head = HostHead(weights)
    for count in (7, rows):
        hidden = chance.standard_normal((count, 64), np.float32)
        expected = hidden @ weights.T
        np.testing.assert_allclose(head(hidden), expected, rtol=1e-4, atol=1e-4)
        glance = head.glance(hidden, [count - 1, 0])
        assert glance.tokens.tolist() == expected.argmax(axis=1).tolist()
        np.testing.assert_allclose(glance.highest, expected.max(axis=1), rtol=1e-4)
        np.testing.assert_allclose(glance.whole, expected[[count - 1, 0]], rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(glance.table, expected, rtol=1e-4, atol=1e-4)
        assert head.glance(hidden).whole.shape == (0, vocabulary)


@pytest.mark.parametrize("rows", [2, 12])
def test_of_equal_logits_the_first_is_taken(rows: int) -> None:
    """In one block and across blocks; a row with a NaN is told by its logit, and the others are right."""
    weights = np.zeros((5000, 64), np.float32)
    weights[[17, 40, 2500, 4999]] = 1
    hidden = np.ones((rows, 64), np.float32)
    hidden[1] = np.nan
    glance = HostHead(weights).glance(hidden)
    assert np.isnan(glance.highest[1])
    assert {token for row, token in enumerate(glance.tokens.tolist()) if row != 1} == {17}
    assert {value for row, value in enumerate(glance.highest.tolist()) if row != 1} == {64.0}


def test_the_head_is_on_the_host_on_the_cpu_only() -> None:
    """Where the weights are float32 and nothing else is done to the logits."""
    assert (Forward(MODELS["llama"]())._head is not None) == (mx.default_device() == mx.cpu)
    half = MODELS["llama"]()
    half.set_dtype(mx.bfloat16)
    assert Forward(half)._head is None


class Capped(Wrapped):
    """Does something to the logits that the head knows nothing of."""

    def __init__(self, inner: Module) -> None:
        super().__init__(inner)
        self.model = inner.model
        self.lm_head = inner.lm_head

    def __call__(self, tokens: mx.array, cache: Any) -> mx.array:
        return mx.tanh(super().__call__(tokens, cache) / 5) * 5


def test_logits_that_are_no_plain_product_are_the_models() -> None:
    """It is found out before a request meets it."""
    model = Capped(MODELS["llama"]())
    forward = Forward(model)
    assert forward._head is None
    logits = forward.start(mx.array([[5]]), make_prompt_cache(model)).logits()
    np.testing.assert_allclose(logits, logits_of(model, [[5]]), rtol=1e-5)


def test_rows_may_be_dropped_while_they_are_computed() -> None:
    """What is left keeps its order."""
    model = MODELS["llama"]()
    cache = [layer.merge([layer] * 3) for layer in make_prompt_cache(model)]
    pending = Forward(model).start(mx.array([[1], [2], [3]]), cache).of([0, 2])
    np.testing.assert_allclose(pending.logits(), logits_of(model, [[1], [3]]), rtol=1e-4, atol=1e-4)
