"""A conversation in the dicts that chat templates read, made to fit what the template in use takes."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from hashlib import blake2b

import msgspec

from service.adapters import tool_prompt
from service.adapters.habits import CallHabits, Dict, Habits, words
from service.errors import InvalidField
from service.text.template import ChatTemplate
from service.types import Message, Role, Tool, ToolCall

_SYSTEM = {Role.SYSTEM, Role.DEVELOPER}
_SHORT_ID = re.compile("[A-Za-z0-9]{9}")
_IS_RESULT = "is_result"
"""Marks a user's message that is the result of a call; no template reads it."""
_BROKEN = "arguments"
"""Names a text that is no JSON object, where a template takes nothing else."""


class Conversation:
    """What one template does with each role, found out once by trying it.

    What it would refuse or drop is said in another way: a system text in the user's message, tools in the system text,
    calls and their results as text.
    """

    def __init__(self, template: ChatTemplate, *, thinking_parts: bool = False) -> None:
        """`thinking_parts`: see ModelAdapter."""
        self._habits = Habits(template)
        self._thinking_parts = thinking_parts and "'thinking'" in template.source.replace('"', "'")

    @property
    def knows_tools(self) -> bool:
        """Whether the template shows tools itself."""
        return self._habits.tools

    def messages(self, messages: Sequence[Message], tools: Sequence[Tool] = ()) -> list[Dict]:
        """Return the messages for the template, with the tools in them where it shows none itself.

        Raises InvalidField for a result whose call is not there, if the template cannot say it without.
        """
        names = {call.id: call.name for message in messages for call in message.tool_calls}
        # Calls look like those that the tools' introduction asks for.
        habits = self._habits.calls if self._habits.tools or not tools else None
        if habits is not None and habits.results:
            _check_results(messages, habits)
        said: list[Dict] = []
        held = ""
        for message in _instructions_joined(self._introduced(messages, tools)):
            if message.role in _SYSTEM:
                if self._habits.system_later if said else self._habits.system_first:
                    said.append(self._instructions(message))
                else:
                    held = message.content or ""
                continue
            if held and message.role is Role.USER:
                spoken = replace(message, content=f"{held}\n\n{message.content}")
            else:
                spoken = message
                said += [words("user", held)] if held else []
            held = ""
            self._add(said, spoken, habits, names)
        return said + ([words("user", held)] if held else [])

    def tools(self, tools: Sequence[Tool]) -> list[Dict] | None:
        """Return the tools for the template, in OpenAI's shape; None where there are none, or it does not show them."""
        return _shaped(tools) if tools and self._habits.tools else None

    def _introduced(self, messages: Sequence[Message], tools: Sequence[Tool]) -> Sequence[Message]:
        """Put the tools behind the first instructions, unless the template shows them."""
        if not tools or self._habits.tools:
            return messages
        first = next((index for index, message in enumerate(messages) if message.role not in _SYSTEM), len(messages))
        text = tool_prompt.introduction(_shaped(tools))
        return [*messages[:first], Message(Role.SYSTEM, text), *messages[first:]]

    def _instructions(self, message: Message) -> Dict:
        is_developer = message.role is Role.DEVELOPER and self._habits.developer
        return words((Role.DEVELOPER if is_developer else Role.SYSTEM).value, message.content or "")

    def _add(self, said: list[Dict], message: Message, habits: CallHabits | None, names: Mapping[str, str]) -> None:
        if message.role is Role.TOOL:
            if habits is not None and habits.results:
                said.append(self._result(message, habits, names))
            else:
                _add_result(said, tool_prompt.result(message.content or ""))
        elif message.role is Role.USER and said and said[-1].get(_IS_RESULT):
            _add_result(said, message.content or "")
        elif not message.tool_calls:
            said.append(self._spoken(message))
        elif habits is None:
            named = [(call.name, _object_or_text(call)) for call in message.tool_calls]
            text = tool_prompt.calls(message.content or "", named)
            said.append(self._spoken(replace(message, content=text, tool_calls=())))
        else:
            said += self._calling(message, habits)

    def _spoken(self, message: Message) -> Dict:
        """Return a message of words."""
        entry: Dict = {"role": message.role.value, "content": self._content(message)}
        if message.name:
            entry["name"] = message.name
        if message.reasoning:
            # Two names for it: templates of GPT-OSS read the second.
            entry["reasoning_content"] = entry["thinking"] = message.reasoning
        return entry

    def _calling(self, message: Message, habits: CallHabits) -> list[Dict]:
        """Return an assistant's calls, after its words where the template would hide the calls behind them."""
        before: list[Dict] = []
        if message.content and not habits.beside_content:
            before, message = [self._spoken(message)], replace(message, content=None, reasoning="")
        if message.content and message.reasoning and not habits.beside_reasoning:
            message = replace(message, reasoning="")
        entry = self._spoken(message)
        if not message.content and not (message.reasoning and self._thinking_parts):
            entry["content"] = habits.no_content
        entry["tool_calls"] = [
            {
                "id": _id(call.id, habits),
                "type": "function",
                "function": {"name": call.name, "arguments": _written(call, habits)},
            }
            for call in message.tool_calls
        ]
        return [*before, entry]

    def _result(self, message: Message, habits: CallHabits, names: Mapping[str, str]) -> Dict:
        """Return what a call gave back; some templates name the function, which clients leave to the id."""
        entry = self._spoken(message)
        if name := message.name or names.get(message.tool_call_id, ""):
            entry["name"] = name
        entry["tool_call_id"] = _id(message.tool_call_id, habits)
        return entry

    def _content(self, message: Message) -> object:
        if message.reasoning and self._thinking_parts:
            parts = [{"type": "thinking", "thinking": message.reasoning}]
            return parts + ([{"type": "text", "text": message.content}] if message.content else [])
        return message.content or ""


