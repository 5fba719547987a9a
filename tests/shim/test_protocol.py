"""Connections that are slow, silent or broken, on real sockets."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from shim.config import Config
from tests.shim.fakes import ANSWER, TIMEOUT_S, Block, FakeService, Flood, Shim, eventually, running_shim, started

CHAT: dict[str, Any] = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}]}
BODY = json.dumps(CHAT).encode()
STREAM = json.dumps(CHAT | {"stream": True}).encode()
HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n"
SHORT_S = 0.3
CUT_S = 3.0


def request(body: bytes) -> bytes:
    return HEAD + b"content-length: %d\r\n\r\n" % len(body) + body


@pytest.fixture
async def impatient(service: FakeService) -> AsyncIterator[Shim]:
    """Run a shim that waits for nobody for long."""
    config = Config(service=(service.address,), head_timeout_s=SHORT_S, body_timeout_s=SHORT_S, write_timeout_s=SHORT_S)
    async with running_shim(config) as running:
        yield running


@asynccontextmanager
async def connected(shim: Shim) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", shim.port)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def ended(reader: asyncio.StreamReader) -> bytes:
    """Read until the shim closes the connection, however it does."""
    said = b""
    try:
        async with asyncio.timeout(CUT_S):
            while more := await reader.read(65536):
                said += more
    except ConnectionError:
        pass
    return said


async def check_well(shim: Shim) -> None:
    async with httpx.AsyncClient(base_url=shim.url, timeout=TIMEOUT_S) as client:
        assert (await client.post("/v1/chat/completions", json=CHAT)).status_code == 200


@pytest.mark.parametrize("sent", [b"", b"POST /v1/chat", HEAD, HEAD + b"content-len"], ids=len)
async def test_a_head_that_does_not_come_is_not_waited_for(impatient: Shim, sent: bytes) -> None:
    """A silent connection is cut, and so is one that stops in the middle of its head."""
    async with connected(impatient) as (reader, writer):
        writer.write(sent)
        assert await ended(reader) == b""
    await check_well(impatient)


async def test_a_head_that_drips_is_cut(impatient: Shim) -> None:
    """A byte now and then does not win time."""
    async with connected(impatient) as (reader, writer):
        reading = asyncio.create_task(ended(reader))
        writer.write(HEAD)
        async with asyncio.timeout(CUT_S):
            while not reading.done():
                writer.write(b"x-a: b\r\n")
                await asyncio.sleep(0.05)
        assert reading.result() == b""


async def test_slow_clients_hold_up_nobody(impatient: Shim) -> None:
    """A hundred silent connections beside it, a request is answered."""
    connections = [await asyncio.open_connection("127.0.0.1", impatient.port) for _ in range(100)]
    for _, writer in connections:
        writer.write(b"POST /v1/chat/completions HTTP/1.1\r\n")
    await check_well(impatient)
    for reader, writer in connections:
        assert await ended(reader) == b""
        writer.close()


@pytest.mark.parametrize("more", [b"", b"x"])
async def test_a_body_that_does_not_come_is_told_408(impatient: Shim, service: FakeService, more: bytes) -> None:
    """Whether it stops or drips, the client is told, and the connection closed."""
    async with connected(impatient) as (reader, writer):
        reading = asyncio.create_task(ended(reader))
        writer.write(HEAD + b'content-length: 9999\r\n\r\n{"model"')
        async with asyncio.timeout(CUT_S):
            while not reading.done():
                writer.write(more)
                await asyncio.sleep(0.05)
        head, _, body = reading.result().partition(b"\r\n\r\n")
    assert b" 408 " in head
    assert b"x-request-id" in head
    assert json.loads(body)["error"]["code"] == "request_timeout"
    assert service.requests == []
    await check_well(impatient)


async def test_a_body_that_nobody_reads_keeps_no_connection(
    service: FakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bytes that drip in after the answer do not count as a request."""
    monkeypatch.setattr("shim.server._KEEP_ALIVE_S", SHORT_S)
    config = Config(service=(service.address,), head_timeout_s=SHORT_S)
    async with running_shim(config) as shim, connected(shim) as (reader, writer):
        writer.write(b"POST /nope HTTP/1.1\r\nhost: x\r\ncontent-length: 99999\r\n\r\n")
        assert b" 404 " in await reader.readline()
        reading = asyncio.create_task(ended(reader))
        async with asyncio.timeout(CUT_S):
            while not reading.done():
                writer.write(b"x")
                await asyncio.sleep(0.05)


async def test_a_stream_that_is_not_read_is_cut(impatient: Shim, service: FakeService) -> None:
    """Its generation is cancelled though the client stays, and the others go on."""
    flood = Flood()
    service.script = [started(), flood]
    async with connected(impatient) as (_, writer):
        writer.write(request(STREAM))
        await asyncio.wait_for(flood.cancelled.wait(), CUT_S)
        service.script = ANSWER
        await check_well(impatient)


async def test_a_stream_that_is_read_slowly_goes_on(impatient: Shim, service: FakeService) -> None:
    """Who reads on is not cut, though it takes many times the timeout."""
    flood = Flood()
    service.script = [started(), flood]
    async with connected(impatient) as (reader, writer):
        writer.write(request(STREAM))
        for _ in range(10):
            await reader.readexactly(2_000_000)
            await asyncio.sleep(SHORT_S / 3)
        assert not flood.cancelled.is_set()


