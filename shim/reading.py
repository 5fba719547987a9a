"""Reads a request's body by its schema, and blames the field that is wrong."""

from collections.abc import Mapping
from typing import TypeVar

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from shim import unserved
from shim.errors import ApiError, bad_request
from shim.fields import is_integer
from shim.schemas import GenerationRequest

_WHOLE = {"guided_json", "logit_bias", "prompt", "stop", "stop_token_ids"}
"""Fields that are blamed as a whole."""

T = TypeVar("T", bound=GenerationRequest)


def read(schema: type[T], body: Mapping[str, object]) -> T:
    """Check the JSON types of a request's body; ApiError 400 names the first field that is wrong."""
    try:
        asked = schema.model_validate(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        raise _blame(first) from error
    unserved.refuse(body, schema.unserved)
    return asked


def _blame(error: ErrorDetails) -> ApiError:
    param = _param(error["loc"])
    if error["type"] == "missing":
        return bad_request(f"{param} is required.", param, "missing_required_parameter")
    return bad_request(f"{param}: {error['msg']}.", param, _code(error))


def _param(place: tuple[int | str, ...]) -> str:
    first, *rest = place
    name = str(first)
    if name in _WHOLE:
        return name
    if name == "structured_outputs":  # of a union, pydantic adds the member that it tried
        rest = rest[:1]
    return name + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in rest)


def _code(error: ErrorDetails) -> str:
    match error["type"]:
        case "invalid_type" | "unsupported_parameter" as own:
            return own
        case "int_type" if is_integer(error["input"]):
            return "invalid_value"
        case "literal_error" if not isinstance(error["input"], str):  # all of ours are strings
            return "invalid_type"
        case kind:
            return "invalid_type" if kind.endswith("_type") else "invalid_value"
