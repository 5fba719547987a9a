"""The official SDK, in its newest version: parsing into classes, event streams, tools; sync and async."""

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any, Literal

import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam, ChatCompletionToolUnionParam
from openai.types.chat.chat_completion_chunk import ChoiceDeltaToolCall
from pydantic import BaseModel, Field

from tests.taught import SKY, SKY_ANSWER, SKY_THOUGHT, TOOLS

ANSWER = "1, 2, 3, 4, 5."
COUNT: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Count to five."}]
PARIS: ChatCompletionMessageParam = {"role": "user", "content": "Paris?"}
TOLD = "It has 18 degrees."
KNOWS: dict[str, Any] = {"model": "llama3", "temperature": 0, "max_tokens": 64}
RANDOM: dict[str, Any] = {"model": "tiny", "temperature": 1, "seed": 11, "max_tokens": 1024, "reasoning_effort": "none"}
TAUGHT_TOOLS: Any = list(TOOLS)


class Leg(BaseModel):
    """A part of a trip."""

    by: Literal["train", "boat"]
    hours: int = Field(ge=1, le=24)


class Trip(BaseModel):
    """Where to go, and how."""

    city: Literal["Paris", "Rome"]
    legs: list[Leg] = Field(min_length=1, max_length=2)
    is_booked: bool
    hotel: Literal["Ritz"] | None


class Book(BaseModel):
    """Book a trip."""

    city: Literal["Paris", "Rome"]
    days: Literal[1, 2]


BOOK: list[ChatCompletionToolUnionParam] = [openai.pydantic_function_tool(Book)]


@pytest.fixture(scope="module")
def client(taught_url: str) -> Iterator[openai.OpenAI]:
    """Make a client that does not retry, so that an error is seen."""
    with openai.OpenAI(base_url=f"{taught_url}/v1", api_key="none", max_retries=0) as client:
        yield client


@pytest.fixture
async def async_client(taught_url: str) -> AsyncIterator[openai.AsyncOpenAI]:
    """Make its asynchronous sister."""
    async with openai.AsyncOpenAI(base_url=f"{taught_url}/v1", api_key="none", max_retries=0) as client:
        yield client


def test_a_class_is_parsed(client: openai.OpenAI) -> None:
    """A random model fills a nested class, in every choice."""
    parsed = client.chat.completions.parse(messages=COUNT, response_format=Trip, n=3, **RANDOM)
    assert [choice.finish_reason for choice in parsed.choices] == ["stop"] * 3
    assert all(isinstance(choice.message.parsed, Trip) for choice in parsed.choices)


async def test_a_class_is_parsed_asynchronously(async_client: openai.AsyncOpenAI) -> None:
    """The same with the asynchronous client."""
    parsed = await async_client.chat.completions.parse(messages=COUNT, response_format=Trip, **RANDOM)
    assert isinstance(parsed.choices[0].message.parsed, Trip)


def test_a_cut_class_is_the_sdks_error(client: openai.OpenAI) -> None:
    """What max_tokens cuts is told as the SDK's own error, not as a broken class."""
    with pytest.raises(openai.LengthFinishReasonError):
        client.chat.completions.parse(messages=COUNT, response_format=Trip, **RANDOM | {"max_tokens": 3})


def test_events_of_a_text(client: openai.OpenAI) -> None:
    """The event stream tells deltas, snapshots, tokens and a final completion that agree."""
    with client.chat.completions.stream(
        messages=COUNT, logprobs=True, top_logprobs=1, stream_options={"include_usage": True}, **KNOWS
    ) as stream:
        events = list(stream)
        final = stream.get_final_completion()
    deltas = [event.delta for event in events if event.type == "content.delta"]
    assert "".join(deltas) == final.choices[0].message.content == ANSWER
    (done,) = [event for event in events if event.type == "content.done"]
    assert done.content == ANSWER
    (tokens,) = [event.content for event in events if event.type == "logprobs.content.done"]
    assert "".join(token.token for token in tokens) == ANSWER
    assert final.choices[0].finish_reason == "stop"
    assert final.usage is not None
    assert final.usage.completion_tokens > 5


def test_events_of_a_class(client: openai.OpenAI) -> None:
    """A streamed class is parsed at its end, the same as a whole one."""
    whole = client.chat.completions.parse(messages=COUNT, response_format=Trip, **RANDOM)
    with client.chat.completions.stream(messages=COUNT, response_format=Trip, **RANDOM) as stream:
        (done,) = [event for event in stream if event.type == "content.done"]
        final = stream.get_final_completion()
    assert done.parsed == final.choices[0].message.parsed == whole.choices[0].message.parsed
    assert isinstance(done.parsed, Trip)


async def test_events_of_a_class_asynchronously(async_client: openai.AsyncOpenAI) -> None:
    """The same with the asynchronous client."""
    async with async_client.chat.completions.stream(messages=COUNT, response_format=Trip, **RANDOM) as stream:
        done = [event async for event in stream if event.type == "content.done"]
        final = await stream.get_final_completion()
    assert len(done) == 1
    assert isinstance(final.choices[0].message.parsed, Trip)


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "Book"}}])
def test_a_tool_is_parsed(client: openai.OpenAI, choice: Any) -> None:
    """The arguments of a required and of a named call are the class that the SDK made the tool of."""
    parsed = client.chat.completions.parse(messages=COUNT, tools=BOOK, tool_choice=choice, **RANDOM)
    assert parsed.choices[0].finish_reason in {"tool_calls", "stop"}
    calls = parsed.choices[0].message.tool_calls
    assert calls
    for call in calls:
        assert isinstance(call.function.parsed_arguments, Book)
        assert call.id


