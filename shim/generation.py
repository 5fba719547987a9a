"""What chat and completions share: from a request that is translated to the HTTP response."""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

import orjson
from grpc import aio
from sse_starlette import EventSourceResponse
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from shim.client import E, EventStream, Q
from shim.disconnect import unless_gone
from shim.errors import ApiError, ErrorBody, from_grpc
from shim.fold import Part, fold
from shim.logs import RequestRecord, record_of
from shim.params import Params
from shim.respond import Chunks
from shim.shapes import Completion, D
from shim.translate import Translated

W = TypeVar("W")

_DONE = b"data: [DONE]\n\n"


@dataclass(frozen=True, slots=True)
class Kind(Generic[E, D, W]):
    """What a resource answers with: chunks with choices D of a stream, or whole choices W."""

    chunks: type[Chunks[E, D]]
    part: Callable[[int], Part[D, W]]
    object_name: str


async def answer(
    http: Request, request: Translated[Q], opening: Callable[[], Awaitable[EventStream[E]]], kind: Kind[E, D, W]
) -> Response:
    """Start the generation and answer with its stream, or with the fold of it.

    Raises ApiError while the status can still be told: until the first event of a stream, until the
    end of a whole answer. Raises ClientGoneError where the client leaves before that.
    """
    record = record_of(http)
    record.model = request.wire.model
    try:
        if request.stream:
            return await unless_gone(http, _stream(request, opening, kind, record))
        return await unless_gone(http, _whole(request, opening, kind, record))
    except aio.AioRpcError as error:
        raise from_grpc(error, request.params) from error


async def _stream(
    request: Translated[Q], opening: Callable[[], Awaitable[EventStream[E]]], kind: Kind[E, D, W], record: RequestRecord
) -> Response:
    events = await opening()
    record.request_id = events.started.request_id or record.request_id
    chunks = kind.chunks(events, request.choices, include_usage=request.include_usage)
    return _StreamResponse(_sse(chunks, request.params, record), events)


async def _whole(
    request: Translated[Q], opening: Callable[[], Awaitable[EventStream[E]]], kind: Kind[E, D, W], record: RequestRecord
) -> Response:
    events = await opening()
    try:
        record.request_id = events.started.request_id or record.request_id
        chunks = kind.chunks(events, request.choices, include_usage=True)
        whole = await fold(chunks, kind.object_name, kind.part, request.choices)
    finally:
        events.close()
    _conclude(record, chunks)
    return Response(orjson.dumps(whole), media_type="application/json")


class _StreamResponse(EventSourceResponse):
    """A stream that ends its generation however it ends itself, even before its first chunk."""

    def __init__(self, body: AsyncIterator[bytes], events: EventStream[E]) -> None:
        super().__init__(body, sep="\n")
        self._close = events.close

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._close()


async def _sse(chunks: Chunks[E, D], params: Params, record: RequestRecord) -> AsyncIterator[bytes]:
    try:
        async for chunk in chunks:
            yield _event(chunk)
    except aio.AioRpcError as error:
        yield _failed(from_grpc(error, params), record)
    except ApiError as error:
        yield _failed(error, record)
    else:
        _conclude(record, chunks)
        yield _DONE


def _event(value: Completion[D] | ErrorBody) -> bytes:
    return b"data: " + orjson.dumps(value) + b"\n\n"


def _failed(error: ApiError, record: RequestRecord) -> bytes:
    record.error = error.message
    return _event(error.body)


def _conclude(record: RequestRecord, chunks: Chunks[E, D]) -> None:
    record.finish = chunks.finish[0] if len(chunks.finish) == 1 else chunks.finish
    if chunks.usage is not None:
        record.prompt_tokens = chunks.usage["prompt_tokens"]
        record.completion_tokens = chunks.usage["completion_tokens"]
        record.reasoning_tokens = chunks.usage["completion_tokens_details"]["reasoning_tokens"]
