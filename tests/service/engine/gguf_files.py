"""GGUF files for tests, written by the format's description, with every type of tensor that is supported."""

import json
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
from mlx.nn.layers.base import Module
from numpy.typing import NDArray
from tokenizers import Tokenizer

from tests import tiny

Floats = NDArray[np.float32]
Metadata = dict[str, Any]
Encoded = tuple[bytes, Floats]
"""The bytes of a tensor, and the values that they stand for."""

HEADS, KV_HEADS = 4, 2
BLOCK = 32
SUPER_BLOCK = 256
ALIGNMENT = 32
TYPES = {"F32": 0, "F16": 1, "Q4_0": 2, "Q4_1": 3, "Q8_0": 8, "Q6_K": 14, "Q4_K": 12, "BF16": 30}
_NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def metadata(words: Tokenizer, **changes: Any) -> Metadata:
    """Describe a llama of tests.tiny with its byte-level tokenizer; a change to None takes an entry away."""
    vocabulary = sorted(words.get_vocab(), key=words.get_vocab().__getitem__)
    end = words.get_vocab()[tiny.END]
    made: Metadata = {
        "general.architecture": "llama",
        "general.tags": ["text", "tests"],
        "llama.embedding_length": 64,
        "llama.feed_forward_length": 128,
        "llama.block_count": 2,
        "llama.attention.head_count": HEADS,
        "llama.attention.head_count_kv": KV_HEADS,
        "llama.attention.layer_norm_rms_epsilon": 1e-5,
        "llama.rope.freq_base": 10000.0,
        "llama.context_length": 512,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.tokens": vocabulary,
        "tokenizer.ggml.token_type": [3 if token in tiny.SPECIAL else 1 for token in vocabulary],
        "tokenizer.ggml.merges": merges(words),
        "tokenizer.ggml.bos_token_id": end,
        "tokenizer.ggml.eos_token_id": end,
        "tokenizer.ggml.add_bos_token": False,
        "tokenizer.chat_template": tiny.CHATML,
    }
    return {name: value for name, value in (made | changes).items() if value is not None}


def merges(words: Tokenizer) -> list[str]:
    """Give the merges of a tokenizer as GGUFs have them."""
    model = json.loads(words.to_str())["model"]
    return [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]


def write(file: Path, entries: Metadata, tensors: Mapping[str, tuple[str, tuple[int, ...], bytes]]) -> None:
    """Write a file of tensors, each of a type, a shape with its rows first, and its bytes."""
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(entries))
    for name, value in entries.items():
        head += _text(name) + _value(value)
    place = 0
    for name, (kind, shape, data) in tensors.items():
        head += _text(name) + struct.pack(f"<I{len(shape)}Q", len(shape), *reversed(shape))
        head += struct.pack("<IQ", TYPES[kind], place)
        place += len(_padded(data))
    file.write_bytes(_padded(head) + b"".join(_padded(data) for _, _, data in tensors.values()))


def write_model(
    file: Path,
    model: Module,
    entries: Metadata,
    kind: str = "F32",
    *,
    kinds: dict[str, str] | None = None,
    divisors: list[float] | None = None,
    without: str | None = None,
) -> None:
    """Write a llama with its matrices as `kind`, those in `kinds` as named there, and all else as F32.

    The model's own weights become what was written, rounding and all. `divisors` are those of its frequencies;
    weights with `without` in their names are left out.
    """
    tensors: dict[str, tuple[str, tuple[int, ...], bytes]] = {}
    written = []
    if divisors:
        tensors["rope_freqs.weight"] = ("F32", (len(divisors),), _f32(np.array(divisors, np.float32))[0])
    for name, weight in tiny.parameters(model).items():
        theirs = gguf_name(name)
        if without is not None and without in theirs:
            continue
        heads = {"q_proj": HEADS, "k_proj": KV_HEADS}.get(name.split(".")[-2])
        is_kind = (kinds or {}).get(theirs, kind if weight.ndim > 1 else "F32")
        values = np.array(weight.astype(mx.float32))
        data, meant = ENCODERS[is_kind](_permuted(values, heads) if heads else values)
        tensors[theirs] = (is_kind, weight.shape, data)
        written.append((name, mx.array(_restored(meant, heads) if heads else meant)))
    model.load_weights(written, strict=False)
    write(file, entries, tensors)


def gguf_name(name: str) -> str:
    """Name a weight of MLX's llama as GGUFs do."""
    module, _, part = name.rpartition(".")
    if not module.startswith("model.layers."):
        return f"{_NAMES[module]}.{part}"
    _, _, layer, within = module.split(".", 3)
    return f"blk.{layer}.{_NAMES[within]}.{part}"


def _permuted(rows: Floats, heads: int) -> Floats:
    """Order rows as llama GGUFs have them, for interleaved rotary embedding."""
    halves = rows.reshape(heads, 2, -1, *rows.shape[1:])
    return np.ascontiguousarray(halves.swapaxes(1, 2).reshape(rows.shape))


