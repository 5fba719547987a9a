"""The service's events as the official SDK reads them."""

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import httpx
import openai
import pytest
from openai.types.chat import ChatCompletionUserMessageParam

from mlx_grpc.v1 import generation_pb2 as wire
from tests.shim.fakes import FakeService, Shim, Step, completed, finish, reasoning, started, text, tool_call

MESSAGES: Sequence[ChatCompletionUserMessageParam] = [{"role": "user", "content": "hi"}]
CHAT: dict[str, Any] = {"model": "tiny", "messages": MESSAGES}
THINKS: list[Step] = [started(), reasoning("h"), reasoning("m"), text("Hi"), finish(), completed()]
CALLS: list[Step] = [
    started(),
    tool_call('{"a"', "f", "c0"),
    tool_call(": 1}"),
    tool_call("{}", "g", "c1", tool_index=1),
    finish(wire.FINISH_REASON_TOOL_CALLS),
    completed(),
]
TWO: list[Step] = [
    started(),
    text("b", 1),
    text("a", 0),
    finish(wire.FINISH_REASON_LENGTH, 1),
    finish(index=0),
    completed(),
]

INTERLEAVED: list[Step] = [
    *(text(words, index) for words, index in (("s", 2), ("o", 0), ("t", 1), ("ix", 2), ("w", 1), ("ne", 0))),
    finish(index=2),
    finish(wire.FINISH_REASON_LENGTH, 0),
    text("o", 1),
    finish(index=1),
]


def said_by(choice: dict[str, Any]) -> str:
    """Read the text of a choice, or of a delta, of either resource."""
    if "text" in choice:
        return str(choice["text"])
    said: dict[str, str] = choice["delta"] if "delta" in choice else choice["message"]
    return said.get("content", "")


async def events(http: httpx.AsyncClient, path: str, body: dict[str, Any]) -> list[dict[str, Any]]:
    """Read a stream that ends with [DONE]."""
    response = await http.post(path, json=body | {"stream": True})
    assert response.headers["content-type"].startswith("text/event-stream")
    *chunks, done = response.text.strip().split("\n\n")
    assert done == "data: [DONE]"
    return [json.loads(chunk.removeprefix("data: ")) for chunk in chunks]


async def test_a_chat_stream_has_openais_order(http: httpx.AsyncClient) -> None:
    """The role comes first, then text, then one finish with an empty delta, then [DONE]."""
    chunks = await events(http, "/v1/chat/completions", CHAT)
    choices = [(chunk["choices"][0]["delta"], chunk["choices"][0]["finish_reason"]) for chunk in chunks]
    assert choices == [
        ({"role": "assistant", "content": ""}, None),
        ({"content": "Hello"}, None),
        ({"content": " world"}, None),
        ({}, "stop"),
    ]
    assert {(chunk["id"], chunk["object"], chunk["model"]) for chunk in chunks} == {
        ("chatcmpl-req-1", "chat.completion.chunk", "tiny")
    }
    assert not any("usage" in chunk for chunk in chunks)


@pytest.mark.parametrize(
    ("path", "body"), [("/v1/chat/completions", CHAT), ("/v1/completions", {"model": "tiny", "prompt": "x"})]
)
async def test_include_usage_adds_one_last_chunk(http: httpx.AsyncClient, path: str, body: dict[str, Any]) -> None:
    """Usage comes in a chunk without choices, and is null in all others."""
    *others, last = await events(http, path, body | {"stream_options": {"include_usage": True}})
    assert all(chunk["usage"] is None and chunk["choices"] for chunk in others)
    assert last["choices"] == []
    assert last["usage"] == {
        "prompt_tokens": 3,
        "completion_tokens": 4,
        "total_tokens": 7,
        "prompt_tokens_details": {"cached_tokens": 2},
        "completion_tokens_details": {"reasoning_tokens": 1},
    }


async def test_the_sdk_reads_a_chat(sdk: openai.AsyncOpenAI) -> None:
    """The official SDK parses a whole answer with its usage."""
    whole = await sdk.chat.completions.create(model="tiny", messages=MESSAGES)
    assert whole.object == "chat.completion"
    assert whole.choices[0].message.content == "Hello world"
    assert whole.choices[0].finish_reason == "stop"
    assert whole.usage is not None
    assert whole.usage.total_tokens == 7


async def test_the_sdk_reads_a_chat_stream(sdk: openai.AsyncOpenAI) -> None:
    """The official SDK parses a stream, and its text is that of the whole answer."""
    stream = await sdk.chat.completions.create(model="tiny", messages=MESSAGES, stream=True)
    pieces = [chunk.choices[0].delta.content or "" async for chunk in stream]
    assert "".join(pieces) == "Hello world"


