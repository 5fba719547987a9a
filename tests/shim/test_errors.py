"""gRPC statuses to HTTP, over the whole way."""

import json
from typing import Any

import grpc
import httpx
import pytest
from google.protobuf.message import Message
from google.rpc import error_details_pb2 as details

from tests.shim.fakes import (
    ANSWER,
    Failure,
    FakeService,
    error_info,
    finish,
    invalid,
    retry_info,
    started,
    text,
    violation,
)

CHAT: dict[str, Any] = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}]}
Code = grpc.StatusCode
QUOTA = details.QuotaFailure(violations=[details.QuotaFailure.Violation(subject="key", description="spent")])


async def post(http: httpx.AsyncClient, **fields: object) -> httpx.Response:
    return await http.post("/v1/chat/completions", json=CHAT | fields)


@pytest.mark.parametrize(
    ("code", "rich", "status", "kind", "error_code", "param"),
    [
        (Code.INVALID_ARGUMENT, [violation("sampling.top_p")], 400, "invalid_request_error", "invalid_value", "top_p"),
        (Code.INVALID_ARGUMENT, [error_info("CONTEXT_LENGTH_EXCEEDED")], 400, "invalid_request_error",
         "context_length_exceeded", "messages"),
        (Code.INVALID_ARGUMENT, [], 400, "invalid_request_error", None, None),
        (Code.UNIMPLEMENTED, [violation("output.logprobs")], 400, "invalid_request_error",
         "unsupported_parameter", "logprobs"),
        (Code.FAILED_PRECONDITION, [error_info("NO_CHAT_TEMPLATE")], 400, "invalid_request_error",
         "no_chat_template", None),
        (Code.NOT_FOUND, [], 404, "invalid_request_error", "model_not_found", "model"),
        (Code.UNAUTHENTICATED, [], 401, "invalid_request_error", "invalid_api_key", None),
        (Code.PERMISSION_DENIED, [], 403, "permission_error", "permission_denied", None),
        (Code.RESOURCE_EXHAUSTED, [error_info("QUEUE_FULL")], 429, "rate_limit_error", "rate_limit_exceeded", None),
        (Code.RESOURCE_EXHAUSTED, [QUOTA], 429, "rate_limit_error", "insufficient_quota", None),
        (Code.RESOURCE_EXHAUSTED, [error_info("INSUFFICIENT_MEMORY")], 503, "server_error",
         "insufficient_memory", None),
        (Code.UNAVAILABLE, [retry_info(3)], 503, "server_error", "unavailable", None),
        (Code.DEADLINE_EXCEEDED, [], 504, "server_error", "timeout", None),
        (Code.ABORTED, [error_info("REQUEST_ABORTED")], 409, "server_error", "request_aborted", None),
        (Code.INTERNAL, [], 500, "server_error", None, None),
        (Code.DATA_LOSS, [], 500, "server_error", None, None),
    ],
)  # fmt: skip
@pytest.mark.parametrize("stream", [False, True])
async def test_a_status_is_mapped(
    http: httpx.AsyncClient,
    service: FakeService,
    code: grpc.StatusCode,
    rich: list[Message],
    status: int,
    kind: str,
    error_code: str | None,
    param: str | None,
    stream: bool,
) -> None:
    """An early failure keeps its HTTP status, type, code and param, streaming or not."""
    service.script = [Failure(code, "as scripted", tuple(rich))]
    response = await post(http, stream=stream)
    error = response.json()["error"]
    assert (response.status_code, error["type"], error["code"], error["param"]) == (status, kind, error_code, param)
    assert error["message"]


@pytest.mark.parametrize(
    "description", ["must be above 0", "sampling.top_p must be above 0", "sampling.top_p: must be above 0"]
)
async def test_a_violation_is_told_in_the_clients_names(
    http: httpx.AsyncClient, service: FakeService, description: str
) -> None:
    """The message names the field once, as the client sent it, whether or not the service named it too."""
    service.script = [Failure(Code.INVALID_ARGUMENT, "bad", (violation("sampling.top_p", description),))]
    assert (await post(http)).json()["error"]["message"] == "top_p: must be above 0"


async def test_internal_errors_tell_nothing(http: httpx.AsyncClient, service: FakeService) -> None:
    """The text of a bug stays inside, but the request's id is told."""
    service.script = [Failure(Code.INTERNAL, "secret /path", (details.RequestInfo(request_id="req-9"),))]
    response = await post(http)
    assert "secret" not in response.text
    assert response.headers["x-request-id"] == "req-9"


async def test_retry_after_is_whole_seconds_and_at_least_one(http: httpx.AsyncClient, service: FakeService) -> None:
    """RetryInfo becomes a Retry-After that is never too early."""
    for delay, header in ((2.1, "3"), (0.0, "1")):
        service.script = [Failure(Code.RESOURCE_EXHAUSTED, "full", (error_info("QUEUE_FULL"), retry_info(delay)))]
        response = await post(http)
        assert (response.status_code, response.headers["retry-after"]) == (429, header)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
async def test_a_full_queue_tells_when_to_come_back(
    http: httpx.AsyncClient, service: FakeService, path: str, stream: bool
) -> None:
    """Both routes answer 429 with Retry-After before a stream begins."""
    service.script = [Failure(Code.RESOURCE_EXHAUSTED, "full", (error_info("QUEUE_FULL"), retry_info(7)))]
    response = await http.post(path, json=CHAT | {"prompt": "x", "stream": stream})
    assert (response.status_code, response.headers["retry-after"]) == (429, "7")
    assert response.json()["error"] == {
        "message": "full", "type": "rate_limit_error", "param": None, "code": "rate_limit_exceeded",
    }  # fmt: skip


