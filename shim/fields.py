"""The types that fields of requests have. Ranges are the service's to judge; the document tells them."""

import re
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, GetCoreSchemaHandler, PlainValidator
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

_INT32_MIN, _INT32_MAX = -(2**31), 2**31 - 1
_MAX_STOPS = 4
_BEYOND = 2**63
_MAX_PROMPTS = 128
_MAX_BIASED = 16_384
_ID = "^(0|[1-9][0-9]{0,8})$"
"""One spelling for each id, so that no two keys of an object are the same token."""


def told(**keywords: Any) -> Any:
    """Tell of a range in the document. The service enforces it, over gRPC too."""
    return Field(json_schema_extra=keywords)


@dataclass(frozen=True, slots=True)
class AtMost:
    """Refuses a longer list unread, for the time that one takes of others. The service has the same bounds."""

    count: int

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Check the length first."""
        return core_schema.no_info_before_validator_function(self._checked, handler(source))

    def _checked(self, value: object) -> object:
        if isinstance(value, list) and len(value) > self.count:
            raise wrong_value(f"must have at most {self.count} entries")
        return value


def _whole(value: object) -> object:
    """Read 2.0 and 1e3 as the integers that JSON Schema takes them for."""
    if not isinstance(value, float) or not value.is_integer():
        return value
    if abs(value) >= _BEYOND:  # an integer of more than 64 bits is read as a float, which is not that number
        raise wrong_value("is out of range")
    return int(value)


Int32 = Annotated[int, Field(ge=_INT32_MIN, le=_INT32_MAX), BeforeValidator(_whole)]
Int64 = Annotated[int, Field(ge=-(2**63), le=2**63 - 1), BeforeValidator(_whole)]
Count = Annotated[Int32, told(minimum=0)]
Positive = Annotated[Int32, told(minimum=1)]
Choices = Annotated[Int32, told(minimum=1, maximum=128)]
Alternatives = Annotated[Int32, told(minimum=0, maximum=20)]
Temperature = Annotated[float, told(minimum=0, maximum=2)]
Penalty = Annotated[float, told(minimum=-2, maximum=2)]
RepetitionPenalty = Annotated[float, told(exclusiveMinimum=0, maximum=2)]
TopP = Annotated[float, told(exclusiveMinimum=0, maximum=1)]
MinP = Annotated[float, told(minimum=0, maximum=1)]
Effort = Annotated[str, told(enum=["none", "minimal", "low", "medium", "high"])]
Salt = Annotated[str, told(maxLength=256)]
TokenIds = Annotated[list[Count], Field(fail_fast=True), told(maxItems=1024), AtMost(1024)]
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


def _are_int32(values: list[Any]) -> bool:
    """Whether all are, found at the speed that lists of a million need."""
    return _are_integers(values) and (not values or (min(values) >= _INT32_MIN and max(values) <= _INT32_MAX))


def _are_integers(values: list[Any]) -> bool:
    return set(map(type, values)) <= {int}


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
    if len(value) > _MAX_BIASED:
        raise wrong_value(f"must have at most {_MAX_BIASED} tokens")
    bad = next((key for key in value if not re.fullmatch(_ID, key)), None)
    if bad is not None:
        raise wrong_value(f"{bad!r} is not a token id")
    return {int(key): bias for key, bias in value.items()}


def _prompts(value: object) -> list[Prompt]:
    if not isinstance(value, list) or not value or not isinstance(value[0], str | list):
        return [_prompt(value)]
    if len(value) > _MAX_PROMPTS:
        raise wrong_value(f"must have at most {_MAX_PROMPTS} prompts")
    first = type(value[0])
    if not all(type(each) is first for each in value):
        raise wrong_type("must be all strings or all lists of token ids")
    return [_prompt(each) for each in value]


def _prompt(value: object) -> Prompt:
    if isinstance(value, str) or (isinstance(value, list) and _are_int32(value)):
        return value
    integers: list[Any] = [_whole(each) for each in value] if isinstance(value, list) else [None]
    if not _are_integers(integers):
        raise wrong_type("must be a string, a list of strings, a list of token ids or a list of such lists")
    if not _are_int32(integers):
        raise wrong_value("has a token id that is out of range")
    return integers


def _only_null(value: object) -> None:
    if value is not None:
        raise unsupported("is not supported")


Unserved = Annotated[None, BeforeValidator(_only_null, json_schema_input_type=None)]
"""A field that would change the answer, and that nothing serves."""
_Stop = Annotated[str, Field(min_length=1, max_length=256)]
_StopJson = _Stop | Annotated[list[_Stop], Field(max_length=_MAX_STOPS)]
Stops = Annotated[list[str], BeforeValidator(_stops, json_schema_input_type=_StopJson)]
_BiasJson = Annotated[
    dict[str, Annotated[float, Field(ge=-100, le=100)]], told(propertyNames={"pattern": _ID}, maxProperties=_MAX_BIASED)
]
Bias = Annotated[dict[Int32, float], BeforeValidator(_bias, json_schema_input_type=_BiasJson)]
_TextJson = Annotated[str, Field(min_length=1)]
_TokensJson = Annotated[list[Count], Field(min_length=1)]
_PromptsJson = (
    _TextJson
    | _TokensJson
    | Annotated[list[_TextJson], Field(min_length=1, max_length=_MAX_PROMPTS)]
    | Annotated[list[_TokensJson], Field(min_length=1, max_length=_MAX_PROMPTS)]
)
Prompts = Annotated[list[Prompt], PlainValidator(_prompts, json_schema_input_type=_PromptsJson)]
# What the service compiles, whose size alone does not tell whether it can.
Regex = Annotated[str, told(format="regex", minLength=1)]
Grammar = Annotated[str, told(format="lark", minLength=1)]
Schema = dict[str, object]
ObjectText = Annotated[str, told(contentMediaType="application/json", contentSchema={"type": "object"})]
Options = Annotated[
    list[Annotated[str, told(minLength=1, maxLength=4096)]], Field(fail_fast=True), told(minItems=1), AtMost(4096)
]
