"""GGUF files are converted once and kept."""

import asyncio
import os
import shutil
from pathlib import Path

import pytest

from service.errors import SetupError
from service.pool import conversion
from service.pool.conversion import converted, kept_under
from tests.service.pool.processes import make_gguf


@pytest.fixture(scope="module")
def gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_gguf(tmp_path_factory.mktemp("files") / "mine.gguf")


def names(folder: Path) -> list[str]:
    return [file.name for file in folder.iterdir()]


async def test_a_file_is_converted_once(gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many ask for it at a time and afterwards; nothing else is left in the cache."""
    first, second = await asyncio.gather(*(converted(gguf, tmp_path) for _ in range(2)))
    assert first == second
    assert names(kept_under(tmp_path)) == [first.name]
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= set(names(first))
    monkeypatch.setattr(conversion, "run_module", None)
    assert await converted(gguf, tmp_path) == first


async def test_a_file_that_has_changed_is_converted_again(gguf: Path, tmp_path: Path) -> None:
    """Another of the same name too."""
    file = Path(shutil.copy(gguf, tmp_path))
    first = await converted(file, tmp_path / "cache")
    os.utime(file, (1, 1))
    assert await converted(file, tmp_path / "cache") != first
    assert await converted(gguf, tmp_path / "cache") != first


async def test_a_file_that_cannot_be_converted_is_told(tmp_path: Path) -> None:
    """In one line that says what was found; nothing is kept."""
    (tmp_path / "bad.gguf").write_bytes(b"GGUF" + bytes(100))
    with pytest.raises(SetupError, match=r"cannot convert .*bad\.gguf: it has version 0 of the format") as raised:
        await converted(tmp_path / "bad.gguf", tmp_path / "cache")
    assert "\n" not in str(raised.value)
    assert names(kept_under(tmp_path / "cache")) == []


async def test_a_cache_that_cannot_be_written_is_told(gguf: Path, tmp_path: Path) -> None:
    """In one line."""
    (tmp_path / "cache").touch()
    with pytest.raises(SetupError, match=r"cannot convert .*mine.gguf: Not a directory"):
        await converted(gguf, tmp_path / "cache")
