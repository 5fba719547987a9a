"""Tool calls, from models that really make them and from random weights, over both ways."""

import asyncio
import json
from collections.abc import Mapping
from typing import Any

import httpx
import jsonschema
import pytest
from grpc import aio

from tests.e2e.seen import CHAT, Json, Said, ask, call, stream
from tests.e2e.ways import all_ways
from tests.e2e.wires import chat_json
from tests.taught import (
    ADD,
    COURSES,
    FACT_SCHEMA,
    LLAMA3,
    PARIS,
    QWEN,
    ROME,
    SUM,
    TOOLS,
    WEATHER,
    Lesson,
    lesson_body,
    result,
)

LESSONS = [(model, name) for model, course in COURSES.items() for name in course.lessons]
CALLING = [(model, name) for model, name in LESSONS if COURSES[model].lessons[name].calls]
SCHEMAS = {tool["function"]["name"]: tool["function"]["parameters"] for tool in TOOLS}
NESTED: Mapping[str, Any] = {
    "type": "function",
    "function": {
        "name": "plan.trip-2",
        "parameters": {
            "type": "object",
            "properties": {
                "days": {"type": "array", "items": {"$ref": "#/$defs/day"}, "minItems": 1, "maxItems": 2},
                "mood": {"anyOf": [{"type": "null"}, {"enum": ["glad", "so-so"]}]},
            },
            "required": ["days", "mood"],
            "additionalProperties": False,
            "$defs": {
                "day": {
                    "type": "object",
                    "properties": {
                        "hour": {"type": "integer", "minimum": 0, "maximum": 23},
                        "out": {"type": "boolean"},
                    },
                    "required": ["hour", "out"],
                    "additionalProperties": False,
                }
            },
        },
    },
}
BOUNDED: Mapping[str, Any] = {
    "type": "function",
    "function": {
        "name": "note",
        "parameters": {
            "type": "object",
            "properties": {
                "text": {"type": "string", "maxLength": 12},
                "tags": {"type": "array", "items": {"enum": ["a", "b"]}, "maxItems": 2},
            },
            "required": ["text"],
            "additionalProperties": False,
        },
    },
}
BRIEFLY: Json = {"thinking_budget": 20}
"""For models that begin to think where they cannot say what they would, and know no end of it."""
NOTHING: Mapping[str, Any] = {"type": "function", "function": {"name": "now"}}
"""A function without parameters."""
RANDOM_TOOLS = (NESTED, BOUNDED, NOTHING)
RANDOM_SCHEMAS = {
    tool["function"]["name"]: tool["function"].get("parameters", {"type": "object"}) for tool in RANDOM_TOOLS
}


def said(lesson: Lesson) -> tuple[str, str, str, list[tuple[str, Any]]]:
    """Give what a client must see of a lesson."""
    return lesson.content or "", lesson.reasoning or "", lesson.finish_reason, list(lesson.calls)


def heard(seen: Said) -> tuple[str, str, str, list[tuple[str, Any]]]:
    """Give the same of an answer."""
    return seen.text, seen.reasoning, seen.finish, [(call.name, json.loads(call.arguments)) for call in seen.calls]


def choice(name: str) -> Json:
    """Name a function to call."""
    return {"type": "function", "function": {"name": name}}


def check_calls(seen: Said, schemas: Mapping[str, Any]) -> None:
    """Check that all calls are of known tools, with arguments that their schemas accept."""
    for each in seen.calls:
        jsonschema.validate(json.loads(each.arguments), schemas[each.name])


@pytest.mark.parametrize(("model", "name"), LESSONS)
async def test_a_lesson_is_told_as_what_it_is(
    taught: httpx.AsyncClient, taught_channel: aio.Channel, model: str, name: str
) -> None:
    """Text, reasoning and calls come apart the same way streamed and not, and broken calls are text."""
    for seen in await all_ways(taught, taught_channel, lesson_body(model, name)):
        assert heard(seen.one) == said(COURSES[model].lessons[name])


