"""Puts the request and error models into FastAPI's OpenAPI document, though the shim handles both by itself."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from shim.schemas import ChatRequest, CompletionRequest

_REF = "#/components/schemas/{model}"

JsonObject = dict[str, object]


class ErrorFields(BaseModel):
    """What went wrong; `param` names a field of the request."""

    message: str
    type: str
    param: str | None
    code: str | None


class Error(BaseModel):
    """OpenAI's error object."""

    error: ErrorFields


def _error(description: str) -> dict[str, Any]:
    schema = {"$ref": _REF.format(model=Error.__name__)}
    return {"description": description, "content": {"application/json": {"schema": schema}}}


# With a 4XX of its own a route is not given FastAPI's 422, which the shim never answers.
ERRORS: dict[int | str, dict[str, Any]] = {
    "4XX": _error("The request is refused"),
    "5XX": _error("The request failed, or cannot be taken now"),
}


def body_of(schema: type[BaseModel]) -> JsonObject:
    """Describe a route's request body and its refusal, as an openapi_extra."""
    reference = {"$ref": _REF.format(model=schema.__name__)}
    return {
        "requestBody": {"required": True, "content": {"application/json": {"schema": reference}}},
        "responses": {"400": _error("The body is not valid")},
    }


def document(app: FastAPI) -> JsonObject:
    """Make the OpenAPI document of the app."""
    made = get_openapi(title=app.title, version=app.version, routes=app.routes)
    _, definitions = models_json_schema(
        [(ChatRequest, "validation"), (CompletionRequest, "validation"), (Error, "serialization")], ref_template=_REF
    )
    made.setdefault("components", {}).setdefault("schemas", {}).update(definitions["$defs"])
    return made
