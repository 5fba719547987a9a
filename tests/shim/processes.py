"""The shim as its users start it: a process of its own."""

import asyncio
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import psutil

START_S = 20.0


@dataclass
class ShimProcess:
    """A running `python -m shim`."""

    process: Process
    url: str

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    async def exit_code(self) -> int:
        return await asyncio.wait_for(self.process.wait(), START_S)


def command(*flags: str) -> tuple[str, ...]:
    return (sys.executable, "-m", "shim", *flags)


@asynccontextmanager
async def started_shim(*flags: str) -> AsyncIterator[ShimProcess]:
    """Start the shim on a free port and wait for its line."""
    process = await asyncio.create_subprocess_exec(
        *command("--listen", "127.0.0.1:0", *flags), stdout=PIPE, stderr=PIPE
    )
    assert process.stdout is not None
    try:
        line = (await asyncio.wait_for(process.stdout.readline(), START_S)).decode()
        assert line.startswith("shim ready on http://127.0.0.1:")
        yield ShimProcess(process, line.split()[-1])
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def run_to_end(*flags: str) -> tuple[int, str]:
    """Run a shim that is expected to fail; its exit code and standard error."""
    process = await asyncio.create_subprocess_exec(*command(*flags), stdout=PIPE, stderr=PIPE)
    _, errors = await asyncio.wait_for(process.communicate(), START_S)
    assert process.returncode is not None
    return process.returncode, errors.decode()


def children(pid: int) -> list[int]:
    """Find the workers of a parent."""
    return [child.pid for child in psutil.Process(pid).children() if _is_worker(child)]


def _is_worker(child: psutil.Process) -> bool:
    try:
        return "shim.worker" in child.cmdline()
    except (psutil.NoSuchProcess, psutil.ZombieProcess):  # it is dead, and its parent has not noticed yet
        return False