def _restored(rows: Floats, heads: int) -> Floats:
    return rows.reshape(heads, -1, 2, *rows.shape[1:]).swapaxes(1, 2).reshape(rows.shape)


def _f32(values: Floats) -> Encoded:
    return values.astype("<f4").tobytes(), values


def _f16(values: Floats) -> Encoded:
    rounded = values.astype("<f2")
    return rounded.tobytes(), rounded.astype(np.float32)


def _q4_0(values: Floats) -> Encoded:
    blocks = values.reshape(-1, BLOCK)
    scale = (np.abs(blocks).max(axis=1, keepdims=True) / 7).astype("<f2")
    steps = np.clip(np.rint(blocks / _safe(scale)) + 8, 0, 15).astype(np.uint8)
    data = np.concatenate([scale.view(np.uint8), _nibbles(steps)], axis=1).tobytes()
    return data, ((steps - 8.0) * scale.astype(np.float32)).reshape(values.shape).astype(np.float32)


def _q4_1(values: Floats) -> Encoded:
    blocks = values.reshape(-1, BLOCK)
    low = blocks.min(axis=1, keepdims=True).astype("<f2")
    scale = ((blocks.max(axis=1, keepdims=True) - low) / 15).astype("<f2")
    steps = np.clip(np.rint((blocks - low) / _safe(scale)), 0, 15).astype(np.uint8)
    data = np.concatenate([scale.view(np.uint8), low.view(np.uint8), _nibbles(steps)], axis=1).tobytes()
    meant = steps * scale.astype(np.float32) + low.astype(np.float32)
    return data, meant.reshape(values.shape).astype(np.float32)


def _q8_0(values: Floats) -> Encoded:
    blocks = values.reshape(-1, BLOCK)
    scale = (np.abs(blocks).max(axis=1, keepdims=True) / 127).astype("<f2")
    steps = np.clip(np.rint(blocks / _safe(scale)), -127, 127).astype(np.int8)
    data = np.concatenate([scale.view(np.uint8), steps.view(np.uint8)], axis=1).tobytes()
    return data, (steps * scale.astype(np.float32)).reshape(values.shape).astype(np.float32)


def _q6_k(values: Floats) -> Encoded:
    """Encode in blocks of 256, each 16 groups with a scale: four low bits, then two high bits, then the scales."""
    groups = values.reshape(-1, 16, 16)
    largest = np.abs(groups).max(axis=(1, 2), keepdims=True)
    outer = (largest / (31 * 127)).astype("<f2")
    scales = np.clip(np.rint(np.abs(groups).max(axis=2, keepdims=True) / 31 / _safe(outer)), 1, 127).astype(np.int8)
    step = outer.astype(np.float32) * scales
    steps = np.clip(np.rint(groups / _safe(step)) + 32, 0, 63).astype(np.uint8)
    quarters = steps.reshape(-1, 2, 4, BLOCK)  # halves of 128 values, in four runs of 32
    low = np.stack([_joined(quarters[:, :, 0], quarters[:, :, 2]), _joined(quarters[:, :, 1], quarters[:, :, 3])], 2)
    high = sum((quarters[:, :, run] >> 4) << (2 * run) for run in range(4))
    count = len(steps)
    parts = (low.reshape(count, -1), np.asarray(high).reshape(count, -1), scales.reshape(count, -1), outer[:, :, 0])
    data = b"".join(b"".join(part[row].tobytes() for part in parts) for row in range(count))
    return data, ((steps - 32.0) * step).reshape(values.shape).astype(np.float32)


ENCODERS: dict[str, Callable[[Floats], Encoded]] = {
    "F32": _f32,
    "F16": _f16,
    "Q4_0": _q4_0,
    "Q4_1": _q4_1,
    "Q8_0": _q8_0,
    "Q6_K": _q6_k,
}


def _nibbles(steps: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Put the first half of each block into the low bits and the second into the high ones."""
    return _joined(steps[:, : BLOCK // 2], steps[:, BLOCK // 2 :])


def _joined(low: NDArray[np.uint8], high: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return ((low & 15) | ((high & 15) << 4)).astype(np.uint8)


def _safe(scale: NDArray[Any]) -> Floats:
    wide = scale.astype(np.float32)
    return np.where(wide == 0, np.float32(1), wide)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % ALIGNMENT)


def _text(text: str) -> bytes:
    encoded = text.encode()
    return struct.pack("<Q", len(encoded)) + encoded


def _value(value: Any) -> bytes:
    if isinstance(value, list):
        letter = {str: "s", float: "f"}.get(type(value[0]), "i")
        items = b"".join(map(_text, value)) if letter == "s" else struct.pack(f"<{len(value)}{letter}", *value)
        return struct.pack("<IIQ", 9, {"s": 8, "f": 6, "i": 5}[letter], len(value)) + items
    if isinstance(value, str):
        return struct.pack("<I", 8) + _text(value)
    number, letter = {bool: (7, "?"), int: (4, "I"), float: (6, "f")}[type(value)]
    return struct.pack(f"<I{letter}", number, value)
