"""The LoRAs of a model: which there are, who uses them, and what they take."""

import asyncio
import contextlib
import enum
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

import structlog

from service.engine.frames import LoraLoaded, LoraRefused, LoraUnloaded
from service.errors import InvalidField, Unavailable, UnknownLora
from service.pool.folder import expanded

log = structlog.get_logger()

Result = TypeVar("Result")

_FILES = ("adapters.safetensors", "adapter_model.safetensors")
"""What its engine reads, the first that is there."""
_EXPANSION = 2
"""How many times as large as its file a LoRA may be in memory, as float32 that is 16 bits wide in the file."""


class LoraState(enum.StrEnum):
    """What a LoRA is doing."""

    LOADING = "loading"
    READY = "ready"
    DRAINING = "draining"
    """It finishes what runs and takes nothing new."""
    FAILED = "failed"
    """It could not be loaded again with its model."""


class LoraEngine(Protocol):
    """What is asked of the engine of a model. Both raise Unavailable where it ends meanwhile."""

    async def load_lora(self, name: str, path: str) -> LoraLoaded | LoraRefused:
        """Load a LoRA from a folder."""

    async def unload_lora(self, name: str) -> LoraUnloaded | LoraRefused:
        """Take it off."""


@dataclass(slots=True)
class Lora:
    """A LoRA of a model. It stays known while the model is not in memory."""

    name: str
    path: str
    state: LoraState
    rank: int = 0
    """The largest of its matrices; 0 before it was loaded once."""
    scale: float = 0.0
    bytes: int = 0
    """What it takes in memory, or is expected to."""
    in_use: int = 0
    """Requests that use it or wait for their model."""
    error: str = ""
    """Why it failed."""


class LoraLease:
    """A request's hold on a LoRA, which is not taken off before it is released. Leaving its `with` block does that."""

    def __init__(self, lora: Lora, released: Callable[[], None]) -> None:
        self.lora = lora
        self._released = released
        self._is_held = True
        lora.in_use += 1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def release(self) -> None:
        """Give it back; the second time does nothing."""
        if self._is_held:
            self._is_held = False
            self.lora.in_use -= 1
            self._released()