async def test_a_quiet_stream_is_not_cut(impatient: Shim, service: FakeService) -> None:
    """The timeouts are the client's, not the model's."""
    block = Block()
    service.script = [started(), block, *ANSWER[1:]]
    async with connected(impatient) as (reader, writer):
        writer.write(request(STREAM))
        await asyncio.wait_for(block.reached.wait(), TIMEOUT_S)
        await asyncio.sleep(SHORT_S * 3)
        block.go_on.set()
        assert b"world" in await asyncio.wait_for(reader.readuntil(b"[DONE]"), TIMEOUT_S)


async def test_requests_that_are_sent_ahead_are_answered_in_order(
    service: FakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pipelined requests share a connection, and each may run longer than a head may take to come."""
    monkeypatch.setattr("shim.server._KEEP_ALIVE_S", SHORT_S)
    blocks = {"a": Block(), "b": Block()}
    service.scripts = {prompt: [started(), block, *ANSWER[1:]] for prompt, block in blocks.items()}
    config = Config(service=(service.address,), head_timeout_s=SHORT_S)
    async with running_shim(config) as shim, connected(shim) as (reader, writer):
        for prompt in blocks:
            body = json.dumps({"model": "tiny", "prompt": prompt}).encode()
            writer.write(request(body).replace(b"/chat", b""))
        for block in blocks.values():
            await asyncio.wait_for(block.reached.wait(), TIMEOUT_S)
            await asyncio.sleep(SHORT_S * 3)
            block.go_on.set()
            assert b" 200 " in await asyncio.wait_for(reader.readuntil(b"\r\n"), TIMEOUT_S)
            await asyncio.wait_for(reader.readuntil(b'"rejected_prediction_tokens":0}}}'), TIMEOUT_S)


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET / HTTP/9.9\r\n\r\n", 400),
        (b"GET /health HTTP/1.1\r\nhost: x\r\nbad header\r\n\r\n", 400),
        (HEAD + b"content-length: -1\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01", 400),
        (b"GET /health HTTP/1.1\r\n" + b"x-long: " + b"a" * 100_000 + b"\r\n", 431),
        (b"GET /" + b"a" * 100_000, 431),
    ],
    ids=range(7),
)
async def test_what_is_no_request_is_refused_in_openais_form(shim: Shim, sent: bytes, status: int) -> None:
    """Broken and endless heads have the error object too, and nothing else is disturbed."""
    async with connected(shim) as (reader, writer):
        for start in range(0, len(sent), 30_000):
            writer.write(sent[start : start + 30_000])
            await asyncio.sleep(0.05)
        head, _, body = (await ended(reader)).partition(b"\r\n\r\n")
    assert f" {status} ".encode() in head
    assert json.loads(body)["error"]["type"] == "invalid_request_error"
    await check_well(shim)


async def test_a_large_body_is_no_long_head(shim: Shim) -> None:
    """What comes together with the next request's head does not count as a part of it."""
    body = json.dumps(CHAT | {"user": "x" * 500_000}).encode()
    async with connected(shim) as (reader, writer):
        writer.write(request(body) + b"GET /health HTTP/1.1\r\n")
        assert b" 200 " in await asyncio.wait_for(reader.readline(), TIMEOUT_S)
        writer.write(b"host: x\r\nconnection: close\r\n\r\n")
        assert b'{"status":"ok"}' in await ended(reader)


async def test_a_kept_connection_serves_on(impatient: Shim, service: FakeService) -> None:
    """The time for a head does not run out between requests."""
    async with httpx.AsyncClient(base_url=impatient.url, timeout=TIMEOUT_S) as client:
        for _ in range(2):
            assert (await client.post("/v1/chat/completions", json=CHAT)).status_code == 200
            await asyncio.sleep(SHORT_S * 2)
    await eventually(lambda: len(service.requests) == 2)


async def test_a_broken_chunk_is_a_400(shim: Shim, service: FakeService) -> None:
    """A body whose framing breaks is told so, once, and reaches no service."""
    async with connected(shim) as (reader, writer):
        writer.write(HEAD + b'transfer-encoding: chunked\r\n\r\n5\r\n{"mod\r\n')
        await asyncio.sleep(0.05)
        writer.write(b"zz\r\n")
        said = await ended(reader)
    assert said.startswith(b"HTTP/1.1 400 ")
    assert said.count(b"HTTP/1.1") == 1
    assert json.loads(said.partition(b"\r\n\r\n")[2])["error"]["type"] == "invalid_request_error"
    assert service.requests == []
    await check_well(shim)


async def test_what_is_broken_behind_a_whole_request_is_not_its_answer(shim: Shim, service: FakeService) -> None:
    """The connection closes; a 400 would be read as the answer to the request before."""
    block = Block()
    service.script = [started(), block, *ANSWER[1:]]
    async with connected(shim) as (reader, writer):
        writer.write(request(BODY))
        await eventually(lambda: len(service.requests) == 1)
        writer.write(b"NONSENSE\r\n\r\n")
        assert await ended(reader) == b""
