"""Faults under running streams, seen from HTTP: killed engines, stopped servers, clients that go away."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import StartService
from tests.processes import ServiceProcess
from tests.shim.processes import started_shim

# Long enough to be still running when something is done to it, short enough to wait for.
LONG: dict[str, Any] = {
    "model": "tiny",
    "prompt": "The sky is",
    "max_tokens": 1500,
    "ignore_eos": True,
    "stream": True,
}
SHORT = LONG | {"max_tokens": 4, "stream": False}


@pytest.fixture
async def own_service(start_service: StartService, tiny_model: Path) -> ServiceProcess:
    """Start a service that the test may break. One sequence runs at a time, so that one left over is noticed."""
    return await start_service({"tiny": tiny_model}, "--max-running", "1")


@pytest.fixture
async def client(own_service: ServiceProcess) -> AsyncIterator[httpx.AsyncClient]:
    """Open a client of a shim over it."""
    async with (
        started_shim("--service", own_service.address) as shim,
        httpx.AsyncClient(base_url=shim.url, timeout=30) as client,
    ):
        yield client


async def events(response: httpx.Response) -> AsyncIterator[str]:
    """Give the data of server-sent events."""
    async for line in response.aiter_lines():
        if line.startswith("data: "):
            yield line.removeprefix("data: ")


async def first_refusal(client: httpx.AsyncClient, url: str) -> httpx.Response:
    """Ask until it is refused, which is when the signal has arrived."""
    while True:
        answer = await client.post(url, json=SHORT)
        if answer.status_code != 200:
            return answer


async def becomes(client: httpx.AsyncClient, status: int) -> None:
    """Ask for the health until it is this one."""
    async with asyncio.timeout(60):
        while (await client.get("/health")).status_code != status:  # noqa: ASYNC110 - health tells nobody by itself
            await asyncio.sleep(0.05)


async def test_a_killed_engine_ends_the_stream_with_an_error(
    client: httpx.AsyncClient, own_service: ServiceProcess
) -> None:
    """The stream gets an error event and no `[DONE]`; the next request waits for the new engine and succeeds."""
    async with client.stream("POST", "/v1/completions", json=LONG) as response:
        stream = events(response)
        await anext(stream)
        own_service.engines[0].kill()
        rest = [event async for event in stream]
    assert "error" in json.loads(rest[-1])
    answer = await client.post("/v1/completions", json=SHORT)
    assert answer.json()["usage"]["completion_tokens"] == 4


async def test_a_silent_engine_is_not_healthy(start_service: StartService, tiny_model: Path, tmp_path: Path) -> None:
    """Whoever balances the load learns it, and when the engine goes on."""
    config = tmp_path / "service.toml"
    config.write_text("heartbeat_timeout_s = 1.5\n")
    service = await start_service({"tiny": tiny_model}, "--config", str(config))
    async with (
        started_shim("--service", service.address) as shim,
        httpx.AsyncClient(base_url=shim.url, timeout=30) as client,
    ):
        await becomes(client, 200)
        [engine] = service.engines
        engine.suspend()
        try:
            await becomes(client, 503)
        finally:
            engine.resume()
        await becomes(client, 200)


async def test_sigterm_to_the_service_lets_the_stream_finish(
    client: httpx.AsyncClient, own_service: ServiceProcess
) -> None:
    """While it drains, what runs goes on to `[DONE]`, what comes is a 503 with Retry-After, and it exits with 0."""
    async with client.stream("POST", "/v1/completions", json=LONG) as response:
        stream = events(response)
        await anext(stream)
        own_service.signal(signal.SIGTERM)
        refused = await first_refusal(client, "/v1/completions")
        assert refused.status_code == 503
        assert int(refused.headers["retry-after"]) >= 1
        rest = [event async for event in stream]
    assert rest[-1] == "[DONE]"
    assert await own_service.exit_code() == 0
    assert (await client.post("/v1/completions", json=SHORT)).status_code == 503
    assert (await client.get("/health")).status_code == 503


async def test_sigterm_to_the_shim_lets_the_stream_finish(own_service: ServiceProcess) -> None:
    """The shim drains the same way."""
    async with started_shim("--service", own_service.address) as shim, httpx.AsyncClient(timeout=30) as client:
        async with client.stream("POST", f"{shim.url}/v1/completions", json=LONG) as response:
            stream = events(response)
            await anext(stream)
            shim.signal(signal.SIGTERM)
            refused = await first_refusal(client, f"{shim.url}/v1/completions")
            assert refused.status_code == 503
            rest = [event async for event in stream]
        assert rest[-1] == "[DONE]"
        assert await shim.exit_code() == 0


@pytest.mark.parametrize("stream", [True, False])
async def test_a_client_that_leaves_frees_its_row(client: httpx.AsyncClient, stream: bool) -> None:
    """The one row is free at once for the next request, which would else wait for tens of thousands of tokens."""
    endless = LONG | {"max_tokens": 30_000, "stream": stream}
    leaving = asyncio.create_task(client.post("/v1/completions", json=endless))
    await asyncio.sleep(1)
    leaving.cancel()
    await asyncio.wait([leaving])
    answer = await asyncio.wait_for(client.post("/v1/completions", json=SHORT), 3)
    assert answer.json()["usage"]["completion_tokens"] == 4


async def test_several_workers_answer(own_service: ServiceProcess) -> None:
    """A shim of several processes answers on one port, and drains as one."""
    async with (
        started_shim("--service", own_service.address, "--workers", "2") as shim,
        httpx.AsyncClient(base_url=shim.url, timeout=30) as client,
    ):
        answers = await asyncio.gather(*(client.post("/v1/completions", json=SHORT) for _ in range(8)))
        assert {answer.status_code for answer in answers} == {200}
        shim.signal(signal.SIGTERM)
        assert await shim.exit_code() == 0


async def test_streamed_and_whole_answers_are_the_same(client: httpx.AsyncClient) -> None:
    """The whole answer is the fold of the stream, with the same seed."""
    body = LONG | {"max_tokens": 40, "seed": 3, "echo": True}
    whole = (await client.post("/v1/completions", json=body | {"stream": False})).json()["choices"][0]["text"]
    async with client.stream("POST", "/v1/completions", json=body) as response:
        chunks = [json.loads(event) async for event in events(response) if event != "[DONE]"]
    assert "".join(chunk["choices"][0]["text"] for chunk in chunks) == whole


async def test_no_service_is_a_503() -> None:
    """A shim without its service says so, and is not healthy."""
    async with started_shim("--service", "127.0.0.1:1") as shim, httpx.AsyncClient(base_url=shim.url) as client:
        answer = await client.post("/v1/completions", json=SHORT)
        assert answer.status_code == 503
        assert answer.json()["error"]["type"] == "server_error"
        assert (await client.get("/health")).status_code == 503