@pytest.mark.parametrize(("model", "name"), CALLING)
async def test_a_call_is_streamed_as_it_forms(taught: httpx.AsyncClient, model: str, name: str) -> None:
    """Each call begins with its id and name, and its arguments come in several deltas."""
    seen = await stream(taught, CHAT, lesson_body(model, name))
    deltas = [chunk["choices"][0]["delta"] for chunk in seen.raw if chunk["choices"]]
    parts = [part for delta in deltas for part in delta.get("tool_calls") or ()]
    for index in range(len(seen.one.calls)):
        first, *rest = [part for part in parts if part["index"] == index]
        assert first["function"]["name"]
        assert len(rest) >= 3
        assert all(part["function"]["arguments"] for part in rest)


async def test_ids_are_new_each_time(taught: httpx.AsyncClient) -> None:
    """No two calls share an id."""
    answers = await asyncio.gather(*(ask(taught, CHAT, lesson_body("qwen", "text and calls", n=2)) for _ in range(3)))
    ids = [call.id for answer in answers for said in answer.said for call in said.calls]
    assert len(set(ids)) == len(ids) == 12


@pytest.mark.parametrize(("model", "name"), [("qwen", "text and calls"), ("llama3", "calls")])
async def test_without_parallel_calls_the_first_ends_the_choice(
    taught: httpx.AsyncClient, taught_channel: aio.Channel, model: str, name: str
) -> None:
    """A second call is not even generated."""
    lesson = COURSES[model].lessons[name]
    several = await ask(taught, CHAT, lesson_body(model, name))
    for seen in await all_ways(taught, taught_channel, lesson_body(model, name, parallel_tool_calls=False)):
        assert heard(seen.one) == (lesson.content or "", "", "tool_calls", [PARIS])
        assert seen.completion_tokens < several.completion_tokens - 10


@pytest.mark.parametrize("parallel", [True, False])
@pytest.mark.parametrize("model", [*COURSES, "tiny"])
async def test_required_calls_are_made(
    taught: httpx.AsyncClient, taught_channel: aio.Channel, model: str, parallel: bool
) -> None:
    """A model that would only greet has to call a tool, with arguments that the schema accepts."""
    changes = {"tool_choice": "required", "parallel_tool_calls": parallel, "max_completion_tokens": 1000}
    request = lesson_body("qwen", "no call", model=model, **changes, **BRIEFLY)
    for seen in await all_ways(taught, taught_channel, request):
        assert seen.one.text == ""
        if seen.one.finish != "length":
            assert seen.one.finish == "tool_calls"
            assert seen.one.calls if parallel else len(seen.one.calls) == 1
            check_calls(seen.one, SCHEMAS)


@pytest.mark.parametrize("tool", [WEATHER, ADD])
@pytest.mark.parametrize("model", COURSES)
async def test_a_named_call_is_made(
    taught: httpx.AsyncClient, taught_channel: aio.Channel, model: str, tool: Mapping[str, Any]
) -> None:
    """A model that would only greet has to call the function that is named, once."""
    name = tool["function"]["name"]
    for seen in await all_ways(
        taught, taught_channel, lesson_body(model, "no call", tool_choice=choice(name), **BRIEFLY)
    ):
        assert [call.name for call in seen.one.calls] == [name]
        assert seen.one.text == ""
        assert seen.one.finish in {"tool_calls", "stop"}
        check_calls(seen.one, SCHEMAS)


@pytest.mark.parametrize(("model", "name"), CALLING)
async def test_a_call_that_is_made_anyway_is_the_same_when_required(
    taught: httpx.AsyncClient, model: str, name: str
) -> None:
    """The grammar changes nothing of reasoning and calls that obey it; text beside them has no place in it."""
    lesson = COURSES[model].lessons[name]
    if lesson.content is None and "<|python_tag|>" not in lesson.written:
        seen = await ask(taught, CHAT, lesson_body(model, name, tool_choice="required"))
        assert heard(seen.one) == said(lesson)


