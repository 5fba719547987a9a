"""What a llama GGUF says of its model, in the words of MLX's llama; files of other kinds are refused by name."""

import math
import re
from collections.abc import Sequence
from typing import Any

from service.engine.gguf_header import GgufError, Header, Metadata

Config = dict[str, Any]

KINDS = {"F32", "F16", "Q4_0", "Q4_1", "Q8_0"}
"""Types that MLX has a layout for."""
_HEAD_KINDS = {*KINDS, "Q6_K"}
"""Types of the embedding and the head: llama.cpp makes those of a 4-bit file Q6_K, which MLX reads as float16."""
_HEADS = {"token_embd.weight", "output.weight"}
_GROUP_SIZE = 32
_BITS = {"Q4_0": 4, "Q4_1": 4, "Q8_0": 8}
FREQUENCIES = "rope_freqs.weight"
"""Divisors of the rotary frequencies: the scaling of Llama 3, worked out."""
_LLAMA3 = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
_TOLERANCE = 1e-3
_LARGEST = 1 << 53
_MODULES = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
}
_BLOCK_MODULES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
ATTENTION = ("attn_q", "attn_k", "attn_v", "attn_output")
FEED_FORWARD = ("ffn_gate", "ffn_up", "ffn_down")


def check(header: Header) -> None:
    """Raises GgufError, with what was found, for a file that cannot be turned into a model folder."""
    metadata = header.metadata
    if (architecture := metadata.get("general.architecture")) != "llama":
        raise GgufError(f"is of architecture {architecture!r}, and only llama is supported")
    if (kind := metadata.get("general.type", "model")) != "model":
        raise GgufError(f"holds no model but is of type {kind!r}")
    if (parts := number(metadata, "split.count", 0)) > 1:
        raise GgufError(f"is one of {parts} parts; merge them first")
    if experts := metadata.get("llama.expert_count", 0):
        raise GgufError(f"is a mixture of {experts} experts, and only dense llamas are supported")
    _check_tensors(header)
    config(header)


def _check_tensors(header: Header) -> None:
    for name, tensor in header.tensors.items():
        if tensor.kind not in (_HEAD_KINDS if name in _HEADS else KINDS):
            supported = ", ".join(sorted(KINDS))
            raise GgufError(f"has weights of type {tensor.kind} ({name}), and only {supported} are supported")
        if name != FREQUENCIES:
            renamed(name)
    if not (embedding := header.tensors.get("token_embd.weight")) or not embedding.shape:
        raise GgufError("has no token_embd.weight")


def renamed(name: str) -> str:
    """The name of a weight in MLX's llama for its name in a GGUF, such as blk.0.attn_q.weight.

    Raises GgufError for one that llamas do not have.
    """
    if (block := re.fullmatch(r"blk\.(\d+)\.(\w+)\.(\w+)", name)) and block[2] in _BLOCK_MODULES:
        return f"model.layers.{block[1]}.{_BLOCK_MODULES[block[2]]}.{block[3]}"
    module, _, part = name.rpartition(".")
    if module not in _MODULES:
        raise GgufError(f"has a tensor that llamas do not have: {name}")
    return f"{_MODULES[module]}.{part}"


