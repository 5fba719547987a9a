"""POST /api/chat/completions: typed events for user interfaces."""

import asyncio
import json
from collections.abc import MutableMapping
from typing import Any

import grpc
import httpx
import pytest
from google.rpc import error_details_pb2 as details

from mlx_grpc.v1 import generation_pb2 as wire
from shim.config import Config
from tests.shim.fakes import (
    ANSWER,
    TIMEOUT_S,
    Block,
    Failure,
    FakeService,
    Shim,
    completed,
    error_info,
    eventually,
    finish,
    free_port,
    invalid,
    reasoning,
    reasoning_done,
    retry_info,
    running_shim,
    started,
    text,
)

PATH = "/api/chat/completions"
CHAT: dict[str, Any] = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}]}
Code = grpc.StatusCode


async def events(http: httpx.AsyncClient, **fields: object) -> list[dict[str, Any]]:
    """Ask, and read the messages of a 200 stream, of which each is one unnamed line of data."""
    response = await http.post(PATH, json=CHAT | fields)
    assert response.status_code == 200, response.text
    assert response.headers["content-type"].startswith("text/event-stream")
    messages = response.text.removesuffix("\n\n").split("\n\n")
    assert all(message.startswith("data: ") and "\n" not in message for message in messages)
    return [json.loads(message.removeprefix("data: ")) for message in messages]


async def test_an_answer_is_told_in_its_parts(http: httpx.AsyncClient, service: FakeService) -> None:
    """Thinking comes first and ends with its seconds, then comes the response, and done is last."""
    service.script = [
        started(), reasoning("h"), reasoning(""), reasoning("m"), reasoning_done(1.2345), text(""), text("Hi"),
        text(" there"), finish(), completed(),
    ]  # fmt: skip
    assert await events(http) == [
        {"type": "thinking", "content": "h"},
        {"type": "thinking", "content": "m"},
        {"type": "thinking_done", "duration": 1.2},
        {"type": "response", "content": "Hi"},
        {"type": "response", "content": " there"},
        {"type": "done"},
    ]


@pytest.mark.parametrize(("seconds", "told"), [(0.0, 0.0), (0.04, 0.0), (0.06, 0.1), (2.0, 2.0), (75.349, 75.3)])
async def test_the_duration_has_one_decimal(
    http: httpx.AsyncClient, service: FakeService, seconds: float, told: float
) -> None:
    """It is the service's own, in seconds."""
    service.script = [started(), reasoning("h"), reasoning_done(seconds), text("Hi"), finish(), completed()]
    assert (await events(http))[1] == {"type": "thinking_done", "duration": told}


@pytest.mark.parametrize("stream", [None, True, False])
async def test_it_is_a_stream_whatever_is_asked(http: httpx.AsyncClient, stream: bool | None) -> None:
    """There is no other form, and the other fields of a chat are read."""
    *said, done = await events(http, stream=stream, temperature=0, max_tokens=5, reasoning_effort="low")
    assert "".join(event["content"] for event in said) == "Hello world"
    assert done == {"type": "done"}


async def test_fields_reach_the_service(http: httpx.AsyncClient, service: FakeService) -> None:
    """They mean what they do elsewhere, the request's id and its caller included."""
    fields = {"temperature": 0.5, "seed": 3, "stop": "x", "response_format": {"type": "json_object"}, "user": "u"}
    response = await http.post(PATH, json=CHAT | fields, headers={"x-request-id": "mine"})
    (request,) = service.chats
    assert (request.sampling.temperature, request.sampling.seed, list(request.stopping.stop)) == (0.5, 3, ["x"])
    assert request.constraint.json_object
    assert request.request_id == "mine"
    assert response.headers["x-request-id"] == "req-1"
    assert service.callers[0] is not None


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"model": None}, "model"),
        ({"messages": "hi"}, "messages"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages[0].content[0].type"),
        ({"n": 2}, "n"),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools"),
        ({"logprobs": True}, "logprobs"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
    ],
)
async def test_a_bad_request_is_a_400(
    http: httpx.AsyncClient, service: FakeService, fields: dict[str, Any], param: str
) -> None:
    """What is wrong, and what these events have no place for, is refused by name."""
    response = await http.post(PATH, json=CHAT | fields)
    assert (response.status_code, response.json()["error"]["param"]) == (400, param)
    assert service.requests == []


@pytest.mark.parametrize(
    ("failure", "status"),
    [
        (invalid("messages"), 400),
        (Failure(Code.INVALID_ARGUMENT, "long", (error_info("CONTEXT_LENGTH_EXCEEDED"),)), 400),
        (Failure(Code.NOT_FOUND), 404),
        (Failure(Code.UNAUTHENTICATED), 401),
        (Failure(Code.PERMISSION_DENIED), 403),
        (Failure(Code.RESOURCE_EXHAUSTED, "full", (error_info("QUEUE_FULL"),)), 429),
    ],
)
async def test_a_refusal_keeps_its_status(
    http: httpx.AsyncClient, service: FakeService, failure: Failure, status: int
) -> None:
    """Who asks wrongly, for what is not there, without a key, or too often, is told by the status."""
    service.script = [failure]
    response = await http.post(PATH, json=CHAT)
    assert response.status_code == status
    assert response.json()["error"]["message"]


