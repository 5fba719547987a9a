"""What callers may name as a model's source: repositories, and paths inside the folders that are for it."""

from collections.abc import Iterable
from pathlib import Path

from service.config import BUILT_IN_MODEL, BUILT_IN_SOURCE, ModelConfig, is_repository, is_revision
from service.errors import InvalidField, PathNotAllowed
from service.pool.folder import expanded


def named_model(name: str, source: str, revision: str, folders: Iterable[str]) -> ModelConfig:
    """The configuration of a model that a caller names, from a path under `folders`, a repository, or the built-in one.

    A relative path is looked for in each of the folders, and is a repository where it is not there; `revision` may be
    empty. Raises PathNotAllowed, and InvalidField for a name or a revision that no model can have.
    """
    path = _find(source, folders)
    is_built_in = path is None and source == BUILT_IN_SOURCE
    if path is None and not is_built_in and not is_repository(source):
        raise PathNotAllowed(source)
    if revision and (path is not None or is_built_in):
        raise InvalidField("revision", "is of repositories, and the source is none")
    if revision and not is_revision(revision):
        raise InvalidField("revision", "must be a branch, a tag or a commit")
    if is_built_in and name != BUILT_IN_MODEL:
        raise InvalidField("name", f"must be {BUILT_IN_MODEL!r} for the built-in model")
    try:
        if is_built_in:
            return ModelConfig(name, preload=False)
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
    for root in map(expanded, folders):
        try:
            inside, place = root.resolve(), (root / source).resolve()
            if place.is_relative_to(inside) and (absolute or (place != inside and place.exists())):
                return place
        except (OSError, ValueError, RuntimeError):  # too long, a null byte, links in a circle
            continue
    if absolute:
        raise PathNotAllowed(source)
    return None
