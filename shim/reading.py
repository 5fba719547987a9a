"""Reads a request's body by its schema, and blames the field that is wrong."""

from collections.abc import Mapping
from typing import TypeVar

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from shim import unserved
from shim.errors import ApiError, bad_request
from shim.schemas import GenerationRequest

_WHOLE = {"guided_json", "logit_bias", "prompt", "stop", "stop_token_ids"}
"""Fields that are blamed as a whole."""

_TAGS = {"messages": 1, "response_format": 0}
"""Where the place of a fault has the tag of a union's member, after the field's own name."""
_DEPRECATED = {"function": "is deprecated and not supported; use tool"}
"""Roles that OpenAI's API once had."""
_NO_MEMBER = ("union_tag_invalid", "union_tag_not_found")

T = TypeVar("T", bound=GenerationRequest)


def read(schema: type[T], body: Mapping[str, object]) -> T:
    """Check the JSON types of a request's body; ApiError 400 names the first field that is wrong."""
    try:
        asked = schema.model_validate(body)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise _blame(first) from error
    unserved.refuse(body, schema.unserved)
    return asked


def _blame(error: ErrorDetails) -> ApiError:
    param = _param(error)
    if error["type"] in ("missing", "union_tag_not_found"):
        return bad_request(f"{param} is required.", param, "missing_required_parameter")
    return bad_request(f"{param}: {_reason(error)}.", param, _code(error))


def _param(error: ErrorDetails) -> str:
    first, *rest = error["loc"]
    name = str(first)
    if name in _WHOLE:
        return name
    if name == "structured_outputs":  # of a union, pydantic adds the member that it tried
        rest = rest[:1]
    tag = _TAGS.get(name)
    if tag is not None and len(rest) > tag:
        del rest[tag]
    if error["type"] in _NO_MEMBER:
        rest.append(_discriminator(error))
    return name + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in rest)


def _reason(error: ErrorDetails) -> str:
    if error["type"] != "union_tag_invalid":
        return error["msg"]
    tag = _tag(error)
    if isinstance(tag, str) and tag in _DEPRECATED:
        return f"{tag} {_DEPRECATED[tag]}"
    return "must be one of " + str(error["ctx"]["expected_tags"]).replace("'", "")


def _code(error: ErrorDetails) -> str:
    match error["type"]:
        case "invalid_type" | "unsupported_parameter" as own:
            return own
        case "union_tag_invalid":
            return _code_of_tag(_tag(error))
        case "literal_error" if not isinstance(error["input"], str):  # all of ours are strings
            return "invalid_type"
        case kind:
            return "invalid_type" if kind.endswith("_type") else "invalid_value"


def _code_of_tag(tag: object) -> str:
    if not isinstance(tag, str):
        return "invalid_type"
    return "unsupported_parameter" if tag in _DEPRECATED else "invalid_value"


def _discriminator(error: ErrorDetails) -> str:
    return str(error["ctx"]["discriminator"]).strip("'")


def _tag(error: ErrorDetails) -> object:
    """What was sent where the name of a union's member is wanted."""
    return error["input"][_discriminator(error)]