async def test_a_model_that_can_never_fit_is_told_with_the_figures(
    http: httpx.AsyncClient, service: FakeService
) -> None:
    """In the service's words, as a server's error that a retry does not help."""
    words = "model 'tiny' needs 9000 bytes of memory, and at most 4000 bytes can be made free for it"
    figures = details.ErrorInfo(
        reason="INSUFFICIENT_MEMORY",
        domain="mlx-grpc",
        metadata={"needed_bytes": "9000", "available_bytes": "4000"},
    )
    service.script = [Failure(Code.RESOURCE_EXHAUSTED, words, (figures,))]
    for stream in (False, True):
        response = await post(http, stream=stream)
        assert (response.status_code, "retry-after" in response.headers) == (503, False)
        assert response.json()["error"] == {
            "message": words, "type": "server_error", "param": None, "code": "insufficient_memory",
        }  # fmt: skip


async def test_a_model_that_is_being_unloaded_is_to_be_tried_again(
    http: httpx.AsyncClient, service: FakeService
) -> None:
    """503 with the time that the service tells, before the first event."""
    service.script = [Failure(Code.UNAVAILABLE, "model 'tiny' is being unloaded", (retry_info(2.5),))]
    for stream in (False, True):
        response = await post(http, stream=stream)
        assert (response.status_code, response.headers["retry-after"]) == (503, "3")
        assert response.json()["error"]["message"] == "model 'tiny' is being unloaded"


async def test_what_can_never_fit_is_not_to_be_tried_again(http: httpx.AsyncClient, service: FakeService) -> None:
    """A request that the memory cannot hold is 503 without a time to come back."""
    service.script = [Failure(Code.RESOURCE_EXHAUSTED, "too much", (error_info("INSUFFICIENT_MEMORY"),))]
    response = await post(http)
    assert (response.status_code, "retry-after" in response.headers) == (503, False)
    assert response.json()["error"]["message"] == "too much"


@pytest.mark.parametrize(
    ("code", "reason", "status", "error_code"),
    [
        (Code.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED", 504, "timeout"),
        (Code.ABORTED, "REQUEST_ABORTED", 409, "request_aborted"),
    ],
)
async def test_a_request_that_is_stopped_midway(
    http: httpx.AsyncClient, service: FakeService, code: grpc.StatusCode, reason: str, status: int, error_code: str
) -> None:
    """A deadline or an abort after the first token is the status of a whole answer, and the last event of a stream."""
    service.script = [started(), text("Hel"), Failure(code, "stopped", (error_info(reason),))]
    whole = await post(http)
    assert (whole.status_code, whole.json()["error"]["code"]) == (status, error_code)
    *_, last = (await post(http, stream=True)).text.strip().split("\n\n")
    assert json.loads(last.removeprefix("data: ")) == whole.json()


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
async def test_a_number_of_choices_out_of_range_is_named(
    http: httpx.AsyncClient, service: FakeService, path: str
) -> None:
    """The service judges n, which is the same name on both sides."""
    service.script = [Failure(Code.INVALID_ARGUMENT, "bad", (violation("n", "must be from 1 to 128"),))]
    for n in (0, 129, -1):
        error = (await http.post(path, json=CHAT | {"prompt": "x", "n": n})).json()["error"]
        assert (error["param"], error["message"]) == ("n", "n: must be from 1 to 128")
        assert service.requests[-1].n == n


async def test_grpcs_own_size_limit_is_413(http: httpx.AsyncClient, service: FakeService) -> None:
    """A message that gRPC itself finds too large is told as a request too large."""
    service.script = [Failure(Code.RESOURCE_EXHAUSTED, "SERVER: Received message larger than max (9 vs. 4)")]
    assert (await post(http)).status_code == 413


async def test_a_late_failure_of_a_whole_answer_keeps_its_status(http: httpx.AsyncClient, service: FakeService) -> None:
    """Without streaming nothing is sent before the end, so every failure has its status."""
    service.script = [started(), text("Hel"), Failure(Code.UNAVAILABLE, "engine died", (retry_info(1),))]
    response = await post(http)
    assert (response.status_code, response.json()["error"]["message"]) == (503, "engine died")


async def test_a_late_failure_of_a_stream_is_its_last_event(http: httpx.AsyncClient, service: FakeService) -> None:
    """After the first byte an error is an event, and no [DONE] follows it."""
    service.script = [started(), text("Hel"), Failure(Code.UNAVAILABLE, "engine died", (retry_info(1),))]
    response = await post(http, stream=True)
    assert response.status_code == 200
    last = response.text.strip().split("\n\n")[-1]
    assert '"message":"engine died"' in last
    assert "[DONE]" not in response.text


async def test_an_answer_that_stops_short_is_an_error(http: httpx.AsyncClient, service: FakeService) -> None:
    """A stream that ends well but without its last event is not passed off as whole."""
    service.script = [started(), text("Hel"), finish()]
    assert (await post(http)).status_code == 500
    assert "[DONE]" not in (await post(http, stream=True)).text


async def test_a_normal_request_works_after_an_error(http: httpx.AsyncClient, service: FakeService) -> None:
    """An error leaves nothing behind."""
    service.script = [invalid("messages")]
    assert (await post(http)).status_code == 400
    service.script = ANSWER
    assert (await post(http)).status_code == 200
