"""LoRAs in the format of mlx-lm: adapters.safetensors with lora_a of shape (input, rank) and lora_b (rank, output)."""

from pathlib import Path

import mlx.core as mx

from service.engine.lora_folder import CONFIG, Config, LoraError, LoraWeights, Pairs, matrix, number, read_tensors

FILE = "adapters.safetensors"
_A, _B = ".lora_a", ".lora_b"
_EXPERTS = 3
"""Dimensions of the factors of a layer of experts."""


def read_mlx(folder: Path, config: Config) -> LoraWeights:
    """A LoRA from a folder. Raises LoraError."""
    kind = config.get("fine_tune_type", "lora")
    if kind != "lora":
        raise LoraError(f"fine_tune_type {kind!r} is not served, only 'lora'")
    settings = config.get("lora_parameters")
    if not isinstance(settings, dict):
        raise LoraError(f"{CONFIG} has no lora_parameters")
    scale = number(settings, "scale")
    pairs = Pairs()
    for name, tensor in read_tensors(folder / FILE).items():
        if name.endswith(_A):
            pairs.a[name.removesuffix(_A)] = _matrix(name, tensor).T
        elif name.endswith(_B):
            pairs.b[name.removesuffix(_B)] = _matrix(name, tensor)
        elif name.endswith(".m"):
            raise LoraError(f"{name!r} belongs to a DoRA, which is not served")
        else:
            raise LoraError(f"{name!r} is more than a LoRA can change")
    factors = pairs.factors(dict.fromkeys(pairs.a, scale))
    if "rank" in settings:
        for path, each in factors.items():
            if each.a.shape[0] != settings["rank"]:
                raise LoraError(f"layer {path!r} has rank {each.a.shape[0]}, and {CONFIG} says {settings['rank']!r}")
    return LoraWeights(scale, factors)


def _matrix(name: str, tensor: mx.array) -> mx.array:
    if tensor.ndim == _EXPERTS:
        raise LoraError(f"{name!r} changes a layer of experts, which is not served")
    return matrix(name, tensor)
