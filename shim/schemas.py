"""What the shim reads of OpenAI's requests: JSON types only, since ranges are the service's to judge.

Null means the default everywhere, and unknown fields are ignored.
"""

import re
from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainValidator, ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError

from shim.errors import ApiError, bad_request

_INT32_MIN, _INT32_MAX = -(2**31), 2**31 - 1
Int32 = Annotated[int, Field(ge=_INT32_MIN, le=_INT32_MAX)]
Int64 = Annotated[int, Field(ge=-(2**63), le=2**63 - 1)]
_MAX_STOPS = 4
_WHOLE = {"logit_bias", "prompt", "stop", "stop_token_ids"}  # fields that are blamed as a whole
_INTEGER = re.compile(r"[+-]?[0-9]{1,10}")

T = TypeVar("T", bound=BaseModel)


def _wrong_type(text: str) -> PydanticCustomError:
    return PydanticCustomError("invalid_type", "{text}", {"text": text})


def _wrong_value(text: str) -> PydanticCustomError:
    return PydanticCustomError("invalid_value", "{text}", {"text": text})


def _unsupported(text: str) -> PydanticCustomError:
    return PydanticCustomError("unsupported_parameter", "{text}", {"text": text})


def _parts(value: object) -> object:
    if isinstance(value, str):
        return [{"type": "text", "text": value}]
    if value is None or isinstance(value, list):
        return value
    raise _wrong_type("must be a string or a list of content parts")


def _stops(value: object) -> object:
    stops = [value] if isinstance(value, str) else value
    if not isinstance(stops, list) or not all(isinstance(stop, str) for stop in stops):
        raise _wrong_type("must be a string or a list of strings")
    if len(stops) > _MAX_STOPS:
        raise _wrong_value(f"must have at most {_MAX_STOPS} strings")
    return stops


