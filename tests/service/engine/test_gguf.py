"""A GGUF file becomes a model folder."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from mlx.nn.layers.base import Module
from mlx_lm.utils import load_model
from tokenizers import Tokenizer

from service.engine.gguf import convert
from service.engine.gguf_header import GgufError
from service.engine.loader import load
from tests import tiny
from tests.service.engine import gguf_files

TOKENS = mx.array([[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]])
CLOSE = 2e-3
"""Of logits of about ten."""


@pytest.fixture
def words() -> Tokenizer:
    return tiny.tokenizer(special=tiny.SPECIAL)


@pytest.fixture
def model(words: Tokenizer) -> Module:
    return tiny.build(tiny.llama_config(words.get_vocab_size()))


def converted(
    tmp_path: Path, model: Module, words: Tokenizer, kind: str = "F32", changes: dict[str, Any] | None = None
) -> Path:
    """Write a llama as a GGUF file, and convert it."""
    gguf_files.write_model(tmp_path / "model.gguf", model, gguf_files.metadata(words, **(changes or {})), kind)
    convert(tmp_path / "model.gguf", tmp_path / "model")
    return tmp_path / "model"


def difference(model: Module, folder: Path) -> float:
    """Compare the logits of a model with those of a folder, computed in float32: the largest difference."""
    converted, _ = load_model(folder)
    converted.set_dtype(mx.float32)
    return float(mx.abs(model(TOKENS) - converted(TOKENS)).max())


def settings(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "config.json").read_text())
    return content


@pytest.mark.parametrize("kind", ["F32", "F16", "Q4_0", "Q4_1", "Q8_0"])
def test_the_folder_is_the_same_model(tmp_path: Path, model: Module, words: Tokenizer, kind: str) -> None:
    """It computes what the values in the file stand for, with q and k out of the order that GGUFs have them in."""
    before = model(TOKENS)
    folder = converted(tmp_path, model, words, kind)
    assert difference(model, folder) < CLOSE
    assert (kind == "F32") == bool(mx.allclose(before, model(TOKENS), atol=1e-4)), "other types round"
    _, loaded = load(folder, tmp_path)
    assert (loaded.context_length, loaded.vocab_size) == (512, words.get_vocab_size())
    assert (loaded.stop_ids, loaded.chat_template) == ([words.token_to_id(tiny.END)], tiny.CHATML)


@pytest.mark.parametrize(("kind", "bits"), [("Q4_0", 4), ("Q4_1", 4), ("Q8_0", 8)])
def test_quantised_weights_stay_so(tmp_path: Path, model: Module, words: Tokenizer, kind: str, bits: int) -> None:
    """Other devices than the CPU compute with them as they are, in 16 bits with norms that do not widen them."""
    folder = converted(tmp_path, model, words, kind)
    quantised, _ = load_model(folder)
    layer = quantised.model.layers[0].self_attn.q_proj
    assert (layer.bits, layer.group_size) == (bits, 32)
    assert {value.dtype for value in tiny.parameters(quantised).values()} == {mx.uint32, mx.float16}
    assert settings(folder)["quantization"] == {"group_size": 32, "bits": bits}


def test_a_head_of_six_bits_is_read(tmp_path: Path, words: Tokenizer) -> None:
    """As llama.cpp makes that of a 4-bit file; the embedding may have 8 bits beside it."""
    config = tiny.llama_config(words.get_vocab_size(), hidden_size=gguf_files.SUPER_BLOCK, intermediate_size=512)
    model = tiny.build(config)
    entries = gguf_files.metadata(words, **{"llama.embedding_length": 256, "llama.feed_forward_length": 512})
    kinds = {"output.weight": "Q6_K", "token_embd.weight": "Q8_0"}
    gguf_files.write_model(tmp_path / "model.gguf", model, entries, "Q4_0", kinds=kinds)
    convert(tmp_path / "model.gguf", tmp_path / "model")
    assert difference(model, tmp_path / "model") < 5 * CLOSE


def test_an_embedding_may_be_the_head_too(tmp_path: Path, words: Tokenizer) -> None:
    """Where the file has no head of its own; heads may be narrower than the model is wide."""
    config = tiny.llama_config(words.get_vocab_size(), tie_word_embeddings=True, head_dim=32)
    model = tiny.build(config)
    heads = {"llama.attention.key_length": 32, "llama.attention.value_length": 32}
    folder = converted(tmp_path, model, words, changes=heads)
    assert settings(folder)["tie_word_embeddings"]
    assert difference(model, folder) < CLOSE


@pytest.mark.parametrize("without", [None, "attn_output.bias"])
def test_biases_are_kept(tmp_path: Path, words: Tokenizer, without: str | None) -> None:
    """Those of q and k in their order too; a projection without one gets zeros."""
    model = tiny.build(tiny.llama_config(words.get_vocab_size(), attention_bias=True))
    drawn = [
        (name, mx.zeros_like(value) if without and "o_proj" in name else mx.random.normal(value.shape))
        for name, value in tiny.parameters(model).items()
        if name.endswith("bias")
    ]
    model.load_weights(drawn, strict=False)
    gguf_files.write_model(tmp_path / "model.gguf", model, gguf_files.metadata(words), without=without)
    convert(tmp_path / "model.gguf", tmp_path / "model")
    assert settings(tmp_path / "model")["attention_bias"]
    assert difference(model, tmp_path / "model") < CLOSE


def llama3_divisors(factor: float, base: float, dims: int) -> list[float]:
    """Work out what Llama 3 divides its frequencies by, as llama.cpp's converter writes it."""
    waves = 2 * np.pi * base ** (np.arange(0, dims, 2) / dims)
    smooth = (8192 / waves - 1) / (4 - 1)
    middle = 1 / ((1 - smooth) / factor + smooth)
    return [float(f) for f in np.where(waves > 8192, factor, np.where(waves < 8192 / 4, 1.0, middle))]


