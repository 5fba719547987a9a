"""One engine, from its start to its end, and the sequences that run in it."""

import asyncio
import itertools
import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence

from msgspec import structs

from service.engine.frames import Abort, ClearCache, Cleared, Event, Heartbeat, Loaded, Refused, Step, Submit
from service.errors import ServiceError
from service.pool.engine_process import EngineProcess
from service.pool.queue import Queue
from service.pool.stream import Item, Stream


class Engine:
    """The service's view of an engine process. `loaded` is done once the model is; a dead engine is not used again."""

    def __init__(self) -> None:
        self.loaded: asyncio.Future[Loaded] = asyncio.get_running_loop().create_future()
        self.refusal = ""
        """Why it did not load the model."""
        self._process: EngineProcess
        self._streams: dict[int, Stream] = {}
        self._queue = Queue()
        self._clearing: deque[asyncio.Future[Cleared]] = deque()
        self._numbers = itertools.count(1)
        self._heard = time.monotonic()

    @classmethod
    async def start(cls, arguments: Sequence[str], environment: Mapping[str, str]) -> "Engine":
        """Start a process with these command line arguments. Raises OSError where the machine has none to give."""
        engine = cls()
        engine._process = await EngineProcess.start(arguments, environment, engine._receive)
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
        return time.monotonic() - self._heard

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

    def cut(self, error: ServiceError) -> None:
        """End all streams with an error, and their sequences."""
        for stream in list(self._streams.values()):
            stream.fail(error)
            self._abort(stream)

    async def stop(self) -> int:
        """End the process; its exit code, negative for a signal."""
        return await self._process.stop()

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
        self._heard = time.monotonic()
        match event:
            case Step():
                self._deliver(event)
            case Loaded():
                self.loaded.set_result(event)
            case Refused(reason):
                self.refusal = reason
            case Cleared():
                self._clearing.popleft().set_result(event)
            case Heartbeat():
                pass

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
