"""Models that share a memory, and a look at the processes that they run in."""

from pathlib import Path

import psutil

from service.config import ModelConfig
from service.pool.pool import ModelPool

MIB = 1 << 20
KV_BYTES = 16 * MIB
TWO = 360 * MIB
"""Memory for two of the models below, and not for three."""
ONE = 260 * MIB


def tiny(name: str, folder: Path, **settings: object) -> ModelConfig:
    """Configure a model that is not loaded before somebody asks for it."""
    return ModelConfig(name, path=str(folder), preload=False, kv_cache_bytes=KV_BYTES, **settings)  # type: ignore[arg-type]


def engines() -> list[psutil.Process]:
    """All engine processes of this process, dead ones that were not waited for too."""
    return [child for child in psutil.Process().children() if _is_engine(child)]


def _is_engine(child: psutil.Process) -> bool:
    if child.status() == psutil.STATUS_ZOMBIE:
        return True
    return "service.engine" in child.cmdline()


def descriptors() -> int:
    """How many files and sockets this process has open."""
    return psutil.Process().num_fds()


def check_books(pool: ModelPool) -> None:
    """The books agree with the models, and those with the processes."""
    assert sum(pool.budget.reserved.values()) <= pool.budget.total
    assert dict(pool.budget.reserved) == {model.name: model.reserved_bytes for model in pool.models if model.engine}
    known = {model.engine_pid for model in pool.models} | {pool.spare_pid}
    assert {engine.pid for engine in engines()} == known - {None}
