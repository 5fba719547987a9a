"""The types that fields of requests have: JSON types only, since ranges are the service's to judge."""

import re
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainValidator
from pydantic_core import PydanticCustomError

_INT32_MIN, _INT32_MAX = -(2**31), 2**31 - 1
_MAX_STOPS = 4
_INTEGER = re.compile(r"[+-]?[0-9]{1,10}")

Int32 = Annotated[int, Field(ge=_INT32_MIN, le=_INT32_MAX)]
Int64 = Annotated[int, Field(ge=-(2**63), le=2**63 - 1)]
Prompt = str | list[int]
"""A text, or token ids."""


class Fields(BaseModel):
    """The base of all that is read: nothing is converted, unknown fields are ignored."""

    model_config = ConfigDict(strict=True)


def wrong_type(text: str) -> PydanticCustomError:
    """Refuse a value for its JSON type."""
    return PydanticCustomError("invalid_type", "{text}", {"text": text})


def wrong_value(text: str) -> PydanticCustomError:
    """Refuse a value that has the right type."""
    return PydanticCustomError("invalid_value", "{text}", {"text": text})


def unsupported(text: str) -> PydanticCustomError:
    """Refuse a value that OpenAI's API knows and nothing here serves."""
    return PydanticCustomError("unsupported_parameter", "{text}", {"text": text})


def is_integer(value: object) -> bool:
    """Whether JSON would call it an integer; those beyond 64 bits arrive as floats."""
    huge = isinstance(value, float) and abs(value) >= 2**63
    return huge or (isinstance(value, int) and not isinstance(value, bool))


def _is_int32(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and _INT32_MIN <= value <= _INT32_MAX


def _stops(value: object) -> object:
    stops = [value] if isinstance(value, str) else value
    if not isinstance(stops, list) or not all(isinstance(stop, str) for stop in stops):
        raise wrong_type("must be a string or a list of strings")
    if len(stops) > _MAX_STOPS:
        raise wrong_value(f"must have at most {_MAX_STOPS} strings")
    return stops


def _bias(value: object) -> object:
    if not isinstance(value, dict):
        raise wrong_type("must be an object of token ids to numbers")
    bad = next((key for key in value if not (_INTEGER.fullmatch(key) and _is_int32(int(key)))), None)
    if bad is not None:
        raise wrong_value(f"{bad!r} is not a token id")
    return {int(key): bias for key, bias in value.items()}


def _prompts(value: object) -> list[Prompt]:
    if not isinstance(value, list) or not value or not isinstance(value[0], str | list):
        return [_prompt(value)]
    first = type(value[0])
    if not all(type(each) is first for each in value):
        raise wrong_type("must be all strings or all lists of token ids")
    return [_prompt(each) for each in value]


def _prompt(value: object) -> Prompt:
    if isinstance(value, str) or (isinstance(value, list) and all(map(_is_int32, value))):
        return value
    if isinstance(value, list) and all(map(is_integer, value)):
        raise wrong_value("has a token id that is out of range")
    raise wrong_type("must be a string, a list of strings, a list of token ids or a list of such lists")


def _only_null(value: object) -> None:
    if value is not None:
        raise unsupported("is not supported")


Unserved = Annotated[None, BeforeValidator(_only_null, json_schema_input_type=None)]
"""A field that would change the answer, and that nothing serves."""
_StopJson = str | Annotated[list[str], Field(max_length=_MAX_STOPS)]
Stops = Annotated[list[str], BeforeValidator(_stops, json_schema_input_type=_StopJson)]
Bias = Annotated[dict[Int32, float], BeforeValidator(_bias, json_schema_input_type=dict[str, float])]
_TextJson = Annotated[str, Field(min_length=1)]
_TokensJson = Annotated[list[Int32], Field(min_length=1)]
_PromptsJson = (
    _TextJson
    | _TokensJson
    | Annotated[list[_TextJson], Field(min_length=1)]
    | Annotated[list[_TokensJson], Field(min_length=1)]
)
Prompts = Annotated[list[Prompt], PlainValidator(_prompts, json_schema_input_type=_PromptsJson)]
