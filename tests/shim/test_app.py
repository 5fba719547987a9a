"""The app as a whole: routes that are not there, request ids, the log, and the document."""

from collections.abc import MutableMapping
from typing import Any

import httpx
import pytest

from mlx_grpc.v1 import generation_pb2 as wire
from tests.shim.fakes import ANSWER, FakeService, completed, eventually, finish, invalid, started

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
    """Only up to 128 visible ASCII characters are an id."""
    await http.post("/v1/chat/completions", json=CHAT, headers=[("x-request-id", given)])
    assert service.requests[0].request_id == ""


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
    """The log tells id, route, model, status, duration and tokens, and no text."""
    await http.post("/v1/chat/completions", json=CHAT | {"stream": stream})
    await eventually(lambda: bool(logged))  # the line is written after the last byte
    (entry,) = [entry for entry in logged if entry["event"] == "request"]
    assert entry["duration_s"] > 0
    wanted = {"request_id": "req-1", "route": "/v1/chat/completions", "model": "tiny", "status": 200}
    assert entry.items() >= (wanted | {"prompt_tokens": 3, "completion_tokens": 4}).items()
    assert "secret" not in str(entry)


async def test_the_document_describes_the_bodies(http: httpx.AsyncClient) -> None:
    """The OpenAPI document tells the request models, with every reference resolved."""
    document = (await http.get("/openapi.json")).json()
    body = document["paths"]["/v1/chat/completions"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    schemas = document["components"]["schemas"]
    assert "messages" in schemas[body["$ref"].rpartition("/")[2]]["properties"]
    references = {part.split('"')[1] for part in str(document).replace("'", '"').split('"$ref": ')[1:]}
    assert {reference.rpartition("/")[2] for reference in references} <= schemas.keys()
