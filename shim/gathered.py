"""Several prompts of one request: a call each, whose events are told as those of one."""

import asyncio
from collections.abc import AsyncIterator, Coroutine, Sequence

from grpc import aio

from mlx_grpc.v1.generation_pb2 import Completed, GenerateResponse, Started, Usage
from shim.client import EventStream
from shim.errors import ApiError, server_error

_AHEAD = 64
"""Events that are read before they are asked for; what comes after them waits in the service."""

Stream = EventStream[GenerateResponse]


class Gathered:
    """Events of several calls of `choices` choices each, whose indices follow one another, with one end."""

    def __init__(self, streams: Sequence[Stream], choices: int, request_id: str) -> None:
        self.started = Started(request_id=request_id, model=streams[0].started.model)
        self._streams = streams
        self._choices = choices
        self._queue: asyncio.Queue[GenerateResponse | Exception] = asyncio.Queue(_AHEAD)
        self._pumps: list[asyncio.Task[None]] = []

    @classmethod
    async def open(cls, openings: Sequence[Coroutine[None, None, Stream]], choices: int, request_id: str) -> "Gathered":
        """Wait for all to be admitted; where one is not, the others are cancelled and its error is raised."""
        tasks = [asyncio.create_task(opening) for opening in openings]
        try:
            return cls(await asyncio.gather(*tasks), choices, request_id)
        except BaseException:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            for task in tasks:
                if not task.cancelled() and task.exception() is None:
                    task.result().close()
            raise

    async def __aiter__(self) -> AsyncIterator[GenerateResponse]:
        """Yield the events of all; aio.AioRpcError where one call fails, ApiError where one ends too soon."""
        self._pumps = [asyncio.create_task(self._pump(place)) for place in range(len(self._streams))]
        usage = Usage()
        running = len(self._pumps)
        while running:
            event = await self._queue.get()
            if isinstance(event, Exception):
                self.close()
                raise event
            if event.WhichOneof("event") == "completed":
                running -= 1
                _add(usage, event.completed.usage)
            else:
                yield event
        yield GenerateResponse(completed=Completed(usage=usage))

    def close(self) -> None:
        """End all that still run."""
        for pump in self._pumps:
            pump.cancel()
        for stream in self._streams:
            stream.close()

    async def _pump(self, place: int) -> None:
        """Read one call to its end."""
        try:
            async for event in self._streams[place]:
                event.index += place * self._choices
                await self._queue.put(event)
                if event.WhichOneof("event") == "completed":
                    return
            await self._queue.put(server_error())
        except (aio.AioRpcError, ApiError) as error:
            await self._queue.put(error)


def _add(total: Usage, more: Usage) -> None:
    total.prompt_tokens += more.prompt_tokens
    total.completion_tokens += more.completion_tokens
    total.cached_tokens += more.cached_tokens
    total.reasoning_tokens += more.reasoning_tokens
