"""Model folders: what they have to hold, and what is not let near an engine."""

from pathlib import Path

from service.errors import SetupError
from service.pool.settings_files import check_settings

_PICKLED = ("*.bin", "*.pt", "*.pth")
"""Weights in a format that runs programs when it is read; MLX has no reader for it."""
_TOKENIZERS = ("tokenizer*", "vocab*", "*.model", "*.tiktoken")
"""Files of which a folder with a tokenizer has one at least."""


def expanded(path: str) -> Path:
    """A path as people write it, which may begin with their home; one of somebody who is not known stays as it is."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


def find_gguf(source: Path) -> Path | None:
    """The GGUF file that a path names or that is all that a folder holds; None for a folder that is MLX's own.

    Raises SetupError where it is not clear which one is meant, or where there is nothing that can be read.
    """
    try:
        return _find_gguf(source)
    except OSError as error:
        raise SetupError(f"{source} cannot be read: {error.strerror or error}") from error


def _find_gguf(source: Path) -> Path | None:
    if source.is_file():
        if source.suffix != ".gguf":
            raise SetupError(f"{source} is neither a folder nor a GGUF file")
        return source
    if not source.is_dir():
        kind = "file" if source.suffix == ".gguf" else "folder"
        raise SetupError(f"there is no {kind} {source}")
    next(source.iterdir(), None)  # raises where nobody may look; there a pattern finds nothing, and says nothing
    if any(source.glob("model*.safetensors")):
        return None
    ggufs = sorted(source.glob("*.gguf"))
    if len(ggufs) > 1:
        raise SetupError(f"{source} holds several GGUF files, name one of {', '.join(file.name for file in ggufs)}")
    return ggufs[0] if ggufs else None


def check(folder: Path, *, trust_remote_code: bool = False) -> None:
    """Raises SetupError, with one line that says what is wrong, for a folder that is no MLX model.

    A configuration with `model_file` makes mlx-lm run that program; it is refused unless `trust_remote_code`.
    """
    try:
        _check(folder, trust_remote_code=trust_remote_code)
    except OSError as error:
        raise SetupError(f"{folder} cannot be read: {error.strerror or error}") from error


def _check(folder: Path, *, trust_remote_code: bool) -> None:
    pickled = [file.name for pattern in _PICKLED for file in folder.glob(pattern)]
    if not any(folder.glob("model*.safetensors")):
        why = f", and pickled ones such as {pickled[0]} are not read, as they can run programs" if pickled else ""
        raise SetupError(f"{folder} is not a model folder, it has no model*.safetensors{why}")
    if not (folder / "config.json").is_file():
        raise SetupError(f"{folder} is not a model folder, it has no config.json")
    program = check_settings(folder).get("model_file")
    if not any(file.is_file() for pattern in _TOKENIZERS for file in folder.glob(pattern)):
        raise SetupError(f"{folder} is not a model folder, it has no tokenizer")
    if program is not None and not trust_remote_code:
        raise SetupError(
            f"{folder} brings a program of its own, {program!r}, which is not run unless the model's configuration "
            "says trust_remote_code = true"
        )
