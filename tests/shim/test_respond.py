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
from tests.shim.fakes import FakeService, Shim, Step, completed, finish, reasoning, started, text, token, tool_call

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
    return said.get("content") or ""


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
        "prompt_tokens_details": {"audio_tokens": 0, "cached_tokens": 2},
        "completion_tokens_details": {
            "accepted_prediction_tokens": 0,
            "audio_tokens": 0,
            "reasoning_tokens": 1,
            "rejected_prediction_tokens": 0,
        },
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
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks[:-1]]
    assert deltas == [
        {"role": "assistant", "content": None},
        {"reasoning_content": "h"},
        {"reasoning_content": "m"},
        {"content": "Hi"},
    ]
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
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": None}
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
    body = body | {"n": 3}
    *chunks, last = await events(http, path, body | {"stream_options": {"include_usage": True}})
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
    assert roles == [1, 0]


@pytest.mark.parametrize(
    ("path", "body"), [("/v1/chat/completions", CHAT), ("/v1/completions", {"model": "tiny", "prompt": "x"})]
)
async def test_the_fingerprint_is_the_models(http: httpx.AsyncClient, path: str, body: dict[str, Any]) -> None:
    """It stays the same for a model, whole and streamed, and is another for another model."""
    told = {(await http.post(path, json=body)).json()["system_fingerprint"] for _ in range(2)}
    told |= {chunk["system_fingerprint"] for chunk in await events(http, path, body)}
    assert len(told) == 1
    assert (await http.post(path, json=body | {"model": "org/big"})).json()["system_fingerprint"] not in told


async def test_a_message_has_every_field_that_openais_has(http: httpx.AsyncClient) -> None:
    """What there is nothing of is null or empty, rather than left out."""
    choice = (await http.post("/v1/chat/completions", json=CHAT)).json()["choices"][0]
    assert choice == {
        "index": 0,
        "message": {"role": "assistant", "content": "Hello world", "refusal": None, "annotations": []},
        "logprobs": None,
        "finish_reason": "stop",
    }


async def test_the_tier_is_told_to_who_names_one(http: httpx.AsyncClient) -> None:
    """There is one tier, whatever was asked for; without the field it is not told."""
    body = CHAT | {"service_tier": "flex"}
    assert (await http.post("/v1/chat/completions", json=body)).json()["service_tier"] == "default"
    assert {chunk["service_tier"] for chunk in await events(http, "/v1/chat/completions", body)} == {"default"}
    assert "service_tier" not in (await http.post("/v1/chat/completions", json=CHAT)).json()


FORMS: dict[str, tuple[list[Step], str | None]] = {
    "text": ([text("Hi"), finish()], "Hi"),
    "nothing": ([finish()], ""),
    "thought, then cut": ([reasoning("hm"), finish(wire.FINISH_REASON_LENGTH)], ""),
    "thought, then text": ([reasoning("hm"), text("Hi"), finish()], "Hi"),
    "calls": (CALLS[1:-1], None),
    "thought, then calls": ([reasoning("hm"), *CALLS[1:-1]], None),
    "text around calls": ([text("a"), *CALLS[1:-2], text("b"), *CALLS[-2:-1]], "ab"),
    "broken off in a call": ([tool_call('{"a', "f", "c0"), finish(wire.FINISH_REASON_LENGTH)], None),
}


@pytest.mark.parametrize("form", FORMS)
async def test_the_sdks_own_snapshot_is_the_whole_answer(
    sdk: openai.AsyncOpenAI, service: FakeService, form: str
) -> None:
    """What the official SDK gathers from a stream is what it reads of a whole answer, null content included."""
    script, content = FORMS[form]
    service.script = [started(), *script, completed()]
    whole = (await sdk.chat.completions.create(model="tiny", messages=MESSAGES)).choices[0].model_dump()
    gathered: dict[str, Any] = {}
    calls: dict[int, dict[str, Any]] = {}
    finishes = []
    async for chunk in await sdk.chat.completions.create(model="tiny", messages=MESSAGES, stream=True):
        (choice,) = chunk.choices
        finishes += [choice.finish_reason] if choice.finish_reason else []
        delta = choice.delta.model_dump(exclude_none=True)
        for call in delta.pop("tool_calls", ()):
            made = calls.setdefault(call.pop("index"), call)
            if made is not call:
                made["function"]["arguments"] += call["function"]["arguments"]
        gathered |= {name: gathered.get(name, "") + value for name, value in delta.items()}
    assert gathered.get("content") == whole["message"]["content"] == content
    assert gathered.get("reasoning_content") == whole["message"].get("reasoning_content")
    assert gathered["role"] == "assistant"
    assert list(calls.values()) == (whole["message"]["tool_calls"] or [])
    assert finishes == [whole["finish_reason"]]


async def test_tokens_of_calls_make_no_chunk(http: httpx.AsyncClient, service: FakeService) -> None:
    """What only tells tokens of a call has nothing for the client, and logprobs are of the text alone."""
    service.script = [started(), text("a", logprobs=[token(b"a")]), *CALLS[1:3], tool_call("", logprobs=[token(b"}")])]
    service.script += CALLS[-2:]
    chunks = await events(http, "/v1/chat/completions", CHAT | {"logprobs": True})
    assert len(chunks) == 5
    whole = (await http.post("/v1/chat/completions", json=CHAT | {"logprobs": True})).json()["choices"][0]
    assert [each["token"] for each in whole["logprobs"]["content"]] == ["a"]


async def test_logprobs_of_calls_only_are_an_empty_list(http: httpx.AsyncClient, service: FakeService) -> None:
    """There is no text, so there are no tokens of it."""
    service.script = CALLS
    choice = (await http.post("/v1/chat/completions", json=CHAT | {"logprobs": True})).json()["choices"][0]
    assert choice["logprobs"] == {"content": [], "refusal": None}
    assert (choice["message"]["content"], choice["finish_reason"]) == (None, "tool_calls")
