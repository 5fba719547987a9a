"""Tests of calls that no marker tells from text."""

import json
import random

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from llguidance import LLMatcher

from service.adapters.base import THINK
from service.text.grammar import Lead, of_strict_tools
from service.text.outline import Outline
from service.text.tools.llama import LLAMA, LLAMA4
from service.text.tools.syntax import ToolSyntax
from service.types import Tool, ToolMode, ToolUse
from tests.service.text.grammars import drawn, favourites, takes
from tests.service.text.tokenizers import byte_level
from tests.service.text.tools.formats import TOOLS, folded, read
from tests.service.text.tools.test_frame import literal_of

STRICT = (
    Tool("look", "", '{"properties": {"n": {"type": "integer", "maximum": 9}}, "required": ["n"]}', strict=True),
    Tool("now", "", "", strict=True),
)
TAG = "<|python_tag|>"
LIKE_CALLS = [
    *("{", "[", '"', "}", "]", "(", ")", ":", ",", " ", "\n", "\x1c", ";", "\\"),
    *('"name"', '"function"', '"parameters"', '"arguments"', '"id"', '"type"', '"look"', '"look', '"n\\u0061me"'),
    *("look", "now", "(n=1)", "()", "5", '"x"', "null", '{"n": 99}', "{}", TAG),
]


@pytest.mark.parametrize(
    ("text", "calls"),
    [
        ('[get_weather(city="Köln", days=3)]', [("get_weather", {"city": "Köln", "days": 3})]),
        (
            "[now(), get_weather(city='a\\'b', metric=True)]",
            [("now", {}), ("get_weather", {"city": "a'b", "metric": True})],
        ),
        (f"{TAG}[now()]", [("now", {})]),
        (
            '\n[ now( ) , get_weather( city = "x" , tags = ["a", \'b\'], ) ]',
            [("now", {}), ("get_weather", {"city": "x", "tags": ["a", "b"]})],
        ),
    ],
)
@given(data=st.data())
@settings(deadline=None, max_examples=30)
def test_calls_in_python_are_read(data: st.DataObject, text: str, calls: list[tuple[str, object]]) -> None:
    """Wherever the text is cut."""
    places = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8)))
    parts = [text[start:end] for start, end in zip([0, *places], [*places, len(text)], strict=True)]
    for syntax in (LLAMA, LLAMA4) if TAG not in text else (LLAMA,):
        said, made = folded(read(syntax, parts))
        assert (said, [(call.name, json.loads(call.arguments)) for call in made]) == ("", calls)


@pytest.mark.parametrize(
    "text",
    [
        '[launch(city="x")]',
        '[get_weather(city="x"',
        '[get_weather(city="x", oops)]',
        "[get_weather(city=somewhere)]",
        '[get_weather("x")]',
        "[get_weather]",
        "[1, 2, now()]",
        '[{"name": "now"}]',
        "I would use [now()].",
        f"{TAG}[print(1)]",
    ],
)
def test_lists_that_are_no_calls_are_text(text: str) -> None:
    """Of other functions, broken, of values, or within words."""
    assert folded(read(LLAMA, list(text))) == (text, [])


def test_text_after_a_call_that_is_broken_is_kept() -> None:
    """The call before it is one."""
    text, calls = folded(read(LLAMA, ["[now(), get_weather(city=", "oops)] end"]))
    assert [call.name for call in calls] == ["now"]
    assert text.endswith("get_weather(city=oops)] end")


@pytest.mark.parametrize(
    ("text", "calls"),
    [
        ('<|python_start|>{"name": "now", "parameters": {}}<|python_end|>', ["now"]),
        ("<|python_start|>[now(), now()]<|python_end|>", ["now", "now"]),
        ('<|python_start|>import os<|python_end|>{"name": "now", "parameters": {}}', ["now"]),
        ("<|python_start|>import os<|python_end|>", []),
    ],
)
def test_llama_4_has_markers_around_python(text: str, calls: list[str]) -> None:
    """What is between them may be code, which is text, and a call may come behind it."""
    said, made = folded(read(LLAMA4, [text]))
    assert [call.name for call in made] == calls
    assert ("import os" in said) is ("import os" in text)


@pytest.mark.parametrize(
    "text",
    [
        '{"x": 1}',
        "{}",
        '{"name": "Bob", "arguments": [1]}',
        '{"id": 5, "title": "look"}',
        '{"id": "a\\"b", "type": null, "name": "lookout"}',
        '[1, {"name": "look"}]',
        "[look]",
        '  {"name": 5}',
        "look(n=99)",
        '{"nam',
    ],
)
def test_strict_tools_leave_other_json_alone(text: str) -> None:
    """An answer is a call only if it begins like one of a tool."""
    assert folded(read(LLAMA, [text], STRICT)) == (text, [])
    assert takes(_triggered(), text)


