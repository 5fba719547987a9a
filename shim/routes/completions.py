"""POST /v1/completions."""

from fastapi import APIRouter, Request, Response

from shim import schemas, translate
from shim.body import read_object
from shim.caller import caller_of
from shim.context import Context
from shim.fold import TextPart
from shim.generation import Kind, answer
from shim.logs import record_of
from shim.openapi import body_of
from shim.respond import TextChunks

_KIND = Kind(TextChunks, TextPart, "text_completion")


def router(context: Context) -> APIRouter:
    """Make the routes of text completions."""
    routes = APIRouter()

    @routes.post("/v1/completions", openapi_extra=body_of(schemas.CompletionRequest))
    async def create(http: Request) -> Response:
        """Continue a prompt, as a stream of server-sent events where `stream` is true."""
        body = await read_object(http, context.config.max_body_bytes)
        asked = schemas.read(schemas.CompletionRequest, body)
        request = translate.completion(asked, record_of(http).request_id)
        caller = caller_of(http, asked.user)
        return await answer(http, request, lambda: context.replicas.generate(request.wire, caller), _KIND)

    return routes
