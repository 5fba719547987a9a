"""The messages of a chat request, to the wire."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, ConfigDict, Field
from pydantic.config import JsonDict

from mlx_grpc.v1 import generation_pb2 as wire
from shim.fields import AtMost, Fields, ObjectText, Unserved, told, wrong_type, wrong_value

_ROLES = {
    "system": wire.ROLE_SYSTEM,
    "developer": wire.ROLE_DEVELOPER,
    "user": wire.ROLE_USER,
    "assistant": wire.ROLE_ASSISTANT,
    "tool": wire.ROLE_TOOL,
}
_PARTS = AtMost(16_384)
_UNSERVED_PARTS = {"image_url", "input_audio", "file"}


def _parts(value: object) -> object:
    if isinstance(value, str):
        return [{"type": "text", "text": value}]
    if isinstance(value, list):
        return value
    raise wrong_type("must be a string or a list of content parts")


def _some_parts(value: object) -> object:
    parts = _parts(value)
    if not parts:
        raise wrong_value("must not be empty")
    return parts


def _parts_or_none(value: object) -> object:
    return None if value is None else _parts(value)


def _part(value: object) -> object:
    """Read the text of what an assistant refused as text, which is what it said."""
    if isinstance(value, dict) and value.get("type") == "refusal" and isinstance(value.get("refusal"), str):
        return {"type": "text", "text": value["refusal"]}
    return value


def _part_type(value: object) -> object:
    if isinstance(value, str) and value in _UNSERVED_PARTS:
        raise wrong_value(f"{value} is not supported; text is the only type of content")
    return value


class RefusalPart(Fields):
    """A part of an assistant's earlier message in which it refused."""

    type: Literal["refusal"]
    refusal: str


class TextPart(Fields):
    """A part of a message's content; text is the only type."""

    type: Annotated[Literal["text"], BeforeValidator(_part_type)]
    text: str


_Texts = Annotated[list[TextPart], Field(fail_fast=True), _PARTS]
_TextsJson = Annotated[list[TextPart], Field(min_length=1)]
Content = Annotated[_Texts, BeforeValidator(_some_parts, json_schema_input_type=str | _TextsJson)]
Part = Annotated[TextPart, BeforeValidator(_part, json_schema_input_type=TextPart | RefusalPart)]
_Parts = Annotated[list[Part], Field(fail_fast=True), _PARTS]
SaidContent = Annotated[_Parts | None, BeforeValidator(_parts_or_none, json_schema_input_type=str | _Parts | None)]


class FunctionCall(Fields):
    """The function of a tool call, with its arguments as JSON text."""

    name: Annotated[str, told(minLength=1)]
    arguments: ObjectText


class ToolCall(Fields):
    """A call that the assistant made."""

    id: str
    type: Literal["function"] = "function"
    function: FunctionCall


class _Message(Fields):
    """What messages of all roles may have."""

    name: str | None = None
    function_call: Unserved = None
    audio: Unserved = None


class SystemMessage(_Message):
    """What the model is told before all else."""

    role: Literal["system", "developer"]
    content: Content


class UserMessage(_Message):
    """What the user says."""

    role: Literal["user"]
    content: Content


class ToolMessage(_Message):
    """What a tool has found."""

    role: Literal["tool"]
    content: Content
    tool_call_id: str | None = None


_TEXT: JsonDict = {"type": "string", "minLength": 1}
_SAYS: dict[str, JsonDict] = {
    "content": {"anyOf": [{"type": "string"}, {"type": "array", "minItems": 1}]},
    "refusal": _TEXT,
    "tool_calls": {"type": "array", "minItems": 1},
    "reasoning_content": _TEXT,
    "reasoning": _TEXT,
}


class AssistantMessage(_Message):
    """What the model said, thought or called earlier, one of which has to be there."""

    model_config = ConfigDict(
        json_schema_extra={"anyOf": [{"required": [name], "properties": {name: way}} for name, way in _SAYS.items()]}
    )

    role: Literal["assistant"]
    content: SaidContent = None
    refusal: str | None = None
    tool_calls: Annotated[list[ToolCall], Field(fail_fast=True), _PARTS] | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    """Another name for reasoning_content."""


Message = Annotated[
    SystemMessage | UserMessage | AssistantMessage | ToolMessage,
    Field(discriminator="role"),
]


def to_wire(messages: list[Message]) -> list[wire.ChatMessage]:
    """Translate a conversation."""
    return [_message(message) for message in messages]


def _message(message: Message) -> wire.ChatMessage:
    made = wire.ChatMessage(role=_ROLES[message.role])
    said = [part.text for part in message.content or ()]
    if isinstance(message, AssistantMessage):
        if not said and message.refusal:
            said = [message.refusal]
        made.reasoning = message.reasoning_content or message.reasoning or ""
        made.tool_calls.extend(map(_tool_call, message.tool_calls or ()))
    elif isinstance(message, ToolMessage):
        made.tool_call_id = message.tool_call_id or ""
    made.content.extend(wire.ContentPart(text=text) for text in said)
    made.name = message.name or ""
    return made


def _tool_call(call: ToolCall) -> wire.ToolCall:
    return wire.ToolCall(id=call.id, name=call.function.name, arguments=call.function.arguments)
