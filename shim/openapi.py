"""Puts the request models into FastAPI's OpenAPI document, though the shim reads bodies by itself."""

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from shim.schemas import ChatRequest, CompletionRequest

_REF = "#/components/schemas/{model}"

JsonObject = dict[str, object]


def body_of(schema: type[BaseModel]) -> JsonObject:
    """Describe a route's request body, as an openapi_extra."""
    reference = {"$ref": _REF.format(model=schema.__name__)}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": reference}}}}


def document(app: FastAPI) -> JsonObject:
    """Make the OpenAPI document of the app."""
    made = get_openapi(title=app.title, version=app.version, routes=app.routes)
    _, definitions = models_json_schema(
        [(ChatRequest, "validation"), (CompletionRequest, "validation")], ref_template=_REF
    )
    made.setdefault("components", {}).setdefault("schemas", {}).update(definitions["$defs"])
    return made