FAILURES = [
    (Failure(Code.UNAVAILABLE, "draining", (retry_info(1),)), "cannot answer now: draining"),
    (Failure(Code.DEADLINE_EXCEEDED), "timed out. The model may be busy with a long request"),
    (Failure(Code.RESOURCE_EXHAUSTED, "too large", (error_info("INSUFFICIENT_MEMORY"),)), "too large"),
    (Failure(Code.INTERNAL, "secret", (details.RequestInfo(request_id="r"),)), "Something went wrong"),
]


@pytest.mark.parametrize(("failure", "words"), FAILURES)
@pytest.mark.parametrize("before", [[], [started(), text("Hel")]], ids=["at once", "midway"])
async def test_a_failure_is_an_event(
    http: httpx.AsyncClient, service: FakeService, before: list[Any], failure: Failure, words: str
) -> None:
    """It is last, in words for a person, and nothing says that the answer is done."""
    service.script = [*before, failure]
    *said, last = await events(http)
    assert last["type"] == "error"
    assert words in last["content"]
    assert "secret" not in last["content"]
    assert said == ([{"type": "response", "content": "Hel"}] if before else [])


async def test_a_service_that_is_not_there_is_an_event() -> None:
    """So that a page can tell its user what to do."""
    async with (
        running_shim(Config(service=(f"127.0.0.1:{free_port()}",))) as shim,
        httpx.AsyncClient(base_url=shim.url, timeout=TIMEOUT_S) as client,
    ):
        (only,) = await events(client)
        assert only["type"] == "error"
        assert "service is not running" in only["content"]


async def test_a_service_that_takes_too_long_is_an_event(service: FakeService) -> None:
    """The configured deadline ends a request that waits, and one that answers."""
    config = Config(service=(service.address,), deadline_s=0.3)
    async with running_shim(config) as shim, httpx.AsyncClient(base_url=shim.url, timeout=TIMEOUT_S) as client:
        for before in ([], [started(), text("Hel")]):
            service.script = [*before, Block()]
            last = (await events(client))[-1]
            assert (last["type"], "timed out" in last["content"]) == ("error", True)


async def test_an_operators_abort_is_told(http: httpx.AsyncClient, service: FakeService) -> None:
    """Before the first event it is a status, after it an event."""
    abort = Failure(Code.ABORTED, "x", (error_info("REQUEST_ABORTED"),))
    service.script = [abort]
    assert (await http.post(PATH, json=CHAT)).status_code == 409
    service.script = [started(), text("Hel"), abort]
    assert "operator" in (await events(http))[-1]["content"]


async def test_an_answer_that_stops_short_is_not_done(http: httpx.AsyncClient, service: FakeService) -> None:
    """A stream that ends without its last event is an error."""
    service.script = [started(), text("Hel"), finish()]
    assert [event["type"] for event in await events(http)] == ["response", "error"]


async def test_leaving_cancels_the_call(http: httpx.AsyncClient, service: FakeService) -> None:
    """A page that is closed ends its generation."""
    block = Block()
    service.script = [started(), block]
    async with http.stream("POST", PATH, json=CHAT):
        await asyncio.wait_for(block.reached.wait(), TIMEOUT_S)
    await asyncio.wait_for(block.cancelled.wait(), TIMEOUT_S)


async def test_the_same_gate_holds(http: httpx.AsyncClient, shim: Shim) -> None:
    """Too large a body and a server that drains are refused as on every route."""
    assert (await http.post(PATH, content=b"x" * (1024 * 1024 + 1))).status_code == 413
    assert (await http.post(PATH, content=b"{")).status_code == 400
    shim.drain()
    assert (await http.post(PATH, json=CHAT)).status_code == 503


@pytest.mark.parametrize("ok", [True, False])
async def test_the_log_tells_how_it_ended(
    http: httpx.AsyncClient, service: FakeService, logged: list[MutableMapping[str, Any]], ok: bool
) -> None:
    """Model, tokens and finish, or the error."""
    service.script = ANSWER if ok else [started(), Failure(Code.DEADLINE_EXCEEDED)]
    await events(http)
    await eventually(lambda: bool(logged))
    (entry,) = logged
    assert (entry["model"], entry["status"], entry["request_id"]) == ("tiny", 200, "req-1")
    assert (entry["finish"], entry["completion_tokens"]) == (("stop", 4) if ok else (None, None))
    assert bool(entry["error"]) is not ok


async def test_it_is_one_choice_of_one_kind(http: httpx.AsyncClient, service: FakeService) -> None:
    """An answer that is cut by its length is done as well."""
    service.script = [started(), text("Hel"), finish(wire.FINISH_REASON_LENGTH), completed()]
    assert (await events(http))[-1] == {"type": "done"}
