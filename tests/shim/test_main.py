"""`python -m shim`: starting, draining, and failing in one line."""

import asyncio
import json
import signal
import socket
import sys
from asyncio.subprocess import PIPE
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest

from shim.__main__ import main
from tests.shim.fakes import ANSWER, TIMEOUT_S, Block, FakeService, started, text
from tests.shim.processes import run_to_end, started_shim

CHAT: dict[str, Any] = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}]}
CHAT_PATH = "/v1/chat/completions"


def fail(flags: Sequence[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Run a shim that cannot start; its exit code, and its one line."""
    try:
        code: Any = main(flags)
    except SystemExit as error:
        code = error.code
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("shim: ")
    return code, line


@pytest.mark.parametrize(
    "flags",
    [
        ("--listen", "nowhere"),
        ("--service", "x:0"),
        ("--workers", "many"),
        ("--workers", "0"),
        ("--surprise",),
        ("--config", "/nonexistent.toml"),
    ],
)
def test_bad_flags_are_one_line_and_2(flags: Sequence[str], capsys: pytest.CaptureFixture[str]) -> None:
    """What cannot be used is told in one line."""
    assert fail(flags, capsys)[0] == 2


def test_a_bad_config_file_is_one_line_and_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """So is a key that does not exist."""
    file = tmp_path / "shim.toml"
    file.write_text("surprise = 1")
    code, line = fail(("--config", str(file)), capsys)
    assert code == 2
    assert "surprise" in line


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_taken_port_is_one_line_and_1(workers: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A port that something else listens on is told in one line."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        code, line = fail(("--listen", address, "--workers", workers), capsys)
    assert code == 1
    assert address in line


async def test_a_failed_start_leaves_no_traceback(service: FakeService) -> None:
    """The process says no more than that, on either output."""
    port = service.address.rpartition(":")[2]
    code, errors = await run_to_end("--listen", f"127.0.0.1:{port}")
    assert (code, errors.count("\n")) == (1, 1)


async def test_sigterm_lets_streams_finish_and_refuses_new_requests(service: FakeService) -> None:
    """A running stream ends whole, new requests are told 503 meanwhile, and the exit code is 0."""
    block = Block()
    service.script = [started(), text("Hel"), block, *ANSWER[1:]]
    async with started_shim("--service", service.address) as shim, httpx.AsyncClient(base_url=shim.url) as client:
        async with client.stream("POST", CHAT_PATH, json=CHAT | {"stream": True}) as response:
            await asyncio.wait_for(block.reached.wait(), TIMEOUT_S)
            shim.signal(signal.SIGTERM)
            await asyncio.sleep(0.7)
            refused = await client.post(CHAT_PATH, json=CHAT)
            assert (refused.status_code, refused.json()["error"]["type"]) == (503, "server_error")
            assert "retry-after" in refused.headers
            block.go_on.set()
            assert (await response.aread()).endswith(b"data: [DONE]\n\n")
        assert await shim.exit_code() == 0


async def test_sigterm_when_idle_exits_0(service: FakeService) -> None:
    """With nothing to finish the shim ends soon, though a connection is open."""
    async with started_shim("--service", service.address) as shim, httpx.AsyncClient(base_url=shim.url) as client:
        assert (await client.get("/health")).status_code == 200
        shim.signal(signal.SIGTERM)
        assert await asyncio.wait_for(shim.exit_code(), 3.0) == 0


async def test_a_second_signal_ends_at_once_and_the_generation_with_it(service: FakeService) -> None:
    """Who cannot wait for the drain sends another signal."""
    block = Block()
    service.script = [started(), block]
    async with started_shim("--service", service.address) as shim, httpx.AsyncClient(base_url=shim.url) as client:
        running = asyncio.create_task(client.post(CHAT_PATH, json=CHAT))
        await asyncio.wait_for(block.reached.wait(), TIMEOUT_S)
        shim.signal(signal.SIGTERM)
        await asyncio.sleep(0.3)
        shim.signal(signal.SIGINT)
        assert await asyncio.wait_for(shim.exit_code(), 2.0) == 128 + signal.SIGINT
        await asyncio.wait_for(block.cancelled.wait(), 2.0)
        with pytest.raises(httpx.TransportError):
            await running


async def test_the_drain_is_bounded(service: FakeService) -> None:
    """A stream that does not end is cut when the drain's time is over, and the exit code is still 0."""
    block = Block()
    service.script = [started(), block]
    flags = ("--service", service.address, "--drain-s", "0.3")
    async with started_shim(*flags) as shim, httpx.AsyncClient(base_url=shim.url) as client:
        running = asyncio.create_task(client.post(CHAT_PATH, json=CHAT))
        await asyncio.wait_for(block.reached.wait(), TIMEOUT_S)
        shim.signal(signal.SIGTERM)
        assert await asyncio.wait_for(shim.exit_code(), 4.0) == 0
        await asyncio.wait_for(block.cancelled.wait(), 2.0)
        await asyncio.gather(running, return_exceptions=True)


async def test_logs_are_json_lines(service: FakeService) -> None:
    """Every line on standard error is one JSON event, and standard output holds the ready line only."""
    async with started_shim("--service", service.address) as shim, httpx.AsyncClient(base_url=shim.url) as client:
        await client.post(CHAT_PATH, json=CHAT)
        await client.get('/"%0a%ff{')
        await client.get("/health")
        shim.signal(signal.SIGTERM)
        output, errors = await shim.process.communicate()
    assert output == b""
    whole, refused = [json.loads(line) for line in errors.splitlines()]
    assert (whole["event"], whole["from"], whole["level"], whole["status"]) == ("request", "shim", "info", 200)
    assert (refused["model"], refused["status"]) == (None, 404)
    # As the service's lines are.
    assert (list(whole)[:2], list(whole)[-2:]) == (["event", "from"], ["level", "timestamp"])


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize(("level", "statuses"), [("debug", [200, 404]), ("info", [404]), ("warning", [])])
async def test_the_level_says_what_is_logged(
    service: FakeService, workers: str, level: str, statuses: list[int]
) -> None:
    """Good health is for those who debug, and a request for those who want more than warnings."""
    flags = ("--service", service.address, "--log-level", level, "--workers", workers)
    async with started_shim(*flags) as shim, httpx.AsyncClient(base_url=shim.url) as client:
        await client.get("/health")
        await client.get("/nothing")
        shim.signal(signal.SIGTERM)
        _, errors = await shim.process.communicate()
    assert [json.loads(line)["status"] for line in errors.splitlines()] == statuses


async def test_a_stream_that_the_drain_cuts_is_logged_with_that(service: FakeService) -> None:
    """It is not taken for a client that has left."""
    block = Block()
    service.script = [started(), block]
    flags = ("--service", service.address, "--drain-s", "0.1")
    async with started_shim(*flags) as shim, httpx.AsyncClient(base_url=shim.url) as client:
        async with client.stream("POST", CHAT_PATH, json=CHAT | {"stream": True}) as response:
            await asyncio.wait_for(block.reached.wait(), TIMEOUT_S)
            shim.signal(signal.SIGTERM)
            with pytest.raises(httpx.TransportError):
                await response.aread()
        _, errors = await shim.process.communicate()
    (line,) = [line for line in map(json.loads, errors.splitlines()) if line["event"] == "request"]
    assert (line["status"], line["finish"], "drain" in line["error"]) == (200, None, True)


@pytest.mark.parametrize("missing", ["uvloop", "fastapi", "structlog", "orjson", "google.rpc"])
async def test_a_thin_install_is_one_line_and_1(missing: str) -> None:
    """Where the libraries of the shim are missing it says how to get them."""
    start = f"import runpy, sys; sys.modules[{missing!r}] = None; runpy.run_module('shim', run_name='__main__')"
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", start, stdout=PIPE, stderr=PIPE)
    output, errors = await process.communicate()
    assert (process.returncode, output) == (1, b"")
    assert errors.decode() == f"shim: {missing} is not installed: pip install '.[shim]'\n"
