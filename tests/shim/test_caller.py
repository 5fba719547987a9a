"""Who asks, as the service is told."""

import re
from collections.abc import MutableMapping
from typing import Any

import httpx
import pytest

from tests.shim.fakes import FakeService, eventually

BODY: dict[str, Any] = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}], "prompt": "x"}
PATHS = ["/v1/chat/completions", "/v1/completions"]


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


async def told(http: httpx.AsyncClient, service: FakeService, headers: dict[str, str], **fields: object) -> object:
    """Ask, and give what the service was told about the caller."""
    response = await http.post(PATHS[0], json=BODY | fields, headers=headers)
    assert response.status_code == 200
    return service.callers[-1]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("stream", [False, True])
async def test_every_generating_call_names_its_caller(
    http: httpx.AsyncClient, service: FakeService, path: str, stream: bool
) -> None:
    """Both routes, streaming or not, carry 32 hexadecimal digits."""
    await http.post(path, json=BODY | {"stream": stream}, headers=bearer("sk-1"))
    (caller,) = service.callers
    assert re.fullmatch("[0-9a-f]{32}", str(caller))


async def test_a_caller_is_its_key(http: httpx.AsyncClient, service: FakeService) -> None:
    """The same key is the same caller whatever user it names, and another key is another."""
    first = await told(http, service, bearer("sk-1"))
    assert await told(http, service, {"authorization": "bearer  sk-1"}, user="someone") == first
    assert await told(http, service, bearer("sk-2")) != first


async def test_without_a_key_a_caller_is_its_user(http: httpx.AsyncClient, service: FakeService) -> None:
    """The body's user counts where no key is given, and is nobody's key."""
    first = await told(http, service, {}, user="sk-1")
    assert first is not None
    assert await told(http, service, {"authorization": "Basic sk-1"}, user="sk-1") == first
    assert await told(http, service, {}, user="sk-2") != first
    assert await told(http, service, bearer("sk-1")) != first


async def test_a_safety_identifier_is_the_newer_name_of_a_user(http: httpx.AsyncClient, service: FakeService) -> None:
    """It counts where the older one is not given."""
    first = await told(http, service, {}, user="u")
    assert await told(http, service, {}, safety_identifier="u") == first
    assert await told(http, service, {}, user="u", safety_identifier="v") == first


@pytest.mark.parametrize(
    "headers", [{}, {"authorization": "Bearer"}, {"authorization": "Basic x"}, {"authorization": ""}]
)
@pytest.mark.parametrize("user", [None, ""])
async def test_who_says_nothing_is_left_to_the_service(
    http: httpx.AsyncClient, service: FakeService, headers: dict[str, str], user: str | None
) -> None:
    """Without key and user there is no metadata, so that the service counts the peer."""
    assert await told(http, service, headers, user=user) is None


async def test_neither_key_nor_user_is_told_or_logged(
    http: httpx.AsyncClient, service: FakeService, logged: list[MutableMapping[str, Any]]
) -> None:
    """What the service is told cannot be read, and the log has nothing of it."""
    await told(http, service, bearer("secret-key"), user="secret-user")
    await told(http, service, {}, user="secret-user")
    await eventually(lambda: len(logged) == 2)
    assert "secret" not in f"{service.callers} {logged} {service.requests}"
