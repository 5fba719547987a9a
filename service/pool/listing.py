"""What is on disk: models in the caches and in the folders that are for models, and whether they can be served."""

import ast
import asyncio
import enum
import importlib.util
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from service.config import BUILT_IN_MODEL, ModelConfig
from service.errors import SetupError
from service.pool import built_in
from service.pool.child import run_module
from service.pool.folder import check, expanded, find_gguf, read_config

_DEPTH = 3
"""How far down folders are looked through: OWNER/NAME/FILE."""
_FILES_A_CHECK = 200
_REPOSITORY = "models--"


class Kind(enum.Enum):
    """What a model on disk is."""

    MLX = "mlx"
    GGUF = "gguf"
    REPOSITORY = "repository"
    """A repository in the hub's cache."""
    BUILT_IN = "built-in"


@dataclass(frozen=True, slots=True)
class Entry:
    """A model on disk."""

    name: str
    """What it can be called: its path below the folder, or OWNER/NAME."""
    path: Path
    kind: Kind
    size_bytes: int
    fault: str = ""
    """Why it cannot be served, in one line; empty where it looks as if it could."""

    @property
    def config(self) -> ModelConfig:
        """The configuration that serves it. Raises ValueError for a name that no model can have, which is a fault."""
        match self.kind:
            case Kind.BUILT_IN:
                return ModelConfig(self.name, preload=False)
            case Kind.REPOSITORY:
                return ModelConfig(self.name, repo=self.name, preload=False)
            case Kind.MLX | Kind.GGUF:
                return ModelConfig(self.name, path=str(self.path), preload=False)

    @property
    def is_servable(self) -> bool:
        """Whether nothing is known to be wrong with it."""
        return not self.fault


async def list_models(cache_dir: Path, folders: Sequence[str]) -> list[Entry]:
    """All models in the caches and below `folders`, by their names; nothing is loaded or fetched."""
    entries = await asyncio.to_thread(_look, cache_dir, folders)
    faults = await _gguf_faults([entry.path for entry in entries if entry.path.suffix == ".gguf"])
    judged = [replace(entry, fault=entry.fault or faults.get(str(entry.path), "")) for entry in entries]
    return sorted(judged, key=lambda entry: (entry.name, str(entry.path)))


async def _gguf_faults(files: Sequence[Path]) -> dict[str, str]:
    """What is wrong with each GGUF file. A program reads their headers, since only engines know the format."""
    faults: dict[str, str] = {}
    for first in range(0, len(files), _FILES_A_CHECK):
        part = [str(file) for file in files[first : first + _FILES_A_CHECK]]
        lines: list[str] = []
        outcome = await run_module("service.engine.gguf_check", *part, heard=lines.append)
        faults |= dict.fromkeys(part, "cannot be read")
        if outcome.code == 0:
            faults |= dict(map(json.loads, lines))
    return faults


def _look(cache_dir: Path, folders: Iterable[str]) -> list[Entry]:
    entries = [*_built_in(cache_dir), *_repositories(hub_cache())]
    for root in (expanded(folder).resolve() for folder in folders):
        entries += _below(root, root, 0)
    return [_named(entry) for entry in {entry.path: entry for entry in entries}.values()]


def _named(entry: Entry) -> Entry:
    try:
        _ = entry.config
    except ValueError as error:
        return replace(entry, fault=str(error))
    return entry


def _built_in(cache_dir: Path) -> Iterator[Entry]:
    folder = built_in.kept_under(cache_dir)
    if folder.is_dir():
        yield Entry(BUILT_IN_MODEL, folder, Kind.BUILT_IN, _size(folder))


def hub_cache() -> Path:
    """Where huggingface_hub keeps what it fetches: importing it to ask would cost more than all of this."""
    if place := os.environ.get("HF_HUB_CACHE"):
        return Path(place).expanduser()
    home = os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface"
    return Path(home).expanduser() / "hub"


def _repositories(cache: Path) -> Iterator[Entry]:
    """The repositories in the hub's cache, each at its main revision, else at any."""
    for repository in sorted(cache.glob(f"{_REPOSITORY}*")):
        main = repository / "refs" / "main"
        try:
            revisions = [main.read_text()] if main.is_file() else []
        except OSError:
            revisions = []
        snapshots = [repository / "snapshots" / name for name in revisions]
        found = next((s for s in (*snapshots, *repository.glob("snapshots/*")) if s.is_dir()), None)
        if found is not None:
            name = repository.name.removeprefix(_REPOSITORY).replace("--", "/")
            gguf, fault = _judged(found)
            yield Entry(name, gguf or found, Kind.REPOSITORY, _size(found), fault)


def _below(root: Path, folder: Path, depth: int) -> Iterator[Entry]:
    """The models under a folder; what its links lead out to is not there, as no caller may load it."""
    for place in sorted(_children(folder)):
        try:
            inside = place.resolve().is_relative_to(root)
        except (OSError, RuntimeError):  # links in a circle
            continue
        if not inside:
            continue
        name = str(place.relative_to(root))
        if place.suffix == ".gguf" and place.is_file():
            yield Entry(name.removesuffix(".gguf"), place, Kind.GGUF, place.stat().st_size)
        elif (place / "config.json").is_file():
            gguf, fault = _judged(place)
            yield Entry(name, gguf or place, Kind.GGUF if gguf else Kind.MLX, _size(place), fault)
        elif place.is_dir() and depth + 1 < _DEPTH:
            yield from _below(root, place, depth + 1)


def _children(folder: Path) -> list[Path]:
    try:
        return [place for place in folder.iterdir() if not place.name.startswith(".")]
    except OSError:
        return []


def _judged(folder: Path) -> tuple[Path | None, str]:
    """The GGUF file that a folder holds instead of a model of MLX's, and what is wrong with the folder."""
    try:
        if (gguf := find_gguf(folder)) is not None:
            return gguf, ""
        check(folder)
        kind = read_config(folder).get("model_type")
    except SetupError as error:
        return None, str(error)
    known = _model_types()
    return None, f"mlx-lm knows no model of type {kind!r}" if known and kind not in known else ""


@cache
def _model_types() -> frozenset[str]:
    """Types that mlx-lm has a module for, or another's; read from its files, as it is not for this process."""
    spec = importlib.util.find_spec("mlx_lm")
    if spec is None or spec.origin is None:
        return frozenset()
    library = Path(spec.origin).parent
    names = {file.stem for file in (library / "models").glob("*.py")}
    for node in ast.parse((library / "utils.py").read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "MODEL_REMAPPING":
            names |= set(ast.literal_eval(node.value))
    return frozenset(names)


def _size(folder: Path) -> int:
    """Bytes of the files in a folder, links followed."""
    size = 0
    for file in folder.rglob("*"):
        try:
            size += file.stat().st_size if file.is_file() else 0
        except OSError:
            continue
    return size
