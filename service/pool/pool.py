"""All models that the service knows, and which of them are in memory."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import structlog

from service.config import ServiceConfig
from service.engine.frames import Hello
from service.errors import ModelTooLarge, SetupError, Unavailable
from service.pool.appraisal import appraise
from service.pool.blas import engine_environment
from service.pool.budget import Budget
from service.pool.catalogue import foreseen_folder
from service.pool.idle import Idle
from service.pool.lease import Lease
from service.pool.means import Means
from service.pool.memory import Memory, Plan
from service.pool.model import Model
from service.pool.progress import LoadProgress, Stage
from service.pool.residence import Residence
from service.pool.roster import Roster
from service.pool.snapshot import Snapshot
from service.pool.spare import Spare
from service.pool.state import ModelState
from service.pool.survey import survey
from service.pool.watch import Watchers

log = structlog.get_logger()


class ModelPool:
    """The models by their aliases. `changed` is called whenever one begins or ceases to serve."""

    def __init__(self, config: ServiceConfig, changed: Callable[[], None]) -> None:
        self._config = config
        self._changed = changed
        self._serving: dict[str, tuple[bool, bool]] = {}
        self._versions: dict[str, int] = {}
        self._residences: dict[str, Residence] = {}
        self._watchers = Watchers()
        self._idle = Idle(self._expire)
        self._turns_away = False
        self._started = False
        self._spare = Spare(engine_environment(config.engine_threads), self._wants_spare)
        self._memory = Memory(Budget(config.memory_bytes or 0), lambda: self.models, self._evict)
        self._means = Means(config, self._memory, self._spare, lambda: any(m.running for m in self.models))
        self._roster = Roster(config, lambda model: Model(model, config, self._notify, self._memory.account))
        for model in self.models:
            model.awaited = model.config.preload

    @property
    def models(self) -> list[Model]:
        """In the order of the configuration; the first is the default one."""
        return self._roster.models

    @property
    def budget(self) -> Budget:
        """The books; their total is 0 until an engine has told how much there is, unless it is configured."""
        return self._memory.budget

    @property
    def hello(self) -> Hello | None:
        """What the first engine has said of the device and the libraries, once it has."""
        return self._means.hello

    @property
    def spare_pid(self) -> int | None:
        """Process id of the spare engine, if there is one."""
        return self._spare.pid

    def get(self, name: str) -> Model:
        """The model of an alias, the default one for none. Raises UnknownModel."""
        return self._roster.get(name)

    def enter(self, name: str) -> Lease:
        """A hold on a model, to wait with until it is ready, and to release.

        Raises UnknownModel, and QueueFull where too many wait for the model.
        """
        return Lease(self.get(name), self._residence)

    async def acquire(self, name: str) -> Lease:
        """A hold on a model that is ready, which is loaded if it has to be.

        Raises UnknownModel, QueueFull, and Unavailable or ModelTooLarge for a model that does not come.
        """
        lease = self.enter(name)
        try:
            await lease.ready()
        except BaseException:
            lease.release()
            raise
        return lease

    @asynccontextmanager
    async def lease(self, name: str) -> AsyncIterator[Model]:
        """A model that is ready and stays so inside the block. Raises as `acquire` does."""
        with await self.acquire(name) as lease:
            yield lease.model

    async def start(self) -> None:
        """Load the models that are to be there from the start, one after the other, unless they are unloaded meanwhile.

        Raises SetupError for the first that cannot be.
        """
        await survey(self.models, self._means)
        for model in self.models:
            if not model.awaited:
                continue
            with Lease(model, self._residence, bounded=False) as lease:
                try:
                    await lease.ready()
                except (Unavailable, ModelTooLarge) as error:
                    if model.awaited:
                        raise SetupError(model.error or str(error)) from error
        self._started = True
        self._spare.review()

    async def load(
        self, name: str, source: str = "", revision: str = "", *, pin: bool = False
    ) -> AsyncGenerator[LoadProgress]:
        """Bring a model into memory; how far it is, `READY` last. It goes on when nobody listens any more.

        One that is not known needs a `source`, a path or a repository, and is known from then on if it comes. Raises
        UnknownModel, PathNotAllowed, InvalidField, and Unavailable or ModelTooLarge for a model that does not come.
        """
        model = self._roster.find(name, source, revision)
        self._roster.add(model)
        self._forgive(model)
        if pin:
            self.pin(model.name)
        with Lease(model, self._residence, bounded=False) as lease:
            async for progress in lease.progress():
                yield progress
        yield LoadProgress(Stage.READY, fraction=1.0)

    async def plan(self, name: str, source: str = "", revision: str = "") -> Plan:
        """What a load would do. Of a repository that is not there only headers are fetched. Raises as `load` does."""
        model = self._roster.find(name, source, revision)
        if model.reserved_bytes:
            return self._memory.plan(model, model.reserved_bytes)
        await self._means.know_device()
        try:
            with TemporaryDirectory(prefix="mlx-grpc-") as scratch:
                folder = await foreseen_folder(model.config, self._means.cache_dir, Path(scratch))
                needed = await appraise(model, self._others(model), self._means, folder)
        except SetupError as error:
            raise Unavailable(str(error)) from error
        return self._memory.plan(model, needed)

    async def unload(self, name: str, *, force: bool = False) -> Model:
        """Take a model out of memory, once those that use it have ended, or by `force` at once; it is gone then.

        It is unloaded even when nobody waits for that any more. Raises UnknownModel.
        """
        model = self.get(name)
        model.awaited = False
        residence = self._residences.get(model.name)
        if residence is not None and not residence.is_over:
            residence.leave(Unavailable(f"model {model.name!r} is being unloaded"), force=force)
            await residence.over()
        elif model.state is not ModelState.UNLOADED:
            model.move(ModelState.UNLOADED)
        return model

    def pin(self, name: str) -> Model:
        """Keep a model in memory, whoever else needs room. Raises UnknownModel."""
        return self._set_pinned(name, pinned=True)

    def unpin(self, name: str) -> Model:
        """Let a model make room for others again. Raises UnknownModel."""
        return self._set_pinned(name, pinned=False)

    def watch(self) -> AsyncGenerator[Snapshot]:
        """The present state of each model, then each change."""
        return self._watchers.watch(lambda: [model.snapshot() for model in self.models])

    def turn_away(self) -> None:
        """Let nobody wait for a model that is not ready."""
        self._turns_away = True
        for model in self.models:
            model.tell()

    def cut(self) -> None:
        """End all streams as unavailable."""
        for model in self.models:
            model.cut(_closing())

    async def stop(self) -> None:
        """End all engines."""
        self._turns_away = True
        self._idle.close()
        for residence in self._residences.values():
            residence.leave(_closing(), force=True)
        await asyncio.gather(*(residence.over() for residence in self._residences.values()))
        await self._spare.stop()
        self._idle.close()

    def _others(self, model: Model) -> list[Model]:
        return [other for other in self.models if other is not model]

    def _residence(self, model: Model) -> Residence:
        """The stay of a model in memory, begun where there is none.

        Raises Unavailable where none may be begun now, and for a model that is not known any more.
        """
        residence = self._residences.get(model.name)
        if self._turns_away:
            raise _closing()
        if model not in self._roster:
            raise Unavailable(model.error or f"model {model.name!r} has been given up")
        if residence is not None and not residence.is_over:
            return residence
        if residence is not None and residence.retry_after > 0 and model.state is ModelState.FAILED:
            raise Unavailable(model.error, residence.retry_after)
        residence = self._residences[model.name] = Residence(model, self._others(model), self._means)
        return residence

    def _forget(self, model: Model) -> None:
        for known in (self._residences, self._versions, self._serving):
            known.pop(model.name, None)

    def _forgive(self, model: Model) -> None:
        """Let a model that has failed be tried again at once."""
        if model.state is ModelState.FAILED:
            model.move(ModelState.UNLOADED)

    def _set_pinned(self, name: str, *, pinned: bool) -> Model:
        model = self.get(name)
        if model.pinned != pinned:
            model.pinned = pinned
            model.tell()
        return model

    def _evict(self, model: Model) -> None:
        log.info("model makes room", model=model.name, in_use=model.in_use)
        self._residences[model.name].leave()

    def _expire(self, model: Model) -> None:
        log.info("model was not used for its time to live", model=model.name)
        self._residences[model.name].leave()

    def _wants_spare(self) -> bool:
        if self._config.spare != "auto" or self._turns_away:
            return self._config.spare == "always" and not self._turns_away
        return any(model.wants_engine for model in self.models)

    def _notify(self, model: Model) -> None:
        """A model, or its use, has changed."""
        if model not in self._roster:
            return
        self._idle.review(model)
        self._memory.wake()
        if self._versions.get(model.name) == model.version:
            return
        self._versions[model.name] = model.version
        self._watchers.tell(model.snapshot)
        if self._started:
            self._spare.review()
        if model.name in self._residences and self._roster.review(model):
            self._forget(model)
            self._changed()
            return
        serving = (model.is_serving, model.is_available)
        if serving != self._serving.get(model.name, (False, not model.awaited)):
            self._serving[model.name] = serving
            self._changed()


def _closing() -> Unavailable:
    return Unavailable("the server is shutting down")
