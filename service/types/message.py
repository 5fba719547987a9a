"""One message of a conversation, and what it is made of."""

import enum
from dataclasses import dataclass


class Role(enum.StrEnum):
    """Who speaks in a message, in the words of chat templates."""

    SYSTEM = "system"
    DEVELOPER = "developer"
    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A function call that the model made earlier; `arguments` is JSON text."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a conversation. `content` is None only beside an assistant's tool calls or reasoning."""

    role: Role
    content: str | None
    name: str = ""
    tool_call_id: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    reasoning: str = ""
