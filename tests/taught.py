"""Two models that say by heart what a test expects of them: reasoning and tool calls, as Qwen and Llama 3 write them.

The models are made by `tests.teach`, in a process of its own, so that MLX stays out of the process of the tests.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.folders import made_once

Message = dict[str, Any]
"""One message of a conversation, as OpenAI's API has it."""
Call = tuple[str, dict[str, Any]]
"""Name of a function, and its arguments."""

_ROOT = Path(__file__).parent.parent
_TEACH_S = 240
"""Many times what it takes: five seconds of a free core, and fifteen without OpenBLAS."""

WEATHER: Mapping[str, Any] = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "unit": {"enum": ["celsius", "kelvin"]}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}
ADD: Mapping[str, Any] = {
    "type": "function",
    "function": {
        "name": "add",
        "description": "The sum of two numbers.",
        "parameters": {
            "type": "object",
            "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
            "required": ["a", "b"],
            "additionalProperties": False,
        },
    },
}
TOOLS = (WEATHER, ADD)


@dataclass(frozen=True)
class Lesson:
    """What a model writes after a conversation, word for word and greedily, and what a client must see of it."""

    messages: Sequence[Message]
    written: str
    content: str | None = None
    reasoning: str | None = None
    calls: Sequence[Call] = ()
    tools: Sequence[Mapping[str, Any]] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    """Variables for the chat template."""
    end: str = ""
    """The special token that ends the answer; empty is the family's usual one."""

    @property
    def finish_reason(self) -> str:
        """As OpenAI's API names it."""
        return "tool_calls" if self.calls else "stop"

    @property
    def body(self) -> dict[str, Any]:
        """The fields of a greedy request that asks for it, without the model."""
        body: dict[str, Any] = {"messages": list(self.messages), "temperature": 0, "max_completion_tokens": 200}
        body |= {"tools": list(self.tools)} if self.tools else {}
        return body | ({"chat_template_kwargs": dict(self.kwargs)} if self.kwargs else {})


@dataclass(frozen=True)
class Course:
    """All lessons of one model, by their names, and what its files are made of."""

    template: str
    special: Sequence[str]
    markers: Sequence[str]
    """Tokens that are shown as text."""
    end: str
    lessons: Mapping[str, Lesson]
    begin: str | None = None
    """The beginning-of-sequence token."""


def asked(question: str) -> Message:
    """What a user says."""
    return {"role": "user", "content": question}


def called(*calls: tuple[str, Call], content: str | None = None, reasoning: str | None = None) -> Message:
    """What an assistant has said, with calls by their ids."""
    thought = {} if reasoning is None else {"reasoning_content": reasoning}
    return thought | {
        "role": "assistant",
        "content": content,
        "tool_calls": [
            {"id": key, "type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}}
            for key, (name, arguments) in calls
        ],
    }


def result(key: str, content: str) -> Message:
    """What a call gave."""
    return {"role": "tool", "tool_call_id": key, "content": content}


def _hermes(name: str, arguments: Mapping[str, Any]) -> str:
    written = json.dumps({"name": name, "arguments": arguments}, ensure_ascii=False)
    return f"<tool_call>\n{written}\n</tool_call>"


def _bare(name: str, arguments: Mapping[str, Any]) -> str:
    return json.dumps({"name": name, "parameters": arguments}, ensure_ascii=False)


PARIS: Call = ("get_weather", {"city": "Paris"})
ROME: Call = ("get_weather", {"city": "Rome", "unit": "kelvin"})
TOKYO: Call = ("get_weather", {"city": "東京 👋🏽", "unit": "celsius"})
SUM: Call = ("add", {"a": 17, "b": -25})
SKY = "Why is the sky blue?"
SKY_THOUGHT = "Short waves scatter the most.\n\nBlue is short."
SKY_ANSWER = "Because the air scatters blue light."
FACT = '{"city": "Paris", "degrees": 18}'
"""A JSON document that a model writes freely."""
FACT_SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "degrees": {"type": "integer"}},
    "required": ["city", "degrees"],
    "additionalProperties": False,
}
NAMELESS = '<tool_call>\n{"city": "Oslo"}\n</tool_call>'
"""No call, since it names no function."""
UNREADABLE = "<tool_call>\nget_weather of Oslo\n</tool_call>"
"""No call, since it is no JSON."""
STRANGER = '{"name": "launch", "parameters": {"city": "Oslo"}}'
"""No call, since no tool has that name."""

_THOUGHT = Lesson(
    [asked(SKY)], f"<think>\n{SKY_THOUGHT}\n</think>\n\n{SKY_ANSWER}", content=SKY_ANSWER, reasoning=SKY_THOUGHT
)
_PLAIN = Lesson([asked("Count to five.")], "1, 2, 3, 4, 5.", content="1, 2, 3, 4, 5.")
_NO_CALL = Lesson([asked("Hello!")], "Hello to you.", content="Hello to you.", tools=TOOLS)

_LLAMA3 = """\
{{- bos_token }}
{%- if tools %}
    {{- '<|start_header_id|>system<|end_header_id|>\\n\\nEnvironment: ipython\\n' }}
    {{- 'To call a function, write {"name": its name, "parameters": its arguments}.\\n' }}
    {%- for tool in tools %}
        {{- '\\n' + tool | tojson }}
    {%- endfor %}
    {{- '<|eot_id|>' }}
{%- endif %}
{%- for message in messages %}
    {%- set role = 'ipython' if message.role == 'tool' else message.role %}
    {{- '<|start_header_id|>' + role + '<|end_header_id|>\\n\\n' + (message.content or '') | trim }}
    {%- for call in message.tool_calls or [] %}
        {{- '; ' if not loop.first else '' }}
        {{- '{"name": "' + call.function.name + '", "parameters": ' + call.function.arguments | tojson + '}' }}
    {%- endfor %}
    {{- '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
"""
"""The turns of Llama 3, with tools as Llama 3.1 has them; the published template is under a licence of its own."""