def config(header: Header, frequencies: Sequence[float] | None = None) -> Config:
    """The config.json of the model; `frequencies` are the values of FREQUENCIES, where there are some.

    Raises GgufError for what is missing, or has no like in MLX's llama.
    """
    metadata = header.metadata
    heads = _count(metadata, "llama.attention.head_count")
    hidden = _count(metadata, "llama.embedding_length")
    made: Config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": hidden,
        "intermediate_size": _count(metadata, "llama.feed_forward_length"),
        "num_hidden_layers": _count(metadata, "llama.block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": _count(metadata, "llama.attention.head_count_kv", heads),
        "head_dim": _head_dim(metadata, hidden // heads),
        "rms_norm_eps": number(metadata, "llama.attention.layer_norm_rms_epsilon"),
        "rope_theta": number(metadata, "llama.rope.freq_base", 10000.0),
        "max_position_embeddings": _count(metadata, "llama.context_length"),
        "vocab_size": header.tensors["token_embd.weight"].shape[0],
        "tie_word_embeddings": "output.weight" not in header.tensors,
        "attention_bias": has_bias(header, ATTENTION),
        "mlp_bias": has_bias(header, FEED_FORWARD),
    }
    if scaling := _scaling(metadata, frequencies):
        made["rope_scaling"] = scaling
    bits = [_BITS[tensor.kind] for tensor in header.tensors.values() if tensor.kind in _BITS]
    if bits:  # mlx-lm sees by each weight's shape which are quantised, and with how many bits
        made["quantization"] = {"group_size": _GROUP_SIZE, "bits": min(bits)}
    return made


def has_bias(header: Header, modules: Sequence[str]) -> bool:
    """Whether any of these modules adds a bias."""
    return any(name.split(".")[-2:] == [module, "bias"] for name in header.tensors for module in modules)


def number(metadata: Metadata, name: str, default: float | None = None) -> Any:
    """A number in the metadata. Raises GgufError where there is none, as where each layer has its own."""
    value = metadata.get(name, default)
    if not isinstance(value, int | float):
        raise GgufError(f"says no single number for {name}")
    if not abs(value) < _LARGEST:
        raise GgufError(f"says {value} for {name}, which cannot be")
    return value


def _count(metadata: Metadata, name: str, default: int | None = None) -> int:
    if (value := number(metadata, name, default)) < 1 or value != int(value):
        raise GgufError(f"says {value} for {name}, which cannot be")
    return int(value)


def _head_dim(metadata: Metadata, default: int) -> int:
    head = _count(metadata, "llama.attention.key_length", default)
    for name in ("llama.attention.value_length", "llama.rope.dimension_count"):
        if (length := number(metadata, name, head)) != head:
            raise GgufError(f"has heads of {head} and {name} {length}, and only equal ones are supported")
    return head


def _scaling(metadata: Metadata, frequencies: Sequence[float] | None) -> Config | None:
    """The rotary scaling, as Hugging Face's configurations have it; None for none."""
    prefix = "llama.rope.scaling"
    factor = number(metadata, f"{prefix}.factor", number(metadata, "llama.rope.scale_linear", 1.0))
    kind = metadata.get(f"{prefix}.type", "linear")
    if frequencies is not None:
        return _llama3(metadata, frequencies)
    if kind == "none" or factor in {0, 1}:
        return None
    if kind == "linear":
        return {"rope_type": "linear", "factor": factor}
    if kind == "yarn" and number(metadata, f"{prefix}.attn_factor", 1.0) == 1:
        original = number(metadata, f"{prefix}.original_context_length")
        return {"rope_type": "yarn", "factor": factor, "original_max_position_embeddings": original}
    raise GgufError(f"scales its rotary embedding by {kind!r}, and only linear and yarn are supported")


def _llama3(metadata: Metadata, divisors: Sequence[float]) -> Config | None:
    """The scaling that gives these divisors. Raises GgufError where it is not that of Llama 3."""
    factor = max(divisors)
    if factor == min(divisors) == 1:
        return None
    base = number(metadata, "llama.rope.freq_base", 10000.0)
    waves = [2 * math.pi * base ** (place / len(divisors)) for place in range(len(divisors))]
    if any(abs(_divisor(wave, factor) - got) > _TOLERANCE * got for wave, got in zip(waves, divisors, strict=True)):
        raise GgufError("scales its rotary embedding in another way than Llama 3 does")
    return {"rope_type": "llama3", "factor": factor, **_LLAMA3}


def _divisor(wave: float, factor: float) -> float:
    """What Llama 3 divides the frequency of a wave of so many tokens by."""
    low, high = (_LLAMA3["original_max_position_embeddings"] / _LLAMA3[f"{end}_freq_factor"] for end in ("low", "high"))
    if wave > low:
        return factor
    if wave < high:
        return 1.0
    smooth = (low / wave - 1) / (low / high - 1)
    return 1 / ((1 - smooth) / factor + smooth)