@pytest.mark.parametrize("rule", ["required", *(choice(tool["function"]["name"]) for tool in RANDOM_TOOLS)], ids=str)
async def test_arguments_from_random_weights_obey_the_schema(taught: httpx.AsyncClient, rule: str | Json) -> None:
    """Whatever is drawn is a call of a tool that was offered, with arguments that validate."""
    request = lesson_body(
        "qwen", "no call", model="tiny", tools=list(RANDOM_TOOLS), tool_choice=rule, temperature=1, n=4, **BRIEFLY
    )
    answers = await asyncio.gather(
        *(
            ask(taught, CHAT, request | {"seed": seed, "parallel_tool_calls": bool(seed), "max_completion_tokens": 600})
            for seed in range(2)
        )
    )
    ended = [each for answer in answers for each in answer.said if each.finish != "length"]
    assert len(ended) >= 5
    for each in ended:
        assert each.calls
        assert each.text == ""
        check_calls(each, RANDOM_SCHEMAS)


@pytest.mark.parametrize("model", COURSES)
async def test_no_calls_are_told_where_none_may_be(
    taught: httpx.AsyncClient, taught_channel: aio.Channel, model: str
) -> None:
    """With tool_choice none whatever is written is text."""
    for seen in await all_ways(taught, taught_channel, lesson_body(model, "call", tool_choice="none")):
        assert seen.one.calls == ()
        assert seen.one.finish in {"stop", "length"}


@pytest.mark.parametrize(("model", "name"), [("qwen", "text and calls"), ("qwen", "thought call"), ("llama3", "call")])
async def test_what_a_model_said_can_be_sent_back(
    taught: httpx.AsyncClient, taught_channel: aio.Channel, model: str, name: str
) -> None:
    """The message, as it came, and results by their calls' ids are read as the next lesson."""
    first = lesson_body(model, name)
    message = (await ask(taught, CHAT, first)).raw["choices"][0]["message"]
    results = dict(zip(("18 degrees", "300 kelvin"), message["tool_calls"], strict=False))
    messages = [*first["messages"], message, *(result(made["id"], text) for text, made in results.items())]
    following = COURSES[model].lessons["two results" if len(results) > 1 else "one result"]
    for seen in await all_ways(taught, taught_channel, first | {"messages": messages}):
        assert heard(seen.one) == said(following)


@pytest.mark.parametrize(("model", "name"), [("qwen", "call"), ("llama3", "call")])
async def test_nothing_of_a_cut_call_is_lost(taught_channel: aio.Channel, model: str, name: str) -> None:
    """Wherever max_tokens cuts, there is the beginning of the arguments, or what there is of the call as text."""
    lesson = COURSES[model].lessons[name]
    ((function, arguments),) = lesson.calls
    whole = await call(taught_channel, chat_json(lesson_body(model, name)))
    counts = range(1, whole.completion_tokens - 1)
    cut = await asyncio.gather(
        *(call(taught_channel, chat_json(lesson_body(model, name, max_completion_tokens=count))) for count in counts)
    )
    lengths = []
    for seen in cut:
        assert seen.one.finish == "length"
        lengths.append(len(seen.one.text) + sum(len(call.arguments) for call in seen.one.calls))
        if seen.one.calls:
            (made,) = seen.one.calls
            assert made.name == function
            assert json.dumps(arguments).startswith(made.arguments)
            assert seen.one.text == ""
        else:
            assert lesson.written.startswith(seen.one.text)
            assert seen.one.text
    assert lengths[-1] > len(json.dumps(arguments)) / 2


