"""Turns a llama GGUF file into an MLX model folder: `python -m service.engine.gguf SOURCE TARGET`.

MLX reads Q4_1 blocks straight into its own 4-bit layout with groups of 32, so the weights are only renamed. llama
GGUFs hold the rows of q and k permuted for interleaved rotary embedding, which is what `rope_traditional` means.
"""

import argparse
import json
import re
from pathlib import Path
from typing import Any

import mlx.core as mx
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

Metadata = dict[str, Any]

_GROUP_SIZE = 32
_BITS = 4
_CONTROL = 3
"""The token type that GGUF gives to special tokens."""

_NAMES = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
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


def convert(source: Path, target: Path, *, temperature: float | None = None, top_p: float | None = None) -> None:
    """Write `source` as a model folder to `target`, with these sampling defaults.

    Raises ValueError for a GGUF that is not a Q4_1 llama with a byte-level BPE tokenizer.
    """
    loaded: Any = mx.load(str(source), return_metadata=True)
    weights, metadata = loaded
    if metadata.get("general.architecture") != "llama" or metadata.get("tokenizer.ggml.model") != "gpt2":
        raise ValueError(f"{source} is not a llama with a byte-level BPE tokenizer")
    target.mkdir(parents=True, exist_ok=True)
    mx.save_safetensors(
        str(target / "model.safetensors"),
        {_renamed(name): value for name, value in weights.items()},
        metadata={"format": "mlx"},
    )
    tokenizer = _tokenizer(metadata)
    tokenizer.save(str(target / "tokenizer.json"))
    _write_json(target / "config.json", _config(metadata, tied="output.weight" not in weights))
    _write_json(target / "tokenizer_config.json", _tokenizer_config(metadata))
    sampling = {"temperature": temperature, "top_p": top_p}
    generation = {"eos_token_id": _number(metadata, "tokenizer.ggml.eos_token_id")}
    _write_json(target / "generation_config.json", generation | {k: v for k, v in sampling.items() if v is not None})


def _renamed(name: str) -> str:
    """The name of a weight in MLX's llama for its name in a GGUF, such as blk.0.attn_q.weight."""
    block = re.fullmatch(r"blk\.(\d+)\.(\w+)\.(\w+)", name)
    if block:
        return f"model.layers.{block[1]}.{_NAMES[block[2]]}.{block[3]}"
    module, _, part = name.rpartition(".")
    return f"{_NAMES[module]}.{part}"


def _config(metadata: Metadata, *, tied: bool) -> dict[str, Any]:
    heads = _number(metadata, "llama.attention.head_count")
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": _number(metadata, "llama.embedding_length"),
        "intermediate_size": _number(metadata, "llama.feed_forward_length"),
        "num_hidden_layers": _number(metadata, "llama.block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": _number(metadata, "llama.attention.head_count_kv"),
        "rms_norm_eps": _number(metadata, "llama.attention.layer_norm_rms_epsilon"),
        "rope_theta": _number(metadata, "llama.rope.freq_base"),
        "rope_traditional": True,
        "max_position_embeddings": _number(metadata, "llama.context_length"),
        "vocab_size": len(metadata["tokenizer.ggml.tokens"]),
        "bos_token_id": _number(metadata, "tokenizer.ggml.bos_token_id"),
        "eos_token_id": _number(metadata, "tokenizer.ggml.eos_token_id"),
        "tie_word_embeddings": tied,
        "quantization": {"group_size": _GROUP_SIZE, "bits": _BITS},
    }


def _tokenizer(metadata: Metadata) -> Tokenizer:
    tokens: list[str] = metadata["tokenizer.ggml.tokens"]
    left_right = (merge.split(" ", 1) for merge in metadata["tokenizer.ggml.merges"])
    merges = [(left, right) for left, right in left_right]
    tokenizer = Tokenizer(models.BPE({token: index for index, token in enumerate(tokens)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    kinds = metadata["tokenizer.ggml.token_type"].tolist()
    special = [token for token, kind in zip(tokens, kinds, strict=True) if kind == _CONTROL]
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    return tokenizer


def _tokenizer_config(metadata: Metadata) -> dict[str, Any]:
    tokens = metadata["tokenizer.ggml.tokens"]
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": tokens[_number(metadata, "tokenizer.ggml.bos_token_id")],
        "eos_token": tokens[_number(metadata, "tokenizer.ggml.eos_token_id")],
        "chat_template": metadata["tokenizer.chat_template"],
        "clean_up_tokenization_spaces": False,
        "model_max_length": _number(metadata, "llama.context_length"),
    }


def _number(metadata: Metadata, name: str) -> Any:
    return metadata[name].item()


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def main() -> None:
    """Convert as the command line says."""
    parser = argparse.ArgumentParser(prog="service.engine.gguf", description=__doc__)
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--temperature", type=float, help="the model's sampling default")
    parser.add_argument("--top-p", type=float, help="the model's sampling default")
    options = parser.parse_args()
    convert(options.source, options.target, temperature=options.temperature, top_p=options.top_p)


if __name__ == "__main__":
    main()
