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

from service.config import BUILT_IN_MODEL, BUILT_IN_SOURCE, ModelConfig
from service.errors import SetupError
from service.pool import built_in
from service.pool.child import run_module
from service.pool.folder import check, expanded, find_gguf
from service.pool.settings_files import read_settings

_DEPTH = 3
"""How far down folders are looked through: OWNER/NAME/FILE."""
_FILES_A_CHECK = 200
_REPOSITORY = "models--"
_MOST_WORDS = 300
"""Characters of a fault, of which a file that is broken on purpose can have any number."""


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
    """What it can be called: its path below the folder, or OWNER/NAME, or OWNER/NAME/FILE.gguf for one of several."""
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
    def source(self) -> str:
        """What a caller names to load it."""
        match self.kind:
            case Kind.BUILT_IN:
                return BUILT_IN_SOURCE
            case Kind.REPOSITORY:
                return self.name
            case Kind.MLX | Kind.GGUF:
                return str(self.path)

    @property
    def is_servable(self) -> bool:
        """Whether nothing is known to be wrong with it."""
        return not self.fault


async def list_models(cache_dir: Path, folders: Sequence[str]) -> list[Entry]:
    """All models in the caches and below `folders`, by their names; nothing is loaded or fetched."""
    entries = await asyncio.to_thread(_look, cache_dir, folders)
    faults = await _gguf_faults([entry.path for entry in entries if entry.path.suffix == ".gguf"])
    judged = [_told(replace(entry, fault=entry.fault or faults.get(str(entry.path), ""))) for entry in entries]
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
    for root in filter(None, map(_resolved, folders)):
        entries += _below(root, root, 0)
    return [_named(entry) for entry in {entry.path: entry for entry in entries}.values()]


def _named(entry: Entry) -> Entry:
    try:
        _ = entry.config
    except ValueError as error:
        return replace(entry, fault=str(error))
    return entry


def _resolved(folder: str) -> Path | None:
    try:
        return expanded(folder).resolve()
    except (OSError, RuntimeError):  # links in a circle
        return None


def _told(entry: Entry) -> Entry:
    """It as it can be told over the wire: in UTF-8, which names on disk need not be, and in few words."""
    fault = entry.fault if len(entry.fault) <= _MOST_WORDS else f"{entry.fault[:_MOST_WORDS]}…"
    if (path := _text(str(entry.path))) != str(entry.path):
        fault = "its path is not UTF-8, so that no caller can name it"
    return replace(entry, name=_text(entry.name), path=Path(path), fault=_text(fault))


def _text(name: str) -> str:
    return os.fsencode(name).decode(errors="replace")


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
            revisions = [main.read_text(encoding="utf-8").strip()] if main.is_file() else []
        except (OSError, UnicodeDecodeError):
            revisions = []
        snapshots = [repository / "snapshots" / name for name in revisions]
        found = next((s for s in (*snapshots, *repository.glob("snapshots/*")) if s.is_dir()), None)
        if found is not None:
            yield from _repository(repository.name.removeprefix(_REPOSITORY).replace("--", "/"), found)


def _repository(name: str, folder: Path) -> Iterator[Entry]:
    """A repository, or each of its GGUF files where it has several and no model of MLX's."""
    ggufs = sorted(file for file in folder.rglob("*.gguf") if file.is_file())
    if len(ggufs) > 1 and not any(folder.glob("model*.safetensors")):
        for file in ggufs:
            yield Entry(f"{name}/{file.relative_to(folder)}", file, Kind.REPOSITORY, file.stat().st_size)
    else:
        gguf, fault = _judged(folder)
        yield Entry(name, gguf or folder, Kind.REPOSITORY, _size(folder), fault)


def _below(root: Path, folder: Path, depth: int) -> Iterator[Entry]:
    """The models under a folder; what its links lead out to is not there, as no caller may load it."""
    for place in sorted(_children(folder)):
        try:
            if place.resolve().is_relative_to(root):
                yield from _at(root, place, depth)
        except (OSError, RuntimeError):  # links in a circle, a place where nobody may look, or that is gone again
            continue


def _at(root: Path, place: Path, depth: int) -> Iterator[Entry]:
    """The model at a place, or those below it."""
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
        kind = read_settings(folder / "config.json").get("model_type")
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
