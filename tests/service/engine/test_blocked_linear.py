"""Dense layers in blocks give what they gave before."""

from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from mlx.nn.layers.base import Module
from mlx.nn.layers.linear import Linear

from service.engine import blocked_linear, blocks, lora_layer
from service.engine.blocked_linear import BlockedLinear, use_blocks
from service.engine.lora_layer import LoraBlockedLinear, Pass
from tests import tiny
from tests.service.engine.models import VOCAB

WIDTH, OUTPUTS = 512, 768


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """As with a BLAS that profits: the numbers are the same with any."""
    for module in (blocks, blocked_linear):
        monkeypatch.setattr(module, "are_fast", lambda: True)


def blocked(*, bias: bool = False, outputs: int = OUTPUTS) -> Linear:
    """Make a dense layer that has become one."""
    layer = Linear(WIDTH, outputs, bias=bias)
    layer.weight = layer.weight / mx.max(mx.abs(layer.weight))
    use_blocks(layer)
    return layer


def plain(layer: Linear, x: mx.array) -> Any:
    """What any other dense layer with these weights makes of it."""
    twin = Linear(WIDTH, len(layer.weight), bias="bias" in layer)
    twin.update(layer.parameters())  # type: ignore[no-untyped-call]
    return np.array(twin(x))


@pytest.mark.parametrize("shape", [(1, 1), (5, 1), (2, 3), (32,), (4, 2, 2), (0, 1)])
@pytest.mark.parametrize("bias", [False, True])
def test_a_layer_gives_the_same(monkeypatch: pytest.MonkeyPatch, shape: tuple[int, ...], *, bias: bool) -> None:
    """For rows of any shape, and by blocks."""
    layer, x = blocked(bias=bias), mx.random.normal((*shape, WIDTH))
    assert type(layer) is BlockedLinear
    expected = plain(layer, x)
    if x.size:
        monkeypatch.delattr(Linear, "__call__")
    y = layer(x)
    assert y.shape == (*shape, OUTPUTS)
    np.testing.assert_allclose(np.array(y), expected, rtol=1e-4, atol=1e-4)


def test_input_in_another_order_is_taken_as_it_is_meant() -> None:
    """Columns first, or every other row."""
    layer = blocked()
    x = mx.random.normal((WIDTH, 8))
    np.testing.assert_allclose(np.array(layer(x.T)), plain(layer, x.T), rtol=1e-4, atol=1e-4)
    x = mx.random.normal((8, WIDTH))[::2]
    np.testing.assert_allclose(np.array(layer(x)), plain(layer, x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("rows", "outputs"), [(33, OUTPUTS), (4, 769)])
def test_what_does_not_fit_is_computed_as_before(rows: int, outputs: int) -> None:
    """To the bit: many rows, or weights that cannot be cut."""
    layer, x = blocked(outputs=outputs), mx.random.normal((rows, WIDTH))
    assert np.array_equal(np.array(layer(x)), plain(layer, x))


def test_other_numbers_are_computed_as_before() -> None:
    """Those of half the size."""
    layer, x = blocked(), mx.random.normal((2, WIDTH)).astype(mx.float16)
    assert np.array_equal(np.array(layer(x)), plain(layer, x))


def test_only_large_layers_of_floats_change() -> None:
    """The others gain nothing."""
    small, half = Linear(64, 64), Linear(WIDTH, OUTPUTS)
    half.set_dtype(mx.float16)
    for layer in (small, half):
        use_blocks(layer)
        assert type(layer) is Linear


def test_without_such_a_blas_no_layer_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would be slower."""
    monkeypatch.setattr(blocked_linear, "are_fast", lambda: False)
    assert type(blocked()) is Linear


def test_a_layer_becomes_one_with_loras_and_back() -> None:
    """Its weights stay in blocks."""
    layer = blocked()
    lora_layer.enable(layer, Pass())
    assert type(layer) is LoraBlockedLinear
    lora_layer.disable(layer)
    assert type(layer) is BlockedLinear


@pytest.mark.parametrize("rows", [1, 6])
def test_a_model_gives_the_same(rows: int) -> None:
    """All of its large layers have changed."""
    model: Module = tiny.build(tiny.llama_config(VOCAB, hidden_size=512, intermediate_size=1024))
    tokens = mx.arange(rows * 3).reshape(rows, 3)
    before = np.array(model(tokens))
    use_blocks(model)
    assert sum(type(layer) is BlockedLinear for layer in model.modules()) >= 10  # type: ignore[no-untyped-call]
    np.testing.assert_allclose(np.array(model(tokens)), before, rtol=1e-4, atol=1e-4)
