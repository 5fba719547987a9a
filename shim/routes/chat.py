"""POST /v1/chat/completions."""

from fastapi import APIRouter, Request, Response

from shim import schemas, shapes, translate
from shim.body import read_object
from shim.caller import caller_of
from shim.context import Context
from shim.fold import ChatPart
from shim.generation import Kind, answer
from shim.logs import record_of
from shim.openapi import described
from shim.reading import read
from shim.respond import ChatChunks

_KIND = Kind(ChatChunks, ChatPart, "chat.completion")
_DESCRIBED = described(
    schemas.ChatRequest, shapes.Completion[shapes.ChatChoice], stream=shapes.Completion[shapes.ChatDelta]
)


def router(context: Context) -> APIRouter:
    """Make the routes of chat completions."""
    routes = APIRouter()

    @routes.post("/v1/chat/completions", response_class=Response, openapi_extra=_DESCRIBED)
    async def create(http: Request) -> Response:
        """Answer a conversation, as a stream of server-sent events where `stream` is true."""
        asked = read(schemas.ChatRequest, await read_object(http, context.config))
        request = translate.chat(asked, record_of(http).request_id)
        caller = caller_of(http, asked.user or asked.safety_identifier)
        (call,) = request.wires
        return await answer(
            http, request, lambda: context.replicas.chat(call, caller), _KIND, context.config.keep_alive_s
        )

    return routes
