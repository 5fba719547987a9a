"""What is replaced in mlx-lm's models computes the same."""

import mlx.core as mx
import pytest
from mlx_lm.models import activations, llama

from service.engine import bands, patches
from service.engine.attention import NAME, on_cpu
from tests.service.engine.models import MODELS


def test_the_activation_is_the_librarys() -> None:
    """For all sizes of numbers, and those that overflow."""
    gate = mx.concatenate([mx.linspace(-120, 120, 4001), mx.array([0.0, -1e30, 1e30, -3e38])])
    x = mx.linspace(-3, 3, gate.size)
    assert mx.allclose(patches.swiglu(gate, x), activations.swiglu(gate, x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [mx.float16, mx.bfloat16])
def test_other_precisions_are_left_to_the_library(dtype: mx.Dtype) -> None:
    """To the last bit."""
    gate = mx.linspace(-20, 20, 401).astype(dtype)
    ours = patches.swiglu(gate, gate)
    assert ours.dtype == dtype
    assert mx.array_equal(ours, activations.swiglu(gate, gate))


def test_it_is_put_where_a_model_looks_for_it() -> None:
    """Once, however often it is asked for."""
    patches.suit_cpu(MODELS["llama"]())
    patches.suit_cpu(MODELS["llama"]())
    assert vars(llama)["swiglu"] is patches.swiglu
    assert vars(llama)[NAME] in {on_cpu, bands.attention}  # the latter where a test before has taught it about bands
