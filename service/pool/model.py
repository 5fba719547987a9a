"""A model of the pool: what it is doing, who uses it, and its engine."""

import asyncio
import time
from collections.abc import Callable

from service.config import ModelConfig, ServiceConfig
from service.engine.frames import Cleared, Submit
from service.errors import QueueFull, ServiceError, Unavailable
from service.pool.engine import Engine
from service.pool.facts import ModelFacts
from service.pool.loras import Loras, LoraState
from service.pool.progress import LoadProgress
from service.pool.snapshot import Snapshot
from service.pool.state import ModelState
from service.pool.stream import Stream

_SILENT = "its engine does not answer"
_STARTING = "the service is starting"


class Model:
    """One model that the pool knows, in memory or not."""

    def __init__(
        self,
        config: ModelConfig,
        settings: ServiceConfig,
        notify: Callable[["Model"], None] = lambda _: None,
        account: Callable[["Model"], None] = lambda _: None,
    ) -> None:
        """`notify` is called after each change, that of its use included.

        `account` is called after each change of what its LoRAs take; it raises ModelTooLarge for what does not fit.
        """
        self.config = config
        self.loras = Loras(config.name, lambda: self.engine if self.is_open else None, lambda _: account(self))
        self.loras.configure(config.loras)
        self.state = ModelState.UNLOADED
        self.error = ""
        """Why it failed, or why it could not be loaded."""
        self.progress: LoadProgress | None = None
        self.facts: ModelFacts | None = None
        """None while it is not in memory."""
        self.engine: Engine | None = None
        self.pinned = config.pinned
        self.waiting = 0
        """Requests that wait until it is ready."""
        self.active = 0
        """Requests that use it."""
        self.reserved_bytes = 0
        self.measured_bytes = 0
        """What it takes without LoRAs, as its engine has said."""
        self.weights_bytes: int | None = None
        """What its weights will take, as far as is known."""
        self.leaving = False
        """Whether it is being unloaded."""
        self.awaited = False
        """Whether the service is not ready without it."""
        self.restarting = False
        """Whether its engine has died and is started again."""
        self.last_used = self.loaded_at = time.monotonic()
        self.version = 0
        """Grows with each change other than of its use."""
        self._settings = settings
        self._notify = notify
        self._changed = asyncio.Event()

    @property
    def name(self) -> str:
        """Its alias."""
        return self.config.name

    @property
    def in_use(self) -> int:
        """Requests that use it or wait for it."""
        return self.waiting + self.active

    @property
    def engine_pid(self) -> int | None:
        """Process id of its engine, if one runs."""
        return self.engine.pid if self.engine else None

    @property
    def running(self) -> int:
        """Sequences that run or wait in its engine."""
        return self.engine.running if self.engine else 0

    @property
    def is_open(self) -> bool:
        """Whether it takes requests."""
        return self.state is ModelState.READY and self.engine is not None

    @property
    def is_usable(self) -> bool:
        """Whether those that it has let in may go on."""
        return self.state in {ModelState.READY, ModelState.DRAINING} and self.engine is not None

    @property
    def is_serving(self) -> bool:
        """Whether its engine is ready and has been heard of lately."""
        if self.engine is None or self.state is not ModelState.READY:
            return False
        return self.engine.silent_s < self._settings.heartbeat_timeout_s

    @property
    def is_available(self) -> bool:
        """Whether a request for it can be expected to be answered: it serves, or would be loaded."""
        if self.state is ModelState.READY:
            return self.is_serving
        return not (self.awaited or self.restarting or self.state is ModelState.FAILED)

    @property
    def wants_engine(self) -> bool:
        """Whether it has no engine and may soon need one. One whose engine has died starts the next by itself."""
        return self.engine is None and not self.restarting and self.state is not ModelState.FAILED

    @property
    def is_evictable(self) -> bool:
        """Whether it may make room for others, once nobody uses it."""
        return self.is_open and not self.pinned and not self.leaving

    @property
    def ttl_s(self) -> float | None:
        """How long it stays when nobody uses it."""
        return self._settings.ttl_s if self.config.ttl_s is None else self.config.ttl_s

    @property
    def max_queued(self) -> int:
        """Requests that may wait for it."""
        return self._settings.max_queued

    def move(self, state: ModelState, error: str = "", progress: LoadProgress | None = None) -> None:
        """It does something else now."""
        self.state, self.error, self.progress = state, error, progress
        self.tell()

    def report(self, progress: LoadProgress) -> None:
        """How far it is with what it does."""
        if progress != self.progress:
            self.progress = progress
            self.tell()

    def tell(self) -> None:
        """Let those that wait for it, and the pool, know that it has changed."""
        self.version += 1
        self.touch()

    def touch(self) -> None:
        """As `tell`, where only its use has changed."""
        self._changed.set()
        self._changed = asyncio.Event()
        self._notify(self)

    async def changed(self) -> None:
        """Wait for the next change."""
        await self._changed.wait()

    def submit(self, submit: Submit) -> Stream:
        """Start a sequence on the engine, whatever number it has. Raises QueueFull, or Unavailable between engines.

        Unavailable also for a LoRA that could not be loaded with the model.
        """
        if self.engine is None or not self.is_usable:
            raise Unavailable(f"model {self.name!r} is being started again")
        self.loras.check(submit.lora)
        if self.engine.waiting(self._settings.max_running) >= self._settings.max_queued:
            raise QueueFull(self.name, self.engine.retry_after)
        return self.engine.submit(submit)

    async def clear_cache(self) -> Cleared:
        """Empty the prefix cache of its engine; what was in it, which is nothing where no engine is ready."""
        if self.engine is None or self.state is not ModelState.READY:
            return Cleared(0, 0)
        return await self.engine.clear_cache()

    def cut(self, error: ServiceError) -> None:
        """End its streams with an error."""
        if self.engine is not None:
            self.engine.cut(error)

    def snapshot(self) -> Snapshot:
        """What it is like now. An engine that does not answer is shown as one that is being loaded."""
        silent = self.state is ModelState.READY and not self.is_serving
        return Snapshot(
            config=self.config,
            state=ModelState.LOADING if silent else self.state,
            error=_SILENT if silent else self.error or (_STARTING if self.awaited else ""),
            facts=self.facts,
            pinned=self.pinned,
            in_use=self.in_use,
            memory_bytes=self.reserved_bytes,
            progress=self.progress,
            loras=tuple(lora.name for lora in self.loras.all if lora.state is not LoraState.LOADING),
        )
