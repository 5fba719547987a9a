"""From a model's configuration to the folder on disk that holds it."""

import asyncio
from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError

from service.config import ModelConfig
from service.errors import SetupError
from service.pool.built_in import fetch_built_in

_WANTED = ["*.json", "*.safetensors", "*.jinja", "tokenizer.model", "*.tiktoken", "*.txt"]
"""The files of a repository that serving needs."""


async def model_folder(config: ModelConfig, cache_dir: Path) -> Path:
    """The folder of a model, fetched where it has to be.

    Raises SetupError with one line that says what is missing.
    """
    if config.path is not None:
        return _local(config.name, Path(config.path))
    if config.repo is not None:
        return await asyncio.to_thread(_from_hub, config)
    return await fetch_built_in(cache_dir)


def _local(name: str, folder: Path) -> Path:
    folder = folder.expanduser()
    if not folder.is_dir():
        raise SetupError(f"model {name!r}: there is no folder {folder}")
    if not (folder / "config.json").is_file():
        raise SetupError(f"model {name!r}: {folder} is not a model folder, it has no config.json")
    if not any(folder.glob("model*.safetensors")):
        raise SetupError(f"model {name!r}: {folder} is not a model folder, it has no model*.safetensors")
    return folder


def _from_hub(config: ModelConfig) -> Path:
    """The snapshot of a repository in the hub's own cache; its files are fetched with a progress bar."""
    assert config.repo is not None  # noqa: S101 - the caller's case
    try:
        folder = snapshot_download(config.repo, revision=config.revision, allow_patterns=_WANTED)
    except RepositoryNotFoundError as error:
        raise SetupError(f"model {config.name!r}: there is no repository {config.repo} that you can read") from error
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise SetupError(f"model {config.name!r}: cannot fetch {config.repo}: {reason}") from error
    return _local(config.name, Path(folder))
