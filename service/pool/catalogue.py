"""From a model's configuration to the folder on disk that holds it."""

from collections.abc import Callable
from pathlib import Path

import msgspec

from service.config import ModelConfig
from service.errors import SetupError
from service.pool.built_in import fetch_built_in
from service.pool.child import run_module
from service.pool.conversion import converted
from service.pool.folder import check, expanded, find_gguf
from service.pool.progress import LoadProgress, Stage

Report = Callable[[LoadProgress], None]

_OWNER_AND_NAME = 2


class _Said(msgspec.Struct):
    """A line of the hub's program: how much is there, or how it ended."""

    bytes: int = 0
    total_bytes: int = 0
    found: str | None = None
    error: str | None = None


async def model_folder(config: ModelConfig, cache_dir: Path, report: Report = lambda _: None) -> Path:
    """The folder of a model, fetched and converted where it has to be; `report` hears how far that is.

    Raises SetupError with one line that says what is missing.
    """
    report(LoadProgress(Stage.RESOLVING))
    try:
        if config.path is None and config.repo is None:
            return await fetch_built_in(cache_dir, report)
        source = await _from_hub(config, report) if config.path is None else expanded(config.path)
        if (file := find_gguf(source)) is not None:
            report(LoadProgress(Stage.RESOLVING))
            return await converted(file, cache_dir)
        check(source, trust_remote_code=config.trust_remote_code)
    except SetupError as error:
        raise SetupError(f"model {config.name!r}: {error}") from error
    return source


async def foreseen_folder(config: ModelConfig, cache_dir: Path, scratch: Path) -> Path:
    """A folder to tell from how much memory a model will take: its own, or one in `scratch` without weights.

    Of a repository only the headers of its weights are fetched. Raises SetupError as `model_folder` does, and for a
    repository of which that is not enough.
    """
    if config.repo is None:
        return await model_folder(config, cache_dir)
    try:
        source = await _from_hub(config, lambda _: None, "--headers", str(scratch))
        if (file := find_gguf(source)) is not None:
            return await converted(file, cache_dir)
        check(source, trust_remote_code=config.trust_remote_code)
    except SetupError as error:
        raise SetupError(f"model {config.name!r}: {error}") from error
    return source


async def _from_hub(config: ModelConfig, report: Report, *more: str) -> Path:
    """Fetch a repository, written OWNER/NAME, or OWNER/NAME/FILE.gguf for one of several files, with more flags."""
    parts = (config.repo or "").split("/")
    repo, file = "/".join(parts[:_OWNER_AND_NAME]), "/".join(parts[_OWNER_AND_NAME:])
    flags = [f"--revision={config.revision}"] if config.revision else []
    flags += [f"--file={file}"] if file else []
    flags += ["--code", *more] if config.trust_remote_code else more
    last = _Said()

    def heard(line: str) -> None:
        nonlocal last
        try:
            last = msgspec.json.decode(line, type=_Said)
        except msgspec.DecodeError:  # said by a library
            return
        if last.total_bytes:
            report(LoadProgress(Stage.DOWNLOADING, last.bytes, last.total_bytes))

    outcome = await run_module("service.pool.hub", *flags, "--", repo, heard=heard)
    if last.found is None:
        reason = last.error or (outcome.reason if outcome.code < 0 else f"exit code {outcome.code}")
        raise SetupError(f"cannot fetch {config.repo}: {reason}")
    return Path(last.found)
