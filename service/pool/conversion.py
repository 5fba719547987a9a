"""GGUF files as model folders: converted once, beside the service, and kept in the cache."""

import contextlib
import hashlib
import tempfile
from pathlib import Path

import structlog

from service.errors import SetupError
from service.pool.child import run_module

log = structlog.get_logger()

_FORM = 1
"""A new number for a new form of the folders that are made."""


def kept_under(cache_dir: Path) -> Path:
    """Where the folders are that were made."""
    return cache_dir / "models" / "gguf"


async def converted(file: Path, cache_dir: Path) -> Path:
    """The model folder of a GGUF file, made where this file, of this size and age, has none yet.

    Raises SetupError, with one line that says what was found, where it cannot be converted or kept.
    """
    try:
        folder = kept_under(cache_dir) / f"{file.stem}-{_identity(file)}"
        if folder.is_dir():
            return folder
        folder.parent.mkdir(parents=True, exist_ok=True)
        # Made aside and then renamed, so that what is there is whole, whoever else is converting it.
        with tempfile.TemporaryDirectory(dir=folder.parent) as name:
            made = Path(name) / "model"
            await convert(file, made)
            with contextlib.suppress(OSError):  # another process was quicker
                made.rename(folder)
        if not folder.is_dir():
            raise SetupError(f"cannot convert {file}: its folder cannot be kept under {folder.parent}")
    except OSError as error:
        raise SetupError(f"cannot convert {file}: {error.strerror or error}") from error
    return folder


async def convert(source: Path, target: Path, *sampling: str) -> None:
    """Convert in a child, with flags for the model's sampling defaults. Raises SetupError."""
    log.info("converting a GGUF file", file=str(source))
    outcome = await run_module("service.engine.gguf", str(source), str(target), *sampling)
    if outcome.code != 0:
        raise SetupError(f"cannot convert {source}: {outcome.reason}")


def _identity(file: Path) -> str:
    about = file.stat()
    parts = (str(file.resolve()), about.st_size, about.st_mtime_ns, _FORM)
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]
