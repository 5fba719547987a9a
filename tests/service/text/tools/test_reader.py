"""Tests of reading calls in all formats, as they form and whole."""

# ruff: noqa: RUF001 - the bars in DeepSeek's tokens are fullwidth ones

import importlib
import json
import re
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.text.tools.stream import MAX_HELD
from service.text.tools.syntax import Arguments, Began, Plain, ToolSyntax
from tests.service.text.tools.formats import SYNTAXES, TOOLS, WRITTEN, Calls, as_openai, folded, read

many = settings(deadline=None, max_examples=60)
every_syntax = pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda syntax: syntax.name)

BY_NAME = {syntax.name: syntax for syntax in SYNTAXES}

# They begin with a letter and end with one, so that no format takes them for another type or strips them.
strings = st.text(alphabet=st.sampled_from([*"abü日👍 \n\t\"'{}[](),:=<>&\\/"]), max_size=8).map(
    lambda text: f"K{text}n"
)
arguments = st.fixed_dictionaries(
    {"city": strings},
    optional={
        "days": st.integers(-5, 10**9),
        "share": st.integers(-99, 99).map(lambda number: number / 4),
        "metric": st.booleans(),
        "tags": st.lists(strings, max_size=2),
        "where": st.dictionaries(st.sampled_from(["x", "y", "z1"]), st.one_of(strings, st.none(), st.integers())),
        "note": st.one_of(st.none(), strings),
    },
)
calls_of_tools = st.lists(
    st.one_of(arguments.map(lambda values: ("get_weather", values)), st.just(("now", {}))), min_size=1, max_size=3
)
noises = st.sampled_from(["", "{", '"', "</", "[", "<tool_call>", "}}", "oops"])
around = st.sampled_from(["", "Sure.", "It's {1} [x] <b>", "日本 <too"])


def cut(data: st.DataObject, text: str) -> list[str]:
    """Cut a text into parts."""
    places = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=12)))
    return [text[start:end] for start, end in zip([0, *places], [*places, len(text)], strict=True)]


def without(calls: Calls, names: frozenset[str]) -> list[tuple[str, dict[str, Any]]]:
    return [(name, {key: value for key, value in values.items() if key not in names}) for name, values in calls]


def found(syntax: ToolSyntax, parts: list[str]) -> tuple[str, list[tuple[str, Any]]]:
    text, calls = folded(read(syntax, parts))
    return text, [(call.name, json.loads(call.arguments)) for call in calls]


@every_syntax
@given(data=st.data(), calls=calls_of_tools, before=around, after=around)
@many
def test_calls_are_read_wherever_the_text_is_cut(
    syntax: ToolSyntax, data: st.DataObject, calls: Calls, before: str, after: str
) -> None:
    """Names, arguments and the text around are what was written."""
    if syntax.name == "llama":
        before = ""
    text = f"{before}\n{WRITTEN[syntax.name].write(calls)}\n{after}" if before else WRITTEN[syntax.name].write(calls)
    said, made = found(syntax, cut(data, text))
    assert made == list(calls)
    assert said.replace("\n", "") == (before + after if before else "")


@pytest.mark.parametrize("name", [name for name, written in WRITTEN.items() if written.oracle])
@given(data=st.data(), calls=calls_of_tools)
@many
def test_calls_are_those_that_mlx_lm_reads(name: str, data: st.DataObject, calls: Calls) -> None:
    """Its parsers, which get a whole call each, find the same."""
    written = WRITTEN[name]
    if name == "function_gemma":
        calls = [(called, {key: _short(value) for key, value in values.items()}) for called, values in calls]
    elif name == "longcat":  # whose parser fails over a call without arguments
        calls = [(called, values) for called, values in calls if values]
    text = written.write(without(calls, written.lacks))
    _, made = found(BY_NAME[name], cut(data, text))
    assert made == _by_mlx_lm(written.oracle, text)


def _short(value: object) -> object:
    return value.replace("}", ")") if isinstance(value, str) else value


