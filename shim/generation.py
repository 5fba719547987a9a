"""What chat and completions share: from a request that is translated to the HTTP response."""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

import orjson
from grpc import aio
from starlette.requests import Request
from starlette.responses import Response

from shim.client import E, Events, Q
from shim.disconnect import unless_gone
from shim.errors import ApiError, from_grpc
from shim.fold import Part, fold
from shim.form import Form
from shim.logs import RequestRecord, record_of
from shim.respond import Chunks
from shim.shapes import Completion, D, ObjectName
from shim.sse import DONE, ChunkWriter, event
from shim.stream import StreamResponse
from shim.translate import Translated

W = TypeVar("W")


@dataclass(frozen=True, slots=True)
class Kind(Generic[E, D, W]):
    """What a resource answers with: the choices D of a stream's chunks, or whole choices W."""

    chunks: type[Chunks[E, D]]
    part: Callable[[int], Part[D, W]]
    object_name: ObjectName


async def answer(
    http: Request,
    request: Translated[Q],
    opening: Callable[[], Awaitable[Events[E]]],
    kind: Kind[E, D, W],
    keep_alive_s: float,
) -> Response:
    """Start the generation and answer with its stream, or with the fold of it.

    Raises ApiError while the status can still be told: until the first event of a stream, until the
    end of a whole answer. Raises ClientGoneError where the client leaves before that.
    """
    record = record_of(http)
    record.model = request.model
    try:
        if request.form.stream:
            return await unless_gone(http, _stream(request, opening, kind, record, keep_alive_s))
        return await unless_gone(http, _whole(request, opening, kind, record))
    except aio.AioRpcError as error:
        raise from_grpc(error, request.params) from error


async def _stream(
    request: Translated[Q],
    opening: Callable[[], Awaitable[Events[E]]],
    kind: Kind[E, D, W],
    record: RequestRecord,
    keep_alive_s: float,
) -> Response:
    events = await opening()
    record.request_id = events.started.request_id or record.request_id
    chunks = kind.chunks(events, request.form)
    return StreamResponse(_sse(chunks, request, record), events.close, keep_alive_s)


async def _whole(
    request: Translated[Q], opening: Callable[[], Awaitable[Events[E]]], kind: Kind[E, D, W], record: RequestRecord
) -> Response:
    events = await opening()
    try:
        record.request_id = events.started.request_id or record.request_id
        chunks = kind.chunks(events, request.form)
        whole = chunks.completion(kind.object_name, await fold(chunks, kind.part, request.form.choices))
    finally:
        events.close()
    _conclude(record, chunks)
    whole["usage"] = chunks.usage
    return Response(orjson.dumps(whole), media_type="application/json")


async def _sse(chunks: Chunks[E, D], request: Translated[Q], record: RequestRecord) -> AsyncIterator[bytes]:
    empty = _empty(chunks, request.form)
    write = ChunkWriter(empty).write
    try:
        async for choice in chunks:
            yield write(choice)
    except aio.AioRpcError as error:
        yield _failed(from_grpc(error, request.params), record)
    except ApiError as error:
        yield _failed(error, record)
    else:
        _conclude(record, chunks)
        if request.form.include_usage:
            empty["usage"] = chunks.usage
            yield event(empty)
        yield DONE


def _empty(chunks: Chunks[E, D], form: Form) -> Completion[D]:
    """Make a chunk without choices."""
    empty: Completion[D] = chunks.completion(chunks.object_name, [])
    if form.include_usage:
        empty["usage"] = None
    return empty


def _failed(error: ApiError, record: RequestRecord) -> bytes:
    record.error = error.message
    return event(error.body)


def _conclude(record: RequestRecord, chunks: Chunks[E, D]) -> None:
    record.finish = chunks.finish[0] if len(chunks.finish) == 1 else chunks.finish
    if chunks.counted is not None:
        record.count(chunks.counted)