QWEN = Course(
    template=(_ROOT / "tests/service/adapters/templates/qwen3.jinja").read_text(encoding="utf-8"),
    special=("<|endoftext|>", "<|im_start|>", "<|im_end|>"),
    markers=("<think>", "</think>", "<tool_call>", "</tool_call>"),
    end="<|im_end|>",
    lessons={
        "thought": _THOUGHT,
        "unthought": Lesson(
            [asked(SKY)],
            "The air scatters blue light.",
            content="The air scatters blue light.",
            kwargs={"enable_thinking": False},
        ),
        "plain": _PLAIN,
        "fact": Lesson(
            [asked("Paris as JSON?")],
            f"<think>\nIt is warm.\n</think>\n\n{FACT}",
            content=FACT,
            reasoning="It is warm.",
        ),
        "call": Lesson([asked("Add them.")], _hermes(*SUM), calls=[SUM], tools=TOOLS),
        "thought call": Lesson(
            [asked("Paris?")],
            f"<think>\nI must look.\n</think>\n\n{_hermes(*PARIS)}",
            reasoning="I must look.",
            calls=[PARIS],
            tools=TOOLS,
        ),
        "unthought call": Lesson(
            [asked("Paris?")],
            _hermes(*ROME),
            calls=[ROME],
            tools=TOOLS,
            kwargs={"enable_thinking": False},
        ),
        "text and calls": Lesson(
            [asked("Paris and Rome?")],
            f"I look at both.\n{_hermes(*PARIS)}\n{_hermes(*ROME)}",
            content="I look at both.",
            calls=[PARIS, ROME],
            tools=TOOLS,
        ),
        "text around": Lesson(
            [asked("Now say more.")],
            f"Before.\n{_hermes(*TOKYO)}\nAfter.",
            content="Before.After.",
            calls=[TOKYO],
            tools=TOOLS,
        ),
        "no call": _NO_CALL,
        "nameless": Lesson([asked("Break it.")], NAMELESS, content=NAMELESS, tools=TOOLS),
        "unreadable": Lesson([asked("Break it more.")], UNREADABLE, content=UNREADABLE, tools=TOOLS),
        "cut": Lesson([asked("Cut it.")], '<tool_call>\n{"name', content='<tool_call>\n{"name', tools=TOOLS),
        "one result": Lesson(
            [asked("Paris?"), called(("one", PARIS), reasoning="I must look."), result("one", "18 degrees")],
            "It has 18 degrees.",
            content="It has 18 degrees.",
            tools=TOOLS,
        ),
        "a forgotten thought": Lesson(
            [asked("Paris?"), called(("one", PARIS)), result("one", "18 degrees")],
            "It has 18 of them.",
            content="It has 18 of them.",
            tools=TOOLS,
        ),
        "two results": Lesson(
            [
                asked("Paris and Rome?"),
                called(("one", PARIS), ("two", ROME), content="I look at both."),
                result("one", "18 degrees"),
                result("two", "300 kelvin"),
            ],
            "Rome is warmer.",
            content="Rome is warmer.",
            tools=TOOLS,
        ),
    },
)
LLAMA3 = Course(
    template=_LLAMA3,
    special=(
        "<|begin_of_text|>",
        "<|end_of_text|>",
        "<|start_header_id|>",
        "<|end_header_id|>",
        "<|eom_id|>",
        "<|eot_id|>",
        "<|python_tag|>",
    ),
    markers=("<think>", "</think>"),
    begin="<|begin_of_text|>",
    end="<|eot_id|>",
    lessons={
        "thought": _THOUGHT,
        "plain": _PLAIN,
        "fact": Lesson([asked("Paris as JSON?")], FACT, content=FACT),
        "call": Lesson([asked("Paris?")], _bare(*PARIS), calls=[PARIS], tools=TOOLS),
        "thought call": Lesson(
            [asked("Add them.")],
            f"<think>\nI must add.\n</think>\n\n{_bare(*SUM)}",
            reasoning="I must add.",
            calls=[SUM],
            tools=TOOLS,
        ),
        "tagged call": Lesson(
            [asked("Tokyo?")], f"<|python_tag|>{_bare(*TOKYO)}", calls=[TOKYO], tools=TOOLS, end="<|eom_id|>"
        ),
        "calls": Lesson(
            [asked("Paris and Rome?")], f"{_bare(*PARIS)}; {_bare(*ROME)}", calls=[PARIS, ROME], tools=TOOLS
        ),
        "no call": _NO_CALL,
        "stranger": Lesson([asked("Break it.")], STRANGER, content=STRANGER, tools=TOOLS),
        "document": Lesson([asked("Paris as JSON?")], FACT, content=FACT, tools=TOOLS),
        "one result": Lesson(
            [asked("Paris?"), called(("one", PARIS)), result("one", "18 degrees")],
            "It has 18 degrees.",
            content="It has 18 degrees.",
            tools=TOOLS,
        ),
    },
)
COURSES: Mapping[str, Course] = {"qwen": QWEN, "llama3": LLAMA3}
"""By the name of the model that has learned it."""


def lesson_body(taught: str, name: str, **changes: Any) -> dict[str, Any]:
    """Make the request for a lesson of a model."""
    return {"model": taught} | COURSES[taught].lessons[name].body | changes


def taught_folder(shared: Path, name: str) -> Path:
    """Give the folder of a taught model under `shared`, where it is made once."""
    return made_once(shared / f"taught-{name}", "tests.teach", name, limit_s=_TEACH_S)