def _by_mlx_lm(oracle: str, text: str) -> list[tuple[str, Any]]:
    module = importlib.import_module(f"mlx_lm.tool_parsers.{oracle}")
    calls = []
    for part in text.split(module.tool_call_start)[1:]:
        inner = part.rpartition(module.tool_call_end)[0] if module.tool_call_end else part
        parsed = module.parse_tool_call(inner, as_openai(TOOLS))
        calls += parsed if isinstance(parsed, list) else [parsed]
    return [(call["name"], call["arguments"]) for call in calls]


@every_syntax
@given(data=st.data(), calls=calls_of_tools, noise=noises)
@many
def test_what_is_broken_does_not_depend_on_the_cut(
    syntax: ToolSyntax, data: st.DataObject, calls: Calls, noise: str
) -> None:
    """Noise in a call, and text that ends anywhere, give the same however they arrive; without calls it is all text."""
    text = WRITTEN[syntax.name].write(calls)
    place = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(place, len(text)))
    broken = text[:place] + noise + text[place:end]
    whole = folded(read(syntax, [broken]))
    parts = folded(read(syntax, cut(data, broken)))
    assert parts[0] == whole[0]
    assert [(call.name, call.arguments) for call in parts[1]] == [(call.name, call.arguments) for call in whole[1]]
    if not whole[1]:
        assert whole[0] == broken


@every_syntax
def test_what_the_end_cuts_is_a_call_or_text(syntax: ToolSyntax) -> None:
    """Before a call begins all of it is text; from then on none is, and its arguments go on to those of the whole."""
    before = "" if syntax.name == "llama" else "Sure.\n"
    call = WRITTEN[syntax.name].write([("get_weather", {"city": "Köln <3", "note": "a b"})])
    _, (whole,) = folded(read(syntax, [before + call]))
    for end in range(len(call)):
        text = before + call[:end]
        said, made = folded(read(syntax, [text]))
        assert (said, [other.arguments for other in made]) == streamed(syntax, text)
        if not made:
            assert said == text
        else:
            assert said == before.strip()
            assert made[0].name == whole.name
            assert whole.arguments.startswith(made[0].arguments), text


@every_syntax
def test_a_call_is_whole_though_the_end_cuts_its_closing_marker(syntax: ToolSyntax) -> None:
    """What there is of the marker is none of the text, whether it follows at once or on a line of its own."""
    calls = WRITTEN[syntax.name].write([("now", {}), ("get_weather", {"city": "Köln"})])
    expected = folded(read(syntax, [calls]))
    marker = re.search(r"</?[^<>/]*>?$", calls)
    for end in range(marker.start() + 2 if marker else len(calls), len(calls)):
        said, made = folded(read(syntax, [calls[:end]]))
        assert (said, [other.arguments for other in made]) == streamed(syntax, calls[:end])
        assert (said, [(call.name, call.arguments) for call in made]) == (
            expected[0],
            [(call.name, call.arguments) for call in expected[1]],
        )


def streamed(syntax: ToolSyntax, text: str) -> tuple[str, list[str]]:
    said, made = folded(read(syntax, list(text)))
    return said, [call.arguments for call in made]


