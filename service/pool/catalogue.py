"""From a model's configuration to the folder on disk that holds it."""

from pathlib import Path

from service.config import ModelConfig
from service.errors import SetupError
from service.pool.built_in import fetch_built_in
from service.pool.child import run_module


async def model_folder(config: ModelConfig, cache_dir: Path) -> Path:
    """The folder of a model, fetched where it has to be.

    Raises SetupError with one line that says what is missing.
    """
    try:
        if config.path is not None:
            return checked(Path(config.path))
        if config.repo is not None:
            return checked(await _from_hub(config.repo, config.revision))
        return await fetch_built_in(cache_dir)
    except SetupError as error:
        raise SetupError(f"model {config.name!r}: {error}") from error


async def _from_hub(repo: str, revision: str | None) -> Path:
    arguments = [repo, revision] if revision else [repo]
    outcome = await run_module("service.pool.hub", *arguments, listen_to_stdout=True)
    if outcome.code != 0:
        raise SetupError(f"cannot fetch {repo}: {outcome.reason}")
    return Path(outcome.words.strip())


def checked(folder: Path) -> Path:
    """A folder that looks like an MLX model. Raises SetupError for one that does not."""
    folder = folder.expanduser()
    if not folder.is_dir():
        raise SetupError(f"there is no folder {folder}")
    for pattern in ("config.json", "model*.safetensors"):
        if not any(folder.glob(pattern)):
            raise SetupError(f"{folder} is not a model folder, it has no {pattern}")
    return folder
