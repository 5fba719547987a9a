"""Several worker processes behind one socket."""

import asyncio
import os
import signal
from typing import Any

import httpx
import psutil

from shim.config import Config
from shim.worker import decode, encode
from tests.shim.fakes import ANSWER, TIMEOUT_S, Block, FakeService, eventually, started, text
from tests.shim.processes import children, started_shim

CHAT: dict[str, Any] = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}]}
CHAT_PATH = "/v1/chat/completions"


def test_a_worker_is_told_the_whole_config() -> None:
    """Lists and all come through its standard input as they are."""
    config = Config(
        service=("a:1", "b:2"), cors_origins=("*",), gzip=False, deadline_s=1.5, workers=2, log_level="debug"
    )
    assert decode(encode(config)) == config


async def test_workers_share_a_socket_and_drain_together(service: FakeService) -> None:
    """All workers are there at the ready line, a stream survives SIGTERM to the parent, and the exit code is 0."""
    block = Block()
    service.script = [started(), text("Hel"), block, *ANSWER[1:]]
    flags = ("--service", service.address, "--workers", "2")
    async with started_shim(*flags) as shim, httpx.AsyncClient(base_url=shim.url) as client:
        workers = children(shim.process.pid)
        assert len(workers) == 2
        async with client.stream("POST", CHAT_PATH, json=CHAT | {"stream": True}) as response:
            await asyncio.wait_for(block.reached.wait(), TIMEOUT_S)
            shim.signal(signal.SIGTERM)
            await asyncio.sleep(0.7)
            assert (await client.post(CHAT_PATH, json=CHAT)).status_code == 503
            block.go_on.set()
            assert (await response.aread()).endswith(b"data: [DONE]\n\n")
        assert await shim.exit_code() == 0
    assert not any(map(psutil.pid_exists, workers))


async def test_a_dead_worker_is_started_again(service: FakeService) -> None:
    """A worker that is killed is replaced, and requests work meanwhile and after."""
    flags = ("--service", service.address, "--workers", "2")
    async with started_shim(*flags) as shim, httpx.AsyncClient(base_url=shim.url, timeout=TIMEOUT_S) as client:
        before = set(children(shim.process.pid))
        os.kill(min(before), signal.SIGKILL)
        assert (await client.post(CHAT_PATH, json=CHAT)).status_code == 200
        await eventually(lambda: len(children(shim.process.pid)) == 2)
        assert min(before) not in children(shim.process.pid)
        shim.signal(signal.SIGTERM)
        assert await shim.exit_code() == 0


async def test_workers_end_with_their_parent(service: FakeService) -> None:
    """A parent that is killed leaves no workers behind."""
    async with started_shim("--service", service.address, "--workers", "2") as shim:
        workers = children(shim.process.pid)
        shim.signal(signal.SIGKILL)
        await shim.exit_code()
    await eventually(lambda: not any(map(psutil.pid_exists, workers)))
