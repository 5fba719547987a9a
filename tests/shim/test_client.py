"""Several replicas: turns and failing over."""

from collections.abc import AsyncIterator
from typing import Any

import grpc
import httpx
import pytest

from shim.config import Config
from tests.shim.fakes import (
    TIMEOUT_S,
    Block,
    Failure,
    FakeService,
    free_port,
    invalid,
    retry_info,
    running_service,
    running_shim,
    started,
    text,
)

CHAT: dict[str, Any] = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}]}
DRAINING = Failure(grpc.StatusCode.UNAVAILABLE, "draining", (retry_info(2),))


@pytest.fixture
async def second() -> AsyncIterator[FakeService]:
    async with running_service() as fake:
        yield fake


async def ask(*targets: str, times: int = 1) -> list[httpx.Response]:
    async with running_shim(Config(service=targets)) as shim, httpx.AsyncClient(timeout=TIMEOUT_S) as client:
        return [await client.post(f"{shim.url}/v1/chat/completions", json=CHAT) for _ in range(times)]


async def test_replicas_take_turns(service: FakeService, second: FakeService) -> None:
    """Requests are spread over the replicas one by one."""
    await ask(service.address, second.address, times=4)
    assert (len(service.requests), len(second.requests)) == (2, 2)


async def test_a_draining_replica_is_passed_over(service: FakeService, second: FakeService) -> None:
    """A replica that is UNAVAILABLE before its first event costs the client nothing."""
    service.script = [DRAINING]
    responses = await ask(service.address, second.address, times=4)
    assert [response.status_code for response in responses] == [200] * 4
    assert len(second.requests) == 4


async def test_a_dead_replica_is_passed_over(second: FakeService) -> None:
    """A replica that cannot be reached costs the client nothing."""
    responses = await ask(f"127.0.0.1:{free_port()}", second.address, times=2)
    assert [response.status_code for response in responses] == [200, 200]


async def test_no_replica_left_is_503(service: FakeService, second: FakeService) -> None:
    """When all replicas refuse, the client is told to come back."""
    service.script = second.script = [DRAINING]
    (response,) = await ask(service.address, second.address)
    assert (response.status_code, response.headers["retry-after"]) == (503, "2")


async def test_an_unreachable_service_is_503_without_its_address() -> None:
    """What gRPC itself says about a connection stays inside."""
    port = free_port()
    (response,) = await ask(f"127.0.0.1:{port}")
    assert response.status_code == 503
    assert str(port) not in response.text
    assert "retry-after" in response.headers


@pytest.mark.parametrize("script", [[invalid("messages")], [started(), text("a"), DRAINING]])
async def test_only_an_unavailable_start_fails_over(
    service: FakeService, second: FakeService, script: list[Any]
) -> None:
    """A refused request is not asked twice, and neither is one that had begun."""
    service.script = script
    await ask(service.address, second.address)
    assert (len(service.requests), len(second.requests)) == (1, 0)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_deadline_is_504(service: FakeService, stream: bool) -> None:
    """A service that does not start in time is told as such, streaming or not."""
    service.script = [Block()]
    config = Config(service=(service.address,), deadline_s=0.2)
    async with running_shim(config) as shim, httpx.AsyncClient(timeout=TIMEOUT_S) as client:
        response = await client.post(f"{shim.url}/v1/chat/completions", json=CHAT | {"stream": stream})
    assert (response.status_code, response.json()["error"]["code"]) == (504, "timeout")
