"""What the formats of LoRAs have in common."""

import json
import os
import time
from pathlib import Path

import mlx.core as mx
import pytest

from service.engine.lora_folder import (
    LoraError,
    LoraWeights,
    Pairs,
    flag,
    matrix,
    number,
    read_config,
    read_tensors,
    whole,
)


def test_factors_go_in_pairs() -> None:
    """Each layer gets its own, with its scale; the rank of all is the largest."""
    pairs = Pairs({"q": mx.zeros((2, 8)), "k": mx.zeros((3, 8))}, {"q": mx.zeros((2, 4)), "k": mx.zeros((3, 4))})
    factors = pairs.factors({"q": 1.0, "k": 0.5})
    assert {path: each.scale for path, each in factors.items()} == {"q": 1.0, "k": 0.5}
    assert LoraWeights(1.0, factors).rank == 3


@pytest.mark.parametrize(
    ("pairs", "reason"),
    [
        (Pairs(), "its file has no factors"),
        (Pairs({"q": mx.zeros((2, 8))}), "layer 'q' has one factor without the other"),
        (Pairs({"q": mx.zeros((2, 8))}, {"q": mx.zeros((3, 4))}), "the factors of layer 'q' have ranks 2 and 3"),
    ],
)
def test_factors_that_do_not_go_together_are_refused(pairs: Pairs, reason: str) -> None:
    """The layer is named."""
    with pytest.raises(LoraError, match=reason):
        pairs.factors(dict.fromkeys(pairs.a, 1.0))


@pytest.mark.parametrize("content", ["", "{", "[1]", "\x00", "[" * 100_000, '{"r": 1' + "0" * 5000 + "}"])
def test_settings_that_are_not_an_object_are_refused(content: str, tmp_path: Path) -> None:
    """In one line that names the file."""
    (tmp_path / "adapter_config.json").write_text(content)
    with pytest.raises(LoraError, match=r"adapter_config\.json") as caught:
        read_config(tmp_path)
    assert "\n" not in str(caught.value)


def test_settings_that_are_not_there_are_refused(tmp_path: Path) -> None:
    """The path is named."""
    with pytest.raises(LoraError, match=r"adapter_config\.json does not exist"):
        read_config(tmp_path)


@pytest.mark.parametrize("content", [b"", b"\x00" * 7, b"\xff" * 64, b"\x08\x00\x00\x00\x00\x00\x00\x00nonsense"])
def test_broken_files_are_refused(content: bytes, tmp_path: Path) -> None:
    """In one line that names the file."""
    path = tmp_path / "adapters.safetensors"
    path.write_bytes(content)
    with pytest.raises(LoraError, match=r"adapters\.safetensors cannot be read") as caught:
        read_tensors(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [None, "8", True, 0, -1.0, float("inf"), float("nan"), 10**400, 1e300])
def test_numbers_are_positive_and_finite(value: object) -> None:
    """Anything else is refused by name."""
    with pytest.raises(LoraError, match=r"^r of"):
        number({"r": value}, "r")


@pytest.mark.parametrize("tensor", [mx.zeros((2,)), mx.zeros((2, 2, 2)), mx.zeros((0, 4)), mx.zeros((2, 2), mx.int32)])
def test_factors_are_matrices_of_floats(tensor: mx.array) -> None:
    """Anything else is refused by name."""
    with pytest.raises(LoraError, match="'x' is"):
        matrix("x", tensor)


def test_a_rank_is_a_whole_number() -> None:
    """As JSON writes it; a part of one is refused by name."""
    assert whole({"r": 8.0}, "r") == 8
    with pytest.raises(LoraError, match=r"^r of adapter_config.json is 0.5, and must be a whole number"):
        whole({"r": 0.5}, "r")


@pytest.mark.parametrize("value", ["false", 0, 1, []])
def test_a_switch_is_true_or_false(value: object) -> None:
    """A text that says false is not taken for true."""
    assert (flag({"on": True}, "on"), flag({"on": False}, "on"), flag({"on": None}, "on"), flag({}, "on")) == (
        True,
        False,
        False,
        False,
    )
    with pytest.raises(LoraError, match=r"^on of adapter_config.json is .*, and must be true or false"):
        flag({"on": value}, "on")


def test_a_layer_has_each_factor_once() -> None:
    """Which of two would count is not for the order of a file to say."""
    pairs = Pairs()
    for put in (pairs.put_a, pairs.put_b):
        put("q", mx.zeros((2, 8)))
        with pytest.raises(LoraError, match="layer 'q' has a factor twice"):
            put("q", mx.zeros((2, 8)))


@pytest.mark.parametrize("name", ["adapter_config.json", "adapters.safetensors"])
def test_what_is_no_file_is_not_read(name: str, tmp_path: Path) -> None:
    """A pipe would hold the engine up for ever, and a device have no end."""
    read = read_config if name.endswith(".json") else lambda folder: read_tensors(folder / name)
    os.mkfifo(tmp_path / name)
    with pytest.raises(LoraError, match=f"{name} is not a file"):
        read(tmp_path)
    (tmp_path / name).unlink()
    (tmp_path / name).symlink_to("/dev/zero")
    with pytest.raises(LoraError, match=f"{name} is not a file"):
        read(tmp_path)


def test_settings_without_end_are_refused(tmp_path: Path) -> None:
    """They are not read to their end for that."""
    with (tmp_path / "adapter_config.json").open("w") as file:
        file.truncate(1 << 40)
    with pytest.raises(LoraError, match=r"adapter_config\.json is too large"):
        read_config(tmp_path)


def test_tensors_without_number_are_refused_at_once(tmp_path: Path) -> None:
    """To read so many names would hold all rows up for half a minute."""
    tensor = {"dtype": "F32", "shape": [1, 1], "data_offsets": [0, 4]}
    names = json.dumps({f"model.layers.{number}.mlp.up_proj.lora_a": tensor for number in range(200_000)}).encode()
    path = tmp_path / "adapters.safetensors"
    path.write_bytes(len(names).to_bytes(8, "little") + names + bytes(4))
    began = time.monotonic()
    with pytest.raises(LoraError, match=r"adapters\.safetensors has too many tensors"):
        read_tensors(path)
    assert time.monotonic() - began < 1
