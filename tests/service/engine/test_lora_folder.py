"""What the formats of LoRAs have in common."""

from pathlib import Path

import mlx.core as mx
import pytest

from service.engine.lora_folder import LoraError, LoraWeights, Pairs, matrix, number, read_config, read_tensors


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


@pytest.mark.parametrize("content", ["", "{", "[1]", "\x00"])
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


@pytest.mark.parametrize("value", [None, "8", True, 0, -1.0, float("inf"), float("nan")])
def test_numbers_are_positive_and_finite(value: object) -> None:
    """Anything else is refused by name."""
    with pytest.raises(LoraError, match=r"^r of"):
        number({"r": value}, "r")


@pytest.mark.parametrize("tensor", [mx.zeros((2,)), mx.zeros((2, 2, 2)), mx.zeros((0, 4)), mx.zeros((2, 2), mx.int32)])
def test_factors_are_matrices_of_floats(tensor: mx.array) -> None:
    """Anything else is refused by name."""
    with pytest.raises(LoraError, match="'x' is"):
        matrix("x", tensor)
