"""The service and the shim as one program, which is what `make run` runs."""

import asyncio
import signal
import socket
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import httpx
import psutil
import pytest

START_S = 60
Start = Callable[..., Awaitable[Process]]


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    """Start stacks that end with the test."""
    started: list[Process] = []

    async def start(*flags: str) -> Process:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "service.stack", *flags, stdout=PIPE, stderr=PIPE
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.returncode is None:
            process.terminate()
        await asyncio.wait_for(process.communicate(), START_S)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture
def flags(tiny_model: Path, tmp_path: Path) -> list[str]:
    """Give flags for both, on ports that were free."""
    address = f"127.0.0.1:{free_port()}"
    service = ["--listen", address, "--model", f"tiny={tiny_model}", "--cache-dir", str(tmp_path)]
    return [*service, "--", "--listen", "127.0.0.1:0", "--service", address]


async def url_of(stack: Process) -> str:
    """Read both ready lines; the shim's URL."""
    assert stack.stdout is not None
    lines = [(await asyncio.wait_for(stack.stdout.readline(), START_S)).decode() for _ in range(2)]
    assert lines[0].startswith("service ready on ")
    assert lines[1].startswith("shim ready on ")
    return lines[1].split()[-1]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_both_serve_until_a_signal_comes(start: Start, flags: list[str], number: int) -> None:
    """Both ready lines come in order, the shim reaches the service, and a signal ends both with exit code 0."""
    stack = await start(*flags)
    url = await url_of(stack)
    async with httpx.AsyncClient(base_url=url) as client:
        assert (await client.get("/health")).status_code == 200
    children = psutil.Process(stack.pid).children(recursive=True)
    stack.send_signal(number)
    assert await asyncio.wait_for(stack.wait(), START_S) == 0
    assert not psutil.wait_procs(children, timeout=5)[1]


@pytest.mark.parametrize(
    ("wrong", "code"), [(["--model", "a=/no/such/folder"], 1), (["--bogus"], 2)], ids=["model", "flag"]
)
async def test_a_service_that_cannot_start_ends_it(start: Start, wrong: list[str], code: int) -> None:
    """The exit code is the service's, and no shim is left."""
    stack = await start("--listen", "127.0.0.1:0", *wrong, "--", "--listen", "127.0.0.1:0")
    assert await asyncio.wait_for(stack.wait(), START_S) == code


async def test_a_shim_that_cannot_start_ends_it(start: Start, flags: list[str]) -> None:
    """A taken port is the shim's failure, and the service goes with it."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        stack = await start(*flags, "--listen", f"127.0.0.1:{port}")
        assert await asyncio.wait_for(stack.wait(), START_S) == 1


async def test_a_service_that_dies_ends_it(start: Start, flags: list[str]) -> None:
    """What is left would be of no use."""
    stack = await start(*flags)
    await url_of(stack)
    [service] = [c for c in psutil.Process(stack.pid).children() if c.cmdline()[1:3] == ["-m", "service"]]
    service.kill()
    assert await asyncio.wait_for(stack.wait(), START_S) != 0


async def test_the_shim_finds_the_service_on_any_port(start: Start, tiny_model: Path, tmp_path: Path) -> None:
    """It is pointed to the address that the service names when it is ready."""
    flags = ["--listen", "127.0.0.1:0", "--model", f"tiny={tiny_model}", "--cache-dir", str(tmp_path)]
    stack = await start(*flags, "--", "--listen", "127.0.0.1:0")
    url = await url_of(stack)
    async with httpx.AsyncClient(base_url=url) as client:
        assert (await client.get("/v1/models")).json()["data"][0]["id"] == "tiny"


async def test_help_starts_nothing(start: Start) -> None:
    """The service's help is all there is, and the exit code is its own."""
    stack = await start("--help")
    printed, _ = await asyncio.wait_for(stack.communicate(), START_S)
    assert b"--model" in printed
    assert b"ready on" not in printed
    assert stack.returncode == 0
