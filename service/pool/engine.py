"""One engine, from its start to its end, and the sequences that run in it."""

import asyncio
import itertools
import time
from collections.abc import Mapping, Sequence

from service.engine.frames import Abort, Event, Heartbeat, Loaded, Refused, Sampling, Step, Submit
from service.errors import ServiceError
from service.pool.engine_process import EngineProcess
from service.pool.stream import Item, Stream


class Engine:
    """The service's view of an engine process. `loaded` is done once the model is; a dead engine is not used again."""

    def __init__(self) -> None:
        self.loaded: asyncio.Future[Loaded] = asyncio.get_running_loop().create_future()
        self.refusal = ""
        """Why it did not load the model."""
        self._process: EngineProcess
        self._streams: dict[int, Stream] = {}
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

    def submit(
        self, prompt: list[int], sampling: Sampling, *, max_tokens: int, min_tokens: int, stop_ids: list[int]
    ) -> Stream:
        """Start a sequence."""
        stream = Stream(next(self._numbers), self._abort)
        self._streams[stream.seq] = stream
        self._process.send(Submit(stream.seq, prompt, sampling, max_tokens, min_tokens, stop_ids))
        return stream

    def cut(self, error: ServiceError) -> None:
        """End all streams with an error, and their sequences."""
        for stream in list(self._streams.values()):
            stream.fail(error)
            self._abort(stream)

    async def stop(self) -> int:
        """End the process; its exit code, negative for a signal."""
        return await self._process.stop()

    def _abort(self, stream: Stream) -> None:
        if self._streams.pop(stream.seq, None) is not None:
            self._process.send(Abort(stream.seq))

    def _receive(self, event: Event) -> None:
        """Take an event; a step's rows go to their streams in this one call."""
        self._heard = time.monotonic()
        match event:
            case Step(rows, progress):
                self._deliver([*progress, *rows])
            case Loaded():
                self.loaded.set_result(event)
            case Refused(reason):
                self.refusal = reason
            case Heartbeat():
                pass

    def _deliver(self, items: Sequence[Item]) -> None:
        for item in items:
            if (stream := self._streams.get(item.seq)) is not None:
                stream.put(item)
                if stream.ended:
                    del self._streams[item.seq]
