"""Reads a model folder: weights through mlx-lm, and what the service must know of the tokenizer and the settings."""

import hashlib
import json
import logging
import os
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx.nn.layers.base import Module
from mlx.utils import tree_flatten
from mlx_lm.utils import _tokenizer_defaults, dequantize_model, load_model, maybe_set_recommended_wired_limit
from transformers import AutoTokenizer

from service.engine import memory
from service.engine.frames import Defaults, Loaded, Loading
from service.engine.usage import rss_bytes

logger = logging.getLogger(__name__)

Config = dict[str, Any]

_FALLBACK_CONTEXT = 4096
"""Tokens, for a model that does not say."""
_LARGEST_CONTEXT = 1 << 30
"""transformers says 10**30 where a tokenizer sets no bound."""
_SMALLEST = 1e-9
_BOUNDS = {
    "temperature": (0, 2),
    "top_p": (_SMALLEST, 1),
    "top_k": (0, (1 << 31) - 1),
    "min_p": (0, 1),
    "repetition_penalty": (_SMALLEST, 2),
}
"""What a request may ask for."""
_PARTS, _PART = 20, 256 << 20
"""How often the reading of weights is told of: so many times, and after so many bytes."""
_FLOAT32_SHARE = 0.25
"""The part of the machine's memory that weights may take as float32 on the CPU."""


def load(
    folder: Path,
    cache_dir: Path,
    *,
    kv_bytes: int | None = None,
    reserved_bytes: int | None = None,
    trust_remote_code: bool = False,
    report: Callable[[Loading], None] = lambda _: None,
) -> tuple[Module, Loaded]:
    """The model in `folder`, ready to step, and its description.

    A tokenizer.json that has to be made goes under `cache_dir`. `kv_bytes` bounds the keys and values; None is what
    the process leaves of `reserved_bytes`, or with neither what the machine has room for. `report` hears how far it is.
    Raises whatever the libraries make of a broken folder.
    """
    maybe_set_recommended_wired_limit()
    model, config = load_model(folder, lazy=True, trust_remote_code=trust_remote_code)
    _suit_device(model)
    _read_weights(model, report)
    tokenizer: Any = AutoTokenizer.from_pretrained(folder, trust_remote_code=trust_remote_code)
    template = tokenizer.chat_template
    if isinstance(template, dict):
        template = template.get("default")
    generation = _read_json(folder / "generation_config.json")
    weights = _weights_bytes(model)
    context = _context_length(config, tokenizer)
    report(Loading("warming"))
    footprint = memory.Footprint.of(model)
    memory.give_back()
    taken = rss_bytes()
    if kv_bytes is None:
        kv_bytes = (
            memory.kv_budget(weights) if reserved_bytes is None else memory.kv_rest(reserved_bytes, weights, taken)
        )
    loaded = Loaded(
        model_type=str(config.get("model_type", "")),
        architectures=list(config.get("architectures") or ()),
        stop_ids=_stop_ids(folder, config, tokenizer),
        chat_template=None if template is None else str(template),
        special_tokens=_special_tokens(tokenizer),
        context_length=context,
        kv_tokens=footprint.tokens(kv_bytes, context),
        kv_bytes=kv_bytes,
        vocab_size=int(_setting(config, "vocab_size") or len(tokenizer)),
        weights_bytes=weights,
        defaults=_defaults(generation),
        tokenizer_file=str(_tokenizer_file(folder, tokenizer, cache_dir)),
        created=(folder / "config.json").stat().st_mtime,
        device=device_name(),
        mlx_version=version("mlx"),
        mlx_lm_version=version("mlx-lm"),
        rss_bytes=taken,
    )
    return model, loaded


def device_name() -> str:
    """What MLX computes on, such as cpu."""
    return str(mx.default_device().type).rpartition(".")[2]


