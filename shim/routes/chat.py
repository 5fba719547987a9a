"""POST /v1/chat/completions."""

from fastapi import APIRouter, Request, Response

from shim import schemas, translate
from shim.body import read_object
from shim.caller import caller_of
from shim.context import Context
from shim.fold import ChatPart
from shim.generation import Kind, answer
from shim.logs import record_of
from shim.openapi import body_of
from shim.respond import ChatChunks

_KIND = Kind(ChatChunks, ChatPart, "chat.completion")


def router(context: Context) -> APIRouter:
    """Make the routes of chat completions."""
    routes = APIRouter()

    @routes.post("/v1/chat/completions", openapi_extra=body_of(schemas.ChatRequest))
    async def create(http: Request) -> Response:
        """Answer a conversation, as a stream of server-sent events where `stream` is true."""
        body = await read_object(http, context.config.max_body_bytes)
        asked = schemas.read(schemas.ChatRequest, body)
        request = translate.chat(asked, record_of(http).request_id)
        caller = caller_of(http, asked.user)
        return await answer(http, request, lambda: context.replicas.chat(request.wire, caller), _KIND)

    return routes
