"""Reasoning, from a tiny model that really emits it, over both ways."""

import asyncio
import json
from typing import Any

import httpx
import jsonschema
import pytest
from grpc import aio

from mlx_grpc.v1 import generation_pb2 as pb
from mlx_grpc.v1.generation_pb2_grpc import GenerationServiceStub
from tests.e2e.seen import call
from tests.e2e.ways import all_ways
from tests.e2e.wires import chat_json
from tests.taught import COURSES, FACT, FACT_SCHEMA, QWEN, SKY_ANSWER, SKY_THOUGHT, lesson_body
from tests.tiny import DIALOGUES

QUESTION = "Why is the sky blue?"
THOUGHT, ANSWER = (part.strip() for part in DIALOGUES[QUESTION].removeprefix("<think>").split("</think>"))
CHAT: dict[str, Any] = {"model": "talker", "messages": [{"role": "user", "content": QUESTION}], "temperature": 0}


async def test_reasoning_over_grpc(channel: aio.Channel) -> None:
    """The reasoning comes first, ends with how long it took, and is not part of the answer."""
    request = pb.ChatRequest(
        model="talker",
        messages=[pb.ChatMessage(role=pb.ROLE_USER, content=[pb.ContentPart(text=QUESTION)])],
        sampling=pb.SamplingParams(temperature=0),
    )
    events = [event async for event in GenerationServiceStub(channel).Chat(request)]
    kinds = [event.WhichOneof("event") for event in events]
    assert "".join(event.reasoning.text for event in events) == THOUGHT
    assert "".join(event.text.text for event in events) == ANSWER
    assert kinds.index("reasoning") < kinds.index("reasoning_done") < kinds.index("text")
    assert events[kinds.index("reasoning_done")].reasoning_done.duration.ToNanoseconds() > 0
    assert 0 < events[-1].completed.usage.reasoning_tokens < events[-1].completed.usage.completion_tokens


async def test_reasoning_over_http(http: httpx.AsyncClient) -> None:
    """A whole answer has it beside the content, and counts its tokens."""
    answer = (await http.post("/v1/chat/completions", json=CHAT)).json()
    assert answer["choices"][0]["message"]["reasoning_content"] == THOUGHT
    assert answer["choices"][0]["message"]["content"] == ANSWER
    assert answer["usage"]["completion_tokens_details"]["reasoning_tokens"] > 0


async def test_streamed_reasoning_over_http(http: httpx.AsyncClient) -> None:
    """The deltas have it in a field of its own, before the content."""
    async with http.stream("POST", "/v1/chat/completions", json=CHAT | {"stream": True}) as response:
        lines = [line.removeprefix("data: ") async for line in response.aiter_lines() if line.startswith("data: {")]
    deltas = [json.loads(line)["choices"][0]["delta"] for line in lines]
    assert "".join(delta.get("reasoning_content") or "" for delta in deltas) == THOUGHT
    assert "".join(delta.get("content") or "" for delta in deltas) == ANSWER


@pytest.mark.parametrize(("stop", "text"), [([" air"], "Because the"), (["Short"], ANSWER)])
async def test_stop_strings_end_the_answer_and_not_the_reasoning(
    http: httpx.AsyncClient, stop: list[str], text: str
) -> None:
    """A stop string counts in the answer alone."""
    answer = (await http.post("/v1/chat/completions", json=CHAT | {"stop": stop})).json()
    assert answer["choices"][0]["message"]["content"] == text
    assert answer["choices"][0]["message"]["reasoning_content"] == THOUGHT
    assert answer["choices"][0]["finish_reason"] == "stop"


async def test_no_effort_switches_a_template_that_can_be_switched(
    taught: httpx.AsyncClient, taught_channel: aio.Channel
) -> None:
    """Effort none is what the template's own variable is."""
    for seen in await all_ways(taught, taught_channel, lesson_body("qwen", "thought", reasoning_effort="none")):
        assert (seen.one.reasoning, seen.one.text) == ("", QWEN.lessons["unthought"].content)
        assert seen.reasoning_tokens == 0


@pytest.mark.parametrize("effort", ["minimal", "low", "medium", "high"])
async def test_effort_leaves_a_model_that_thinks_anyway_alone(
    taught: httpx.AsyncClient, taught_channel: aio.Channel, effort: str
) -> None:
    """A template that knows no levels makes the same prompt of all of them."""
    for seen in await all_ways(taught, taught_channel, lesson_body("qwen", "thought", reasoning_effort=effort)):
        assert (seen.one.reasoning, seen.one.text) == (SKY_THOUGHT, SKY_ANSWER)


