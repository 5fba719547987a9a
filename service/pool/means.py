"""What all models of a pool share on their way into memory."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from service.config import ServiceConfig
from service.engine.frames import Hello
from service.errors import SetupError
from service.pool.memory import Memory
from service.pool.model import Model
from service.pool.spare import Spare

_TRIES = 3
"""How many engines may end without a word, one after the other, before that is how it is on this machine."""
PROCESS_BYTES = 160 << 20
"""What a process takes beside weights and caches, before one has said so."""


@dataclass(slots=True)
class Means:
    """The settings, the memory and the processes; and what engines have said of the device so far."""

    settings: ServiceConfig
    memory: Memory
    spare: Spare
    is_busy: Callable[[], bool]
    """Whether some model generates now, to which a start has to yield."""
    hello: Hello | None = None
    """What the first engine has said of the device and the libraries."""
    process_bytes: int = PROCESS_BYTES
    surveyed: asyncio.Event = field(default_factory=asyncio.Event)
    """Set unless the models are being weighed before the first of them is loaded."""

    def __post_init__(self) -> None:
        self.surveyed.set()

    @property
    def on_cpu(self) -> bool:
        """Whether engines compute on the CPU, as far as is known."""
        return self.hello is None or self.hello.device == "cpu"

    @property
    def cache_dir(self) -> Path:
        """Where fetched and made files go."""
        return Path(self.settings.cache_dir)

    async def know_device(self) -> None:
        """Learn from an engine what it runs on, and how much memory it has for models, where that is not set.

        Raises SetupError where no engine can be started.
        """
        if self.hello is not None:
            return
        for _ in range(_TRIES):
            try:
                hello = await self.spare.hello()
            except OSError as error:
                raise SetupError(f"no engine can be started: {error.strerror or error}") from error
            if hello is not None:
                break
        else:
            raise SetupError(f"an engine ended before it had said a word, {_TRIES} times in a row")
        self.hello = hello
        self.process_bytes = max(self.process_bytes, hello.rss_bytes)
        if self.settings.memory_bytes is None:
            self.memory.budget.total = hello.room_bytes

    def kv_bytes(self, model: Model) -> int | None:
        """What is set for a model's keys and values: its own setting, else the service's."""
        return _first(model.config.kv_cache_bytes, self.settings.kv_cache_bytes)

    def prefix_bytes(self, model: Model) -> int | None:
        """The part of them that is set for prefixes."""
        return _first(model.config.prefix_cache_bytes, self.settings.prefix_cache_bytes)


def _first(own: int | None, general: int | None) -> int | None:
    """A model's own setting, else the service's; 0 is one too."""
    return general if own is None else own