class Loras:
    """Loads and unloads the LoRAs of one model, and keeps their books."""

    def __init__(
        self, model: str, engine: Callable[[], LoraEngine | None], account: Callable[[int], None] = lambda _: None
    ) -> None:
        """`engine` gives that of the model, None where there is none that takes requests.

        `account` is told how many bytes all take, before each load and after each change; what it raises is why a LoRA
        cannot be loaded.
        """
        self._model = model
        self._engine = engine
        self._account = account
        self._loras: dict[str, Lora] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._released = asyncio.Event()

    @property
    def all(self) -> list[Lora]:
        """Those that there are, in the order in which they came."""
        return list(self._loras.values())

    @property
    def bytes(self) -> int:
        """What they take in memory."""
        return sum(lora.bytes for lora in self._loras.values())

    def configure(self, loras: dict[str, str]) -> None:
        """Let LoRAs be loaded with the model, from folders by their names."""
        for name, folder in loras.items():
            path = str(expanded(folder))
            self._loras[name] = Lora(name, path, LoraState.READY, bytes=_file_bytes(path))

    def acquire(self, name: str) -> LoraLease:
        """A hold on a LoRA that takes requests. Raises UnknownLora, and Unavailable for one that goes or has failed."""
        lora = self._loras.get(name)
        if lora is None or lora.state is LoraState.LOADING:
            raise UnknownLora(self._model, name)
        if lora.state is LoraState.DRAINING:
            raise Unavailable(f"LoRA {name!r} of model {self._model!r} is being unloaded")
        self.check(name)
        return LoraLease(lora, self._release)

    def check(self, name: str) -> None:
        """Raise Unavailable for a LoRA that has failed, as it may while a request that holds it waits for its model."""
        lora = self._loras.get(name)
        if lora is not None and lora.state is LoraState.FAILED:
            raise Unavailable(f"LoRA {name!r} of model {self._model!r} cannot be loaded: {lora.error}")

    async def load(self, name: str, path: str) -> Lora:
        """Put a LoRA on the model, which is in memory. It goes on when nobody waits for it any more.

        Raises InvalidField for a name that is taken and for a folder that cannot be used, and Unavailable.
        """
        known = self._loras.get(name)
        if known is not None and known.state is not LoraState.FAILED:
            raise InvalidField("name", f"is taken by a LoRA that is {known.state}")
        lora = self._loras[name] = Lora(name, path, LoraState.LOADING)
        return await self._shielded(asyncio.create_task(self._load(lora, known)))

    async def unload(self, name: str) -> None:
        """Take a LoRA off once nobody uses it, even when nobody waits for that any more.

        Raises UnknownLora, also for one that is not loaded yet.
        """
        lora = self._loras.get(name)
        if lora is None or lora.state is LoraState.LOADING:
            raise UnknownLora(self._model, name)
        lora.state = LoraState.DRAINING
        await self._shielded(asyncio.create_task(self._unload(lora)))

    async def restore(self, engine: LoraEngine) -> list[Lora]:
        """Load all on an engine that has just loaded the model; those that it refuses. Raises Unavailable."""
        refused, loaded = [], []
        for lora in self.all:
            if lora.state is LoraState.LOADING or not self._has(lora):
                continue
            answer = await engine.load_lora(lora.name, lora.path)
            if isinstance(answer, LoraRefused):
                log.error("LoRA refused", model=self._model, lora=lora.name, reason=answer.reason)
                lora.error, lora.bytes = answer.reason, 0
                lora.state = LoraState.FAILED if lora.state is not LoraState.DRAINING else lora.state
                refused.append(lora)
                continue
            self._loaded(lora, answer)
            loaded.append(lora)
        while gone := [lora for lora in loaded if not self._has(lora)]:  # unloaded meanwhile
            for lora in gone:
                loaded.remove(lora)
                await engine.unload_lora(lora.name)
        return refused

    async def _load(self, lora: Lora, failed: Lora | None) -> Lora:
        """Load a LoRA, in the place of one of its name that has `failed` and stays known where this fails too."""
        try:
            lora.bytes = await asyncio.to_thread(_file_bytes, lora.path)
            self._account(self.bytes)
            self._loaded(lora, _accepted(await self._ready_engine().load_lora(lora.name, lora.path)))
        except BaseException:
            if failed is None:
                del self._loras[lora.name]
            else:
                self._loras[lora.name] = failed
            self._account(self.bytes)
            raise
        self._account(self.bytes)
        log.info("LoRA ready", model=self._model, lora=lora.name, rank=lora.rank, bytes=lora.bytes)
        return lora

    def _loaded(self, lora: Lora, answer: LoraLoaded) -> None:
        lora.rank, lora.scale, lora.bytes, lora.error = answer.rank, answer.scale, answer.bytes, ""
        if lora.state is not LoraState.DRAINING:
            lora.state = LoraState.READY

    async def _unload(self, lora: Lora) -> None:
        while lora.in_use:
            await self._released.wait()
        if not self._has(lora):  # another call to unload it was faster
            return
        del self._loras[lora.name]
        engine = self._engine()
        try:
            if engine is not None:
                await engine.unload_lora(lora.name)
        except Unavailable:
            pass  # the engine has ended, and the LoRA with it
        finally:
            self._account(self.bytes)
        log.info("LoRA unloaded", model=self._model, lora=lora.name)

    def _has(self, lora: Lora) -> bool:
        return self._loras.get(lora.name) is lora

    def _ready_engine(self) -> LoraEngine:
        engine = self._engine()
        if engine is None:
            raise Unavailable(f"model {self._model!r} is being started again")
        return engine

    async def _shielded(self, task: asyncio.Task[Result]) -> Result:
        """What a task gives, which goes on when the caller is cancelled."""
        self._tasks.add(task)
        task.add_done_callback(self._finished)
        return await asyncio.shield(task)

    def _finished(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # told to the caller, unless that has left

    def _release(self) -> None:
        self._released.set()
        self._released = asyncio.Event()


def _accepted(answer: LoraLoaded | LoraRefused) -> LoraLoaded:
    if isinstance(answer, LoraRefused):
        raise InvalidField("path", f"has no LoRA that can be used: {answer.reason}")
    return answer


def _file_bytes(path: str) -> int:
    """What the LoRA in a folder may take, by the size of its file; 0 where there is none, which its engine will tell.

    Other files beside it are not read: mlx-lm keeps those of earlier steps there.
    """
    for name in _FILES:
        with contextlib.suppress(OSError):
            return _EXPANSION * (Path(path) / name).stat().st_size
    return 0
