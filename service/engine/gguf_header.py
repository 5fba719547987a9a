"""The header of a GGUF file: metadata, and the names, shapes and types of its tensors, without their values.

The format is described in ggml's docs/gguf.md. MLX's reader gives no types, and turns the ones it has no layout for
into float16 without a word.
"""

import mmap
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Metadata = dict[str, Any]

_MAGIC = b"GGUF"
_VERSIONS = (2, 3)
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
"""Types of metadata values, as struct's letters."""
_STRING, _ARRAY = 8, 9
_MOST_DIMENSIONS = 8
_TYPE_NAMES = (
    "F32 F16 Q4_0 Q4_1 Q4_2 Q4_3 Q5_0 Q5_1 Q8_0 Q8_1 Q2_K Q3_K Q4_K Q5_K Q6_K Q8_K IQ2_XXS IQ2_XS IQ3_XXS IQ1_S IQ4_NL "
    "IQ3_S IQ2_S IQ4_XS I8 I16 I32 I64 F64 IQ1_M BF16 Q4_0_4_4 Q4_0_4_8 Q4_0_8_8 TQ1_0 TQ2_0 IQ4_NL_4_4 IQ4_NL_4_8 "
    "IQ4_NL_8_8 MXFP4 NVFP4"
)
_TYPES = _TYPE_NAMES.split()
"""Types of tensors, by their numbers."""
_MOST_WORDS = 300
"""Characters of an error: what it quotes of a file can be of any length."""


class GgufError(ValueError):
    """A GGUF file that is broken, or is nothing that can be served. The text is one line, with the file as subject."""

    def __str__(self) -> str:
        text = " ".join(super().__str__().split())
        return text if len(text) <= _MOST_WORDS else f"{text[:_MOST_WORDS]}…"


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor. The shape has rows first, as MLX has it; `kind` is the type's name, such as Q4_0."""

    kind: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Header:
    """All of a GGUF file but the values of its tensors."""

    metadata: Metadata
    tensors: dict[str, Tensor]

    @classmethod
    def read(cls, file: Path) -> "Header":
        """Read a file's header. Raises GgufError for one that is broken or of another format, OSError as open does."""
        with file.open("rb") as opened:
            try:
                with mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as data:
                    return cls._of(_Reader(data))
            except (struct.error, ValueError) as error:  # an empty file cannot be mapped
                raise error if isinstance(error, GgufError) else GgufError("is broken or is no GGUF file") from error

    @classmethod
    def _of(cls, reader: "_Reader") -> "Header":
        if reader.take(len(_MAGIC)) != _MAGIC:
            raise GgufError("is no GGUF file")
        if (version := reader.number("I")) not in _VERSIONS:
            raise GgufError(f"has version {version} of the format, not {' or '.join(map(str, _VERSIONS))}")
        tensors, values = reader.count(), reader.count()
        metadata = {reader.text(): reader.value() for _ in range(values)}
        return cls(metadata, dict(reader.tensor() for _ in range(tensors)))


class _Reader:
    """Reads little-endian values one after the other; what lies outside of the file raises struct.error."""

    def __init__(self, data: mmap.mmap) -> None:
        self._data = data
        self._place = 0

    def take(self, size: int) -> bytes:
        if size > len(self._data) - self._place:
            raise struct.error("past the end")
        self._place += size
        return self._data[self._place - size : self._place]

    def number(self, letter: str) -> Any:
        return struct.unpack(f"<{letter}", self.take(struct.calcsize(f"<{letter}")))[0]

    def count(self) -> int:
        """Give how many of something follow, each of which takes a byte at least."""
        count: int = self.number("Q")
        if count > len(self._data):
            raise struct.error("past the end")
        return count

    def text(self) -> str:
        return self.take(self.count()).decode(errors="replace")

    def value(self) -> Any:
        kind = self.number("I")
        if kind != _ARRAY:
            return self._single(kind)
        kind, count = self.number("I"), self.count()
        if letter := _SCALARS.get(kind):
            return list(struct.unpack(f"<{count}{letter}", self.take(count * struct.calcsize(f"<{letter}"))))
        return [self._single(kind) for _ in range(count)]

    def tensor(self) -> tuple[str, Tensor]:
        name = self.text()
        if (dimensions := self.number("I")) > _MOST_DIMENSIONS:
            raise GgufError(f"has a tensor of {dimensions} dimensions")
        shape = tuple(self.number("Q") for _ in range(dimensions))
        kind = self.number("I")
        self.number("Q")  # its place among the values
        return name, Tensor(_TYPES[kind] if kind < len(_TYPES) else f"number {kind}", shape[::-1])

    def _single(self, kind: int) -> Any:
        if kind == _STRING:
            return self.text()
        if kind not in _SCALARS:
            raise GgufError(f"has metadata of the unknown type {kind}")
        return self.number(_SCALARS[kind])