async def test_a_templates_own_variables_win(taught: httpx.AsyncClient, taught_channel: aio.Channel) -> None:
    """What chat_template_kwargs say counts, whatever the effort is."""
    changes = {"reasoning_effort": "none", "chat_template_kwargs": {"enable_thinking": True}}
    for seen in await all_ways(taught, taught_channel, lesson_body("qwen", "thought", **changes)):
        assert (seen.one.reasoning, seen.one.text) == (SKY_THOUGHT, SKY_ANSWER)


async def test_no_effort_holds_without_a_switch(taught: httpx.AsyncClient, taught_channel: aio.Channel) -> None:
    """A model that cannot be told not to think has its reasoning ended at once."""
    for seen in await all_ways(taught, taught_channel, lesson_body("llama3", "thought", reasoning_effort="none")):
        assert seen.one.reasoning == ""
        assert seen.one.text


@pytest.mark.parametrize("budget", [0, 2, 5])
@pytest.mark.parametrize("model", COURSES)
async def test_a_budget_bounds_the_reasoning(
    taught: httpx.AsyncClient, taught_channel: aio.Channel, model: str, budget: int
) -> None:
    """The model thinks as it would, for so many tokens at most, and then answers."""
    request = lesson_body(model, "thought", thinking_budget=budget, max_completion_tokens=60)
    for seen in await all_ways(taught, taught_channel, request):
        assert SKY_THOUGHT.startswith(seen.one.reasoning.strip())
        assert len(seen.one.reasoning) < len(SKY_THOUGHT)
        assert (seen.one.reasoning == "") is (budget == 0)
        assert seen.one.text


@pytest.mark.parametrize("model", COURSES)
async def test_a_budget_that_is_not_reached_changes_nothing(
    taught: httpx.AsyncClient, taught_channel: aio.Channel, model: str
) -> None:
    """A model that thinks shorter than it may says what it would have said."""
    for seen in await all_ways(taught, taught_channel, lesson_body(model, "thought", thinking_budget=1000)):
        assert (seen.one.reasoning, seen.one.text) == (SKY_THOUGHT, SKY_ANSWER)


async def test_a_budget_for_each_choice(taught: httpx.AsyncClient, taught_channel: aio.Channel) -> None:
    """Each choice thinks for as long as one alone, other rows beside them."""
    request = lesson_body("qwen", "thought", thinking_budget=3)
    one, three, _ = await asyncio.gather(
        call(taught_channel, chat_json(request)),
        call(taught_channel, chat_json(request | {"n": 3})),
        call(taught_channel, chat_json(lesson_body("qwen", "text and calls"))),
    )
    assert {said.reasoning for said in three.said} == {one.one.reasoning}


@pytest.mark.parametrize(("model", "name"), [("qwen", "fact"), ("llama3", "fact")])
async def test_a_schema_that_is_obeyed_anyway_changes_nothing(
    taught: httpx.AsyncClient, taught_channel: aio.Channel, model: str, name: str
) -> None:
    """The grammar begins after the reasoning, and lets the model write its JSON as it likes."""
    form = {"type": "json_schema", "json_schema": {"name": "fact", "schema": FACT_SCHEMA}}
    for seen in await all_ways(taught, taught_channel, lesson_body(model, name, response_format=form)):
        assert (seen.one.text, seen.one.finish) == (FACT, "stop")
        assert seen.one.reasoning == (COURSES[model].lessons[name].reasoning or "")


@pytest.mark.parametrize("budget", [None, 3])
@pytest.mark.parametrize("model", COURSES)
async def test_a_schema_holds_after_the_reasoning(
    taught: httpx.AsyncClient, taught_channel: aio.Channel, model: str, budget: int | None
) -> None:
    """A model that would answer in words thinks as ever, be it for a while only, and then writes JSON."""
    form = {"type": "json_schema", "json_schema": {"name": "fact", "schema": FACT_SCHEMA}}
    request = lesson_body(model, "thought", response_format=form, thinking_budget=budget, max_completion_tokens=400)
    for seen in await all_ways(taught, taught_channel, request):
        assert seen.one.reasoning
        assert SKY_THOUGHT.startswith(seen.one.reasoning.strip())
        assert budget or seen.one.reasoning == SKY_THOUGHT
        if seen.one.finish == "stop":
            jsonschema.validate(json.loads(seen.one.text), FACT_SCHEMA)
        else:
            assert seen.one.text.startswith("{")


async def test_reasoning_can_be_sent_back(taught: httpx.AsyncClient, taught_channel: aio.Channel) -> None:
    """An earlier message's reasoning reaches a template that shows it, and is left out where it is not sent."""
    both = await asyncio.gather(
        all_ways(taught, taught_channel, lesson_body("qwen", "one result")),
        all_ways(taught, taught_channel, lesson_body("qwen", "a forgotten thought")),
    )
    for answers, name in zip(both, ("one result", "a forgotten thought"), strict=True):
        assert {seen.one.text for seen in answers} == {QWEN.lessons[name].content}
