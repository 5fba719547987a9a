"""Completes FastAPI's OpenAPI document with what the shim reads and writes by itself."""

from typing import Any, Literal

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel, TypeAdapter

from shim import schemas, shapes, typed_events

_REF = "#/components/schemas/{model}"
_STREAMED = (
    "Server-sent events where `stream` is true: the data of each is such an object, and that of the last is [DONE]. "
    "An answer that fails ends with an error instead"
)

JsonObject = dict[str, Any]
Mode = Literal["serialization", "validation"]


class ErrorFields(BaseModel):
    """What went wrong; `param` names a field of the request."""

    message: str
    type: str
    param: str | None
    code: str | None


class Error(BaseModel):
    """OpenAI's error object."""

    error: ErrorFields


_REQUESTS: tuple[Any, ...] = (schemas.ChatRequest, schemas.CompletionRequest, schemas.TypedChatRequest)
_ANSWERS: tuple[Any, ...] = (
    Error,
    shapes.Completion[shapes.ChatChoice],
    shapes.Completion[shapes.ChatDelta],
    shapes.Completion[shapes.TextChoice],
    typed_events.TypedEvent,
)
_MODES: list[tuple[Any, Mode]] = [(kind, "validation") for kind in _REQUESTS]
_MODES += [(kind, "serialization") for kind in _ANSWERS]
# All in one, which is how those of one name get names of their own.
_SCHEMAS, _DEFINITIONS = TypeAdapter.json_schemas(
    [(kind, mode, TypeAdapter(kind)) for kind, mode in _MODES], ref_template=_REF
)


def _answer(kind: Any) -> JsonObject:
    return _SCHEMAS[kind, "serialization"]


def _error(description: str) -> JsonObject:
    return {"description": description, "content": {"application/json": {"schema": _answer(Error)}}}


# With a 4XX of its own a route is not given FastAPI's 422, which the shim never answers.
ERRORS: dict[int | str, JsonObject] = {
    "4XX": _error("The request is refused"),
    "5XX": _error("The request failed, or cannot be taken now"),
}


def described(asked: type[BaseModel], whole: Any = None, *, stream: Any) -> JsonObject:
    """Describe a route's body and answers as an openapi_extra; without `whole` there are streams only."""
    answers: JsonObject = {}
    if whole is not None:
        answers["application/json"] = {"schema": _answer(whole)}
        event = _event_of({"anyOf": [_answer(stream), _answer(Error)]}, "[DONE]")
    else:
        event = _event_of(_answer(stream))
    answers["text/event-stream"] = {"schema": event}
    description = f"The answer. {_STREAMED}." if whole is not None else "Server-sent events, each such an object."
    return {
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": _SCHEMAS[asked, "validation"]}},
        },
        "responses": {"200": {"description": description, "content": answers}, "400": _error("The body is not valid")},
    }


def _event_of(data: JsonObject, *others: str) -> JsonObject:
    """Describe a server-sent event, whose data is JSON text or one of some other texts."""
    text: JsonObject = {"type": "string", "contentMediaType": "application/json", "contentSchema": data}
    if others:
        text = {"anyOf": [{"enum": [*others]}, text]}
    return {"type": "object", "properties": {"data": text}, "required": ["data"]}


def document(app: FastAPI) -> JsonObject:
    """Make the OpenAPI document of the app."""
    made = get_openapi(title=app.title, version=app.version, routes=app.routes)
    schemas_of = made.setdefault("components", {}).setdefault("schemas", {})
    schemas_of.update(_DEFINITIONS["$defs"])
    return made
