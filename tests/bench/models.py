"""The models that are measured."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from service.config import default_cache_dir
from service.pool.built_in import fetch_built_in

_EOS = ("eos_token", "eos_token_id")


@dataclass(frozen=True, slots=True)
class Model:
    """A model and the work that it is given."""

    name: str
    folder: Path
    tokens: int
    """Tokens that a stream generates."""
    quick_tokens: int
    """The same where there is little time."""
    long_prompt: int = 2000
    """Tokens of the prompt that comes in between."""


def smollm2(scratch: Path) -> Model:
    """The built-in model."""
    return Model("smollm2", _built_in(), 48, 16)


def tiny(scratch: Path) -> Model:
    """A random llama of two layers, 64 wide, with SmolLM2's vocabulary: all cost is per step and per token."""
    folder = scratch / "tiny"
    # In a child, so that this process stays a mere client.
    words = _built_in() / "tokenizer.json"
    subprocess.run([sys.executable, "-m", "tests.bench.write_tiny", str(words), str(folder)], check=True)
    return Model("tiny", folder, 128, 48)


MODELS: Mapping[str, Callable[[Path], Model]] = {"tiny": tiny, "smollm2": smollm2}


def for_library_server(folder: Path, target: Path) -> Path:
    """Copy a model to `target` for a server that can neither be told to compute in float32 nor to ignore the end."""
    forms = ("--dequantize", "--dtype", "float32")
    paths = ("--hf-path", str(folder), "--mlx-path", str(target))
    subprocess.run([sys.executable, "-m", "mlx_lm", "convert", *paths, *forms], check=True, stdout=subprocess.DEVNULL)
    for name in ("config.json", "generation_config.json", "tokenizer_config.json"):
        file = target / name
        if file.exists():
            settings = json.loads(file.read_text(encoding="utf-8"))
            kept = {key: value for key, value in settings.items() if key not in _EOS}
            file.write_text(json.dumps(kept), encoding="utf-8")
    return target


def _built_in() -> Path:
    return asyncio.run(fetch_built_in(default_cache_dir()))
