"""A conversation in the dicts that chat templates read, made to fit what the template in use takes."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import msgspec

from service.errors import InvalidField, UnsupportedField
from service.text.template import ChatTemplate
from service.types import Message, Role, Tool

_PROBE = "7c2f0e"
"""Stands for a system text."""
_SYSTEM = {Role.SYSTEM, Role.DEVELOPER}
_TESTS_CONTENT_FOR_NONE = re.compile(r"content['\"]?\]?\s+is\s+(not\s+)?none", re.IGNORECASE)


class Conversation:
    """What one template does with each role, found out once by trying it."""

    def __init__(self, template: ChatTemplate, *, thinking_parts: bool = False) -> None:
        """`thinking_parts`: see ModelAdapter."""
        self._template = template
        source = template.source
        self._developer = Role.DEVELOPER if _names("developer", source) else Role.SYSTEM
        self._knows_tools = template.mentions("tools")
        self._knows_calls = "tool_calls" in source
        self._knows_results = _names("tool", source)
        self._no_content = None if _TESTS_CONTENT_FOR_NONE.search(source) else ""
        self._thinking_parts = thinking_parts and "'thinking'" in source.replace('"', "'")
        self._takes_first = self._shows(_said("system", _PROBE), _said("user", "a"))
        self._takes_later = self._shows(
            _said("user", "a"), _said("assistant", "b"), _said("system", _PROBE), _said("user", "c")
        )

    def messages(self, messages: Sequence[Message]) -> list[dict[str, object]]:
        """Return the messages for the template. What it would refuse or drop of a system text goes to the user's next.

        Raises UnsupportedField for tool calls and results that the template does not know.
        """
        said: list[dict[str, object]] = []
        held = ""
        for index, message in _instructions_joined(messages):
            if message.role in _SYSTEM:
                if self._takes_later if said else self._takes_first:
                    said.append(self._instructions(message))
                else:
                    held = message.content or ""
                continue
            if held and message.role is Role.USER:
                spoken = replace(message, content=f"{held}\n\n{message.content}")
            else:
                spoken = message
                said += [_said("user", held)] if held else []
            held = ""
            said.append(self._message(spoken, f"messages[{index}]"))
        return said + ([_said("user", held)] if held else [])

    def tools(self, tools: Sequence[Tool]) -> list[dict[str, object]] | None:
        """Return the tools for the template, in OpenAI's shape. Raises UnsupportedField if it knows none."""
        if not tools:
            return None
        if not self._knows_tools:
            raise UnsupportedField("tools", "are not supported by this model")
        return [
            {
                "type": "function",
                "function": {
                    "name": tool.name,
                    "description": tool.description,
                    "parameters": _parsed(
                        tool.parameters or '{"type":"object","properties":{}}', f"tools[{index}].parameters_json"
                    ),
                },
            }
            for index, tool in enumerate(tools)
        ]

    def _shows(self, *messages: dict[str, object]) -> bool:
        try:
            return _PROBE in self._template.render(list(messages), tools=None, kwargs={})
        except InvalidField:
            return False

    def _instructions(self, message: Message) -> dict[str, object]:
        role = self._developer if message.role is Role.DEVELOPER else Role.SYSTEM
        return _said(role.value, message.content or "")

    def _message(self, message: Message, path: str) -> dict[str, object]:
        entry: dict[str, object] = {"role": message.role.value, "content": self._content(message)}
        if message.name:
            entry["name"] = message.name
        if message.reasoning:
            # Two names for it: templates of GPT-OSS read the second.
            entry["reasoning_content"] = entry["thinking"] = message.reasoning
        if message.role is Role.TOOL:
            if not self._knows_results:
                raise UnsupportedField(f"{path}.role", "tool is not supported by this model")
            entry["tool_call_id"] = message.tool_call_id
        if message.tool_calls:
            entry["tool_calls"] = self._calls(message, path)
        return entry

    def _content(self, message: Message) -> object:
        if message.reasoning and self._thinking_parts:
            parts = [{"type": "thinking", "thinking": message.reasoning}]
            return parts + ([{"type": "text", "text": message.content}] if message.content else [])
        if message.content is None:
            return self._no_content if message.tool_calls else ""
        return message.content

    def _calls(self, message: Message, path: str) -> list[dict[str, object]]:
        if not self._knows_calls:
            raise UnsupportedField(f"{path}.tool_calls", "are not supported by this model")
        return [
            {
                "id": call.id,
                "type": "function",
                "function": {
                    "name": call.name,
                    "arguments": _arguments(call.arguments, f"{path}.tool_calls[{index}].arguments"),
                },
            }
            for index, call in enumerate(message.tool_calls)
        ]


def _names(role: str, source: str) -> bool:
    return re.search(f"""['"]{role}['"]""", source) is not None


def _instructions_joined(messages: Sequence[Message]) -> Iterator[tuple[int, Message]]:
    """Make neighbouring system texts one: templates that look for one at the start look at the first message only."""
    run: list[Message] = []
    for index, message in enumerate(messages):
        if message.role in _SYSTEM:
            run.append(message)
            continue
        if run:
            yield index - 1, _joined(run)
            run = []
        yield index, message
    if run:
        yield len(messages) - 1, _joined(run)


def _joined(run: list[Message]) -> Message:
    return replace(run[0], content="\n\n".join(message.content or "" for message in run))


def _said(role: str, content: str) -> dict[str, object]:
    return {"role": role, "content": content}


def _arguments(text: str, path: str) -> Mapping[str, object]:
    arguments = _parsed(text or "{}", path)
    if not isinstance(arguments, dict):
        raise InvalidField(path, "must be a JSON object")
    return arguments


def _parsed(text: str, path: str) -> object:
    try:
        parsed: object = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError) as error:
        raise InvalidField(path, f"must be JSON: {error}") from error
    return parsed
