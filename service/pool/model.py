"""A model of the pool: its engine process, started again when it dies, and the streams that run on it."""

import asyncio
import enum
import itertools
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from service.adapters.chat_format import ChatFormat
from service.adapters.registry import get_adapter
from service.config import ModelConfig, ServiceConfig
from service.engine.frames import Abort, Event, Heartbeat, Loaded, Refused, Sampling, Step, Submit
from service.errors import QueueFull, SetupError, Unavailable
from service.pool.engine_process import EngineProcess
from service.pool.stream import Item, Stream
from service.text.tokenizer import Tokenizer

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


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What is known of a model once it was loaded."""

    loaded: Loaded
    tokenizer: Tokenizer
    format: ChatFormat
    context_length: int


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
        self._engine: EngineProcess | None = None
        self._streams: dict[int, Stream] = {}
        self._numbers = itertools.count(1)
        self._ready = asyncio.Event()
        self._waiting = 0
        self._turns_away = False
        self._last_heard = 0.0
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
        return len(self._streams)

    @property
    def is_serving(self) -> bool:
        """Whether its engine is ready and has been heard of lately."""
        silent = time.monotonic() - self._last_heard
        return self.state is ModelState.READY and silent < self._settings.heartbeat_timeout_s

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
        for stream in list(self._streams.values()):
            stream.fail(Unavailable("the server is shutting down"))
            self._abort(stream)

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

    def submit(
        self, prompt: list[int], sampling: Sampling, *, max_tokens: int, min_tokens: int, stop_ids: list[int]
    ) -> Stream:
        """Start a sequence on the engine. Raises QueueFull, or Unavailable between two engines."""
        if self._engine is None or self.state is not ModelState.READY:
            raise Unavailable(f"model {self.name!r} is being started again")
        if len(self._streams) >= self._settings.max_running + self._settings.max_queued:
            raise QueueFull(self.name)
        stream = Stream(next(self._numbers), self._abort)
        self._streams[stream.seq] = stream
        self._engine.send(Submit(stream.seq, prompt, sampling, max_tokens, min_tokens, stop_ids))
        return stream

    def _abort(self, stream: Stream) -> None:
        if self._streams.pop(stream.seq, None) is not None and self._engine is not None:
            self._engine.send(Abort(stream.seq))

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
        self._loaded: asyncio.Future[Loaded] = asyncio.get_running_loop().create_future()
        try:
            engine = await EngineProcess.start(self._arguments(folder), self._environment, self._receive)
        except OSError as error:  # no process or descriptor to be had, which may pass
            self.error = f"its engine cannot be started: {error.strerror or error}"
            self._lose_engine()
            return 0
        self._engine = engine
        since = None
        try:
            outcomes: list[asyncio.Future[Any]] = [engine.lost, self._loaded]
            await asyncio.wait(outcomes, return_when=asyncio.FIRST_COMPLETED)
            if self._loaded.done():
                self._facts = await asyncio.to_thread(self._learn, self._loaded.result())
                since = time.monotonic()
                self._set_state(ModelState.READY)
                log.info("model ready", model=self.name, adapter=self._facts.format.adapter.name, pid=engine.pid)
            while not engine.lost.done():
                await asyncio.wait([engine.lost], timeout=_CHECK_S)
                self._note_serving()
        except SetupError as error:
            self.error = str(error)
        finally:
            self._lose_engine()
            code = await engine.stop()
            log.log(logging.INFO if code == 0 else logging.ERROR, "engine ended", model=self.name, exit_code=code)
        return 0 if since is None else time.monotonic() - since

    def _lose_engine(self) -> None:
        """The engine is gone: end its streams, and let new requests wait for the next one."""
        self._engine = None
        if self.state is not ModelState.DRAINING:
            self._set_state(ModelState.FAILED if self.error else ModelState.LOADING)
        streams, self._streams = self._streams, {}
        for stream in streams.values():
            stream.fail(Unavailable(f"the engine of model {self.name!r} ended; the request may be sent again"))

    def _receive(self, event: Event) -> None:
        """Take an event of the engine; a step's rows go to their streams in this one call."""
        self._last_heard = time.monotonic()
        match event:
            case Step(rows, progress):
                self._deliver([*progress, *rows])
            case Loaded():
                self.error = ""
                self._loaded.set_result(event)
            case Refused(reason):
                self.error = reason
            case Heartbeat():
                pass

    def _deliver(self, items: Sequence[Item]) -> None:
        for item in items:
            if (stream := self._streams.get(item.seq)) is not None:
                stream.put(item)
                if stream.ended:
                    del self._streams[item.seq]

    def _learn(self, loaded: Loaded) -> ModelFacts:
        """Make what requests need of what the engine said; reads the tokenizer from disk."""
        tokenizer = Tokenizer.from_file(loaded.tokenizer_file)
        adapter = get_adapter(
            loaded.model_type,
            loaded.architectures,
            f"{self.name} {Path(self.config.source).name}",
            vocabulary=tokenizer,
            template=loaded.chat_template,
        )
        chat_format = ChatFormat.of(
            adapter,
            tokenizer,
            model=self.name,
            chat_template=loaded.chat_template,
            special_tokens=loaded.special_tokens,
            stop_ids=loaded.stop_ids,
        )
        context = min(loaded.context_length, self.config.context_length or loaded.context_length)
        return ModelFacts(loaded, tokenizer, chat_format, context)

    def _arguments(self, folder: Path) -> list[str]:
        settings = self._settings
        return [
            *("--model", str(folder)),
            *("--cache-dir", settings.cache_dir),
            *("--max-running", str(settings.max_running)),
            *("--prefill-chunk", str(settings.prefill_chunk)),
        ]

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
