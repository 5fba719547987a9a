"""What one chat template does with the kinds of messages, found out by trying it."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

from service.errors import InvalidField
from service.text.template import ChatTemplate

Dict = dict[str, object]
_PROBE = "7c2f0e"
"""Stands for a text that must show."""
_ID, _SHORT_ID = "call_0123456789abcdefghijklmn", "abc123def"
_MAPPING, _TEXT = {"a": "b"}, '{"a": "b"}'
"""The same arguments."""
_REPR = "{'a'"
"""Arguments that a template prints as Python does, since it wants JSON text."""
_USER: Dict = {"role": "user", "content": "a"}
_TOOL: Dict = {
    "type": "function",
    "function": {
        "name": _PROBE,
        "description": "x",
        "parameters": {"type": "object", "properties": {"a": {"type": "string", "description": "x"}}},
    },
}


@dataclass(frozen=True, slots=True)
class CallHabits:
    """How a template wants tool calls and their results.

    `no_content` is what stands for no content beside calls. `as_text`: arguments are JSON text, not a mapping.
    `takes_text`: they may be any text, such as JSON that the model broke. `short_ids`: ids have nine letters and
    digits, as Mistral's. `beside_content`: calls show beside a text. `beside_reasoning`: reasoning may stand beside a
    text and calls.
    """

    no_content: str | None
    as_text: bool
    takes_text: bool
    short_ids: bool
    beside_content: bool
    beside_reasoning: bool
    results: bool
    """Whether it knows them."""
    lone_results: bool
    """Whether a result shows where no call is before it."""
    strange_results: bool
    """Whether one shows that has no name and the id of no call before it."""


class Habits:
    """What a template takes of each role."""

    def __init__(self, template: ChatTemplate) -> None:
        self._template = template
        source = template.source
        answer, system = words("assistant", "b"), words("system", _PROBE)
        self.developer = re.search("""['"]developer['"]""", source) is not None
        self.system_first = self._shows(system, _USER)
        self.system_later = self._shows(_USER, answer, system, words("user", "c"))
        self.tools = template.mentions("tools") and (
            self._shows(_USER, tools=[_TOOL]) or self._shows(words("system", "d"), _USER, tools=[_TOOL])
        )
        """Whether it shows tools."""
        self.calls = self._calls()
        """None for a template that knows no calls."""

    def _calls(self) -> CallHabits | None:
        for no_content, as_text, number in product(("", None), (False, True), (_ID, _SHORT_ID)):
            call = _called(no_content, number, _TEXT if as_text else _MAPPING)
            text = self._rendered(_USER, call)
            if _PROBE not in text or _REPR in text:
                continue
            spoken = call | {"content": "b"}
            plain = _called(no_content, number, _TEXT if as_text else _MAPPING, name="f")
            broken = _called(no_content, number, f"{{{_PROBE}", name="f")
            result: Dict = {"role": "tool", "content": _PROBE, "tool_call_id": number, "name": "f"}
            strange: Dict = {"role": "tool", "content": _PROBE, "tool_call_id": number[::-1]}
            return CallHabits(
                no_content=no_content,
                as_text=as_text,
                takes_text=self._shows(_USER, broken),
                short_ids=number == _SHORT_ID,
                beside_content=self._shows(_USER, spoken),
                beside_reasoning=self._shows(_USER, spoken | {"reasoning_content": "c", "thinking": "c"}),
                results=self._shows(_USER, plain, result),
                lone_results=self._shows(_USER, result),
                strange_results=self._shows(_USER, plain, strange),
            )
        return None

    def _shows(self, *messages: Dict, tools: Sequence[Dict] | None = None) -> bool:
        return _PROBE in self._rendered(*messages, tools=tools)

    def _rendered(self, *messages: Dict, tools: Sequence[Dict] | None = None) -> str:
        """Return what the template makes of them; nothing where it refuses them."""
        try:
            return self._template.render(list(messages), tools=list(tools) if tools else None, kwargs={})
        except InvalidField:
            return ""


def _called(content: str | None, number: str, arguments: object, name: str = _PROBE) -> Dict:
    call: Dict = {"id": number, "type": "function", "function": {"name": name, "arguments": arguments}}
    return {"role": "assistant", "content": content, "tool_calls": [call]}


def words(role: str, content: str) -> Dict:
    """Return a message of words alone."""
    return {"role": role, "content": content}
