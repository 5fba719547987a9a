"""LoRAs in the format of PEFT: adapter_model.safetensors, lora_A of shape (rank, input), lora_B (output, rank)."""

import math
import re
from pathlib import Path
from typing import Any

from service.engine.lora_folder import (
    CONFIG,
    Config,
    LoraError,
    LoraWeights,
    Pairs,
    flag,
    matrix,
    number,
    read_tensors,
    whole,
)

FILE = "adapter_model.safetensors"
_NAME = re.compile(r"(?:base_model\.model\.)?(?P<path>.+)\.lora_(?P<factor>[AB])(?:\.default)?\.weight")
_PLAIN = re.compile(r"[\w.]+")
_MORE_THAN_LORA = (
    "use_dora",
    "use_qalora",
    "use_bdlora",
    "lora_bias",
    "modules_to_save",
    "trainable_token_indices",
    "target_parameters",
    "layer_replication",
    "alora_invocation_tokens",
    "arrow_config",
    "monteclora_config",
)
"""Settings that change more of a model, or in another way, than a product of two factors does."""
_BASE_CHANGED = ("pissa", "olora", "corda", "loftq", "lora_ga")
"""Beginnings of settings of `init_lora_weights` with which the model's own weights were changed before training."""


def read_peft(folder: Path, config: Config) -> LoraWeights:
    """A LoRA from a folder. Raises LoraError."""
    _check(config)
    pairs = Pairs()
    for name, tensor in read_tensors(folder / FILE).items():
        match = _NAME.fullmatch(name)
        if match is None:
            raise LoraError(_reason(name))
        if match["factor"] == "A":
            pairs.put_a(match["path"], matrix(name, tensor))
        else:
            pairs.put_b(match["path"], matrix(name, tensor).T)
    ranks = {path: a.shape[0] for path, a in pairs.a.items()}
    for path, rank in ranks.items():
        if rank != (said := _of_layer(config, "rank_pattern", "r", path)):
            raise LoraError(f"layer {path!r} has rank {rank}, and {CONFIG} says {said!r}")
    scales = {path: _scale(config, path, rank) for path, rank in ranks.items()}
    return LoraWeights(_scale(config, "", whole(config, "r")), pairs.factors(scales))


def _check(config: Config) -> None:
    kind = config.get("peft_type", "LORA")
    if kind != "LORA":
        raise LoraError(f"peft_type {kind!r} is not served, only 'LORA'")
    for name in _MORE_THAN_LORA:
        if config.get(name):
            raise LoraError(f"{name} of {CONFIG} is set, which is more than a LoRA can change")
    if config.get("bias", "none") != "none":
        raise LoraError(f"bias of {CONFIG} is {config['bias']!r}, which is more than a LoRA can change")
    start = config.get("init_lora_weights")
    if isinstance(start, str) and start.lower().startswith(_BASE_CHANGED):
        raise LoraError(f"init_lora_weights of {CONFIG} is {start!r}, for which the model's own weights were changed")


def _scale(config: Config, path: str, rank: int) -> float:
    alpha = _of_layer(config, "alpha_pattern", "lora_alpha", path)
    return alpha / (math.sqrt(rank) if flag(config, "use_rslora") else rank)


def _of_layer(config: Config, pattern: str, general: str, path: str) -> float:
    """A setting of a layer: that of the first pattern which is the end of its path, else the general one."""
    patterns: Any = config.get(pattern) or {}
    if not isinstance(patterns, dict):
        raise LoraError(f"{pattern} of {CONFIG} is not an object")
    for key in patterns:
        if not _PLAIN.fullmatch(name := key.removeprefix("^").removesuffix("$")):
            raise LoraError(f"{pattern} of {CONFIG} has {key!r}, which is not the name of layers")
        if path == name or (path.endswith(f".{name}") and not key.startswith("^")):
            return number(patterns, key)
    return number(config, general)


def _reason(name: str) -> str:
    """Why a tensor cannot be used."""
    if "lora_magnitude_vector" in name:
        return f"{name!r} belongs to a DoRA, which is not served"
    if "lora_embedding" in name:
        return f"{name!r} changes an embedding, and only linear layers can have LoRAs"
    return f"{name!r} is more than a LoRA can change"
