"""What a folder with a LoRA holds, whichever format it is in."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mlx.core as mx

CONFIG = "adapter_config.json"
_MATRIX = 2
"""Dimensions of a factor."""
_MOST_SETTINGS = 1 << 20
"""Bytes of settings."""
_MOST_NAMES = 2 << 20
"""Bytes of the names and places of tensors, some 15,000 of them: they are read in one go, while all rows wait."""
_LENGTH = 8
"""Bytes that say how long the names and places are, at the beginning of a safetensors file."""
_MOST = 1 << 31
"""What a setting may be at most."""

Config = Mapping[str, Any]


class LoraError(Exception):
    """A LoRA cannot be used. The text is one line that names the cause."""


@dataclass(frozen=True, slots=True)
class Factors:
    """What is added to a layer's output for an input x: `scale` * x @ a.T @ b."""

    a: mx.array
    """Shape (rank, input)."""
    b: mx.array
    """Shape (rank, output)."""
    scale: float


@dataclass(frozen=True, slots=True)
class LoraWeights:
    """A LoRA that has been read. Its arrays are still in the file until they are used."""

    scale: float
    factors: dict[str, Factors]
    """By the path of the layer that they change."""

    @property
    def rank(self) -> int:
        """The largest rank."""
        return max(factors.a.shape[0] for factors in self.factors.values())


@dataclass(slots=True)
class Pairs:
    """The two factors of each layer, gathered from single tensors: `a` of shape (rank, input), `b` (rank, output)."""

    a: dict[str, mx.array] = field(default_factory=dict)
    b: dict[str, mx.array] = field(default_factory=dict)

    def put_a(self, path: str, a: mx.array) -> None:
        """Take the first factor of a layer. Raises LoraError where it has one."""
        _put(self.a, path, a)

    def put_b(self, path: str, b: mx.array) -> None:
        """Take the second one. Raises LoraError where it has one."""
        _put(self.b, path, b)

    def factors(self, scales: Mapping[str, float]) -> dict[str, Factors]:
        """Those of each layer, with its scale. Raises LoraError where they do not go together."""
        if not self.a and not self.b:
            raise LoraError("its file has no factors")
        if lone := sorted(self.a.keys() ^ self.b.keys()):
            raise LoraError(f"layer {lone[0]!r} has one factor without the other")
        for path, a in self.a.items():
            _check(path, a, self.b[path])
        return {path: Factors(a, self.b[path], scales[path]) for path, a in self.a.items()}


def read_config(folder: Path) -> Config:
    """The settings of a LoRA. Raises LoraError."""
    path = folder / CONFIG
    if not path.exists():
        raise LoraError(f"{path} does not exist")
    content = _begun(path, _MOST_SETTINGS + 1)
    if len(content) > _MOST_SETTINGS:
        raise LoraError(f"{path} is too large, it has more than {_MOST_SETTINGS} bytes")
    try:
        content = json.loads(content.decode())
    except (ValueError, RecursionError) as error:
        raise LoraError(f"{path} cannot be read: {_line(error)}") from error
    if not isinstance(content, dict):
        raise LoraError(f"{path} is not an object")
    return content


def read_tensors(path: Path) -> dict[str, mx.array]:
    """The tensors of a file by name, not loaded yet. Raises LoraError."""
    names = int.from_bytes(_begun(path, _LENGTH), "little")
    if _MOST_NAMES < names < path.stat().st_size:
        raise LoraError(f"{path} has too many tensors, their names take {names} bytes, and may take {_MOST_NAMES}")
    try:
        tensors = mx.load(str(path), format="safetensors")
    except Exception as error:
        raise LoraError(f"{path} cannot be read: {_line(error)}") from error
    if not isinstance(tensors, dict):
        raise LoraError(f"{path} has no named tensors")
    return tensors


def number(config: Config, name: str) -> float:
    """A setting that must be a positive number. Raises LoraError."""
    value = config.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= _MOST:
        raise LoraError(f"{name} of {CONFIG} is {value!r}, and must be a positive number, at most {_MOST}")
    return value


def whole(config: Config, name: str) -> int:
    """A setting that must be a whole positive number, such as a rank. Raises LoraError."""
    value = number(config, name)
    if value != int(value):
        raise LoraError(f"{name} of {CONFIG} is {value!r}, and must be a whole number")
    return int(value)


def flag(config: Config, name: str) -> bool:
    """A setting that must be true or false; absent is false. Raises LoraError."""
    value = config.get(name)
    if not isinstance(value, bool | None):
        raise LoraError(f"{name} of {CONFIG} is {value!r}, and must be true or false")
    return bool(value)


def matrix(name: str, tensor: mx.array) -> mx.array:
    """A tensor that must be a matrix of floats. Raises LoraError."""
    if tensor.ndim != _MATRIX or not tensor.size or not mx.issubdtype(tensor.dtype, mx.floating):
        raise LoraError(f"{name!r} is {tensor.dtype} of shape {tensor.shape}, and must be a matrix of floats")
    return tensor


def _put(factors: dict[str, mx.array], path: str, factor: mx.array) -> None:
    if path in factors:
        raise LoraError(f"layer {path!r} has a factor twice, under different names")
    factors[path] = factor


def _check(path: str, a: mx.array, b: mx.array) -> None:
    if a.shape[0] != b.shape[0]:
        raise LoraError(f"the factors of layer {path!r} have ranks {a.shape[0]} and {b.shape[0]}")


def _begun(path: Path, size: int) -> bytes:
    """The first bytes of a file, which may be fewer. Raises LoraError for what is no file, as pipes and devices are."""
    if not path.is_file():
        raise LoraError(f"{path} is not a file")
    try:
        with path.open("rb") as file:
            return file.read(size)
    except OSError as error:
        raise LoraError(f"{path} cannot be read: {_line(error)}") from error


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
