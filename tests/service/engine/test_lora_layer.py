"""Layers that become ones with LoRAs, and what they were again."""

import mlx.core as mx
import pytest
from mlx.nn.layers.base import Module
from mlx.nn.layers.embedding import Embedding
from mlx.nn.layers.linear import Linear
from mlx.nn.layers.normalization import RMSNorm
from mlx.nn.layers.quantized import QuantizedEmbedding, QuantizedLinear, quantize
from mlx_lm.models.switch_layers import QuantizedSwitchLinear, SwitchLinear

from service.engine import lora_layer
from service.engine.lora_folder import Factors, LoraError
from service.engine.lora_layer import Pass
from service.engine.lora_selection import NONE, Selection
from tests import tiny

WIDTH, OUTPUT, RANK = 64, 32, 4


def factors(width: int = WIDTH, output: int = OUTPUT, scale: float = 1.0) -> Factors:
    return Factors(mx.random.normal((RANK, width)), mx.random.normal((RANK, output)), scale)


def dense() -> Linear:
    return Linear(WIDTH, OUTPUT)


def quantised() -> QuantizedLinear:
    return QuantizedLinear(WIDTH, OUTPUT, group_size=32, bits=8)


@pytest.mark.parametrize("layer", [dense(), quantised()])
def test_a_layer_adds_what_the_row_asks_for(layer: Module) -> None:
    """Rows without a LoRA, and passes without one, get what the layer gave before."""
    x = mx.random.normal((2, 3, WIDTH))
    before = layer(x)
    running, each = Pass(), factors(scale=0.5)
    lora_layer.check("layer", layer, each)
    target = lora_layer.enable(layer, running)
    assert lora_layer.enable(layer, running) is target
    target.put(1, *lora_layer.suited("layer", layer, each))
    assert mx.array_equal(layer(x), before)
    running.selection = Selection([NONE, 1])
    given = layer(x)
    assert mx.array_equal(given[0], before[0])
    assert mx.allclose(given[1], before[1] + 0.5 * x[1] @ each.a.T @ each.b, atol=1e-4)


@pytest.mark.parametrize("layer", [dense(), quantised()])
def test_a_layer_without_loras_is_what_it_was(layer: Module) -> None:
    """It keeps nothing of them, and its weights were its own all the time."""
    kind, own, weights = type(layer), vars(layer).copy(), dict(layer)
    target = lora_layer.enable(layer, Pass())
    target.put(1, *lora_layer.suited("layer", layer, factors()))
    assert isinstance(layer, kind)
    assert dict(layer) == weights
    assert not target.remove(1)
    lora_layer.disable(layer)
    lora_layer.disable(layer)
    assert type(layer) is kind
    assert vars(layer) == own


def test_ranks_have_shelves_of_their_own() -> None:
    """LoRAs of several ranks change one layer, and leave by themselves."""
    layer, running = dense(), Pass()
    target = lora_layer.enable(layer, running)
    made = {number: (mx.random.normal((rank, WIDTH)), mx.random.normal((rank, OUTPUT))) for number, rank in
            ((1, 4), (2, 8), (3, 4))}  # fmt: skip
    for number, (a, b) in made.items():
        target.put(number, a, b)
    assert target.nbytes == 4 * (4 + 8 + 4) * (WIDTH + OUTPUT)
    x = mx.random.normal((3, 1, WIDTH))
    plain = layer(x)
    for gone in ((), (1,), (2,)):
        for number in gone:
            assert target.remove(number)
            del made[number]
        rows = [2, 3, 1]
        running.selection = Selection(rows)
        given = layer(x)
        for row, number in enumerate(rows):
            a, b = made.get(number, (mx.zeros((1, WIDTH)), mx.zeros((1, OUTPUT))))
            assert mx.allclose(given[row], plain[row] + x[row] @ a.T @ b, atol=1e-4)
        running.selection = None


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (Embedding(WIDTH, OUTPUT), "is a Embedding, and only linear layers"),
        (QuantizedEmbedding(WIDTH, OUTPUT, group_size=32), "is a QuantizedEmbedding, and only linear layers"),
        (SwitchLinear(WIDTH, OUTPUT, 2), "is a SwitchLinear, and only linear layers"),
        (QuantizedSwitchLinear(WIDTH, OUTPUT, 2), "is a QuantizedSwitchLinear, and only linear layers"),
        (RMSNorm(WIDTH), "is a RMSNorm, and only linear layers"),
        (Linear(WIDTH, OUTPUT + 1), "take 64 to 32, and it takes 64 to 33"),
        (QuantizedLinear(WIDTH * 2, OUTPUT), "take 64 to 32, and it takes 128 to 32"),
    ],
)
def test_what_does_not_fit_is_refused(layer: Module, reason: str) -> None:
    """The layer is named."""
    with pytest.raises(LoraError, match=f"layer '?.*'?path.*{reason}"):
        lora_layer.check("path", layer, factors())


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 3e38])
def test_values_that_are_not_finite_are_refused(value: float) -> None:
    """Those that the scale makes so, too."""
    given = factors(scale=2.0)
    given.b[1, 1] = value
    with pytest.raises(LoraError, match="layer 'path' have values that are not finite"):
        lora_layer.suited("path", dense(), given)


@pytest.mark.parametrize("dtype", [mx.bfloat16, mx.float32])
def test_factors_get_the_type_that_the_layer_computes_in(dtype: mx.Dtype) -> None:
    """So that they make nothing of the pass wider or narrower."""
    layer, packed = dense(), quantised()
    layer.set_dtype(dtype)
    packed.scales = packed.scales.astype(dtype)
    for concerned in (layer, packed):
        assert {array.dtype for array in lora_layer.suited("path", concerned, factors())} == {dtype}


@pytest.mark.parametrize("mode", ["mxfp4", "mxfp8", "nvfp4"])
def test_scales_that_are_no_floats_say_nothing_of_the_type(mode: str) -> None:
    """Those of MX formats are bytes: factors of that type would be nothing but zeros."""
    size, bits = {"mxfp4": (32, 4), "mxfp8": (32, 8), "nvfp4": (16, 4)}[mode]
    layer, each = QuantizedLinear.from_linear(dense(), size, bits, mode=mode), factors()
    lora_layer.check("layer", layer, each)
    for array, exact in zip(lora_layer.suited("layer", layer, each, mx.bfloat16), (each.a, each.b), strict=True):
        assert array.dtype == mx.bfloat16
        assert mx.allclose(array, exact, rtol=0.01)


def test_a_model_computes_in_the_type_of_most_of_its_floats() -> None:
    """A few of another type do not count, nor does what is packed."""
    model = tiny.build(tiny.llama_config(128))
    model.set_dtype(mx.bfloat16)
    quantize(model, group_size=32, bits=4, mode="mxfp4")
    model.model.norm.weight = model.model.norm.weight.astype(mx.float32)
    assert lora_layer.computes_in(model) == mx.bfloat16
