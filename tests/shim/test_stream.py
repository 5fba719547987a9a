"""Streams that are quiet, and what compresses answers."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from sse_starlette import EventSourceResponse

from shim.config import Config
from shim.stream import StreamResponse
from tests.shim.fakes import ANSWER, TIMEOUT_S, Block, FakeService, running_shim, started, text

CHAT: dict[str, Any] = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}], "stream": True}
PATHS = ["/v1/chat/completions", "/api/chat/completions"]
COMMENT = ": keep-alive"


@asynccontextmanager
async def client_of(service: FakeService, **fields: Any) -> AsyncIterator[httpx.AsyncClient]:
    async with (
        running_shim(Config(service=(service.address,), **fields)) as shim,
        httpx.AsyncClient(base_url=shim.url, timeout=TIMEOUT_S) as client,
    ):
        yield client


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("before", [[started()], [started(), text("Hel")]], ids=["before", "between"])
async def test_a_quiet_stream_gets_comments(service: FakeService, path: str, before: list[Any]) -> None:
    """They come before the first token and between tokens, and the answer is whole after them."""
    block = Block()
    service.script = [*before, block, *ANSWER[1:]]
    async with client_of(service, keep_alive_s=0.05) as client, client.stream("POST", path, json=CHAT) as response:
        lines = response.aiter_lines()
        async with asyncio.timeout(TIMEOUT_S):
            comments = 0
            while comments < 3:
                comments += await anext(lines) == COMMENT
            block.go_on.set()
            rest = [line async for line in lines if line and line != COMMENT]
    assert rest[-1] in ("data: [DONE]", 'data: {"type":"done"}')
    assert any("world" in line for line in rest)


async def test_a_busy_stream_gets_none(service: FakeService) -> None:
    """Comments are for silence only."""
    blocks = [Block() for _ in range(8)]
    service.script = [started(), *(step for block in blocks for step in (block, text("x"))), *ANSWER[-2:]]

    async def pace() -> None:
        for block in blocks:
            await asyncio.sleep(0.1)
            block.go_on.set()

    async with client_of(service, keep_alive_s=0.5) as client:
        pacing = asyncio.create_task(pace())
        answer = (await client.post(PATHS[0], json=CHAT)).text
        await pacing
    assert COMMENT not in answer
    assert answer.count('"content":"x"') == 8


async def test_comments_can_be_off(service: FakeService) -> None:
    """Zero seconds is never."""
    block = Block()
    service.script = [started(), block, *ANSWER[1:]]
    async with client_of(service, keep_alive_s=0) as client:
        asked = asyncio.create_task(client.post(PATHS[0], json=CHAT))
        await asyncio.wait_for(block.reached.wait(), TIMEOUT_S)
        await asyncio.sleep(0.2)
        block.go_on.set()
        assert COMMENT not in (await asked).text


@pytest.mark.parametrize("name", ["_send_with_timeout", "_ping"])
def test_what_is_overridden_is_still_there(name: str) -> None:
    """The library still calls the methods that we replace; under other names their cost would come back unseen."""
    assert name in vars(StreamResponse)
    assert name in vars(EventSourceResponse)
    assert "_send_with_timeout" in EventSourceResponse._stream_response.__code__.co_names


async def test_a_whole_answer_is_compressed_and_a_stream_is_not(service: FakeService) -> None:
    """A client that takes gzip gets it for what is long and whole, and each chunk of a stream as it is made."""
    block = Block()
    accepts = {"accept-encoding": "gzip"}
    service.script = [started(), text("long " * 1000), *ANSWER[-2:]]
    async with client_of(service) as client:
        whole = await client.post(PATHS[0], json=CHAT | {"stream": False}, headers=accepts)
        assert whole.headers["content-encoding"] == "gzip"
        assert int(whole.headers["content-length"]) < 1000
        assert whole.json()["choices"][0]["message"]["content"] == "long " * 1000
        service.script = [started(), text("long " * 1000), block, *ANSWER[-2:]]
        async with client.stream("POST", PATHS[0], json=CHAT, headers=accepts) as response:
            assert "content-encoding" not in response.headers
            async with asyncio.timeout(TIMEOUT_S):
                lines = response.aiter_lines()
                while "long" not in await anext(lines):
                    pass
            block.go_on.set()
            assert [line async for line in lines if line][-1] == "data: [DONE]"


async def test_compression_can_be_off(service: FakeService) -> None:
    """Where a proxy does it."""
    service.script = [started(), text("long " * 1000), *ANSWER[-2:]]
    async with client_of(service, gzip=False) as client:
        whole = await client.post(PATHS[0], json=CHAT | {"stream": False}, headers={"accept-encoding": "gzip"})
        assert "content-encoding" not in whole.headers


@pytest.mark.parametrize("path", PATHS)
async def test_the_server_alone_says_whether_the_connection_is_kept(service: FakeService, path: str) -> None:
    """Who asks for it to be closed is not told both."""
    async with client_of(service) as client:
        kept = await client.post(path, json=CHAT)
        closed = await client.post(path, json=CHAT, headers={"connection": "close"})
    assert "connection" not in kept.headers
    assert closed.headers["connection"] == "close"