@pytest.mark.parametrize(
    ("text", "allowed"),
    [
        ('{"name": "look", "parameters": {"n": 3}}', True),
        ('{"name":"look","parameters":{"n":3}}', True),
        ('{"name": "look", "parameters": {"n": 99}}', False),
        ('{"type": "function", "name": "look", "parameters": {"n": 99}}', False),
        ('{"parameters": {"n": 99}, "name": "look"}', False),
        ('{"function": {"name": "look", "parameters": {"n": 99}}}', False),
        ('\x1c{"name": "look", "parameters": {"n": 99}}', False),
        ("[look(n=99)]", False),
    ],
)
def test_strict_tools_are_held_however_a_call_begins(text: str, allowed: bool) -> None:
    """What the reader takes for a call is one that the schema accepts."""
    assert [call.name for call in folded(read(LLAMA, [text], STRICT))[1]] == ["look"]
    assert takes(_triggered(), text) is allowed


@pytest.mark.parametrize("special", [True, False])
@given(text=st.lists(st.sampled_from(LIKE_CALLS), max_size=14).map("".join))
@settings(deadline=None, max_examples=300)
def test_no_strict_call_is_let_through_as_text(special: bool, text: str) -> None:
    """Whatever a text like a call is made of, its calls hold to the schemas or it is not let through."""
    tokenizer = byte_level(TAG) if special else byte_level()
    if not takes(_triggered(special), text, tokenizer):
        return
    for call in folded(read(LLAMA, [text], STRICT))[1]:
        schema = next(tool.parameters for tool in STRICT if tool.name == call.name) or '{"maxProperties": 0}'
        jsonschema.validate(json.loads(call.arguments), json.loads(schema))


@pytest.mark.parametrize("special", [True, False])
def test_a_forced_call_may_have_the_tag(special: bool) -> None:
    """Where it is a token of the model, which then writes it."""
    tokenizer = byte_level(TAG) if special else byte_level()
    rules = LLAMA.forced(STRICT, parallel=False, literal=literal_of(tokenizer))
    grammar = LLMatcher.grammar_from_lark(f"start: calls\n{rules}")
    call = '{"name": "now", "parameters": {}}'
    assert takes(grammar, call, tokenizer)
    assert takes(grammar, TAG + call, tokenizer) is special
    assert folded(read(LLAMA, [TAG + call], TOOLS))[1][0].name == "now"
    assert not takes(grammar, f"{call}; {call}", tokenizer)


def test_what_is_drawn_after_a_brace_is_a_call_that_holds_or_text() -> None:
    """With a text that begins with a brace, both may come."""
    tokenizer = byte_level(TAG)
    calls = 0
    for seed in range(30):
        begins = random.Random(seed).choice(['{"', '{"name', '{"name": "look"', '{"id": 5, "name": "'])
        first = tokenizer.encode(begins, add_special=False)
        ids, complete = drawn(_triggered(True), tokenizer, seed, favoured=favourites(tokenizer), first=first, most=120)
        if not complete:
            continue
        _, made = folded(read(LLAMA, [tokenizer.decode(ids, skip_special=False)], STRICT))
        for call in made:
            schema = next(tool.parameters for tool in STRICT if tool.name == call.name) or '{"maxProperties": 0}'
            jsonschema.validate(json.loads(call.arguments), json.loads(schema))
        calls += len(made)
    assert calls


def _triggered(special: bool = False) -> str:
    tokenizer = byte_level(TAG) if special else byte_level()
    rules = LLAMA.triggered(STRICT, parallel=True, literal=literal_of(tokenizer))
    grammar: str = LLMatcher.grammar_from_lark(f"start: answer\n{rules}")
    return grammar


@pytest.mark.parametrize("count", [100, 1000])
def test_very_many_strict_tools_are_held_too(count: int) -> None:
    """Names of so many cannot be told apart: any answer that begins with a brace or a bracket is a call then."""
    tokenizer = byte_level()
    schema = '{"properties": {"n": {"type": "integer"}}, "required": ["n"]}'
    tools = [Tool(f"look_{place}", "", schema, strict=True) for place in range(count)]
    rules = LLAMA.triggered(tools, parallel=True, literal=literal_of(tokenizer))
    grammar = LLMatcher.grammar_from_lark(f"start: answer\n{rules}")
    assert takes(grammar, '{"name": "look_77", "parameters": {"n": 3}}')
    assert not takes(grammar, '{"name": "look_77", "parameters": {"n": "x"}}')
    assert takes(grammar, '{"x": 1}') is (count == 100)
    assert takes(grammar, "[1]") is (count == 100)
    assert takes(grammar, "Hello {there}.")


@pytest.mark.parametrize("before", ["", "\n", "\n\n", "\n\n\n", "<think>hm</think>", "<think>hm</think>\n\n"])
@pytest.mark.parametrize("syntax", [LLAMA, LLAMA4], ids=lambda syntax: syntax.name)
def test_a_call_may_follow_reasoning_and_blanks(syntax: ToolSyntax, before: str) -> None:
    """Beside free text that may begin with the same blanks; a stranger to the schema may not."""
    lead = Lead(Outline.of(THINK), is_open=False, may_reason=True)
    grammar = of_strict_tools(ToolUse(STRICT, ToolMode.AUTO), syntax, byte_level(), lead).text
    assert takes(grammar, before + '{"name": "look", "parameters": {"n": 7}}')
    assert takes(grammar, before + '{"name":"now", "parameters":{}}; {"name": "look", "parameters": {"n": 7}}')
    assert not takes(grammar, before + '{"name": "look", "parameters": {"n": 12}}')
    assert takes(grammar, before + '{"name": "Bob"}')
    assert takes(grammar, before + "words")
