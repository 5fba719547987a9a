"""What a model will take in memory is known before it is loaded."""

import json
import os
import re
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from service.errors import SetupError
from service.pool import weights
from service.pool.weights import estimated_bytes, kv_bytes
from tests.conftest import Folders

_ROOT = Path(__file__).parents[3]
_MAKE = """
import json, sys
from pathlib import Path
from tests import tiny
from service.engine.loader import load
from service.engine.memory import Footprint
folder, changes, quantised = Path(sys.argv[1]), json.loads(sys.argv[2]), sys.argv[3] == "quantised"
kind = changes.pop("kind", "llama")
if kind == "llama":
    tiny.llama(folder, quantised=quantised, **changes)
else:
    words = tiny.tokenizer()
    config = getattr(tiny, f"{kind}_config")(words.get_vocab_size()) | changes
    tiny.save(folder, tiny.build(config), config, words)
model, loaded = load(folder, folder)
print(json.dumps([loaded.weights_bytes, [Footprint.of(model).bytes(tokens) for tokens in (1, 256, 257, 3000)]]))
"""
on_cpu = pytest.mark.skipif(sys.platform == "darwin", reason="engines compute on the GPU there")


def made(folder: Path, *, quantised: bool = False, **changes: Any) -> tuple[int, list[int]]:
    """Make a model; what its engine says of its weights, and of the caches of four lengths."""
    arguments = [str(folder), json.dumps(changes), "quantised" if quantised else ""]
    ran = subprocess.run(
        [sys.executable, "-c", _MAKE, *arguments], cwd=_ROOT, check=True, capture_output=True, text=True, timeout=120
    )
    taken, caches = json.loads(ran.stdout.splitlines()[-1])
    return taken, caches


def write(folder: Path, tensors: dict[str, tuple[str, list[int]]], **config: Any) -> Path:
    """Write the headers of a model's weights."""
    sizes = {"F32": 4, "U32": 4, "I32": 4, "F16": 2, "BF16": 2}
    header: dict[str, Any] = {"__metadata__": {"format": "mlx"}}
    place = 0
    for name, (kind, shape) in tensors.items():
        size = sizes[kind]
        for side in shape:
            size *= side
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": [place, place + size]}
        place += size
    content = json.dumps(header).encode()
    folder.mkdir(exist_ok=True)
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(content)) + content)
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@on_cpu
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"quantised": True},
        {"layer_types": ["sliding_attention", "full_attention"], "sliding_window": 300},
        {"kind": "gemma", "sliding_window": 300},
        {"model_type": "qwen3", "head_dim": 32, "rope_theta": 10000.0},
        {"model_type": "qwen2", "rope_theta": 10000.0},
    ],
    ids=str,
)
def test_it_is_what_the_engine_says(tmp_path: Path, changes: dict[str, Any]) -> None:
    """Of weights, and of keys and values at any length, to the byte."""
    taken, caches = made(tmp_path / "model", **changes)
    assert estimated_bytes(tmp_path / "model") == taken
    assert [kv_bytes(tmp_path / "model", tokens) for tokens in (1, 256, 257, 3000)] == caches


def test_other_caches_are_not_guessed(model_folder: Folders) -> None:
    """Those of states, for one, which have nothing to do with heads."""
    assert kv_bytes(model_folder("bare"), 1000) is None
    assert estimated_bytes(model_folder("bare")) > 0


def test_on_other_devices_weights_stay_as_they_are(tmp_path: Path) -> None:
    """And keys and values have their type."""
    tensors = {"a.weight": ("BF16", [64, 64]), "b.weight": ("BF16", [64])}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "hidden_size": 64, "num_hidden_layers": 3}
    folder = write(tmp_path / "model", tensors, model_type="llama", **heads)
    assert estimated_bytes(folder, on_cpu=False) == 2 * (64 * 64 + 64)
    assert estimated_bytes(folder) == 4 * (64 * 64 + 64)
    assert kv_bytes(folder, 256, on_cpu=False) == 3 * 2 * 2 * 16 * 256 * 2
    assert kv_bytes(folder, 256) == 3 * 2 * 2 * 16 * 256 * 4


