"""What a llama GGUF says becomes a configuration, or is refused with what was found."""

import math
from typing import Any

import pytest

from service.engine.gguf_header import GgufError, Header, Tensor
from service.engine.gguf_llama import check, config, renamed
from service.engine.gguf_tokenizer import Vocabulary
from tests import tiny
from tests.service.engine import gguf_files


def header(changes: dict[str, Any] | None = None, tensors: dict[str, Tensor] | None = None) -> Header:
    """Describe a llama without layers, with changes."""
    known = {"token_embd.weight": Tensor("Q4_0", (400, 64)), "output.weight": Tensor("Q6_K", (400, 64))}
    return Header(gguf_files.metadata(tiny.tokenizer(special=tiny.SPECIAL), **(changes or {})), known | (tensors or {}))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"general.architecture": "qwen2"}, "architecture 'qwen2', and only llama"),
        ({"general.architecture": None}, "architecture None"),
        ({"general.type": "adapter"}, "type 'adapter'"),
        ({"split.count": 3}, "one of 3 parts"),
        ({"llama.expert_count": 8}, "mixture of 8 experts"),
        ({"llama.block_count": None}, "number for llama.block_count"),
        ({"llama.attention.head_count_kv": [2, 1]}, "number for llama.attention.head_count_kv"),
        ({"llama.attention.value_length": 8}, "heads of 16 and llama.attention.value_length 8"),
        ({"llama.rope.dimension_count": 4}, "heads of 16 and llama.rope.dimension_count 4"),
        ({"llama.rope.scaling.type": "longrope", "llama.rope.scaling.factor": 4.0}, "'longrope'"),
    ],
    ids=str,
)
def test_other_models_are_refused(changes: dict[str, Any], said: str) -> None:
    """In one line that says what was found."""
    with pytest.raises(GgufError, match=said):
        check(header(changes))


@pytest.mark.parametrize(
    ("name", "kind", "said"),
    [
        ("blk.0.attn_q.weight", "Q4_K", r"type Q4_K \(blk.0.attn_q.weight\), and only F16, F32, Q4_0, Q4_1, Q8_0"),
        ("blk.0.attn_q.weight", "Q6_K", "type Q6_K"),
        ("output.weight", "Q5_K", "type Q5_K"),
        ("token_embd.weight", "BF16", "type BF16"),
        ("blk.0.ffn_gate_exps.weight", "F16", "do not have: blk.0.ffn_gate_exps.weight"),
        ("rope_factors_long.weight", "F32", "do not have"),
    ],
)
def test_other_weights_are_refused(name: str, kind: str, said: str) -> None:
    """MLX would turn some of them into float16 without a word."""
    with pytest.raises(GgufError, match=said):
        check(header(tensors={name: Tensor(kind, (64, 256))}))


def test_what_is_not_said_has_defaults() -> None:
    """As llama.cpp has them; the head of six bits is fine."""
    found = header({"llama.attention.head_count_kv": None, "llama.rope.freq_base": None})
    check(found)
    made = config(found)
    assert (made["num_key_value_heads"], made["rope_theta"], made["head_dim"]) == (4, 10000.0, 16)
    assert made["vocab_size"] == 400
    assert made["quantization"] == {"group_size": 32, "bits": 4}
    assert "rope_scaling" not in made


def test_scaling_by_yarn_is_kept() -> None:
    """With the context that the model was trained on, without which it means nothing."""
    scaling = {"llama.rope.scaling.type": "yarn", "llama.rope.scaling.factor": 4.0}
    with pytest.raises(GgufError, match="original_context_length"):
        check(header(scaling))
    made = config(header(scaling | {"llama.rope.scaling.original_context_length": 128}))
    assert made["rope_scaling"] == {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 128}


def test_weights_have_the_names_of_mlx() -> None:
    """Those of layers, and those around them."""
    assert renamed("blk.12.ffn_down.weight") == "model.layers.12.mlp.down_proj.weight"
    assert renamed("blk.0.attn_k.biases") == "model.layers.0.self_attn.k_proj.biases"
    assert renamed("output_norm.weight") == "model.norm.weight"


@pytest.mark.parametrize(
    "changes",
    [
        {"llama.attention.head_count": 0},
        {"llama.attention.head_count": math.inf},
        {"llama.attention.head_count": math.nan},
        {"llama.embedding_length": -64},
        {"llama.context_length": 1 << 60},
        {"llama.attention.layer_norm_rms_epsilon": math.inf},
        {"split.count": "many"},
    ],
)
def test_figures_that_cannot_be_are_refused(changes: dict[str, Any]) -> None:
    """By their names, before anything is made of them."""
    with pytest.raises(GgufError, match=r"which cannot be|no single number"):
        check(header(changes))


def test_a_tokenizer_of_many_types_is_refused() -> None:
    """A list is none of those that there are."""
    with pytest.raises(GgufError, match=r"tokenizer of type \['gpt2'\]"):
        Vocabulary.of(header({"tokenizer.ggml.model": ["gpt2"]}).metadata)


def test_a_refusal_is_one_short_line() -> None:
    """Whatever the file says."""
    with pytest.raises(GgufError) as raised:
        check(header({"general.architecture": "a\nb" * 1_000_000}))
    assert len(str(raised.value)) <= 301
    assert "\n" not in str(raised.value)
