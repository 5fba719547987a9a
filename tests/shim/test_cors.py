"""Calls from browsers, which are refused unless their origin is configured."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from shim.config import Config
from tests.shim.fakes import ANSWER, TIMEOUT_S, FakeService, invalid, running_shim

PAGE = "https://chat.example"
CHAT: dict[str, Any] = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}]}
PATH = "/v1/chat/completions"
ASKS = {"access-control-request-method": "POST", "access-control-request-headers": "authorization, content-type"}


@pytest.fixture(params=["one", "all"])
async def open_http(service: FakeService, request: pytest.FixtureRequest) -> AsyncIterator[httpx.AsyncClient]:
    origins = ("*",) if request.param == "all" else (PAGE, "http://localhost:3000")
    async with (
        running_shim(Config(service=(service.address,), cors_origins=origins)) as shim,
        httpx.AsyncClient(base_url=shim.url, timeout=TIMEOUT_S) as client,
    ):
        yield client


def access(response: httpx.Response) -> set[str]:
    return {name for name in response.headers if name.startswith("access-control-")}


async def test_it_is_off_unless_configured(http: httpx.AsyncClient) -> None:
    """Without origins no answer has a header that lets a page read it."""
    assert access(await http.options(PATH, headers={"origin": PAGE, **ASKS})) == set()
    assert access(await http.post(PATH, json=CHAT, headers={"origin": PAGE})) == set()


async def test_a_configured_page_may_ask(open_http: httpx.AsyncClient) -> None:
    """The browser's own question is answered, without credentials, and its headers are allowed."""
    response = await open_http.options(PATH, headers={"origin": PAGE, **ASKS})
    assert response.status_code == 200
    assert response.headers["access-control-allow-origin"] in (PAGE, "*")
    assert "POST" in response.headers["access-control-allow-methods"]
    assert response.headers["access-control-allow-headers"] == ASKS["access-control-request-headers"]
    assert "access-control-allow-credentials" not in response.headers
    assert response.headers["x-request-id"]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("script", [ANSWER, [invalid("messages")]], ids=["answer", "error"])
async def test_a_configured_page_may_read(
    open_http: httpx.AsyncClient, service: FakeService, script: list[Any], stream: bool
) -> None:
    """Answers, streams and errors are readable, the request's id too."""
    service.script = script
    response = await open_http.post(PATH, json=CHAT | {"stream": stream}, headers={"origin": PAGE})
    assert response.headers["access-control-allow-origin"] in (PAGE, "*")
    assert "x-request-id" in response.headers["access-control-expose-headers"]


async def test_another_page_is_refused(service: FakeService) -> None:
    """An origin that is not configured gets no header, and its question an error in OpenAI's form."""
    config = Config(service=(service.address,), cors_origins=(PAGE,))
    async with running_shim(config) as shim, httpx.AsyncClient(base_url=shim.url, timeout=TIMEOUT_S) as client:
        headers = {"origin": "https://evil.example"}
        refused = await client.options(PATH, headers=headers | ASKS)
        assert (refused.status_code, refused.json()["error"]["type"]) == (400, "invalid_request_error")
        assert "access-control-allow-origin" not in refused.headers
        assert "access-control-allow-origin" not in (await client.post(PATH, json=CHAT, headers=headers)).headers


async def test_a_page_can_read_that_the_server_is_draining(service: FakeService) -> None:
    """What never reaches a route is readable as well."""
    config = Config(service=(service.address,), cors_origins=(PAGE,))
    async with running_shim(config) as shim, httpx.AsyncClient(base_url=shim.url, timeout=TIMEOUT_S) as client:
        shim.drain()
        response = await client.post(PATH, json=CHAT, headers={"origin": PAGE})
        assert (response.status_code, response.headers["access-control-allow-origin"]) == (503, PAGE)
