"""Settings of a model folder that no engine could read are refused by name."""

import json
from pathlib import Path
from typing import Any

import pytest

from service.errors import SetupError
from service.pool.settings_files import check_settings

GOOD: dict[str, Any] = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "eos_token_id": [1, 2],
    "max_position_embeddings": 4096,
    "vocab_size": 400,
    "quantization": {"bits": 4},
}


def write(folder: Path, content: object, name: str = "config.json") -> Path:
    """Write a file of settings."""
    (folder / name).write_text(json.dumps(content), encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    "more", [{}, {"eos_token_id": 5}, {"eos_token_id": None}, {"architectures": None}, {"text_config": GOOD}]
)
def test_what_models_say_is_taken(tmp_path: Path, more: dict[str, Any]) -> None:
    """The configuration is given as it is."""
    assert check_settings(write(tmp_path, GOOD | more)) == GOOD | more


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("model_type", []),
        ("model_type", None),
        ("model_type", 5),
        ("architectures", 5),
        ("architectures", [5]),
        ("eos_token_id", ["a"]),
        ("eos_token_id", 10**30),
        ("max_position_embeddings", "many"),
        ("max_position_embeddings", 10**30),
        ("vocab_size", 1e300),
        ("quantization", "4 bits"),
        ("text_config", [1]),
    ],
)
def test_a_wrong_type_is_told(tmp_path: Path, name: str, value: object) -> None:
    """In one line, with the file and the setting."""
    with pytest.raises(SetupError, match=rf"config\.json says {name} = .*, which is not ") as raised:
        check_settings(write(tmp_path, GOOD | {name: value}))
    assert "\n" not in str(raised.value)


def test_the_settings_of_a_nested_model_are_looked_at_too(tmp_path: Path) -> None:
    """With their path."""
    with pytest.raises(SetupError, match=r"says text_config\.vocab_size = "):
        check_settings(write(tmp_path, GOOD | {"text_config": {"vocab_size": "x"}}))


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("generation_config.json", [], "generation_config.json is not an object"),
        ("generation_config.json", {"eos_token_id": ["a"]}, "eos_token_id"),
        ("tokenizer_config.json", [], "tokenizer_config.json is not an object"),
        ("tokenizer_config.json", {"chat_template": 5}, "chat_template = 5, which is not text"),
    ],
)
def test_the_other_files_are_looked_at_too(tmp_path: Path, name: str, content: object, said: str) -> None:
    """Where they are there."""
    write(tmp_path, GOOD)
    with pytest.raises(SetupError, match=said):
        check_settings(write(tmp_path, content, name))


def test_a_long_value_is_cut(tmp_path: Path) -> None:
    """As a status has to fit into trailers."""
    with pytest.raises(SetupError) as raised:
        check_settings(write(tmp_path, GOOD | {"eos_token_id": "x" * 100_000}))
    assert len(str(raised.value)) < 1000


@pytest.mark.parametrize("text", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b"[]"])
def test_what_is_no_object_is_told(tmp_path: Path, text: bytes) -> None:
    """Also what is nested too deep to be read."""
    (tmp_path / "config.json").write_bytes(text)
    with pytest.raises(SetupError, match=r"config\.json (cannot be read|is not an object)"):
        check_settings(tmp_path)