async def test_the_sdk_reads_completions(sdk: openai.AsyncOpenAI, service: FakeService) -> None:
    """The official SDK parses text completions, whole and streamed."""
    whole = await sdk.completions.create(model="tiny", prompt="x", echo=True)
    assert (whole.choices[0].text, whole.choices[0].finish_reason) == ("Hello world", "stop")
    stream = await sdk.completions.create(model="tiny", prompt="x", stream=True)
    assert "".join([chunk.choices[0].text async for chunk in stream]) == "Hello world"
    assert [request.output.echo for request in service.generates] == [True, False]


async def test_the_sync_sdk_reads_a_chat(shim: Shim) -> None:
    """The SDK's blocking client works as well."""

    def ask() -> str | None:
        with openai.OpenAI(base_url=f"{shim.url}/v1", api_key="none", max_retries=0) as client:
            return client.chat.completions.create(model="tiny", messages=MESSAGES).choices[0].message.content

    assert await asyncio.to_thread(ask) == "Hello world"


async def test_reasoning_is_told_apart(http: httpx.AsyncClient, service: FakeService) -> None:
    """Reasoning has its own field, streamed and whole."""
    service.script = THINKS
    chunks = await events(http, "/v1/chat/completions", CHAT)
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks[1:-1]]
    assert deltas == [{"reasoning_content": "h"}, {"reasoning_content": "m"}, {"content": "Hi"}]
    message = (await http.post("/v1/chat/completions", json=CHAT)).json()["choices"][0]["message"]
    assert (message["reasoning_content"], message["content"]) == ("hm", "Hi")


async def test_tool_calls_are_gathered(sdk: openai.AsyncOpenAI, service: FakeService) -> None:
    """The deltas of each call become one call, and an answer of calls only has no content."""
    service.script = CALLS
    choice = (await sdk.chat.completions.create(model="tiny", messages=MESSAGES)).choices[0]
    assert choice.finish_reason == "tool_calls"
    assert choice.message.content is None
    calls = choice.message.model_dump()["tool_calls"]
    assert [(call["id"], call["function"]) for call in calls] == [
        ("c0", {"name": "f", "arguments": '{"a": 1}'}),
        ("c1", {"name": "g", "arguments": "{}"}),
    ]


async def test_tool_calls_are_streamed_in_openais_deltas(http: httpx.AsyncClient, service: FakeService) -> None:
    """Id, type and name are in the first delta of a call only."""
    service.script = CALLS
    chunks = await events(http, "/v1/chat/completions", CHAT)
    assert [chunk["choices"][0]["delta"]["tool_calls"][0] for chunk in chunks[1:3]] == [
        {"index": 0, "id": "c0", "type": "function", "function": {"name": "f", "arguments": '{"a"'}},
        {"index": 0, "function": {"arguments": ": 1}"}},
    ]


@pytest.mark.parametrize(
    ("path", "body"), [("/v1/chat/completions", CHAT), ("/v1/completions", {"model": "tiny", "prompt": "x"})]
)
async def test_choices_may_be_interleaved(
    http: httpx.AsyncClient, service: FakeService, path: str, body: dict[str, Any]
) -> None:
    """Each of many choices has its own text and one finish, after which it has nothing, and usage comes once."""
    service.script = [started(), *INTERLEAVED, completed()]
    body = body | {"n": 3, "stream_options": {"include_usage": True}}
    *chunks, last = await events(http, path, body)
    assert service.requests[0].n == 3
    said: dict[int, str] = {}
    ended: list[int] = []
    for (choice,) in (chunk["choices"] for chunk in chunks):
        assert choice["index"] not in ended
        said[choice["index"]] = said.get(choice["index"], "") + said_by(choice)
        ended += [choice["index"]] if choice["finish_reason"] else []
    assert said == {0: "one", 1: "two", 2: "six"}
    assert ended == [2, 0, 1]
    assert last["choices"] == []
    assert last["usage"]["completion_tokens"] == 4
    assert all(chunk["usage"] is None for chunk in chunks)
    whole = (await http.post(path, json=body)).json()
    assert [(choice["index"], said_by(choice), choice["finish_reason"]) for choice in whole["choices"]] == [
        (0, "one", "length"),
        (1, "two", "stop"),
        (2, "six", "stop"),
    ]
    assert whole["usage"]["prompt_tokens"] == 3


async def test_choices_keep_their_index(http: httpx.AsyncClient, service: FakeService) -> None:
    """With n choices each has its role, text and one finish of its own."""
    service.script = TWO
    whole = (await http.post("/v1/chat/completions", json=CHAT | {"n": 2})).json()
    assert [
        (choice["index"], choice["message"]["content"], choice["finish_reason"]) for choice in whole["choices"]
    ] == [
        (0, "a", "stop"),
        (1, "b", "length"),
    ]
    chunks = await events(http, "/v1/chat/completions", CHAT | {"n": 2})
    roles = [chunk["choices"][0]["index"] for chunk in chunks if "role" in chunk["choices"][0]["delta"]]
    assert roles == [0, 1]