def test_the_scaling_of_llama_3_is_known_by_its_divisors(tmp_path: Path, words: Tokenizer) -> None:
    """They become its settings again; other divisors are refused."""
    scaling = {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }
    config = tiny.llama_config(words.get_vocab_size(), rope_scaling=scaling, rope_theta=500000.0)
    model = tiny.build(config)
    entries = gguf_files.metadata(words, **{"llama.rope.freq_base": 500000.0})
    divisors = llama3_divisors(8, 500000.0, 16)
    gguf_files.write_model(tmp_path / "model.gguf", model, entries, divisors=divisors)
    convert(tmp_path / "model.gguf", tmp_path / "model")
    assert settings(tmp_path / "model")["rope_scaling"] == scaling
    assert difference(model, tmp_path / "model") < CLOSE
    gguf_files.write_model(tmp_path / "other.gguf", model, entries, divisors=[*divisors[:-2], 2.0, 8.0])
    with pytest.raises(GgufError, match="another way than Llama 3"):
        convert(tmp_path / "other.gguf", tmp_path / "other")


def test_linear_scaling_is_kept(tmp_path: Path, words: Tokenizer) -> None:
    """It changes what is computed, so that it has to be the same."""
    scaling = {"rope_type": "linear", "factor": 4.0}
    model = tiny.build(tiny.llama_config(words.get_vocab_size(), rope_scaling=scaling))
    changes = {"llama.rope.scaling.type": "linear", "llama.rope.scaling.factor": 4.0}
    folder = converted(tmp_path, model, words, changes=changes)
    assert settings(folder)["rope_scaling"] == scaling
    assert difference(model, folder) < CLOSE


def test_sampling_defaults_are_written(tmp_path: Path, model: Module, words: Tokenizer) -> None:
    """Those that are given."""
    gguf_files.write_model(tmp_path / "model.gguf", model, gguf_files.metadata(words))
    convert(tmp_path / "model.gguf", tmp_path / "model", temperature=0.2)
    defaults = load(tmp_path / "model", tmp_path)[1].defaults
    assert (defaults.temperature, defaults.top_p) == (0.2, None)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"general.architecture": "falcon"}, "architecture 'falcon'"),
        ({"tokenizer.ggml.model": "bert"}, "type 'bert'"),
        ({"tokenizer.ggml.pre": "deepseek-llm"}, "'deepseek-llm'"),
    ],
)
def test_other_kinds_are_refused_in_one_line(
    tmp_path: Path, model: Module, words: Tokenizer, changes: dict[str, str], said: str
) -> None:
    """By the program, with what was found; nothing is left behind."""
    gguf_files.write_model(tmp_path / "mine.gguf", model, gguf_files.metadata(words, **changes))
    command = [sys.executable, "-m", "service.engine.gguf", str(tmp_path / "mine.gguf"), str(tmp_path / "model")]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert ran.returncode == 1
    assert ran.stderr.startswith(("ERROR: it has ", "ERROR: it is "))
    assert said in ran.stderr
    assert ran.stderr.count("\n") == 1
    assert not (tmp_path / "model").exists()
