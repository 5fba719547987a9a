"""POST /v1/completions."""

from fastapi import APIRouter, Request, Response

from mlx_grpc.v1.generation_pb2 import GenerateRequest, GenerateResponse
from shim import schemas, shapes, translate
from shim.body import read_object
from shim.caller import caller_of
from shim.client import Events, Replicas
from shim.context import Context
from shim.fold import TextPart
from shim.gathered import Gathered
from shim.generation import Kind, answer
from shim.logs import record_of
from shim.openapi import described
from shim.reading import read
from shim.respond import TextChunks
from shim.translate import Translated

_KIND = Kind(TextChunks, TextPart, "text_completion")
_TEXT = shapes.Completion[shapes.TextChoice]
_DESCRIBED = described(schemas.CompletionRequest, _TEXT, stream=_TEXT)


def router(context: Context) -> APIRouter:
    """Make the routes of text completions."""
    routes = APIRouter()

    @routes.post("/v1/completions", response_class=Response, openapi_extra=_DESCRIBED)
    async def create(http: Request) -> Response:
        """Continue prompts, as a stream of server-sent events where `stream` is true."""
        asked = read(schemas.CompletionRequest, await read_object(http, context.config))
        request = translate.completion(asked, record_of(http).request_id)
        caller = caller_of(http, asked.user)
        return await answer(
            http, request, lambda: _open(context.replicas, request, caller), _KIND, context.config.keep_alive_s
        )

    return routes


async def _open(
    replicas: Replicas, request: Translated[GenerateRequest], caller: str | None
) -> Events[GenerateResponse]:
    """Start the calls of all prompts."""
    openings = [replicas.generate(call, caller) for call in request.wires]
    if len(openings) == 1:
        return await openings[0]
    return await Gathered.open(openings, request.form.choices // len(openings), request.request_id)
