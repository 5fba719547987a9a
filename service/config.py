"""What the service is told on its command line and in its TOML file, as one frozen record."""

import math
import os
import re
import tomllib
from collections.abc import Collection
from pathlib import Path
from typing import Any, Literal

import msgspec

from service.errors import SetupError

BUILT_IN_MODEL = "smollm2-135m-instruct"
"""Alias of the model that is served where none is configured."""
BUILT_IN_SOURCE = "built-in"
"""Where that model comes from, in place of a path or a repository."""
DEFAULT_LISTEN = "127.0.0.1:50051"
_MAX_PORT = 65535
_REVISION = re.compile(r"\w[\w./+@#=-]{0,254}")
_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+(/[\w./-]+\.gguf)?")


def default_cache_dir() -> Path:
    """Where fetched and made files go: $MLX_GRPC_CACHE, else the user's cache folder."""
    if place := os.environ.get("MLX_GRPC_CACHE"):
        return Path(place)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mlx-grpc"


def is_revision(text: str) -> bool:
    """Whether a text can name a branch, a tag or a commit, and is no path to somewhere else."""
    return _REVISION.fullmatch(text) is not None and ".." not in text


def is_repository(text: str) -> bool:
    """Whether a text is written as OWNER/NAME, or as OWNER/NAME/FILE.gguf, and is no path to somewhere else."""
    return _REPOSITORY.fullmatch(text) is not None and ".." not in text


def _check_memory(kv_cache_bytes: int | None, prefix_cache_bytes: int | None) -> None:
    if kv_cache_bytes is not None and kv_cache_bytes < 1:
        raise ValueError("kv_cache_bytes must be at least 1")
    if prefix_cache_bytes is not None and prefix_cache_bytes < 0:
        raise ValueError("prefix_cache_bytes must be at least 0")


def _check_ttl(ttl_s: float | None) -> None:
    if ttl_s is not None and not 0 < ttl_s < math.inf:
        raise ValueError("ttl_s must be above 0")


class ModelConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One model: a local MLX folder (`path`), a Hugging Face repository (`repo`), or the built-in one (neither)."""

    name: str
    path: str | None = None
    repo: str | None = None
    revision: str | None = None
    context_length: int | None = None
    """In tokens; lowers what the model says."""
    kv_cache_bytes: int | None = None
    """Instead of the service's own setting, for this model."""
    prefix_cache_bytes: int | None = None
    """Instead of the service's own setting, for this model."""
    pinned: bool = False
    """Whether it stays in memory, whoever else needs room."""
    preload: bool = True
    """Whether it is loaded before the service says that it is ready; else the first request for it loads it."""
    ttl_s: float | None = None
    """Instead of the service's own setting, for this model."""
    trust_remote_code: bool = False
    """Whether a program that the model brings may be run."""
    loras: dict[str, str] = {}
    """Folders of the LoRAs that are loaded with it, by their names."""

    def __post_init__(self) -> None:
        if not self.name or any(character.isspace() for character in self.name):
            raise ValueError(f"a model's name must be a word, not {self.name!r}")
        if "" in (self.path, self.repo, self.revision):
            raise ValueError(f"model {self.name!r} must not have an empty path, repo or revision")
        if self.path is not None and self.repo is not None:
            raise ValueError(f"model {self.name!r} must have a path or a repo, not both")
        if self.path is None and self.repo is None and self.name != BUILT_IN_MODEL:
            raise ValueError(f"model {self.name!r} needs a path or a repo")
        if self.revision is not None and self.repo is None:
            raise ValueError(f"model {self.name!r} has a revision and no repo")
        if self.revision is not None and not is_revision(self.revision):
            raise ValueError(f"model {self.name!r} must have a revision that is a branch, a tag or a commit")
        if self.context_length is not None and self.context_length < 1:
            raise ValueError(f"model {self.name!r} must have a context_length of at least 1")
        _check_ttl(self.ttl_s)
        if any(not name or any(c.isspace() or c == ":" for c in name) or not path for name, path in self.loras.items()):
            raise ValueError(f"loras of model {self.name!r} must be folders by names, which are words without a colon")
        _check_memory(self.kv_cache_bytes, self.prefix_cache_bytes)

    @property
    def source(self) -> str:
        """Where the model comes from, for people."""
        return self.path or self.repo or BUILT_IN_SOURCE


class ServiceConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All that can be set. Times are in seconds."""

    listen: tuple[str, ...] = (DEFAULT_LISTEN,)
    models: tuple[ModelConfig, ...] = (ModelConfig(BUILT_IN_MODEL),)
    cache_dir: str = msgspec.field(default_factory=lambda: str(default_cache_dir()))
    max_running: int = 32
    """Choices that one model decodes at a time."""
    max_queued: int = 256
    """Requests that may wait until one model admits them."""
    memory_bytes: int | None = None
    """Memory for all models together, their keys and values and their processes; None is what the device has for it."""
    model_folders: tuple[str, ...] = ()
    """Folders whose models callers may name."""
    ttl_s: float | None = None
    """A model that nobody has used for so long is unloaded; None keeps it."""
    spare: Literal["auto", "always", "never"] = "auto"
    """Whether an engine process is kept ready for the next load; "auto" does while some model is not in memory."""
    prefill_chunk: int | None = None
    """Tokens of a prompt that one step processes at most; None lets the engine decide from the device."""
    kv_cache_bytes: int | None = None
    """Memory for keys and values, of each model; None is a fair part of what the weights leave."""
    prefix_cache_bytes: int | None = None
    """The part of it for prompts that may come again; 0 is none, None lets the engine decide."""
    engine_threads: int = 1
    """Threads of the BLAS library, where MLX computes on the CPU."""
    max_request_bytes: int = 16 << 20
    heartbeat_timeout_s: float = 30.0
    """An engine that is silent for longer is reported as not serving."""
    hang_timeout_s: float = 60.0
    """One that is silent for longer is killed and started again."""
    drain_s: float = 600.0
    """How long running streams may take to finish after SIGTERM."""
    log_level: str = "info"

    def __post_init__(self) -> None:
        if not self.listen:
            raise ValueError("listen must name at least one address")
        for address in self.listen:
            _check_address(address)
        _check_models(self.models)
        for name in (
            "max_running",
            "max_queued",
            "prefill_chunk",
            "engine_threads",
            "max_request_bytes",
            "memory_bytes",
        ):
            if (value := getattr(self, name)) is not None and value < 1:
                raise ValueError(f"{name} must be at least 1")
        _check_memory(self.kv_cache_bytes, self.prefix_cache_bytes)
        _check_ttl(self.ttl_s)
        if "" in self.model_folders:
            raise ValueError("model_folders must not have an empty path")
        for name in ("heartbeat_timeout_s", "hang_timeout_s", "drain_s"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0")
        if self.log_level not in {"debug", "info", "warning", "error"}:
            raise ValueError("log_level must be debug, info, warning or error")


def read_config(file: Path | None, flags: dict[str, Any]) -> ServiceConfig:
    """The settings in `file`, overridden by `flags`. Raises SetupError with one line that says what is wrong."""
    settings: dict[str, Any] = {}
    if file is not None:
        try:
            settings = tomllib.loads(file.read_text(encoding="utf-8"))
        except OSError as error:
            raise SetupError(f"cannot read {file}: {error.strerror}") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise SetupError(f"{file} is not TOML: {error}") from error
    try:
        return msgspec.convert(settings | flags, ServiceConfig)
    except msgspec.ValidationError as error:
        raise SetupError(f"{file or 'flags'}: {error}") from error


def parse_model(text: str) -> ModelConfig:
    """The model that `--model ALIAS=PATH_OR_HF_REPO` names. Raises SetupError.

    What exists on disk, or is written as a path, is one; what else looks like owner/name, or like owner/name/file.gguf,
    is a repository.
    """
    name, equals, source = text.partition("=")
    try:
        if not equals:
            if name != BUILT_IN_MODEL:
                raise SetupError(f"--model {text} is not ALIAS=SOURCE")
            return ModelConfig(name)
        is_path = source.startswith((".", "/", "~")) or not is_repository(source) or _exists(source)
        return ModelConfig(name, path=source) if is_path else ModelConfig(name, repo=source)
    except ValueError as error:
        raise SetupError(f"--model {text}: {error}") from error


def _exists(path: str) -> bool:
    try:
        return Path(path).exists()
    except OSError:  # too long, or where nobody may look
        return False


def _check_models(models: Collection[ModelConfig]) -> None:
    if not models:
        raise ValueError("models must name at least one model")
    names = [model.name for model in models]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ValueError(f"two models have the same name, {twice!r}")


def _check_address(address: str) -> None:
    if address.startswith("unix:"):
        if address == "unix:":
            raise ValueError("listen address 'unix:' names no path")
        return
    host, _, port = address.rpartition(":")
    if not host or not (port.isascii() and port.isdigit()):
        raise ValueError(f"listen address {address!r} is neither HOST:PORT nor unix:PATH")
    if len(port) > len(str(_MAX_PORT)) or int(port) > _MAX_PORT:
        raise ValueError(f"listen address {address!r} must have a port of 0 to {_MAX_PORT}")
