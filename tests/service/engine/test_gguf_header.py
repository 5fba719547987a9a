"""The header of a GGUF file is read, or refused."""

import struct
from pathlib import Path

import pytest

from service.engine.gguf_header import GgufError, Header, Tensor
from tests.service.engine import gguf_files

ENTRIES = {"word": "sky ☀", "yes": True, "count": 7, "part": 0.5, "words": ["a", "b"], "numbers": [1, -2]}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    tensors = {"a.weight": ("F16", (2, 3), bytes(12)), "b.weight": ("Q4_K", (1, 256), bytes(144))}
    gguf_files.write(tmp_path / "some.gguf", ENTRIES, tensors)
    return tmp_path / "some.gguf"


def test_what_the_file_says_is_read(file: Path) -> None:
    """Metadata of all types, and the tensors with their rows first."""
    header = Header.read(file)
    assert header.metadata == ENTRIES
    assert header.tensors == {"a.weight": Tensor("F16", (2, 3)), "b.weight": Tensor("Q4_K", (1, 256))}


def test_a_type_of_the_future_has_a_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that it can be named where it is refused."""
    monkeypatch.setitem(gguf_files.TYPES, "new", 999)
    gguf_files.write(tmp_path / "new.gguf", {}, {"a": ("new", (1,), b"")})
    assert Header.read(tmp_path / "new.gguf").tensors["a"].kind == "number 999"


def test_a_file_that_is_cut_anywhere_is_refused(file: Path) -> None:
    """With one error, and never with another."""
    whole = file.read_bytes()
    size = whole.index(b"b.weight") + len(b"b.weight") + 4 + 2 * 8 + 4 + 8
    for length in range(size):
        file.write_bytes(whole[:length])
        with pytest.raises(GgufError):
            Header.read(file)
    file.write_bytes(whole[:size])
    assert len(Header.read(file).tensors) == 2


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "broken"),
        (b"PK\x03\x04" * 20, "no GGUF"),
        (b"GGUF" + struct.pack("<IQQ", 1, 0, 0), "version 1"),
        (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "version 50331648"),
        (b"GGUF" + struct.pack("<IQQ", 3, 1 << 60, 0), "broken"),
        (b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 1 << 62), "broken"),
        (b"GGUF" + struct.pack("<IQQQIIQ", 3, 0, 1, 0, 9, 10, 1 << 20), "broken"),
        (b"GGUF" + struct.pack("<IQQQI", 3, 0, 1, 0, 77), "type 77"),
        (b"GGUF" + struct.pack("<IQQQI", 3, 1, 0, 0, 1 << 30), "dimensions"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_broken_file_is_refused(tmp_path: Path, content: bytes, said: str) -> None:
    """One whose counts are larger than itself too, before anything is made of that size."""
    (tmp_path / "bad.gguf").write_bytes(content)
    with pytest.raises(GgufError, match=said):
        Header.read(tmp_path / "bad.gguf")