@pytest.mark.parametrize(("model", "name"), LESSONS)
async def test_automatic_calls_of_strict_tools_obey_the_schema(
    taught: httpx.AsyncClient, model: str, name: str
) -> None:
    """What obeys anyway stays the same, and what begins as a call does is one that validates."""
    lesson = COURSES[model].lessons[name]
    if not lesson.tools:
        return
    tools = [{"type": "function", "function": tool["function"] | {"strict": True}} for tool in lesson.tools]
    seen = await ask(taught, CHAT, lesson_body(model, name, tools=tools))
    if lesson.calls or not lesson.written.startswith(("<tool_call>", "{")):
        assert heard(seen.one) == said(lesson)
    elif seen.one.finish != "length":
        check_calls(seen.one, SCHEMAS)


@pytest.mark.parametrize("model", COURSES)
async def test_tools_beside_a_schema(taught: httpx.AsyncClient, taught_channel: aio.Channel, model: str) -> None:
    """With both an answer is calls, or text that the schema accepts."""
    form = {"type": "json_schema", "json_schema": {"name": "fact", "schema": FACT_SCHEMA}}
    calling, plain = await asyncio.gather(
        all_ways(taught, taught_channel, lesson_body(model, "call", response_format=form)),
        all_ways(taught, taught_channel, lesson_body(model, "no call", response_format=form, **BRIEFLY)),
    )
    for seen in calling:
        assert heard(seen.one) == said(COURSES[model].lessons["call"])
    for seen in plain:
        if seen.one.calls:
            check_calls(seen.one, SCHEMAS)
        else:
            jsonschema.validate(json.loads(seen.one.text), FACT_SCHEMA)


async def test_a_template_without_tools_still_shows_them(taught: httpx.AsyncClient) -> None:
    """A model whose template knows no tools gets them, earlier calls and results as text."""
    plain = lesson_body("qwen", "no call", model="tiny", tools=None, max_completion_tokens=1)
    shown = await ask(taught, CHAT, plain | {"tools": list(TOOLS)})
    conversation = lesson_body("qwen", "two results", model="tiny", max_completion_tokens=1)
    both = await ask(taught, CHAT, conversation)
    bare = await ask(taught, CHAT, conversation | {"tools": None})
    assert shown.prompt_tokens > (await ask(taught, CHAT, plain)).prompt_tokens + 100
    assert both.prompt_tokens > bare.prompt_tokens + 100


async def test_calls_of_several_choices(taught: httpx.AsyncClient, taught_channel: aio.Channel) -> None:
    """Each choice has its own calls."""
    for seen in await all_ways(taught, taught_channel, lesson_body("qwen", "text and calls", n=3)):
        assert [heard(each) for each in seen.said] == [("I look at both.", "", "tool_calls", [PARIS, ROME])] * 3


async def test_log_probabilities_beside_a_call(taught: httpx.AsyncClient, taught_channel: aio.Channel) -> None:
    """Over HTTP they are those of the content, and over gRPC each token of a call has its own."""
    request = lesson_body("qwen", "text and calls", logprobs=True, top_logprobs=1)
    whole, streamed, wired = await all_ways(taught, taught_channel, request)
    assert whole.one.tokens == streamed.one.tokens
    assert b"".join(token.text for token in whole.one.tokens).decode().startswith("I look at both.")
    assert len(wired.one.tokens) == wired.completion_tokens


def test_the_lessons_hold_what_these_tests_need() -> None:
    """Both formats have reasoning, single and parallel calls, text and broken calls."""
    for course in (QWEN, LLAMA3):
        lessons = course.lessons.values()
        assert {len(lesson.calls) for lesson in lessons} == {0, 1, 2}
        assert any(lesson.reasoning and lesson.calls for lesson in lessons)
        assert any(lesson.reasoning and not lesson.calls for lesson in lessons)
        assert any(lesson.tools and not lesson.calls and "name" in lesson.written for lesson in lessons)
        assert any(SUM in lesson.calls for lesson in lessons)
