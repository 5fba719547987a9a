"""A model as it was at one moment, for those that watch."""

from dataclasses import dataclass

from service.config import ModelConfig
from service.pool.facts import ModelFacts
from service.pool.progress import LoadProgress, Stage
from service.pool.state import ModelState


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What can be told of a model."""

    config: ModelConfig
    state: ModelState
    error: str
    facts: ModelFacts | None
    """None while it is not in memory."""
    pinned: bool
    in_use: int
    """Requests that use it or wait for it."""
    memory_bytes: int
    """What is set aside for it."""
    progress: LoadProgress | None
    """How far it is on its way into memory."""
    loras: tuple[str, ...] = ()
    """Names of those that it has, or will have once it is in memory."""

    @property
    def fraction(self) -> float:
        """How much of what it does is done, from 0 to 1."""
        if (progress := self.progress) is None:
            return 0.0
        if progress.stage is Stage.DOWNLOADING and progress.total_bytes:
            return progress.bytes / progress.total_bytes
        return progress.fraction

    @property
    def name(self) -> str:
        """Its alias."""
        return self.config.name
