"""POST /api/chat/completions."""

from collections.abc import AsyncIterator
from http import HTTPStatus

from fastapi import APIRouter, Request, Response
from grpc import aio

from shim import schemas, translate, typed_events
from shim.body import read_object
from shim.caller import caller_of
from shim.context import Context
from shim.disconnect import unless_gone
from shim.errors import from_grpc
from shim.logs import record_of
from shim.openapi import described
from shim.reading import read
from shim.stream import StreamResponse

_DESCRIBED = described(schemas.TypedChatRequest, stream=typed_events.TypedEvent)


def router(context: Context) -> APIRouter:
    """Make the route of chats in typed events."""
    routes = APIRouter()

    @routes.post("/api/chat/completions", response_class=Response, openapi_extra=_DESCRIBED)
    async def create(http: Request) -> Response:
        """Answer a conversation in typed events, of which `done` is last where the answer is whole.

        A service that cannot be reached, or is too late, is told by an `error` event, all else by the status.
        """
        record = record_of(http)
        asked = read(schemas.TypedChatRequest, await read_object(http, context.config))
        request = translate.chat(asked, record.request_id)
        record.model = request.model
        caller = caller_of(http, asked.user or asked.safety_identifier)
        (call,) = request.wires
        keep_alive_s = context.config.keep_alive_s
        try:
            events = await unless_gone(http, context.replicas.chat(call, caller))
        except aio.AioRpcError as error:
            refusal = from_grpc(error, request.params)
            if refusal.status < HTTPStatus.INTERNAL_SERVER_ERROR:
                raise refusal from error
            last = typed_events.failed(typed_events.words_of(error), record)
            return StreamResponse(_only(last), lambda: None, keep_alive_s)
        record.request_id = events.started.request_id or record.request_id
        return StreamResponse(typed_events.written(events, record), events.close, keep_alive_s)

    return routes


async def _only(event: bytes) -> AsyncIterator[bytes]:
    yield event
