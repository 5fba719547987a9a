"""The two models that are measured: `python -m tests.bench.models FOLDER` writes the tiny one."""

import asyncio
import sys
from pathlib import Path

from tokenizers import Tokenizer

from service.config import default_cache_dir
from service.pool.built_in import fetch_built_in
from tests.tiny import build, llama_config, save


def smollm2() -> Path:
    """The folder of the built-in model."""
    return asyncio.run(fetch_built_in(default_cache_dir()))


def write_tiny(folder: Path) -> None:
    """Write a random llama of two layers, 64 wide, with SmolLM2's vocabulary: all cost is per step and per token."""
    words = Tokenizer.from_file(str(smollm2() / "tokenizer.json"))
    config = llama_config(words.get_vocab_size())
    save(folder, build(config), config, words)


if __name__ == "__main__":
    write_tiny(Path(sys.argv[1]))