WEATHER = '{"city": "Köln"}'
HERMES_CALL = '<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>'
BROKEN = {
    "no object": ("hermes", "a\n<tool_call>\noops</tool_call> b", "a\n<tool_call>\noops</tool_call> b", []),
    "no arguments": ("hermes", '<tool_call>{"name": "f"}</tool_call>', '<tool_call>{"name": "f"}</tool_call>', []),
    "no name": ("hermes", '<tool_call>{"arguments": {}}</tool_call>', '<tool_call>{"arguments": {}}</tool_call>', []),
    "cut in its name": ("hermes", 'a <tool_call>{"name": "ge', 'a <tool_call>{"name": "ge', []),
    "cut in its marker": ("hermes", "a\n<tool_c", "a\n<tool_c", []),
    "cut in the opening marker of the next": ("hermes", f"{HERMES_CALL}\n<tool_c", "<tool_c", [("now", "{}")]),
    "cut in its closing marker after a text": (
        "hermes",
        '<tool_call>{"name": "f", "arguments": {}}} and </tool_c',
        "} and </tool_c",
        [("f", "{}")],
    ),
    "cut in the closing marker of broken arguments": (
        "hermes",
        '<tool_call>{"name": "f", "arguments": {"a": [1}</tool_c',
        "",
        [("f", '{"a": [1}')],
    ),
    "cut in a string that may go on so": (
        "hermes",
        '<tool_call>{"name": "f", "arguments": {"a": "</to',
        "",
        [("f", '{"a": "</to')],
    ),
    "cut in the rest of its object": (
        "hermes",
        '<tool_call>{"name": "f", "arguments": {}, "id": "x',
        "",
        [("f", "{}")],
    ),
    "cut after a comma": ("mistral", '[TOOL_CALLS][{"name": "f"}, ', "", [("f", "{}")]),
    "cut after a bracket": ("mistral", '[TOOL_CALLS]f[ARGS]{"a": [', "", [("f", '{"a": [')]),
    "cut after a semicolon": ("llama", '{"name": "now", "parameters": {}}; ', "", [("now", "{}")]),
    "cut in the end of its section": (
        "deepseek_v31",
        "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>f<｜tool▁sep｜>{}<｜tool▁call▁end｜>\n<｜tool▁calls▁e",
        "",
        [("f", "{}")],
    ),
    "cut in a name that may go on": ("glm47", "<tool_call>get_wea", "<tool_call>get_wea", []),
    "cut in the marker after a name": ("glm47", "<tool_call>now</tool_", "", [("now", "{}")]),
    "cut before an argument or the end": ("glm47", "<tool_call>now<", "<tool_call>now<", []),
    "cut in the end of a call without arguments": (
        "qwen3_coder",
        "<tool_call>\n<function=now>\n</func",
        "",
        [("now", "{}")],
    ),
    "cut in a value that is no string": (
        "qwen3_coder",
        "<function=get_weather>\n<parameter=days>\n2\n</para",
        "",
        [("get_weather", '{"days": 2')],
    ),
    "cut in a CDATA section": (
        "minicpm5",
        '<function name="get_weather"><param name="city"><![CDATA[a<b]]',
        "",
        [("get_weather", '{"city": "a<b')],
    ),
    "cut in a JSON block": (
        "kimi_k3",
        '<|open|>tools<|sep|><|open|>call tool="now"<|sep|><|open|>json type="object"<|sep|>{}<|close|>js',
        "",
        [("now", "{}")],
    ),
    "cut in a scalar": ("gemma4", "<|tool_call>call:get_weather{days:2<tool_c", "", [("get_weather", '{"days": 2')]),
    "cut in a list of Python's": (
        "pythonic",
        "<|tool_call_start|>[get_weather(city='Köln', tags=",
        "",
        [("get_weather", '{"city": "Köln", "tags": ')],
    ),
    "cut in its arguments": ("hermes", '<tool_call>{"name": "f", "arguments": {"a": "x', "", [("f", '{"a": "x')]),
    "arguments without an end": (
        "hermes",
        '<tool_call>{"name": "f", "arguments": {"a": [1}\n</tool_call>\nb',
        "b",
        [("f", '{"a": [1}\n')],
    ),
    "a string without an end": (
        "hermes",
        '<tool_call>{"name": "f", "arguments": {"a": "x\n</tool_call>\nb',
        "b",
        [("f", '{"a": "x\n')],
    ),
    "a marker in a string": (
        "hermes",
        '<tool_call>{"name": "f", "arguments": {"a": "</tool_call> x"}}</tool_call>b',
        "b",
        [("f", '{"a": "</tool_call> x"}')],
    ),
    "a brace too many": ("hermes", '<tool_call>{"name": "f", "arguments": {}}}</tool_call>b', "}b", [("f", "{}")]),
    "no end": (
        "hermes",
        f'<tool_call>{{"name": "f", "arguments": {{}}}} and {HERMES_CALL}',
        " and ",
        [("f", "{}"), ("now", "{}")],
    ),
    "one that begins in a broken one": (
        "hermes",
        f"<tool_call>\n{HERMES_CALL}",
        "<tool_call>\n",
        [("now", "{}")],
    ),
    "arguments before the name": (
        "hermes",
        '<tool_call>{"arguments": {"a": 1}, "name": "f"}</tool_call>',
        "",
        [("f", '{"a": 1}')],
    ),
    "arguments in a string": (
        "hermes",
        '<tool_call>{"name": "f", "arguments": "{\\"a\\": 1}", "x": [1]}</tool_call>',
        "",
        [("f", '{"a": 1}')],
    ),
    "halves of a character": (
        "hermes",
        r'<tool_call>{"name": "f\ud800", "arguments": "{\"a\": \"\ud800\"}"}</tool_call>',
        "",
        [("f?", r'{"a": "\ud800"}')],
    ),
    "a function in an object": (
        "hermes",
        '<tool_call>{"type": "function", "function": {"name": "f", "arguments": {}}}</tool_call>',
        "",
        [("f", "{}")],
    ),
    "JSON that is no call": ("llama", '{"name": "Bob", "arguments": {}}', '{"name": "Bob", "arguments": {}}', []),
    "JSON with other keys": ("llama", '{"x": 1, "name": "now"}', '{"x": 1, "name": "now"}', []),
    "a call after text": (
        "llama",
        'So: {"name": "now", "parameters": {}}',
        'So: {"name": "now", "parameters": {}}',
        [],
    ),
    "code": ("llama", '<|python_tag|>search.call(q="x")', '<|python_tag|>search.call(q="x")', []),
    "a call after the tag": ("llama", 'So:\n<|python_tag|>{"name": "now", "parameters": {}}', "So:", [("now", "{}")]),
    "a call without arguments": ("llama", ' {"name": "now"}', "", [("now", "{}")]),
    "text after the list": ("mistral", '[TOOL_CALLS][{"name": "f"}] b', " b", [("f", "{}")]),
    "a list with nonsense": ("mistral", '[TOOL_CALLS][{"name": "f"}, oops] b', ", oops] b", [("f", "{}")]),
    "words": ("mistral", "[TOOL_CALLS]hello world", "[TOOL_CALLS]hello world", []),
    "calls in a row": ("mistral", "[TOOL_CALLS]f[ARGS]{}now[ARGS]{} b", " b", [("f", "{}"), ("now", "{}")]),
    "another tool": (
        "harmony",
        "<|channel|>commentary to=browser.search<|message|>{}",
        "<|channel|>commentary to=browser.search<|message|>{}",
        [],
    ),
    "a recipient before the channel": (
        "harmony",
        "<|start|>assistant to=functions.now<|channel|>commentary json<|message|>{}",
        "",
        [("now", "{}")],
    ),
    "a header that the prompt began": (
        "harmony",
        " to=functions.now<|channel|>commentary<|message|>{}",
        "",
        [("now", "{}")],
    ),
    "an argument without an end": (
        "qwen3_coder",
        "<tool_call>\n<function=get_weather>\n<parameter=city>\nKöln\n</function>\n</tool_call>\nb",
        "b",
        [("get_weather", WEATHER)],
    ),
    "the end of a call in an argument": (
        "qwen3_coder",
        "<function=get_weather><parameter=city>a</function> b</parameter></function>",
        "",
        [("get_weather", '{"city": "a</function> b"}')],
    ),
    "an object in an element": (
        "qwen3_coder",
        "<tool_call>" + '{"name": "now", "arguments": {}}' + "</tool_call>b",
        "b",
        [("now", "{}")],
    ),
    "a header alone": ("qwen3_coder", "<function=f>\nfoo", "<function=f>\nfoo", []),
    "pairs": ("glm47", "<tool_call>get_weather city=Köln</tool_call>", "", [("get_weather", WEATHER)]),
    "a sentence": ("glm47", "<tool_call>what is it?</tool_call>", "<tool_call>what is it?</tool_call>", []),
    "a name alone": ("glm47", "<tool_call>now</tool_call>b", "b", [("now", "{}")]),
    "a key without a value": (
        "gemma4",
        "<|tool_call>call:get_weather{city oops}<tool_call|>b",
        "b",
        [("get_weather", '{"city"oops}')],
    ),
    "code in place of a list": (
        "pythonic",
        "<|tool_call_start|>f()<|tool_call_end|>",
        "<|tool_call_start|>f()<|tool_call_end|>",
        [],
    ),
    "words without quotes": (
        "pythonic",
        "<|tool_call_start|>[get_weather(city=New York, days=2)]<|tool_call_end|>",
        "",
        [("get_weather", '{"city": "New York", "days": 2}')],
    ),
    "a section without calls": (
        "kimi_k2",
        "<|tool_calls_section_begin|>x<|tool_calls_section_end|>",
        "<|tool_calls_section_begin|>x<|tool_calls_section_end|>",
        [],
    ),
}


