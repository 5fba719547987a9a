"""Several replicas: which is asked, and failing over."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import httpx
import pytest

from mlx_grpc.v1.generation_pb2 import ChatRequest
from shim.client import Replicas
from shim.config import Config
from tests.shim.fakes import (
    ANSWER,
    TIMEOUT_S,
    Block,
    Failure,
    FakeService,
    Step,
    error_info,
    eventually,
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
TOO_LARGE = Failure(grpc.StatusCode.RESOURCE_EXHAUSTED, "too large", (error_info("INSUFFICIENT_MEMORY"),))


def full(retry_s: float) -> Failure:
    return Failure(
        grpc.StatusCode.RESOURCE_EXHAUSTED, f"full {retry_s}", (error_info("QUEUE_FULL"), retry_info(retry_s))
    )


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


async def test_a_replica_whose_queue_is_full_is_passed_over(service: FakeService, second: FakeService) -> None:
    """While another has room the client is not sent away."""
    service.script = [full(3)]
    responses = await ask(service.address, second.address, times=4)
    assert [response.status_code for response in responses] == [200] * 4
    assert len(second.requests) == 4


@pytest.mark.parametrize(
    ("scripts", "status", "retry_after"),
    [
        ((full(9), full(4)), 429, "4"),
        ((full(4), full(9)), 429, "4"),
        ((full(9), DRAINING), 429, "9"),
        ((DRAINING, full(9)), 429, "9"),
        ((Failure(grpc.StatusCode.UNAVAILABLE), DRAINING), 503, "2"),
    ],
)
async def test_the_best_refusal_is_told_where_all_refuse(
    service: FakeService, second: FakeService, scripts: tuple[Failure, Failure], status: int, retry_after: str
) -> None:
    """Each is asked once; the client is to come back when the first of them may have room."""
    service.script, second.script = [scripts[0]], [scripts[1]]
    (response,) = await ask(service.address, second.address)
    assert (response.status_code, response.headers["retry-after"]) == (status, retry_after)
    assert (len(service.requests), len(second.requests)) == (1, 1)


async def test_a_full_and_a_dead_replica_are_a_full_queue(service: FakeService) -> None:
    """What gRPC says about a connection hides nothing that a replica says."""
    service.script = [full(5)]
    for targets in ([service.address, dead := f"127.0.0.1:{free_port()}"], [dead, service.address]):
        (response,) = await ask(*targets)
        assert (response.status_code, response.headers["retry-after"]) == (429, "5")


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
async def test_the_least_busy_replica_is_asked(service: FakeService, second: FakeService, path: str) -> None:
    """Calls go where fewer run, until those have ended or were left; then turns are taken again."""
    block = Block()
    service.script = [started(), block, *ANSWER[1:]]
    config = Config(service=(service.address, second.address))
    body = CHAT | {"prompt": "x"}
    async with running_shim(config) as shim, httpx.AsyncClient(base_url=shim.url, timeout=TIMEOUT_S) as client:
        async with client.stream("POST", path, json=body | {"stream": True}):
            await asyncio.wait_for(block.reached.wait(), TIMEOUT_S)
            for _ in range(4):
                assert (await client.post(path, json=body)).status_code == 200
            assert (len(service.requests), len(second.requests)) == (1, 4)
        await asyncio.wait_for(block.cancelled.wait(), TIMEOUT_S)
        service.script = ANSWER
        for _ in range(4):
            await client.post(path, json=body)
        assert (len(service.requests), len(second.requests)) == (3, 6)


ENDS: dict[str, list[Step]] = {
    "refused": [full(1)],
    "failed at once": [Failure(grpc.StatusCode.INTERNAL)],
    "failed later": [started(), text("a"), DRAINING],
    "whole": [*ANSWER],
}


@pytest.mark.parametrize("script", ENDS.values(), ids=ENDS)
async def test_a_call_that_has_ended_is_not_in_flight(service: FakeService, script: list[Step]) -> None:
    """However it ends, its replica is as free as before."""
    block = Block()
    service.script = [block, *script]
    replicas = Replicas([service.address])

    async def call() -> None:
        async for _ in await replicas.chat(ChatRequest(model="tiny")):
            pass

    calling = asyncio.create_task(call())
    await asyncio.wait_for(block.reached.wait(), TIMEOUT_S)
    assert replicas.all[0].in_flight == 1
    block.go_on.set()
    await asyncio.gather(calling, return_exceptions=True)
    await eventually(lambda: replicas.all[0].in_flight == 0)
    await replicas.close()


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


@pytest.mark.parametrize(
    "script", [[invalid("messages")], [TOO_LARGE], [started(), text("a"), DRAINING], [started(), text("a"), full(1)]]
)
async def test_only_a_start_that_is_unavailable_or_full_fails_over(
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


UNKNOWN = Failure(grpc.StatusCode.NOT_FOUND, "there is no model 'tiny'", (retry_info(1),))


async def test_a_replica_that_does_not_know_the_model_is_passed_over(service: FakeService, second: FakeService) -> None:
    """As one that was loaded by hand is on one replica alone."""
    service.script = [UNKNOWN]
    responses = await ask(service.address, second.address, times=4)
    assert [response.status_code for response in responses] == [200] * 4
    assert len(second.requests) == 4


@pytest.mark.parametrize(
    ("other", "status"),
    [(UNKNOWN, 404), (DRAINING, 503), (full(2), 429), (Failure(grpc.StatusCode.UNAVAILABLE), 404)],
    ids=["unknown", "draining", "full", "dead"],
)
async def test_a_model_that_no_replica_has_is_404(
    service: FakeService, second: FakeService, other: Failure, status: int
) -> None:
    """While none that can be asked may have it; one that cannot be asked hides nothing."""
    service.script, second.script = [UNKNOWN], [other]
    for response in await ask(service.address, second.address, times=2):
        assert response.status_code == status