def test_what_is_too_large_for_float32_stays_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the CPU too, by the rule of the engine."""
    folder = write(tmp_path / "model", {"a.weight": ("BF16", [1 << 10, 1 << 10])})
    pages = {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": (16 << 20) // 4096}
    monkeypatch.setattr(os, "sysconf", pages.__getitem__)
    assert estimated_bytes(folder) == 4 << 20
    pages["SC_PHYS_PAGES"] -= 1
    assert estimated_bytes(folder) == 2 << 20


@pytest.mark.parametrize("nested", [False, True])
def test_packed_weights_are_counted_one_by_one(tmp_path: Path, nested: bool) -> None:
    """With their own group sizes, and as AWQ packs them; what says how they are packed is gone then."""
    tensors = {
        "a.weight": ("U32", [8, 8]),
        "a.scales": ("F16", [8, 2]),
        "a.biases": ("F16", [8, 2]),
        "b.weight": ("U32", [8, 16]),
        "b.scales": ("F16", [8, 2]),
        "b.bias": ("F16", [8]),
    }
    quantization = {"group_size": 32, "bits": 4, "b": {"group_size": 64, "bits": 4}}
    config = {"text_config": {"quantization": quantization}} if nested else {"quantization": quantization}
    assert estimated_bytes(write(tmp_path / "model", tensors, **config)) == 4 * (8 * 64 + 8 * 128 + 8)
    packed = {"a.qweight": ("I32", [64, 8]), "a.qzeros": ("I32", [1, 8]), "a.scales": ("F16", [1, 64])}
    folder = write(tmp_path / "awq", packed, quantization_config={"quant_method": "awq", "bits": 4})
    assert estimated_bytes(folder) == 4 * 64 * 64


def test_only_files_that_mlx_lm_reads_count(tmp_path: Path) -> None:
    """All parts of them, and not the same weights in another file."""
    folder = write(tmp_path / "model", {"a.weight": ("F32", [10])})
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "consolidated.safetensors").write_bytes(whole)
    assert estimated_bytes(folder) == 40
    write(tmp_path / "part", {"b.weight": ("F32", [5])})
    (tmp_path / "part" / "model.safetensors").rename(folder / "model-00002-of-00002.safetensors")
    assert estimated_bytes(folder) == 60


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff" * 8,
        struct.pack("<Q", 1 << 40),
        struct.pack("<Q", 2) + b"[]",
        struct.pack("<Q", 3) + b"{,}",
        struct.pack("<Q", 8) + b'{"a": 1}',
    ],
)
def test_a_broken_file_is_told(tmp_path: Path, content: bytes) -> None:
    """In one line, and before memory is taken for what it says."""
    heads = {"num_attention_heads": 4, "hidden_size": 64, "num_hidden_layers": 3}
    folder = write(tmp_path / "model", {}, model_type="llama", **heads)
    (folder / "model.safetensors").write_bytes(content)
    for measured in (estimated_bytes, lambda folder: kv_bytes(folder, 1)):
        with pytest.raises(SetupError, match="cannot be read") as raised:
            measured(folder)
        assert "\n" not in str(raised.value)


def test_the_rule_is_the_engines() -> None:
    """Two files have it, as neither may import the other."""
    loader = (_ROOT / "service" / "engine" / "loader.py").read_text()
    assert f"_FLOAT32_SHARE = {weights._FLOAT32_SHARE}\n" in loader


@pytest.mark.parametrize(
    "header",
    [
        b"[]",
        b"{",
        b'{"a": ' + b"[" * 100_000,
        b'{"a": {"dtype": 5, "shape": [1], "data_offsets": [0, 4]}}',
        b'{"a": {"dtype": "F32", "shape": [-5], "data_offsets": [0, 4]}}',
        b'{"a": {"dtype": "F32", "shape": [1e400], "data_offsets": [0, 4]}}',
        b'{"a": {"dtype": "F32", "shape": [4611686018427387904, 4], "data_offsets": [0, 4]}}',
        b'{"a": {"dtype": "F32", "shape": [1099511627776, 1099511627776], "data_offsets": [0, 4]}}',
        b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": [9, 4]}}',
    ],
)
@pytest.mark.parametrize("cpu", [True, False])
def test_a_header_with_anything_in_it_is_told(tmp_path: Path, header: bytes, cpu: bool) -> None:
    """In one line."""
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    with pytest.raises(SetupError, match=f"^{re.escape(str(tmp_path))} cannot be read: ") as raised:
        estimated_bytes(tmp_path, on_cpu=cpu)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("length", [1 << 60, (1 << 64) - 1, 5])
def test_the_length_of_a_header_is_not_believed(tmp_path: Path, length: int) -> None:
    """Nothing of that size is read."""
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(struct.pack("<Q", length) + b"{}")
    with pytest.raises(SetupError, match="cannot be read: "):
        estimated_bytes(tmp_path)


def test_layers_without_number_are_refused(tmp_path: Path) -> None:
    """An engine would make them all before it found out."""
    folder = write(tmp_path, {"model.embed_tokens.weight": ("F32", [10, 4])}, num_hidden_layers=10**9)
    with pytest.raises(SetupError, match="said to have 1000000000 layers"):
        estimated_bytes(folder)
