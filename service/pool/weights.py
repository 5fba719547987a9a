"""How much memory a model's weights will take, and its keys and values, read from the headers of its files."""

import json
import math
import os
import struct
from pathlib import Path
from typing import Annotated, Any

import msgspec

from service.errors import SetupError

_LENGTH = struct.Struct("<Q")
_LONGEST_HEADER = 100 << 20
"""As the safetensors library has it."""
_FLOAT32_SHARE = 0.25
"""As the engine's loader has it: the part of the machine's memory that weights may take as float32 on the CPU."""
_FLOAT32, _FLOAT16 = 4, 2
_BITS = 8
"""Of a byte: a number takes one at least."""
_DEFAULT_GROUP = 64
_DEFAULT_BITS = 4
_STEP = 256
"""mlx-lm's caches grow by this many tokens."""
_FULL = frozenset(
    """
    cohere gemma gemma2 glm4 granite helium hunyuan_v1_dense internlm2 llama mistral mixtral olmo olmo2 olmoe phi phi3
    phimoe qwen2 qwen2_moe qwen3 qwen3_moe seed_oss smollm3 stablelm starcoder2
    """.split()  # noqa: SIM905
)
"""Types whose layers all keep the keys and values of all tokens, in mlx-lm."""
_LISTED = frozenset({"llama", "mistral", "gpt_oss"})
"""Types that say for each layer whether it keeps all tokens or a window."""

_MOST_LAYERS = 10_000
"""An engine makes as many as it is told before it looks for their tensors."""
_LARGEST = 1 << 60
"""Bytes, more than any machine has."""
_BROKEN = (OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError)
"""What comes of files with anything in them."""

_Count = Annotated[int, msgspec.Meta(ge=0, lt=_LARGEST)]


class _Tensor(msgspec.Struct, frozen=True):
    """What a header says of a tensor; the offsets are where its bytes begin and end."""

    dtype: str
    shape: tuple[_Count, ...]
    data_offsets: tuple[_Count, _Count]


Tensors = dict[str, _Tensor]
Config = dict[str, Any]


def estimated_bytes(folder: Path, *, on_cpu: bool = True) -> int:
    """Bytes that the weights in `folder` take once they are loaded.

    On the CPU they become float32 where that fits. Raises SetupError for a folder whose files cannot be read.
    """
    try:
        tensors, config = _tensors(folder), _config(folder)
        if (layers := config.get("num_hidden_layers") or 0) > _MOST_LAYERS:
            raise ValueError(f"it is said to have {layers} layers")
        size = _FLOAT32 * _parameters(tensors, config) if on_cpu and _expands(tensors, config) else _stored(tensors)
        if not 0 <= size < _LARGEST:
            raise ValueError(f"its tensors are said to take {size} bytes")
    except _BROKEN as error:
        raise SetupError(f"{folder} cannot be read: {' '.join(str(error).split())}") from error
    return size