def _read_weights(model: Module, report: Callable[[Loading], None]) -> None:
    """Read them from disk, in parts small enough to tell how far it is."""
    arrays: list[tuple[str, mx.array]] = tree_flatten(model.parameters())  # type: ignore[assignment,no-untyped-call]
    total = sum(array.nbytes for _, array in arrays)
    part: list[mx.array] = []
    read = reported = 0
    report(Loading("weights"))
    for _, array in arrays:
        part.append(array)
        read += array.nbytes
        if read - reported >= min(_PART, total / _PARTS) or read == total:
            mx.eval(part)
            part, reported = [], read
            report(Loading("weights", read / max(total, 1)))
    mx.eval(part)


def _stop_ids(folder: Path, config: Config, tokenizer: Any) -> list[int]:
    """As mlx-lm has them: the configuration's, else those of the model's kind, and the tokenizer's."""
    found = config.get("eos_token_id")
    if found is None:
        found = (_tokenizer_defaults(folder) or {}).get("eos_token_ids")
    ids = {found} if isinstance(found, int) else set(found or ())
    return sorted(ids | ({tokenizer.eos_token_id} - {None}))


def _suit_device(model: Module) -> None:
    """On the CPU, hold the weights as dense float32 where they fit: quantised and 16-bit matmuls are slow there."""
    if mx.default_device() == mx.gpu:
        return
    installed = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if 4 * _parameters(model) <= _FLOAT32_SHARE * installed:
        model.set_dtype(mx.float32)  # scales of 16 bits would take five times as long to multiply, and round
        dequantize_model(model)
        model.set_dtype(mx.float32)  # what has other scales becomes bfloat16


def _parameters(model: Module) -> int:
    """Number of weights, those packed in quantised layers counted one by one."""
    count = 0
    for _, module in model.named_modules():  # type: ignore[no-untyped-call]
        is_packed = hasattr(module, "bits") and hasattr(module, "scales")
        for name, value in module.items():
            if isinstance(value, mx.array) and name not in {"scales", "biases"}:
                count += value.size * 32 // module.bits if is_packed and name == "weight" else value.size
    return count


def _weights_bytes(model: Module) -> int:
    arrays: list[tuple[str, mx.array]] = tree_flatten(model.parameters())  # type: ignore[assignment,no-untyped-call]
    return sum(value.nbytes for _, value in arrays)


def _setting(config: Config, name: str) -> Any:
    """A setting of the language model, which multi-modal configurations nest."""
    return config.get(name) or (config.get("text_config") or {}).get(name)


def _context_length(config: Config, tokenizer: Any) -> int:
    for name in ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length", "model_max_length"):
        if (length := _setting(config, name)) and int(length) > 0:
            return int(length)
    length = int(getattr(tokenizer, "model_max_length", _LARGEST_CONTEXT))
    return length if length < _LARGEST_CONTEXT else _FALLBACK_CONTEXT


def _special_tokens(tokenizer: Any) -> dict[str, str]:
    return {name: str(token) for name, token in tokenizer.special_tokens_map.items() if isinstance(token, str)}


def _defaults(generation: Config) -> Defaults:
    """The sampling settings, without those that no request could ask for, such as a top_k of -1 for none."""
    defaults: dict[str, float] = {}
    for name, (low, high) in _BOUNDS.items():
        value = generation.get(name)
        if value is None:
            continue
        if isinstance(value, int | float) and low <= value <= high:
            defaults[name] = int(value) if name == "top_k" else float(value)
        else:
            logger.warning("generation_config.json: %s %r is ignored", name, value)
    return Defaults(**defaults)  # type: ignore[arg-type] # top_k is an integer


def _tokenizer_file(folder: Path, tokenizer: Any, cache_dir: Path) -> Path:
    """The folder's tokenizer.json, or one that is written from the converted fast tokenizer."""
    own = folder / "tokenizer.json"
    if own.exists():
        return own
    place = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:16]
    made = cache_dir / "tokenizers" / f"{folder.name}-{place}.json"
    made.parent.mkdir(parents=True, exist_ok=True)
    partial = made.with_suffix(f".{os.getpid()}")
    tokenizer.backend_tokenizer.save(str(partial))
    partial.replace(made)
    return made


def _read_json(path: Path) -> Config:
    if not path.exists():
        return {}
    content: Config = json.loads(path.read_text(encoding="utf-8"))
    return content
