"""One engine, from its start to its end, and the sequences that run in it."""

import asyncio
import itertools
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from msgspec import structs

from service.engine.frames import (
    Abort,
    ClearCache,
    Cleared,
    Event,
    Heartbeat,
    Hello,
    Load,
    Loaded,
    Loading,
    LoadLora,
    LoraLoaded,
    LoraRefused,
    LoraUnloaded,
    Refused,
    Step,
    Submit,
    UnloadLora,
)
from service.errors import ServiceError, Unavailable
from service.pool.courtesy import NONE, Courtesy
from service.pool.engine_process import EngineProcess
from service.pool.queue import Queue
from service.pool.stream import Item, Stream

LoraAnswer = LoraLoaded | LoraUnloaded | LoraRefused


class Engine:
    """The service's view of an engine process, which is a spare until it is told to `load`.

    `hello` is done once it can be told so, and `loaded` once the model is; a dead engine is not used again.
    """

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.hello: asyncio.Future[Hello] = loop.create_future()
        self.loaded: asyncio.Future[Loaded] = loop.create_future()
        self.rss_bytes = 0
        """Memory that the process takes, as it said last."""
        self.refusal = ""
        """Why it did not load the model."""
        self._process: EngineProcess
        self._streams: dict[int, Stream] = {}
        self._queue = Queue()
        self._clearing: deque[asyncio.Future[Cleared]] = deque()
        self._answers: dict[str, deque[asyncio.Future[LoraAnswer]]] = {}
        """To commands about LoRAs, by their names."""
        self._numbers = itertools.count(1)
        self.heard = time.monotonic()
        """When something was last heard of it, on the monotonic clock."""
        self._report: Callable[[Loading], None] = lambda _: None

    @classmethod
    async def start(cls, environment: Mapping[str, str], courtesy: Courtesy = NONE) -> "Engine":
        """Start a process, see EngineProcess. Raises OSError where the machine has none to give."""
        engine = cls()
        engine._process = await EngineProcess.start(environment, engine._receive, courtesy)
        return engine

    @property
    def lost(self) -> asyncio.Future[None]:
        """Done once nothing more will come from it."""
        return self._process.lost

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def silent_s(self) -> float:
        """Seconds since it was last heard of."""
        return time.monotonic() - self.heard

    @property
    def running(self) -> int:
        """Sequences that run or wait in it."""
        return len(self._streams)

    @property
    def retry_after(self) -> float:
        """Seconds until it may have room for one more to wait."""
        return self._queue.retry_after

    def waiting(self, max_running: int) -> int:
        """How many of its sequences wait for a place among `max_running` choices."""
        choices = sum(stream.choices for seq, stream in self._streams.items() if seq not in self._queue)
        return self._queue.waiting(max_running - choices)

    def load(self, load: Load, report: Callable[[Loading], None]) -> None:
        """Let it load a model, once in its life; `report` hears how far it is."""
        self._report = report
        self._process.send(load)

    def submit(self, submit: Submit) -> Stream:
        """Start a sequence; its number is filled in."""
        stream = Stream(next(self._numbers), self._abort, choices=submit.choices)
        self._streams[stream.seq] = stream
        self._queue.join(stream.seq)
        self._process.send(structs.replace(submit, seq=stream.seq))
        return stream

    async def clear_cache(self) -> Cleared:
        """Empty the prefix cache; what was in it. With an engine that ends, it is gone too."""
        cleared = asyncio.get_running_loop().create_future()
        self._clearing.append(cleared)
        self._process.send(ClearCache())
        await asyncio.wait([cleared, self.lost], return_when=asyncio.FIRST_COMPLETED)
        return cleared.result() if cleared.done() else Cleared(0, 0)

    async def load_lora(self, name: str, path: str) -> LoraLoaded | LoraRefused:
        """Load a LoRA from a folder. Raises Unavailable where the engine ends meanwhile."""
        answer = await self._answer(name, LoadLora(name, path))
        assert not isinstance(answer, LoraUnloaded)  # noqa: S101 - answers come in the order of the commands
        return answer

    async def unload_lora(self, name: str) -> LoraUnloaded | LoraRefused:
        """Take a LoRA off. Raises Unavailable where the engine ends meanwhile."""
        answer = await self._answer(name, UnloadLora(name))
        assert not isinstance(answer, LoraLoaded)  # noqa: S101 - as above
        return answer

    def cut(self, error: ServiceError) -> None:
        """End all streams with an error, and their sequences."""
        for stream in list(self._streams.values()):
            stream.fail(error)
            self._abort(stream)

    def kill(self) -> None:
        """End the process at once."""
        self._process.kill()

    async def stop(self) -> int:
        """End the process, by force where it does not end by itself; its exit code, negative for a signal."""
        return await self._process.stop()

    async def _answer(self, name: str, command: LoadLora | UnloadLora) -> LoraAnswer:
        answer: asyncio.Future[LoraAnswer] = asyncio.get_running_loop().create_future()
        self._answers.setdefault(name, deque()).append(answer)
        self._process.send(command)
        outcomes: list[asyncio.Future[Any]] = [answer, self.lost]
        await asyncio.wait(outcomes, return_when=asyncio.FIRST_COMPLETED)
        if not answer.done():
            raise Unavailable("the engine of the model ended; the request may be sent again")
        return answer.result()

    def _answered(self, answer: LoraAnswer) -> None:
        waiting = self._answers[answer.name]
        waiting.popleft().set_result(answer)
        if not waiting:
            del self._answers[answer.name]

    def _abort(self, stream: Stream, choice: int | None = None) -> None:
        if stream.seq in self._streams:
            self._process.send(Abort(stream.seq, choice))
            if choice is None:
                self._forget(stream)

    def _forget(self, stream: Stream) -> None:
        self._streams.pop(stream.seq, None)
        self._queue.leave(stream.seq)

    def _receive(self, event: Event) -> None:
        """Take an event; what a step did goes to the streams in this one call."""
        self.heard = time.monotonic()
        match event:
            case Step():
                self._deliver(event)
            case Heartbeat(rss_bytes):
                self.rss_bytes = rss_bytes
            case Loading():
                self._report(event)
            case Hello():
                self.rss_bytes = event.rss_bytes
                self.hello.set_result(event)
            case Loaded():
                self.rss_bytes = event.rss_bytes
                self.loaded.set_result(event)
            case Refused(reason):
                self.refusal = reason
            case LoraLoaded() | LoraUnloaded() | LoraRefused():
                self._answered(event)
            case Cleared():
                self._clearing.popleft().set_result(event)

    def _deliver(self, step: Step) -> None:
        self._queue.turn()
        for progress in step.progress:
            self._queue.admit(progress.seq)
        items: Iterable[Item] = itertools.chain(step.queued, step.progress, step.rows)
        for item in items:
            if (stream := self._streams.get(item.seq)) is not None:
                stream.put(item)
                if stream.ended:
                    self._forget(stream)