def test_events_of_a_tool(client: openai.OpenAI) -> None:
    """A streamed call comes as deltas of its arguments, and is parsed at its end."""
    with client.chat.completions.stream(
        messages=COUNT, tools=BOOK, tool_choice="required", parallel_tool_calls=False, **RANDOM
    ) as stream:
        events = list(stream)
        final = stream.get_final_completion()
    deltas = [event.arguments_delta for event in events if event.type == "tool_calls.function.arguments.delta"]
    (done,) = [event for event in events if event.type == "tool_calls.function.arguments.done"]
    assert "".join(deltas) == done.arguments
    assert isinstance(done.parsed_arguments, Book)
    assert done.name == "Book"
    assert final.choices[0].finish_reason == "tool_calls"


def test_a_tools_turns(client: openai.OpenAI) -> None:
    """The model calls a tool of its own will, and its message goes back as it came, with the result."""
    first = client.chat.completions.create(messages=[PARIS], tools=TAUGHT_TOOLS, **KNOWS)
    message = first.choices[0].message
    assert first.choices[0].finish_reason == "tool_calls"
    assert message.tool_calls
    (call,) = message.tool_calls
    assert call.type == "function"
    assert (call.function.name, json.loads(call.function.arguments)) == ("get_weather", {"city": "Paris"})
    messages: list[Any] = [PARIS, message, {"role": "tool", "tool_call_id": call.id, "content": "18 degrees"}]
    second = client.chat.completions.create(messages=messages, tools=TAUGHT_TOOLS, **KNOWS)
    assert (second.choices[0].message.content, second.choices[0].finish_reason) == (TOLD, "stop")


async def test_a_tools_turns_streamed(async_client: openai.AsyncOpenAI) -> None:
    """The same, streamed and asynchronous: name and id once, then the arguments in parts."""
    stream = await async_client.chat.completions.create(messages=[PARIS], tools=TAUGHT_TOOLS, stream=True, **KNOWS)
    deltas: list[ChoiceDeltaToolCall] = []
    finish: list[str] = []
    async for chunk in stream:
        for choice in chunk.choices:
            deltas += choice.delta.tool_calls or []
            finish += [choice.finish_reason] if choice.finish_reason else []
    assert finish == ["tool_calls"]
    assert [delta.function.name for delta in deltas if delta.function and delta.function.name] == ["get_weather"]
    assert len([delta.id for delta in deltas if delta.id]) == 1
    arguments = "".join(delta.function.arguments or "" for delta in deltas if delta.function)
    assert json.loads(arguments) == {"city": "Paris"}


async def test_reasoning_is_kept_apart(async_client: openai.AsyncOpenAI) -> None:
    """What is thought comes in a field of its own, streamed and not."""
    asked: dict[str, Any] = KNOWS | {"model": "qwen", "messages": [{"role": "user", "content": SKY}]}
    message = (await async_client.chat.completions.create(**asked)).choices[0].message
    assert message.content == SKY_ANSWER
    assert message.model_extra is not None
    assert message.model_extra["reasoning_content"] == SKY_THOUGHT
    thought = answer = ""
    async for chunk in await async_client.chat.completions.create(**asked, stream=True):
        (choice,) = chunk.choices
        thought += (choice.delta.model_extra or {}).get("reasoning_content") or ""
        answer += choice.delta.content or ""
    assert (thought, answer) == (SKY_THOUGHT, SKY_ANSWER)


def test_raw_responses(client: openai.OpenAI) -> None:
    """The id of a request is where the SDK looks for it, and raw and streamed bodies can be read."""
    raw = client.chat.completions.with_raw_response.create(messages=COUNT, **KNOWS)
    assert raw.request_id
    assert raw.parse().choices[0].message.content == ANSWER
    with client.chat.completions.with_streaming_response.create(messages=COUNT, stream=True, **KNOWS) as response:
        lines = [line for line in response.iter_lines() if line.startswith("data: ")]
    assert lines[-1] == "data: [DONE]"


def test_several_prompts_of_a_legacy_completion(client: openai.OpenAI) -> None:
    """Each prompt has its choice, streamed and not."""
    asked: dict[str, Any] = {
        "model": "tiny",
        "prompt": ["One", "Two", "Three"],
        "max_tokens": 6,
        "temperature": 0,
        "logprobs": 2,
        "extra_body": {"ignore_eos": True},
    }
    whole = client.completions.create(**asked)
    streamed = [""] * 3
    for chunk in client.completions.create(**asked, stream=True):
        for choice in chunk.choices:
            streamed[choice.index] += choice.text
    assert [choice.text for choice in whole.choices] == streamed
    for choice in whole.choices:
        assert choice.logprobs is not None
        assert len(choice.logprobs.tokens or []) == 6


def test_a_broken_schema_is_named(client: openai.OpenAI) -> None:
    """A schema that cannot be compiled is the SDK's BadRequestError, with the parameter's name."""
    broken: Any = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "nonsense"}}}
    with pytest.raises(openai.BadRequestError) as error:
        client.chat.completions.create(messages=COUNT, response_format=broken, **RANDOM)
    assert (error.value.param or "").startswith("response_format")
