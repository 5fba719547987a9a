"""Keeps an engine running for a model that is in memory: start, watch, and start again."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, NoReturn

import msgspec
import structlog

from service.engine.frames import Load, Loaded, Loading
from service.errors import SetupError, Unavailable
from service.pool.courtesy import BACKGROUND, NONE, PACED, Courtesy
from service.pool.deaths import Deaths
from service.pool.engine import Engine
from service.pool.facts import ModelFacts
from service.pool.means import Means
from service.pool.model import Model
from service.pool.progress import LoadProgress, Stage
from service.pool.state import ModelState
from service.text.tokenizer import Tokenizer

log = structlog.get_logger()

_CHECK_S = 0.5
"""How often an engine is looked at."""
_IMPORT_S = 120.0
"""How long a process may be silent while it imports; on a busy machine it yields to others."""
_LEAK_FACTOR, _LEAK_BYTES = 1.25, 256 << 20
"""A process that takes more than so much of what was set aside for it, and so many bytes on top, is ended."""


class Supervisor:
    """The engines of a model, one after the other. It watches them by their heartbeats and by what memory they take."""

    def __init__(self, model: Model, means: Means, settled: Callable[[Engine, Loaded], Awaitable[None]]) -> None:
        """`settled` is awaited with each engine that has loaded the model, before anyone may use it."""
        self._model = model
        self._means = means
        self._settled = settled
        self._deaths = Deaths()
        self._reason = ""
        self._serving = (False, False)

    async def run(self, load: Load) -> NoReturn:
        """Keep an engine running until cancelled. Raises SetupError where that does not succeed, or not any more."""
        model = self._model
        while True:
            self._reason = ""
            ready_s = await self._live(load)
            reason = self._reason or "its engine ended"
            pause = self._deaths.add(ready_s)
            if pause is None:
                raise SetupError(f"{reason}, {self._deaths.count} times in a row")
            model.restarting = True
            model.move(ModelState.DRAINING if model.leaving else ModelState.LOADING, reason)
            await asyncio.sleep(pause)

    async def _live(self, load: Load) -> float:
        """The life of one engine; for how many seconds it was ready. Raises SetupError where it refuses the model."""
        model, courtesy = self._model, self._courtesy()
        try:
            engine = await self._means.spare.take(courtesy)
        except OSError as error:  # no process or descriptor to be had, which may pass
            self._reason = f"its engine cannot be started: {error.strerror or error}"
            log.warning(self._reason, model=model.name)
            return 0
        model.engine, since = engine, None
        watching = asyncio.create_task(self._watch(engine))
        tokenizer = asyncio.create_task(asyncio.to_thread(_tokenizer, model.facts, load.folder))
        try:
            if (loaded := await self._load(engine, _yielding(load, courtesy))) is not None:
                model.facts = await asyncio.to_thread(ModelFacts.of, model.config, loaded, await tokenizer)
                await self._settled(engine, loaded)
                if not engine.lost.done():
                    since = model.loaded_at = time.monotonic()
                    self._open(engine)
                    await engine.lost
            elif engine.refusal:
                raise SetupError(engine.refusal)
        finally:
            watching.cancel()
            tokenizer.cancel()  # where the engine has refused the model or is gone, nobody asks for it
            try:  # to await a task would take it for its own end when this one is cancelled meanwhile
                ends: list[asyncio.Future[Any]] = [watching, asyncio.gather(tokenizer, return_exceptions=True)]
                await asyncio.wait(ends)
            finally:
                await self._end(engine)
        return 0 if since is None else time.monotonic() - since

    def _courtesy(self) -> Courtesy:
        """What a start owes the streams of other models; a first one, for which somebody waits, does not pause."""
        if not self._means.is_busy():
            return NONE
        return PACED if self._model.restarting else BACKGROUND

    def _open(self, engine: Engine) -> None:
        model = self._model
        model.restarting = model.awaited = False
        if not model.leaving:
            model.move(ModelState.READY)
        assert model.facts is not None  # noqa: S101 - they have just been read
        log.info("model ready", model=model.name, adapter=model.facts.format.adapter.name, pid=engine.pid)

    async def _load(self, engine: Engine, load: Load) -> Loaded | None:
        """Let an engine load the model; None from one that does not come to it."""
        log.info("loading model", model=self._model.name, folder=load.folder, pid=engine.pid)
        engine.load(load, self._progress)
        outcomes: list[asyncio.Future[Any]] = [engine.lost, engine.loaded]
        await asyncio.wait(outcomes, return_when=asyncio.FIRST_COMPLETED)
        return engine.loaded.result() if engine.loaded.done() else None

    def _progress(self, loading: Loading) -> None:
        model = self._model
        if model.leaving:
            return
        if loading.stage == "warming":
            model.move(ModelState.WARMING, model.error, LoadProgress(Stage.WARMING))
        else:
            model.report(LoadProgress(Stage.LOADING, fraction=loading.fraction))

    async def _watch(self, engine: Engine) -> None:
        """End an engine that hangs or leaks, and tell when it falls silent and when it speaks again."""
        model, quiet_s, heard, looked = self._model, 0.0, engine.heard, time.monotonic()
        self._serving = (model.is_serving, model.is_available)
        while not engine.lost.done():
            await asyncio.wait([engine.lost], timeout=_CHECK_S)
            now = time.monotonic()
            # A service that was stopped itself has to listen before it judges.
            quiet_s = quiet_s + min(now - looked, 2 * _CHECK_S) if engine.heard == heard else 0.0
            heard, looked = engine.heard, now
            limit = int(model.reserved_bytes * _LEAK_FACTOR) + _LEAK_BYTES
            patience_s = self._means.settings.hang_timeout_s
            if quiet_s > (patience_s if engine.hello.done() else max(patience_s, _IMPORT_S)):
                self._kill(engine, f"its engine hung for {quiet_s:.0f} s")
            elif engine.rss_bytes > limit:
                self._kill(
                    engine, f"its engine took {engine.rss_bytes} bytes, of which {model.reserved_bytes} are its own"
                )
            self._note_serving()

    def _kill(self, engine: Engine, reason: str) -> None:
        self._reason = reason
        log.error("engine is killed", model=self._model.name, reason=reason, pid=engine.pid)
        engine.kill()

    def _note_serving(self) -> None:
        serving = (self._model.is_serving, self._model.is_available)
        if serving != self._serving:
            self._serving = serving
            self._model.tell()

    async def _end(self, engine: Engine) -> None:
        """Nothing more comes of an engine: end its streams, then its process."""
        model = self._model
        model.engine = None
        if model.state is ModelState.READY:
            model.restarting = True
            model.move(ModelState.LOADING, self._reason)
        engine.cut(Unavailable(f"the engine of model {model.name!r} ended; the request may be sent again"))
        code = await engine.stop()
        log.log(logging.INFO if code == 0 else logging.ERROR, "engine ended", model=model.name, exit_code=code)


def _tokenizer(facts: ModelFacts | None, folder: str) -> Tokenizer | None:
    """That of the engine before, or the folder's own if it has one, read while the engine reads the weights."""
    if facts is not None:
        return facts.tokenizer
    file = Path(folder) / "tokenizer.json"
    with contextlib.suppress(SetupError):
        return Tokenizer.from_file(file) if file.exists() else None
    return None


def _yielding(load: Load, courtesy: Courtesy) -> Load:
    return msgspec.structs.replace(load, yield_s=courtesy.background_s, pace_s=courtesy.paced_s)