@pytest.mark.parametrize(("name", "text", "said", "calls"), BROKEN.values(), ids=list(BROKEN))
def test_broken_calls_are_text_and_begun_ones_stay_calls(
    name: str, text: str, said: str, calls: list[tuple[str, str]]
) -> None:
    """What is no call comes back as it was; once name and arguments have begun, they go on to the closing marker."""
    for parts in ([text], list(text)):
        around, made = folded(read(BY_NAME[name], parts))
        assert around == said
        assert [(call.name, call.arguments) for call in made] == calls


@every_syntax
def test_calls_come_as_they_form(syntax: ToolSyntax) -> None:
    """The name comes before the arguments are there, and these in several parts."""
    city = "Köln am schönen, alten und sehr breiten Rhein"
    text = WRITTEN[syntax.name].write([("get_weather", {"city": city, "days": 2})])
    reader = syntax.reader(TOOLS)
    begun = next(
        place for place in range(len(text)) if any(isinstance(event, Began) for event in reader.feed(text[place]))
    )
    assert begun < text.index("days")
    later = [event for character in text[begun + 1 :] for event in reader.feed(character)]
    assert sum(isinstance(event, Arguments) for event in later) >= 2


def test_ids_are_the_models_own_or_new_ones() -> None:
    """An id is not given twice. Kimi's have the call's number, Mistral's templates want nine letters and digits."""
    part = "<|tool_call_begin|>functions.now:0<|tool_call_argument_begin|>{}<|tool_call_end|>"
    _, (first, second) = folded(read(BY_NAME["kimi_k2"], [part * 2]))
    assert first.id == "functions.now:0"
    assert re.fullmatch(r"call_[0-9a-f]{24}", second.id)
    _, (call,) = folded(read(BY_NAME["hermes"], [HERMES_CALL]))
    assert re.fullmatch(r"call_[0-9a-f]{24}", call.id)
    _, (call,) = folded(read(BY_NAME["hermes"], [HERMES_CALL.replace('"name"', '"id": "mine", "name"')]))
    assert call.id == "mine"
    _, (call,) = folded(read(BY_NAME["mistral"], ["[TOOL_CALLS]now[ARGS]{}"]))
    assert re.fullmatch(r"[a-zA-Z0-9]{9}", call.id)
    _, (call,) = folded(read(BY_NAME["mistral"], ["[TOOL_CALLS]now[CALL_ID]123456789[ARGS]{}"]))
    assert call.id == "123456789"


