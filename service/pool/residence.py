"""One stay of a model in memory, from the wish for it until its last engine has ended."""

import asyncio
import contextlib
import time
from pathlib import Path

import structlog

from service.engine.frames import Load, Loaded
from service.errors import ModelTooLarge, ServiceError, SetupError, Unavailable
from service.pool.appraisal import appraise
from service.pool.catalogue import model_folder
from service.pool.engine import Engine
from service.pool.means import Means
from service.pool.model import Model
from service.pool.progress import LoadProgress, Stage
from service.pool.state import ModelState
from service.pool.supervisor import Supervisor
from service.pool.tidy import tidy

log = structlog.get_logger()

COOL_DOWN_S = 60.0
"""How long a model that has failed is not tried again for a request."""


class Outgrown(Exception):
    """A model takes more memory than was set aside for it, and others have the rest. The figure is in bytes."""

    def __init__(self, needed: int) -> None:
        super().__init__(needed)
        self.needed = needed


class Residence:
    """Runs by itself once it is made: fetches, reserves, loads, and keeps the model loaded until it has to leave."""

    def __init__(self, model: Model, others: list[Model], means: Means) -> None:
        """`others` are those that the model shares the memory with."""
        self.failure: ServiceError | None = None
        """Why nobody should wait for it; None where a new one may be begun."""
        self.failed_at = 0.0
        self._model = model
        self._others = others
        self._means = means
        self._leaving: asyncio.Task[None] | None = None
        self._begun = False
        self._ending = False
        model.restarting = model.leaving = False
        self._task = asyncio.create_task(self._run())

    @property
    def is_over(self) -> bool:
        """Whether the model is not in memory any more."""
        return self._task.done()

    @property
    def retry_after(self) -> float:
        """Seconds until one that has failed may be tried again for a request."""
        return max(0.0, self.failed_at + COOL_DOWN_S - time.monotonic())

    async def over(self) -> None:
        """Wait for its end."""
        await asyncio.wait([self._task])

    def leave(self, failure: ServiceError | None = None, *, force: bool = False) -> None:
        """Begin to end it: once those that use the model have ended, or at once, by `force`.

        Those that wait for it get `failure`, or with None wait until it is loaded again.
        """
        if self.is_over:
            return
        self.failure = self.failure or failure
        self._model.leaving = True
        self._model.move(ModelState.DRAINING, self._model.error)
        if self._leaving is None:
            self._leaving = asyncio.create_task(self._drain())
        if force:
            self._model.cut(failure or Unavailable(f"model {self._model.name!r} is being unloaded"))
            self._end()

    async def _drain(self) -> None:
        while self._model.active and self._model.engine is not None and not self._ending:
            await self._model.changed()
        self._end()

    def _end(self) -> None:
        if not self._ending:
            self._ending = True
            if self._begun:  # else there is nothing to end, and a task that is cancelled before it begins tells nobody
                self._task.cancel()

    async def _run(self) -> None:
        model, state = self._model, ModelState.UNLOADED
        self._begun = True
        try:
            if self._leaving is None:
                await self._stay()
        except asyncio.CancelledError:
            model.error = ""
        except ModelTooLarge as error:  # which may be otherwise when the next one asks
            self.failure, model.error = error, str(error)
        except SetupError as error:
            self._fail(str(error))
            state = ModelState.FAILED
        except Exception as error:  # a bug, after which nobody shall wait for ever
            log.exception("bug", model=model.name, exc_info=error)
            self._fail(f"model {model.name!r} has failed: {error}")
            state = ModelState.FAILED
        finally:
            model.facts = None
            model.leaving = model.restarting = False
            self._means.memory.release(model)
            model.move(state, model.error)
            tidy()

    def _fail(self, reason: str) -> None:
        self.failed_at = time.monotonic()
        self._model.error = reason
        self.failure = Unavailable(reason, retry_after=COOL_DOWN_S)

    async def _stay(self) -> None:
        model, means = self._model, self._means
        model.move(ModelState.DOWNLOADING, progress=LoadProgress(Stage.RESOLVING))
        folder = await model_folder(model.config, means.cache_dir, model.report)
        await means.know_device()
        await means.surveyed.wait()
        needed = await appraise(model, self._others, means, folder)
        try:
            await self._occupy(folder, needed)
        except Outgrown as outgrown:
            log.info("model takes more memory than expected", model=model.name, expected=needed, taken=outgrown.needed)
            means.memory.release(model)
            needed = outgrown.needed
        try:
            await self._occupy(folder, needed)
        except Outgrown as outgrown:
            available = means.memory.available(model)
            raise ModelTooLarge(model.name, outgrown.needed, available) from outgrown

    async def _occupy(self, folder: Path, needed: int) -> None:
        """Wait for memory, and keep the model in it."""
        model = self._model
        model.move(ModelState.LOADING)
        await self._means.memory.reserve(model, needed, model.report)
        model.report(LoadProgress(Stage.LOADING))
        try:
            await Supervisor(model, self._means, self._settled).run(self._load(folder, needed))
        except SetupError as error:
            raise SetupError(f"model {model.name!r} cannot be loaded from {folder}: {error}") from error

    async def _settled(self, engine: Engine, loaded: Loaded) -> None:
        """Put the LoRAs back, and what the engine takes in the place of what was expected."""
        means = self._means
        process = max(loaded.rss_bytes - loaded.weights_bytes, engine.hello.result().rss_bytes)
        means.process_bytes = max(means.process_bytes, process)
        self._model.weights_bytes = loaded.weights_bytes
        self._model.measured_bytes = loaded.weights_bytes + loaded.kv_bytes + process
        with contextlib.suppress(Unavailable):  # the engine has died meanwhile, and another one is started
            await self._model.loras.restore(engine)
        taken = self._model.measured_bytes + self._model.loras.bytes
        if not means.memory.adjust(self._model, taken):
            raise Outgrown(taken)

    def _load(self, folder: Path, reserved: int) -> Load:
        model, means = self._model, self._means
        return Load(
            folder=str(folder),
            cache_dir=means.settings.cache_dir,
            max_running=means.settings.max_running,
            reserved_bytes=reserved - model.loras.bytes,
            kv_bytes=means.kv_bytes(model),
            prefix_bytes=means.prefix_bytes(model),
            prefill_chunk=means.settings.prefill_chunk,
            trust_remote_code=model.config.trust_remote_code,
        )
