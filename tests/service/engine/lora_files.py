"""LoRAs for tests: random ones, in the folders of both formats, and fused into a model's weights."""

import json
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
from mlx.nn.layers.base import Module
from mlx_lm.models.cache import make_prompt_cache

from service.engine.frames import LoraLoaded, LoraRefused
from service.engine.loras import Loras
from tests import tiny

ATTENTION = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj")
MLP = ("mlp.gate_proj", "mlp.up_proj", "mlp.down_proj")
ALL = ATTENTION + MLP

Tensors = dict[str, mx.array]
Delta = dict[str, tuple[mx.array, mx.array]]


def layer(model: Module, path: str) -> Any:
    """Give a layer by its path."""
    return dict(model.named_modules())[path]  # type: ignore[no-untyped-call]


def delta(
    model: Module,
    *,
    seed: int = 1,
    rank: int = 4,
    layers: tuple[str, ...] = ALL,
    more: tuple[str, ...] = (),
    size: float = 0.2,
) -> Delta:
    """Give random factors a of shape (input, rank) and b (rank, output), large enough to change what is said.

    `layers` are paths in each block, `more` in the whole model.
    """
    generator = np.random.default_rng(seed)
    paths = [f"model.layers.{block}.{path}" for block in range(len(model.layers)) for path in layers]
    made: Delta = {}
    for path in (*paths, *more):
        output, width = layer(model, path).weight.shape
        a, b = generator.normal(size=(width, rank)) / width**0.5, generator.normal(size=(rank, output)) * size
        made[path] = (mx.array(a.astype(np.float32)), mx.array(b.astype(np.float32)))
    return made


def mlx_config(rank: int = 4, scale: float = 2.0, **more: Any) -> dict[str, Any]:
    """Give the settings of a LoRA in mlx-lm's format."""
    return {"fine_tune_type": "lora", "num_layers": 2, "lora_parameters": {"rank": rank, "scale": scale}} | more


def write_mlx(folder: Path, factors: Delta, config: dict[str, Any] | None = None, **tensors: mx.array) -> Path:
    """Write a LoRA in mlx-lm's format; `tensors` come on top."""
    named = {f"{path}.lora_a": a for path, (a, _) in factors.items()}
    named |= {f"{path}.lora_b": b for path, (_, b) in factors.items()}
    return _write(folder, "adapters.safetensors", named | tensors, mlx_config() if config is None else config)


def peft_config(rank: int = 4, alpha: float = 8.0, **more: Any) -> dict[str, Any]:
    """Give the settings of a LoRA in PEFT's format."""
    return {"peft_type": "LORA", "r": rank, "lora_alpha": alpha, "bias": "none", "target_modules": ["q_proj"]} | more


def write_peft(folder: Path, factors: Delta, config: dict[str, Any] | None = None, **tensors: mx.array) -> Path:
    """Write a LoRA in PEFT's format; `tensors` come on top."""
    named = {f"base_model.model.{path}.lora_A.weight": mx.contiguous(a.T) for path, (a, _) in factors.items()}
    named |= {f"base_model.model.{path}.lora_B.weight": mx.contiguous(b.T) for path, (_, b) in factors.items()}
    return _write(folder, "adapter_model.safetensors", named | tensors, peft_config() if config is None else config)


def _write(folder: Path, file: str, tensors: Tensors, config: dict[str, Any]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    mx.save_safetensors(str(folder / file), tensors)
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


def fuse(model: Module, factors: Delta, scale: float = 2.0) -> Module:
    """Add a LoRA to a model's weights, for good."""
    for path, (a, b) in factors.items():
        concerned = layer(model, path)
        concerned.weight = concerned.weight + (scale * a @ b).T
    mx.eval(tiny.parameters(model))
    return model


def loaded(loras: Loras, name: str, folder: Path) -> LoraLoaded:
    """Load a LoRA and say what came of it."""
    answer = told(loras, name, folder)
    assert isinstance(answer, LoraLoaded), answer
    return answer


def refused(loras: Loras, folder: Path, name: str = "bad") -> str:
    """Load a LoRA that cannot be loaded, and say why."""
    answer = told(loras, name, folder)
    assert isinstance(answer, LoraRefused), answer
    return answer.reason


def told(loras: Loras, name: str, folder: Path) -> Any:
    """Load a LoRA, and give the answer."""
    loras.load(name, str(folder))
    [answer] = loras.work(60)
    assert not loras.is_busy
    return answer


def logits(model: Module, tokens: list[list[int]]) -> mx.array:
    """Give the logits after each token of some rows of one length."""
    made: mx.array = model(mx.array(tokens), cache=make_prompt_cache(model))
    return made