def test_a_reader_begins_anew_after_a_flush() -> None:
    """An answer that reasoning interrupts is read as two."""
    reader = BY_NAME["llama"].reader(TOOLS)
    assert folded([*reader.feed('{"name": "no'), *reader.flush()]) == ('{"name": "no', [])
    _, (call,) = folded([*reader.feed('{"name": "now", "parameters": {}}'), *reader.flush()])
    assert call.name == "now"


def test_what_is_held_back_has_a_bound() -> None:
    """A call that does not come to its name is text in the end, long before the answer ends."""
    reader = BY_NAME["hermes"].reader(TOOLS)
    reader.feed("<tool_call>{")
    said = [event for _ in range(MAX_HELD // 8) for event in reader.feed('"a": [1], ')]
    assert said
    assert all(isinstance(event, Plain) for event in said)


@pytest.mark.parametrize("text", ["<tool_call>{" * 20_000, "\n" * 100_000, '{"a":' * 20_000, "[" * 100_000])
@every_syntax
def test_hostile_text_takes_no_time(syntax: ToolSyntax, text: str) -> None:
    """A long run of beginnings, in small parts, is read in time that grows with its length."""
    began = time.process_time()
    opening = "".join(syntax.openings[:1])
    folded(read(syntax, [opening, *(text[place : place + 40] for place in range(0, len(text), 40))]))
    assert time.process_time() - began < 5
