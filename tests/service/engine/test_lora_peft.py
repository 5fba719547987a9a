"""PEFT's format."""

import json
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest
from mlx.nn.layers.base import Module

from service.engine.lora_folder import LoraError
from service.engine.lora_read import read
from tests.service.engine.lora_files import ALL, ATTENTION, delta, peft_config, write_peft
from tests.service.engine.models import llama

Q, V = "model.layers.0.self_attn.q_proj", "model.layers.1.self_attn.v_proj"


@pytest.fixture(scope="module")
def model() -> Module:
    return llama()


def test_factors_are_turned_and_scaled(model: Module, tmp_path: Path) -> None:
    """lora_A comes as it is, lora_B transposed; the scale is alpha by rank."""
    factors = delta(model, layers=ATTENTION)
    weights = read(write_peft(tmp_path, factors, peft_config(rank=4, alpha=6)))
    assert set(weights.factors) == set(factors)
    assert weights.scale == 1.5
    given = weights.factors[Q]
    assert mx.array_equal(given.a, factors[Q][0].T)
    assert mx.array_equal(given.b, factors[Q][1])
    assert given.scale == 1.5


@pytest.mark.parametrize(
    ("more", "scales"),
    [
        ({"use_rslora": True}, {Q: 4.0, V: 4.0}),
        ({"alpha_pattern": {"q_proj": 16}}, {Q: 4.0, V: 2.0}),
        ({"alpha_pattern": {"layers.0.self_attn.q_proj": 16, "q_proj": 4}}, {Q: 4.0, V: 2.0}),
        ({"alpha_pattern": {"^model.layers.1.self_attn.v_proj": 12, "^q_proj": 4}}, {Q: 2.0, V: 3.0}),
        ({"alpha_pattern": {"proj": 16}, "rank_pattern": None}, {Q: 2.0, V: 2.0}),
        ({"init_lora_weights": "gaussian", "lora_dropout": 0.1, "task_type": "CAUSAL_LM"}, {Q: 2.0, V: 2.0}),
    ],
)
def test_the_scale_of_a_layer(more: dict[str, Any], scales: dict[str, float], model: Module, tmp_path: Path) -> None:
    """It follows the first pattern that is the end of the layer's path, and rank-stabilised LoRAs take the root."""
    weights = read(write_peft(tmp_path, delta(model), peft_config(rank=4, alpha=8, **more)))
    assert {path: weights.factors[path].scale for path in scales} == scales


def test_ranks_differ_by_layer(model: Module, tmp_path: Path) -> None:
    """A rank of its own scales by that rank."""
    factors = delta(model, rank=4) | {Q: delta(model, rank=2)[Q]}
    weights = read(write_peft(tmp_path, factors, peft_config(rank=4, alpha=8, rank_pattern={"0.self_attn.q_proj": 2})))
    assert weights.rank == 4
    assert (weights.factors[Q].scale, weights.factors[V].scale) == (4.0, 2.0)
    (tmp_path / "adapter_config.json").write_text(json.dumps(peft_config(rank=4)))
    with pytest.raises(LoraError, match=f"layer '{Q}' has rank 2, and adapter_config.json says 4"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("config", "tensors", "reason"),
    [
        (peft_config(peft_type="LOHA"), {}, "peft_type 'LOHA' is not served"),
        (peft_config(use_dora=True), {}, "use_dora of adapter_config.json is set"),
        (peft_config(modules_to_save=["lm_head"]), {}, "modules_to_save of adapter_config.json is set"),
        (peft_config(lora_bias=True), {}, "lora_bias of"),
        (peft_config(monteclora_config={"buffer_size": 150}), {}, "monteclora_config of"),
        (peft_config(use_rslora="false"), {}, "use_rslora of adapter_config.json is 'false', and must be true or"),
        (
            peft_config(r=0.5, rank_pattern=dict.fromkeys(ALL, 4)),
            {},
            "r of adapter_config.json is 0.5, and must be a whole",
        ),
        (None, {f"{Q}.lora_A.weight": mx.zeros((4, 64))}, f"layer '{Q}' has a factor twice"),
        (None, {f"base_model.model.{Q}.lora_B.default.weight": mx.zeros((64, 4))}, f"layer '{Q}' has a factor twice"),
        (peft_config(bias="all"), {}, "bias of adapter_config.json is 'all'"),
        (peft_config(init_lora_weights="pissa_niter_4"), {}, "the model's own weights were changed"),
        (peft_config(alpha_pattern={"(a+)+b": 4}), {}, r"has '\(a\+\)\+b', which is not the name"),
        (peft_config(alpha_pattern=[1]), {}, "alpha_pattern of adapter_config.json is not an object"),
        (peft_config(alpha_pattern={"q_proj": "x"}), {}, "q_proj of adapter_config.json is 'x'"),
        (peft_config(r=None), {}, "says None|r of adapter_config.json is None"),
        (peft_config(lora_alpha=0), {}, "lora_alpha of adapter_config.json is 0"),
        (None, {f"base_model.model.{Q}.lora_magnitude_vector.weight": mx.zeros((64,))}, "belongs to a DoRA"),
        (None, {"base_model.model.model.embed_tokens.lora_embedding_A": mx.zeros((4, 64))}, "changes an embedding"),
        (None, {"base_model.model.lm_head.weight": mx.zeros((4, 4))}, "more than a LoRA can change"),
        (None, {f"base_model.model.{Q}.lora_B.bias": mx.zeros((4,))}, "more than a LoRA can change"),
    ],
)
def test_more_or_less_than_a_lora_is_refused(
    config: dict[str, Any] | None, tensors: dict[str, mx.array], reason: str, model: Module, tmp_path: Path
) -> None:
    """The reason names the setting or the tensor."""
    folder = write_peft(tmp_path, delta(model), config, **tensors)
    with pytest.raises(LoraError, match=reason):
        read(folder)