def _check_results(messages: Sequence[Message], habits: CallHabits) -> None:
    known: set[str] = set()
    follows_calls = False
    for index, message in enumerate(messages):
        if message.role is not Role.TOOL:
            known |= {call.id for call in message.tool_calls}
            follows_calls = bool(message.tool_calls)
        elif message.tool_call_id not in known:
            is_shown = (habits.strange_results or bool(message.name)) if follows_calls else habits.lone_results
            if not is_shown:
                raise InvalidField(
                    f"messages[{index}].tool_call_id",
                    "must be the id of a tool call before it, which the model's chat template needs",
                )


def _instructions_joined(messages: Sequence[Message]) -> Iterator[Message]:
    """Make neighbouring system texts one: templates that look for one at the start look at the first message only."""
    run: list[Message] = []
    for message in messages:
        if message.role in _SYSTEM:
            run.append(message)
            continue
        if run:
            yield _joined(run)
            run = []
        yield message
    if run:
        yield _joined(run)


def _joined(run: list[Message]) -> Message:
    return replace(run[0], content="\n\n".join(message.content or "" for message in run))


def _add_result(said: list[Dict], text: str) -> None:
    """Say a result as the user, in one message with what is beside it: many templates want roles to alternate."""
    if said and said[-1].get(_IS_RESULT):
        said[-1]["content"] = f"{said[-1]['content']}\n{text}"
    else:
        said.append(words(Role.USER.value, text) | {_IS_RESULT: True})


def _shaped(tools: Sequence[Tool]) -> list[Dict]:
    return [
        {
            "type": "function",
            "function": {
                "name": tool.name,
                "description": tool.description,
                "parameters": _parsed(tool.parameters, f"tools[{index}].parameters_json")
                or {"type": "object", "properties": {}},
            },
        }
        for index, tool in enumerate(tools)
    ]


def _id(number: str, habits: CallHabits) -> str:
    """Return a call's id as the template takes it; one id always becomes the same."""
    if not habits.short_ids or _SHORT_ID.fullmatch(number):
        return number
    return blake2b(number.encode(), digest_size=5).hexdigest()[:9]


def _written(call: ToolCall, habits: CallHabits) -> object:
    """Return the arguments as the template takes them, also those that the model broke."""
    if habits.as_text:
        return call.arguments or "{}"
    arguments = _object_or_text(call)
    return {_BROKEN: arguments} if isinstance(arguments, str) and not habits.takes_text else arguments


def _object_or_text(call: ToolCall) -> Mapping[str, object] | str:
    """Return the JSON object that the arguments are, or their text where they are none."""
    try:
        arguments: object = msgspec.json.decode(call.arguments or "{}")
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        return call.arguments
    return arguments if isinstance(arguments, dict) else call.arguments


def _parsed(text: str, path: str) -> object:
    try:
        parsed: object = msgspec.json.decode(text or "{}")
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError) as error:
        raise InvalidField(path, f"must be JSON: {error}") from error
    return parsed
