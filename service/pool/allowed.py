"""What callers may name as a model's source: repositories, and paths inside the folders that are for it."""

import re
from collections.abc import Iterable
from pathlib import Path

from service.config import ModelConfig
from service.errors import InvalidField, PathNotAllowed

_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+(/[\w./-]+\.gguf)?")


def named_model(name: str, source: str, revision: str, folders: Iterable[str]) -> ModelConfig:
    """The configuration of a model that a caller names, from a path under `folders` or a repository.

    A relative path is looked for in each of the folders, and is a repository where it is not there; `revision` may be
    empty. Raises PathNotAllowed, and InvalidField for a name or a revision that no model can have.
    """
    path = _find(source, folders)
    if path is None and (not _REPOSITORY.fullmatch(source) or ".." in source):
        raise PathNotAllowed(source)
    if path is not None and revision:
        raise InvalidField("revision", "is of repositories, and the source is a path")
    try:
        if path is not None:
            return ModelConfig(name, path=str(path), preload=False)
        return ModelConfig(name, repo=source, revision=revision or None, preload=False)
    except ValueError as error:
        raise InvalidField("name", f"is refused: {error}") from error


def allowed_path(path: str, folders: Iterable[str]) -> Path:
    """The path of what a caller names under `folders`, its links followed. Raises PathNotAllowed."""
    found = _find(path, folders)
    if found is None:
        raise PathNotAllowed(path)
    return found


def _find(source: str, folders: Iterable[str]) -> Path | None:
    """The path with its links followed, if it is there. Raises PathNotAllowed for an absolute one that is outside."""
    absolute = Path(source).is_absolute()
    for root in (Path(folder).expanduser() for folder in folders):
        try:
            inside, place = root.resolve(), (root / source).resolve()
            if place.is_relative_to(inside) and (absolute or (place != inside and place.exists())):
                return place
        except (OSError, ValueError, RuntimeError):  # too long, a null byte, links in a circle
            continue
    if absolute:
        raise PathNotAllowed(source)
    return None
