"""A GGUF file becomes a model folder."""

import json
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest
from mlx.nn.layers.base import Module
from tokenizers import Tokenizer

from service.engine.gguf import _NAMES, convert
from service.engine.loader import load
from tests import tiny

HEADS, KV_HEADS = 4, 2


def permuted(weight: mx.array, heads: int) -> mx.array:
    """Order rows as llama GGUFs have them, for interleaved rotary embedding."""
    return weight.reshape(heads, 2, -1, weight.shape[1]).swapaxes(1, 2).reshape(weight.shape)


def gguf_name(name: str) -> str:
    """Name a weight as GGUFs do."""
    for theirs, ours in _NAMES.items():
        if ours in name:
            block = f"blk.{name.split('.')[2]}." if ".layers." in name else ""
            return f"{block}{theirs}.{name.rpartition('.')[2]}"
    raise AssertionError(name)


def write(file: Path, model: Module, words: Tokenizer, **changes: Any) -> None:
    """Write a llama as a GGUF file with float weights."""
    tensors = {}
    for name, weight in tiny.parameters(model).items():
        heads = {"q_proj": HEADS, "k_proj": KV_HEADS}.get(name.split(".")[-2])
        tensors[gguf_name(name)] = permuted(weight, heads) if heads else weight
    vocabulary = sorted(words.get_vocab(), key=words.get_vocab().__getitem__)
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in tiny_merges(words)]
    end = mx.array(words.get_vocab()[tiny.END], mx.uint32)
    metadata: dict[str, mx.array | str | list[str]] = {
        "general.architecture": "llama",
        "llama.embedding_length": mx.array(64, mx.uint32),
        "llama.feed_forward_length": mx.array(128, mx.uint32),
        "llama.block_count": mx.array(2, mx.uint32),
        "llama.attention.head_count": mx.array(HEADS, mx.uint32),
        "llama.attention.head_count_kv": mx.array(KV_HEADS, mx.uint32),
        "llama.attention.layer_norm_rms_epsilon": mx.array(1e-5, mx.float32),
        "llama.rope.freq_base": mx.array(10000.0, mx.float32),
        "llama.context_length": mx.array(512, mx.uint32),
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.tokens": vocabulary,
        "tokenizer.ggml.token_type": mx.array([3 if token in tiny.SPECIAL else 1 for token in vocabulary], mx.int32),
        "tokenizer.ggml.merges": merges,
        "tokenizer.ggml.bos_token_id": end,
        "tokenizer.ggml.eos_token_id": end,
        "tokenizer.chat_template": tiny.CHATML,
    }
    mx.save_gguf(str(file), tensors, metadata | changes)


def tiny_merges(words: Tokenizer) -> list[Any]:
    """Give the merges of a tokenizer."""
    merges: list[Any] = json.loads(words.to_str())["model"]["merges"]
    return merges


@pytest.fixture
def words() -> Tokenizer:
    return tiny.tokenizer(special=tiny.SPECIAL)


@pytest.fixture
def model(words: Tokenizer) -> Module:
    return tiny.build(tiny.llama_config(words.get_vocab_size()))


def test_the_folder_is_the_same_model(tmp_path: Path, model: Module, words: Tokenizer) -> None:
    """It computes what the weights computed before they were permuted."""
    write(tmp_path / "model.gguf", model, words)
    convert(tmp_path / "model.gguf", tmp_path / "model")
    converted, loaded = load(tmp_path / "model", tmp_path)
    tokens = mx.array([[1, 2, 3, 4, 5, 6]])
    assert mx.allclose(model(tokens), converted(tokens), atol=1e-3)
    assert (loaded.context_length, loaded.vocab_size) == (512, words.get_vocab_size())
    assert (loaded.stop_ids, loaded.chat_template) == ([words.token_to_id(tiny.END)], tiny.CHATML)


def test_the_tokenizer_is_the_same(tmp_path: Path, model: Module, words: Tokenizer) -> None:
    """Special tokens are read as such; digits stand alone."""
    write(tmp_path / "model.gguf", model, words)
    convert(tmp_path / "model.gguf", tmp_path / "model")
    made = Tokenizer.from_file(str(tmp_path / "model" / "tokenizer.json"))
    text = "<|im_start|>user\nThe sky, こんにちは 👋🏽<|im_end|>\n"
    assert made.encode(text).ids == words.encode(text).ids
    assert made.decode(made.encode(text).ids, skip_special_tokens=False) == text
    assert made.encode("41").tokens == ["4", "1"]


def test_sampling_defaults_are_written(tmp_path: Path, model: Module, words: Tokenizer) -> None:
    """Those that are given."""
    write(tmp_path / "model.gguf", model, words)
    convert(tmp_path / "model.gguf", tmp_path / "model", temperature=0.2)
    defaults = load(tmp_path / "model", tmp_path)[1].defaults
    assert (defaults.temperature, defaults.top_p) == (0.2, None)


@pytest.mark.parametrize("changes", [{"general.architecture": "falcon"}, {"tokenizer.ggml.model": "llama"}])
def test_other_kinds_are_refused(tmp_path: Path, model: Module, words: Tokenizer, changes: dict[str, str]) -> None:
    """Instead of being turned into something that speaks nonsense."""
    write(tmp_path / "model.gguf", model, words, **changes)
    with pytest.raises(ValueError, match="is not a llama"):
        convert(tmp_path / "model.gguf", tmp_path / "model")
    assert not (tmp_path / "model").exists()