def kv_bytes(folder: Path, tokens: int, *, on_cpu: bool = True) -> int | None:
    """Bytes that the keys and values of one sequence of `tokens` take, or None for a model whose caches are not known.

    Raises SetupError for a folder whose files cannot be read.
    """
    try:
        tensors, config = _tensors(folder), _config(folder)
        per_token = _token_bytes(tensors, config, on_cpu=on_cpu)
        windows = _windows(config)
    except _BROKEN as error:
        raise SetupError(f"{folder} cannot be read: {' '.join(str(error).split())}") from error
    if per_token is None or windows is None:
        return None
    grown = -(-tokens // _STEP) * _STEP
    return per_token * sum(grown if window is None else min(grown, window) for window in windows)


def _tensors(folder: Path) -> Tensors:
    """Names, types and shapes of all tensors in the files that mlx-lm reads."""
    tensors: Tensors = {}
    for file in folder.glob("model*.safetensors"):
        with file.open("rb") as opened:
            first = opened.read(_LENGTH.size)
            if len(first) < _LENGTH.size or (length := _LENGTH.unpack(first)[0]) > _LONGEST_HEADER:
                raise ValueError(f"{file.name} is no safetensors file")
            if len(said := opened.read(length)) < length:
                raise ValueError(f"{file.name} ends inside its header")
            header = msgspec.json.decode(said, type=dict[str, msgspec.Raw])
        header.pop("__metadata__", None)
        tensors |= {name: msgspec.json.decode(about, type=_Tensor) for name, about in header.items()}
    for tensor in tensors.values():
        begin, end = tensor.data_offsets
        if math.prod(tensor.shape) > _BITS * (end - begin):
            raise ValueError(f"a tensor of shape {list(tensor.shape)} is said to take {end - begin} bytes")
    return tensors


def _config(folder: Path) -> Config:
    """The configuration of the language model, which multi-modal ones nest."""
    config: Config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return config | (config.get("text_config") or {})


def _stored(tensors: Tensors) -> int:
    return sum(end - begin for begin, end in (entry.data_offsets for entry in tensors.values()))


def _expands(tensors: Tensors, config: Config) -> bool:
    """Whether the loader makes the weights dense float32 on the CPU."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return _FLOAT32 * _parameters(tensors, config) <= _FLOAT32_SHARE * memory


def _parameters(tensors: Tensors, config: Config) -> int:
    """Number of weights, those packed in quantised layers counted one by one."""
    quantization = config.get("quantization") or config.get("quantization_config") or {}
    count = 0
    for name, entry in tensors.items():
        layer, _, kind = name.rpartition(".")
        size = math.prod(entry.shape)
        if kind == "qweight":  # as AWQ and GPTQ pack them
            count += size * 32 // int(quantization.get("bits", _DEFAULT_BITS))
        elif kind == "weight" and f"{layer}.scales" in tensors:
            own = quantization.get(layer)
            group = (own if isinstance(own, dict) else quantization).get("group_size", _DEFAULT_GROUP)
            count += math.prod(tensors[f"{layer}.scales"].shape) * int(group)
        elif not _belongs_to_quantised(layer, kind, tensors):
            count += size
    return count


def _belongs_to_quantised(layer: str, kind: str, tensors: Tensors) -> bool:
    """Whether a tensor says how others are packed, and is gone once they are not."""
    return (kind in {"scales", "biases"} and f"{layer}.scales" in tensors) or (
        kind in {"scales", "qzeros", "g_idx"} and f"{layer}.qweight" in tensors
    )


def _token_bytes(tensors: Tensors, config: Config, *, on_cpu: bool) -> int | None:
    """Bytes of one token's keys and values in one layer."""
    heads = config.get("num_attention_heads")
    kv_heads = config.get("num_key_value_heads") or heads
    hidden = config.get("hidden_size")
    if not heads or not kv_heads or not hidden:
        return None
    head = config.get("head_dim") or hidden // heads
    floats = {entry.dtype for entry in tensors.values() if entry.dtype.startswith(("F", "BF"))}
    wide = floats == {"F32"} or (on_cpu and _expands(tensors, config))
    return int(2 * kv_heads * head * (_FLOAT32 if wide else _FLOAT16))


def _windows(config: Config) -> list[int | None] | None:
    """For each layer the tokens that it keeps, None for all; or None for a model whose layers are not known."""
    kind, layers, window = config.get("model_type"), config.get("num_hidden_layers"), config.get("sliding_window")
    if not layers:
        return None
    if kind in _LISTED and (types := config.get("layer_types")):
        known = {"full_attention": None, "sliding_attention": window}
        return [known[layer] for layer in types] if set(types) <= set(known) else None
    if kind == "gemma3_text" and window and (pattern := config.get("sliding_window_pattern")):
        return [None if layer % pattern == pattern - 1 else window for layer in range(layers)]
    return [None] * layers if kind in _FULL else None
