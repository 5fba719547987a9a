"""A client that goes away ends its generation."""

import asyncio
import json
from collections.abc import AsyncIterator, MutableMapping
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.shim.fakes import ANSWER, TIMEOUT_S, Block, FakeService, Flood, Shim, eventually, started, text

CHAT: dict[str, Any] = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}]}


@asynccontextmanager
async def asked(shim: Shim, **fields: object) -> AsyncIterator[asyncio.StreamReader]:
    """Send a chat request; the connection is closed at the end, whatever has been answered."""
    reader, writer = await asyncio.open_connection("127.0.0.1", shim.port)
    body = json.dumps(CHAT | fields).encode()
    writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
    try:
        yield reader
    finally:
        writer.transport.abort()


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("before", [[], [started()], [started(), text("Hel")]], ids=["waiting", "started", "answering"])
async def test_leaving_cancels_the_call(shim: Shim, service: FakeService, before: list[Any], stream: bool) -> None:
    """The call is cancelled while it waits to be admitted, and while it answers, streamed or whole."""
    block = Block()
    service.script = [*before, block, *ANSWER]
    async with asked(shim, stream=stream):
        await asyncio.wait_for(block.reached.wait(), TIMEOUT_S)
    await asyncio.wait_for(block.cancelled.wait(), 1.0)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("before", [[], [started(), text("Hel")]], ids=["waiting", "answering"])
async def test_leaving_is_logged(
    shim: Shim, service: FakeService, logged: list[MutableMapping[str, Any]], before: list[Any], stream: bool
) -> None:
    """The line does not say that all went well."""
    block = Block()
    service.script = [*before, block, *ANSWER]
    async with asked(shim, stream=stream):
        await asyncio.wait_for(block.reached.wait(), TIMEOUT_S)
    await eventually(lambda: bool(logged))
    (entry,) = logged
    assert (entry["status"], entry["finish"], entry["error"]) == (499, "disconnected", None)


async def test_who_leaves_after_the_end_has_not_left(
    shim: Shim, service: FakeService, logged: list[MutableMapping[str, Any]]
) -> None:
    """A client that has all of it may close its connection."""
    service.script = ANSWER
    async with asked(shim, stream=True) as reader:
        await asyncio.wait_for(reader.readuntil(b"[DONE]"), TIMEOUT_S)
    await eventually(lambda: bool(logged))
    assert (logged[0]["status"], logged[0]["finish"]) == (200, "stop")


async def test_leaving_cancels_a_stream_that_is_blocked_in_a_write(shim: Shim, service: FakeService) -> None:
    """A client that does not read and then leaves ends its generation, though nothing can be written."""
    flood = Flood()
    service.script = [started(), flood]
    async with asked(shim, stream=True):
        await eventually(lambda: flood.sent > 0)
        await asyncio.sleep(0.5)
        assert not flood.cancelled.is_set()
    await asyncio.wait_for(flood.cancelled.wait(), 1.0)


async def test_a_slow_reader_holds_the_service_back(shim: Shim, service: FakeService) -> None:
    """What a client does not read is not gathered in the shim: the service's own writes block."""
    flood = Flood()
    service.script = [started(), flood]
    async with asked(shim, stream=True):
        sent = -1
        async with asyncio.timeout(TIMEOUT_S):
            while sent != flood.sent:  # it never stops where nothing holds it back
                sent = flood.sent
                await asyncio.sleep(0.3)
        assert sent > 0


async def test_leaving_hurts_nobody_else(shim: Shim, service: FakeService) -> None:
    """A stream beside the one that is left goes on."""
    block = Block()
    service.script = [started(), block, *ANSWER[1:]]
    async with asked(shim, stream=True) as reader:
        await asyncio.wait_for(block.reached.wait(), TIMEOUT_S)
        async with asked(shim, stream=True):
            await asyncio.sleep(0.1)
        block.go_on.set()
        answer = await asyncio.wait_for(reader.readuntil(b"[DONE]"), TIMEOUT_S)
        assert b" world" in answer
