"""A model of the pool: its engine process, started again when it dies, and the streams that run on it."""

import asyncio
import enum
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import structlog

from service.config import ModelConfig, ServiceConfig
from service.engine.frames import Cleared, Submit
from service.errors import QueueFull, SetupError, Unavailable
from service.pool.engine import Engine
from service.pool.facts import ModelFacts
from service.pool.stream import Stream

log = structlog.get_logger()

_CHECK_S = 0.5
"""How often an engine's heartbeat is looked at."""
_BACKOFF_S = (0.1, 0.5, 1, 2, 5, 10)
"""Pauses before an engine is started again, while it keeps dying."""
_STABLE_S = 30.0
"""An engine that has been ready for this long starts the pauses from the beginning."""


class ModelState(enum.Enum):
    """What a model is doing; the values are those of the wire's enum without its prefix."""

    DOWNLOADING = "DOWNLOADING"
    LOADING = "LOADING"
    READY = "READY"
    DRAINING = "DRAINING"
    FAILED = "FAILED"


class Model:
    """One configured model. `changed` is called whenever `state` or `is_serving` may have changed."""

    def __init__(
        self,
        config: ModelConfig,
        settings: ServiceConfig,
        environment: Mapping[str, str],
        changed: Callable[[], None],
    ) -> None:
        """`environment` is that of the engine process."""
        self.config = config
        self.state = ModelState.LOADING
        self.error = ""
        self._settings = settings
        self._environment = environment
        self._changed = changed
        self._facts: ModelFacts | None = None
        self._engine: Engine | None = None
        self._ready = asyncio.Event()
        self._waiting = 0
        self._turns_away = False
        self._was_serving = False
        self._supervisor: asyncio.Task[None] | None = None

    @property
    def name(self) -> str:
        """Its alias."""
        return self.config.name

    @property
    def facts(self) -> ModelFacts | None:
        """What is known of it; None before it was loaded for the first time."""
        return self._facts

    @property
    def engine_pid(self) -> int | None:
        """Process id of its engine, if one runs."""
        return self._engine.pid if self._engine else None

    @property
    def running(self) -> int:
        """Sequences that run or wait in its engine."""
        return self._engine.running if self._engine else 0

    @property
    def is_serving(self) -> bool:
        """Whether its engine is ready and has been heard of lately."""
        if self._engine is None or self.state is not ModelState.READY:
            return False
        return self._engine.silent_s < self._settings.heartbeat_timeout_s

    async def start(self, fetch: Callable[[], Awaitable[Path]]) -> None:
        """Load it from the folder that `fetch` gives, and keep it loaded.

        Raises SetupError if that fails this first time.
        """
        self._set_state(ModelState.DOWNLOADING)
        self._supervisor = asyncio.create_task(self._supervise(await fetch()))
        self._supervisor.add_done_callback(self._unsupervised)
        ready = asyncio.create_task(self._ready.wait())
        await asyncio.wait([ready, self._supervisor], return_when=asyncio.FIRST_COMPLETED)
        ready.cancel()
        if self._facts is None:
            await self._supervisor  # it raises once the failed engine has ended

    def turn_away(self) -> None:
        """Let nobody wait for it any more, unless it is ready."""
        self._turns_away = True
        self._ready.set()

    def cut(self) -> None:
        """End its streams as unavailable."""
        if self._engine is not None:
            self._engine.cut(Unavailable("the server is shutting down"))

    async def stop(self) -> None:
        """End its engine; streams that still run end as unavailable."""
        self._set_state(ModelState.DRAINING)
        if self._supervisor is not None:
            self._supervisor.cancel()
            await asyncio.wait([self._supervisor])

    async def ready(self) -> ModelFacts:
        """Wait until it takes requests. Raises QueueFull, or Unavailable for a model that does not come."""
        if not self._ready.is_set():
            if self._waiting >= self._settings.max_queued:
                raise QueueFull(self.name)
            self._waiting += 1
            try:
                await self._ready.wait()
            finally:
                self._waiting -= 1
        if self._facts is None or self.state is not ModelState.READY:
            raise Unavailable(f"model {self.name!r} is not available", retry_after=_BACKOFF_S[-1])
        return self._facts

    def submit(self, submit: Submit) -> Stream:
        """Start a sequence on the engine, whatever number it has. Raises QueueFull, or Unavailable between engines."""
        if self._engine is None or self.state is not ModelState.READY:
            raise Unavailable(f"model {self.name!r} is being started again")
        if self._engine.waiting(self._settings.max_running) >= self._settings.max_queued:
            raise QueueFull(self.name, self._engine.retry_after)
        return self._engine.submit(submit)

    async def clear_cache(self) -> Cleared:
        """Empty the prefix cache of its engine; what was in it, which is nothing where no engine is ready."""
        if self._engine is None or self.state is not ModelState.READY:
            return Cleared(0, 0)
        return await self._engine.clear_cache()

    async def _supervise(self, folder: Path) -> None:
        """Keep an engine running. Raises SetupError where the first one does not come up."""
        pauses = iter(_BACKOFF_S)
        while True:
            self._set_state(ModelState.LOADING)
            log.info("loading model", model=self.name, folder=str(folder))
            up_for = await self._run_engine(folder)
            if self._facts is None:
                reason = self.error or "its engine ended while it was loading"
                raise SetupError(f"model {self.name!r} cannot be loaded from {folder}: {reason}")
            if up_for > _STABLE_S:
                pauses = iter(_BACKOFF_S)
            await asyncio.sleep(next(pauses, _BACKOFF_S[-1]))

    def _unsupervised(self, supervisor: asyncio.Task[None]) -> None:
        """Nothing keeps an engine running any more: let nobody wait for one."""
        if not supervisor.cancelled() and (error := supervisor.exception()) is not None:
            if not isinstance(error, SetupError):
                log.error("bug", model=self.name, exc_info=error)
            self.error = self.error or str(error)
            self._set_state(ModelState.FAILED)

    async def _run_engine(self, folder: Path) -> float:
        """The life of one engine, from its start to its end, however that comes; how long it was ready, in seconds."""
        try:
            self._engine = engine = await Engine.start(self._arguments(folder), self._environment)
        except OSError as error:  # no process or descriptor to be had, which may pass
            reason = f"its engine cannot be started: {error.strerror or error}"
            log.warning(reason, model=self.name)
            self._lose_engine("" if self._facts else reason)
            return 0
        since, failure = None, ""
        try:
            outcomes: list[asyncio.Future[Any]] = [engine.lost, engine.loaded]
            await asyncio.wait(outcomes, return_when=asyncio.FIRST_COMPLETED)
            if engine.loaded.done():
                self._facts = await asyncio.to_thread(ModelFacts.of, self.config, engine.loaded.result())
                since, self.error = time.monotonic(), ""
                self._set_state(ModelState.READY)
                log.info("model ready", model=self.name, adapter=self._facts.format.adapter.name, pid=engine.pid)
            while not engine.lost.done():
                await asyncio.wait([engine.lost], timeout=_CHECK_S)
                self._note_serving()
        except SetupError as error:
            failure = str(error)
        finally:
            self._lose_engine(failure or engine.refusal)
            engine.cut(Unavailable(f"the engine of model {self.name!r} ended; the request may be sent again"))
            code = await engine.stop()
            log.log(logging.INFO if code == 0 else logging.ERROR, "engine ended", model=self.name, exit_code=code)
        return 0 if since is None else time.monotonic() - since

    def _lose_engine(self, failure: str) -> None:
        """The engine is gone: new requests wait for the next one, unless there was a `failure` to load the model."""
        self._engine = None
        self.error = failure
        if self.state is not ModelState.DRAINING:
            self._set_state(ModelState.FAILED if failure else ModelState.LOADING)

    def _arguments(self, folder: Path) -> list[str]:
        settings, own = self._settings, self.config
        flags = {
            "--model": folder,
            "--cache-dir": settings.cache_dir,
            "--max-running": settings.max_running,
            "--prefill-chunk": settings.prefill_chunk,
            "--kv-cache-bytes": _first(own.kv_cache_bytes, settings.kv_cache_bytes),
            "--prefix-cache-bytes": _first(own.prefix_cache_bytes, settings.prefix_cache_bytes),
        }
        return [part for flag, value in flags.items() if value is not None for part in (flag, str(value))]

    def _set_state(self, state: ModelState) -> None:
        self.state = state
        # A failed model lets its waiters go too: they learn that it failed.
        if self._turns_away or state in {ModelState.READY, ModelState.FAILED}:
            self._ready.set()
        else:
            self._ready.clear()
        self._note_serving()

    def _note_serving(self) -> None:
        if self._was_serving != self.is_serving:
            self._was_serving = self.is_serving
            self._changed()


def _first(own: int | None, general: int | None) -> int | None:
    """A model's own setting, else the service's; 0 is one too."""
    return general if own is None else own
