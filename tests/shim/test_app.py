"""The app as a whole: routes that are not there, request ids, the log, and the document."""

import re
from collections.abc import MutableMapping
from typing import Any

import grpc
import httpx
import pytest

from mlx_grpc.v1 import generation_pb2 as wire
from tests.shim.fakes import ANSWER, Failure, FakeService, Shim, completed, eventually, finish, invalid, started

CHAT: dict[str, Any] = {"model": "tiny", "messages": [{"role": "user", "content": "a secret prompt"}]}


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nope", 404),
        ("GET", "/v1/models/", 404),
        ("GET", "/v1/chat/completions", 405),
        ("POST", "/v1/models", 405),
        ("PUT", "/v1/completions", 405),
    ],
)
async def test_unknown_routes_and_methods_have_the_error_object(
    http: httpx.AsyncClient, method: str, path: str, status: int
) -> None:
    """What the shim does not serve is refused in OpenAI's form too."""
    response = await http.request(method, path)
    assert response.status_code == status
    assert response.json()["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize("stream", [False, True])
async def test_a_request_id_goes_both_ways(http: httpx.AsyncClient, service: FakeService, stream: bool) -> None:
    """The client's id is the wire's, and the response tells the one that the service uses."""
    service.script = [started("svc-7"), *ANSWER[1:]]
    response = await http.post("/v1/chat/completions", json=CHAT | {"stream": stream}, headers={"x-request-id": "mine"})
    assert service.requests[0].request_id == "mine"
    assert response.headers["x-request-id"] == "svc-7"
    assert "chatcmpl-svc-7" in response.text


@pytest.mark.parametrize("given", ["", "a b", "x" * 129, "a\tb"])
async def test_an_unusable_request_id_is_ignored(http: httpx.AsyncClient, service: FakeService, given: str) -> None:
    """Only up to 128 visible ASCII characters are an id; for all else the shim makes one."""
    await http.post("/v1/chat/completions", json=CHAT, headers=[("x-request-id", given)])
    assert re.fullmatch("[0-9a-f]{32}", service.requests[0].request_id)


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/health", b"", 200),
        ("GET", "/v1/models", b"", 200),
        ("GET", "/openapi.json", b"", 200),
        ("POST", "/v1/chat/completions", b"{", 400),
        ("GET", "/v1/models/none", b"", 404),
        ("GET", "/nope", b"", 404),
        ("PUT", "/v1/completions", b"", 405),
        ("POST", "/v1/completions", b"x" * (1024 * 1024 + 1), 413),
    ],
)
@pytest.mark.parametrize("given", ["mine", None])
async def test_every_response_tells_the_id_that_is_logged(
    http: httpx.AsyncClient,
    logged: list[MutableMapping[str, Any]],
    method: str,
    path: str,
    body: bytes,
    status: int,
    given: str | None,
) -> None:
    """Whatever comes of a request, its answer and its line have the client's id, or one that the shim made."""
    headers = {"x-request-id": given} if given else {}
    response = await http.request(method, path, content=body, headers=headers)
    assert response.status_code == status
    told = response.headers["x-request-id"]
    assert told == given if given else re.fullmatch("[0-9a-f]{32}", told)
    assert [(entry["request_id"], entry["status"]) for entry in logged] == [(told, status)]


@pytest.mark.parametrize(
    ("script", "status"),
    [
        ([invalid("messages")], 400),
        ([Failure(grpc.StatusCode.UNAVAILABLE)], 503),
        ([started(""), finish(wire.FINISH_REASON_UNSPECIFIED)], 500),
    ],
)
async def test_a_failed_request_can_be_followed_through_both_logs(
    http: httpx.AsyncClient,
    service: FakeService,
    logged: list[MutableMapping[str, Any]],
    script: list[Any],
    status: int,
) -> None:
    """The id that the shim made is the wire's, the answer's and the log's, and the line has the error."""
    service.script = script
    response = await http.post("/v1/chat/completions", json=CHAT)
    assert response.status_code == status
    (entry,) = logged
    assert service.requests[0].request_id == response.headers["x-request-id"] == entry["request_id"]
    assert (entry["status"], entry["error"]) == (status, response.json()["error"]["message"])


async def test_a_request_that_is_refused_while_draining_is_logged_with_its_error(
    http: httpx.AsyncClient, shim: Shim, logged: list[MutableMapping[str, Any]]
) -> None:
    """What was never taken can be found too."""
    shim.drain()
    response = await http.post("/v1/chat/completions", json=CHAT)
    (entry,) = logged
    assert (response.status_code, entry["status"]) == (503, 503)
    assert entry["request_id"] == response.headers["x-request-id"]
    assert entry["error"] == response.json()["error"]["message"]


async def test_an_error_tells_the_clients_id(http: httpx.AsyncClient, service: FakeService) -> None:
    """A refused request can be found by its id as well."""
    service.script = [invalid("messages")]
    response = await http.post("/v1/chat/completions", json=CHAT, headers={"x-request-id": "mine"})
    assert (response.status_code, response.headers["x-request-id"]) == (400, "mine")


async def test_completions_blame_their_own_fields(http: httpx.AsyncClient, service: FakeService) -> None:
    """A violation that the service finds comes back in OpenAI's names on the completions route as well."""
    service.script = [invalid("token_ids.ids[3]")]
    response = await http.post("/v1/completions", json={"model": "tiny", "prompt": [1]})
    assert response.json()["error"]["param"] == "prompt"


async def test_a_bug_is_a_500_that_tells_nothing(http: httpx.AsyncClient, service: FakeService) -> None:
    """What nobody expected is answered in OpenAI's form, and the next request works."""
    service.script = [started(), finish(wire.FINISH_REASON_UNSPECIFIED), completed()]
    response = await http.post("/v1/chat/completions", json=CHAT)
    assert (response.status_code, response.json()["error"]["type"]) == (500, "server_error")
    assert "KeyError" not in response.text
    service.script = ANSWER
    assert (await http.post("/v1/chat/completions", json=CHAT)).status_code == 200


@pytest.mark.parametrize("stream", [False, True])
async def test_one_line_a_request_is_logged_without_the_prompt(
    http: httpx.AsyncClient, logged: list[MutableMapping[str, Any]], stream: bool
) -> None:
    """The log tells id, route, model, status, finish, tokens and duration, and no text."""
    await http.post("/v1/chat/completions", json=CHAT | {"stream": stream})
    await eventually(lambda: bool(logged))  # the line is written after the last byte
    (entry,) = [entry for entry in logged if entry["event"] == "request"]
    total_ms = entry.pop("total_ms")
    assert 0 < total_ms == round(total_ms, 1)
    assert entry == {
        "event": "request", "log_level": "info", "request_id": "req-1", "method": "POST",
        "route": "/v1/chat/completions", "model": "tiny", "status": 200, "error": None, "finish": "stop",
        "prompt_tokens": 3, "completion_tokens": 4, "reasoning_tokens": 1,
    }  # fmt: skip


async def test_the_log_tells_how_each_choice_finished(
    http: httpx.AsyncClient, service: FakeService, logged: list[MutableMapping[str, Any]]
) -> None:
    """Several choices have a list, in the order of their indices."""
    service.script = [started(), finish(wire.FINISH_REASON_LENGTH, 1), finish(index=0), completed()]
    await http.post("/v1/chat/completions", json=CHAT | {"n": 2})
    (entry,) = logged
    assert entry["finish"] == ["stop", "length"]