def _is_int32(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and _INT32_MIN <= value <= _INT32_MAX


def _is_integer(value: object) -> bool:
    # JSON's integers beyond 64 bits arrive as floats.
    huge = isinstance(value, float) and abs(value) >= 2**63
    return huge or (isinstance(value, int) and not isinstance(value, bool))


def _bias(value: object) -> object:
    if not isinstance(value, dict):
        raise _wrong_type("must be an object of token ids to numbers")
    bad = next((key for key in value if not (_INTEGER.fullmatch(key) and _is_int32(int(key)))), None)
    if bad is not None:
        raise _wrong_value(f"{bad!r} is not a token id")
    return {int(key): bias for key, bias in value.items()}


def _prompt(value: object) -> object:
    if isinstance(value, list) and value and isinstance(value[0], str | list):
        if len(value) > 1:
            raise _unsupported("several prompts in one request are not supported; send one")
        value = value[0]
    if isinstance(value, str) or (isinstance(value, list) and all(map(_is_int32, value))):
        return value
    if isinstance(value, list) and all(map(_is_integer, value)):
        raise _wrong_value("has a token id that is out of range")
    raise _wrong_type("must be a string or a list of token ids")


def _tool_choice(value: object) -> object:
    if value in ("none", "auto", "required"):
        return {"type": value}
    if isinstance(value, dict) and value.get("type") == "function":
        return value
    wrong = _wrong_value if isinstance(value, str | dict) else _wrong_type
    raise wrong("must be none, auto, required or an object that names a function")


class _Schema(BaseModel):
    model_config = ConfigDict(strict=True)


class TextPart(_Schema):
    """A part of a message's content; text is the only type."""

    type: Literal["text"]
    text: str


class FunctionCall(_Schema):
    """The function of a tool call, with its arguments as JSON text."""

    name: str
    arguments: str


class ToolCall(_Schema):
    """A call that the assistant made."""

    id: str
    type: Literal["function"] = "function"
    function: FunctionCall


class Message(_Schema):
    """One message of a conversation."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Annotated[
        list[TextPart] | None,
        Field(fail_fast=True),
        BeforeValidator(_parts, json_schema_input_type=str | list[TextPart] | None),
    ] = None
    name: str | None = None
    tool_calls: list[ToolCall] | None = Field(None, fail_fast=True)
    tool_call_id: str | None = None
    reasoning_content: str | None = None


class Function(_Schema):
    """A function that the model may call."""

    name: str
    description: str | None = None
    parameters: dict[str, object] | None = None
    strict: bool | None = None


class Tool(_Schema):
    """A tool; functions are the only type."""

    type: Literal["function"]
    function: Function


class FunctionName(_Schema):
    """The function to call."""

    name: str


class ToolChoice(_Schema):
    """Whether tools are called; the strings of OpenAI's API are read as the type."""

    type: Literal["none", "auto", "required", "function"]
    function: FunctionName | None = None


class JsonSchema(_Schema):
    """A JSON Schema to hold the answer to."""

    schema_: dict[str, object] = Field(alias="schema")


class ResponseFormat(_Schema):
    """What the answer must look like."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None


class StreamOptions(_Schema):
    """What a stream holds beside the answer."""

    include_usage: bool | None = None


class GenerationRequest(_Schema):
    """The fields that chat and completions share."""

    model: str = Field(min_length=1)
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: Int32 | None = None
    temperature: float | None = None
    top_p: float | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    logit_bias: (
        Annotated[dict[Int32, float], BeforeValidator(_bias, json_schema_input_type=dict[str, float])] | None
    ) = None
    seed: Int64 | None = None
    max_tokens: Int32 | None = None
    stop: Annotated[list[str], BeforeValidator(_stops, json_schema_input_type=str | list[str])] | None = None
    user: str | None = None
    prompt_cache_key: str | None = None
    # Extensions, under the names that other open servers give them.
    top_k: Int32 | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    min_tokens: Int32 | None = None
    ignore_eos: bool | None = None
    stop_token_ids: list[Int32] | None = Field(None, fail_fast=True)
    include_stop: bool | None = None
    include_stop_str_in_output: bool | None = None
    priority: Int32 | None = None


class ChatRequest(GenerationRequest):
    """The body of POST /v1/chat/completions."""

    messages: list[Message] = Field(fail_fast=True)
    max_completion_tokens: Int32 | None = None
    logprobs: bool | None = None
    top_logprobs: Int32 | None = None
    tools: list[Tool] | None = Field(None, fail_fast=True)
    tool_choice: (
        Annotated[ToolChoice, BeforeValidator(_tool_choice, json_schema_input_type=str | ToolChoice)] | None
    ) = None
    parallel_tool_calls: bool | None = None
    response_format: ResponseFormat | None = None
    reasoning_effort: str | None = None
    chat_template_kwargs: dict[str, object] | None = None
    # Read only to be refused: they would change the answer, and nothing serves them.
    functions: list[object] | None = None
    function_call: object | None = None
    audio: object | None = None
    web_search_options: object | None = None


class CompletionRequest(GenerationRequest):
    """The body of POST /v1/completions."""

    prompt: Annotated[
        str | list[int], PlainValidator(_prompt, json_schema_input_type=str | list[int] | list[str] | list[list[int]])
    ]
    echo: bool | None = None
    logprobs: Int32 | None = None
    best_of: Int32 | None = None
    suffix: str | None = None


def read(schema: type[T], body: dict[str, object]) -> T:
    """Check the JSON types of a request's body; ApiError 400 names the first field that is wrong."""
    try:
        return schema.model_validate(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        raise _blame(first) from error


def _blame(error: ErrorDetails) -> ApiError:
    first, *rest = error["loc"]
    param = str(first)
    if param not in _WHOLE:
        param += "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in rest)
    if error["type"] == "missing":
        return bad_request(f"{param} is required.", param, "missing_required_parameter")
    return bad_request(f"{param}: {error['msg']}.", param, _code(error))


def _code(error: ErrorDetails) -> str:
    match error["type"]:
        case "invalid_type" | "unsupported_parameter" as own:
            return own
        case "int_type" if _is_integer(error["input"]):
            return "invalid_value"
        case "literal_error" if not isinstance(error["input"], str):  # all of ours are strings
            return "invalid_type"
        case kind:
            return "invalid_type" if kind.endswith("_type") else "invalid_value"
