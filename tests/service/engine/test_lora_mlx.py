"""mlx-lm's format, held against mlx-lm itself."""

import json
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest
from mlx.nn.layers.base import Module
from mlx_lm.tuner.utils import linear_to_lora_layers, load_adapters

from service.engine.lora_folder import LoraError
from service.engine.lora_read import read
from service.engine.loras import Loras
from tests import tiny
from tests.service.engine.lora_files import ALL, delta, loaded, logits, mlx_config, write_mlx
from tests.service.engine.models import llama

TOKENS = [[3, 1, 4, 1, 5]]


@pytest.fixture(scope="module")
def model() -> Module:
    return llama()


def test_layers_get_their_factors_and_scale(model: Module, tmp_path: Path) -> None:
    """Each of the model's layers that the file names has a pair."""
    weights = read(write_mlx(tmp_path, delta(model), mlx_config(scale=3.0)))
    assert weights.rank == 4
    assert weights.scale == 3.0
    assert set(weights.factors) == {f"model.layers.{block}.{path}" for block in range(2) for path in ALL}
    assert {(each.a.shape[0], each.b.shape[0], each.scale) for each in weights.factors.values()} == {(4, 4, 3.0)}


def test_what_mlx_lm_writes_means_what_it_means_there(model: Module, tmp_path: Path) -> None:
    """A LoRA that mlx-lm has made gives the logits that mlx-lm computes with it."""
    trained = llama()
    parameters = {"rank": 4, "scale": 5.0, "dropout": 0.0, "keys": ["self_attn.q_proj", "mlp.down_proj", "lm_head"]}
    trained.freeze()
    linear_to_lora_layers(trained, 1, parameters)
    named = {name: value for name, value in tiny.parameters(trained).items() if "lora" in name}
    assert len(named) == 6  # of the last block, and the head
    mx.save_safetensors(
        str(tmp_path / "adapters.safetensors"), {name: mx.random.normal(value.shape) for name, value in named.items()}
    )
    config = {"fine_tune_type": "lora", "num_layers": 1, "lora_parameters": parameters}
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    expected = logits(load_adapters(llama(), str(tmp_path)), TOKENS)
    loras = Loras(model)
    loaded(loras, "theirs", tmp_path)
    with loras.of([loras.number("theirs") or 0]):
        given = logits(model, TOKENS)
    assert mx.abs(given - expected).max() < 1e-4 * mx.abs(expected).max()
    assert mx.abs(given - logits(model, TOKENS)).max() > 1


@pytest.mark.parametrize(
    ("config", "tensors", "reason"),
    [
        (mlx_config(fine_tune_type="dora"), {}, "fine_tune_type 'dora' is not served"),
        (mlx_config(fine_tune_type="full"), {}, "fine_tune_type 'full' is not served"),
        ({"fine_tune_type": "lora"}, {}, "has no lora_parameters"),
        ({"lora_parameters": {"rank": 4, "alpha": 16}}, {}, "scale of adapter_config.json is None"),
        (mlx_config(rank=8), {}, "has rank 4, and adapter_config.json says 8"),
        (None, {"model.layers.0.self_attn.q_proj.m": mx.zeros((64,))}, "belongs to a DoRA"),
        (None, {"lm_head.weight": mx.zeros((4, 4))}, "'lm_head.weight' is more than a LoRA can change"),
        (None, {"model.layers.0.mlp.switch_mlp.up_proj.lora_a": mx.zeros((2, 4, 64))}, "a layer of experts"),
        (None, {"model.norm.lora_a": mx.zeros((64, 4))}, "layer 'model.norm' has one factor"),
    ],
)
def test_more_or_less_than_a_lora_is_refused(
    config: dict[str, Any] | None, tensors: dict[str, mx.array], reason: str, model: Module, tmp_path: Path
) -> None:
    """The reason names the setting or the tensor."""
    folder = write_mlx(tmp_path, delta(model), config, **tensors)
    with pytest.raises(LoraError, match=reason):
        read(folder)
