"""The messages of a chat request, to the wire."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from mlx_grpc.v1 import generation_pb2 as wire
from shim.fields import Fields, Unserved, unsupported, wrong_type, wrong_value

_ROLES = {
    "system": wire.ROLE_SYSTEM,
    "developer": wire.ROLE_DEVELOPER,
    "user": wire.ROLE_USER,
    "assistant": wire.ROLE_ASSISTANT,
    "tool": wire.ROLE_TOOL,
}
_UNSERVED_PARTS = {"image_url", "input_audio", "file"}


def _parts(value: object) -> object:
    if isinstance(value, str):
        return [{"type": "text", "text": value}]
    if value is None or isinstance(value, list):
        return value
    raise wrong_type("must be a string or a list of content parts")


def _part(value: object) -> object:
    """Read the text of what an assistant refused as text, which is what it said."""
    if isinstance(value, dict) and value.get("type") == "refusal" and isinstance(value.get("refusal"), str):
        return {"type": "text", "text": value["refusal"]}
    return value


def _part_type(value: object) -> object:
    if isinstance(value, str) and value in _UNSERVED_PARTS:
        raise wrong_value(f"{value} is not supported; text is the only type of content")
    return value


def _role(value: object) -> object:
    if value == "function":
        raise unsupported("function is deprecated and not supported; use tool")
    return value


class RefusalPart(Fields):
    """A part of an assistant's earlier message in which it refused."""

    type: Literal["refusal"]
    refusal: str


class TextPart(Fields):
    """A part of a message's content; text is the only type."""

    type: Annotated[Literal["text"], BeforeValidator(_part_type)]
    text: str


Part = Annotated[TextPart, BeforeValidator(_part, json_schema_input_type=TextPart | RefusalPart)]


class FunctionCall(Fields):
    """The function of a tool call, with its arguments as JSON text."""

    name: str
    arguments: str


class ToolCall(Fields):
    """A call that the assistant made."""

    id: str
    type: Literal["function"] = "function"
    function: FunctionCall


class Message(Fields):
    """One message of a conversation."""

    role: Annotated[Literal["system", "developer", "user", "assistant", "tool"], BeforeValidator(_role)]
    content: Annotated[
        list[Part] | None,
        Field(fail_fast=True),
        BeforeValidator(_parts, json_schema_input_type=str | list[Part] | None),
    ] = None
    name: str | None = None
    refusal: str | None = None
    tool_calls: list[ToolCall] | None = Field(None, fail_fast=True)
    tool_call_id: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    """Another name for reasoning_content."""
    function_call: Unserved = None
    audio: Unserved = None


def to_wire(messages: list[Message]) -> list[wire.ChatMessage]:
    """Translate a conversation."""
    return [_message(message) for message in messages]


def _message(message: Message) -> wire.ChatMessage:
    said = [part.text for part in message.content or ()]
    if message.role == "assistant" and not said and message.refusal:
        said = [message.refusal]
    return wire.ChatMessage(
        role=_ROLES[message.role],
        content=[wire.ContentPart(text=text) for text in said],
        name=message.name or "",
        tool_call_id=message.tool_call_id or "",
        tool_calls=[
            wire.ToolCall(id=call.id, name=call.function.name, arguments=call.function.arguments)
            for call in message.tool_calls or ()
        ],
        reasoning=message.reasoning_content or message.reasoning or "",
    )
