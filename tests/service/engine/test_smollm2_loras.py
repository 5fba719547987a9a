"""The real default model with LoRAs: rows that share its passes, held against mlx-lm with each LoRA in the weights."""

import asyncio
from dataclasses import dataclass
from pathlib import Path

import mlx.core as mx
import pytest
from mlx.nn.layers.base import Module
from mlx_lm.models.cache import make_prompt_cache
from mlx_lm.utils import dequantize_model, load_model
from tokenizers import Tokenizer

from service.config import default_cache_dir
from service.engine.frames import LoraLoaded
from service.pool.built_in import fetch_built_in
from tests.service.engine.lora_files import ALL, Delta, delta, fuse, mlx_config, write_mlx
from tests.service.engine.models import Engine

RANK, TOKENS = 8, 24
CLOSE = 1e-5
"""How far logits may lie apart, as a part of the largest one, which is about 30: what float32 leaves of 30 layers. The
fused model's own distance from float64 is as large. With OpenBLAS it is below 1e-4, and with the reference BLAS around.
"""
NAMES = ["a", "", "b", "c", "d", "a"]
"""The LoRA of each row."""
SENTENCE = "The morning was cold, and the road to the village lay under snow that nobody had walked on yet. "


@dataclass(frozen=True)
class Said:
    """What a model says by itself, greedily, and the logits that each token comes from, of shape (tokens, words)."""

    tokens: list[int]
    logits: mx.array


@pytest.fixture(scope="module")
def folder() -> Path:
    """Give the folder of the model."""
    return asyncio.run(fetch_built_in(default_cache_dir()))


@pytest.fixture(scope="module")
def made(folder: Path) -> dict[str, Delta]:
    """Give LoRAs on all projections."""
    model = in_float32(folder)
    return {name: delta(model, seed=seed, rank=RANK, layers=ALL, size=0.05) for seed, name in enumerate("abcd")}


@pytest.fixture(scope="module")
def rows(folder: Path) -> list[list[int]]:
    """Give a prompt of one length for each row."""
    words = Tokenizer.from_file(str(folder / "tokenizer.json")).encode(3 * SENTENCE).ids
    return [words[row : row + 24] for row in range(len(NAMES))]


@pytest.fixture(scope="module")
def alone(folder: Path, made: dict[str, Delta], rows: list[list[int]]) -> list[Said]:
    """Say what each row's own model makes of its prompt."""
    said: dict[int, Said] = {}
    for name in sorted(set(NAMES)):
        model = fuse(in_float32(folder), made.get(name, {}))
        said |= {row: say(model, rows[row]) for row, given in enumerate(NAMES) if given == name}
    return [said[row] for row in range(len(NAMES))]


@pytest.fixture(scope="module")
def model(folder: Path) -> Module:
    """Give the model that an engine serves."""
    return in_float32(folder)


@pytest.fixture(scope="module")
def engine(model: Module, made: dict[str, Delta], tmp_path_factory: pytest.TempPathFactory) -> Engine:
    """Give an engine that serves it with all LoRAs."""
    engine = Engine(model)
    loras = engine.scheduler.loras
    for name, factors in made.items():
        loras.load(name, str(write_mlx(tmp_path_factory.mktemp("loras") / name, factors, mlx_config(RANK))))
    assert all(isinstance(answer, LoraLoaded) for answer in loras.work(60))
    return engine


def in_float32(folder: Path) -> Module:
    """Load the model as mlx-lm does, in float32."""
    model: Module = load_model(folder, lazy=True)[0]
    model.set_dtype(mx.float32)
    dequantize_model(model)
    return model


def say(model: Module, prompt: list[int]) -> Said:
    """Generate with the library's model and cache alone."""
    cache, tokens, logits = make_prompt_cache(model), prompt, []
    said: list[int] = []
    for _ in range(TOKENS):
        logits.append(model(mx.array([tokens]), cache=cache)[0, -1])
        tokens = [int(logits[-1].argmax().item())]
        said += tokens
    return Said(said, mx.stack(logits))


def test_each_row_says_what_its_lora_says_alone(engine: Engine, rows: list[list[int]], alone: list[Said]) -> None:
    """The text of all rows that the engine serves together."""
    for seq, (name, prompt) in enumerate(zip(NAMES, rows, strict=True)):
        engine.submit(seq, prompt, max_tokens=TOKENS, lora=name)
    engine.run()
    assert [engine.tokens[seq] for seq in range(len(NAMES))] == [said.tokens for said in alone]
    assert len({tuple(said.tokens) for said in alone[:-1]}) == len(NAMES) - 1


def test_each_token_comes_from_the_same_logits(
    model: Module, engine: Engine, rows: list[list[int]], alone: list[Said]
) -> None:
    """Those after the prompt, and those of each step."""
    loras = engine.scheduler.loras
    numbers = [number for name in NAMES if (number := loras.number(name)) is not None]
    cache, tokens = make_prompt_cache(model), mx.array(rows)
    for step in range(TOKENS):
        with loras.of(numbers):
            given = model(tokens, cache=cache)[:, -1]
        expected = mx.stack([said.logits[step] for said in alone])
        assert mx.all(mx.abs(given - expected) < CLOSE * mx.abs(expected).max())
        tokens = mx.array([[said.tokens[step]] for said in alone])
