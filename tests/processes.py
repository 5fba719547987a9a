"""The service as its users start it: a process of its own, on a free port."""

import asyncio
import contextlib
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

START_S = 60.0
STOP_S = 20.0
READY = "service ready on "


class ServiceProcess:
    """A running `python -m service`, or one that has ended. Leaving its `with` block ends it."""

    def __init__(self, flags: Sequence[str], env: Mapping[str, str] | None = None) -> None:
        """Start it and wait for the line that says it is ready. `env` is added to the environment."""
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed in `stop`
        self.process = subprocess.Popen(
            [sys.executable, "-m", "service", *flags],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env={**os.environ, **(env or {})},
        )
        try:
            self.line = self._ready_line()
        except BaseException:
            self.stop()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @classmethod
    async def start(cls, *flags: str, env: Mapping[str, str] | None = None) -> "ServiceProcess":
        """As the constructor, for use on an event loop."""
        return await asyncio.to_thread(cls, flags, env)

    @property
    def addresses(self) -> list[str]:
        """Those that it listens on, as it said itself."""
        return self.line.removeprefix(READY).rpartition(" (")[0].split(", ")

    @property
    def address(self) -> str:
        """The first of its addresses."""
        return self.addresses[0]

    @property
    def errors(self) -> str:
        """What it has written on standard error so far."""
        return os.pread(self._errors.fileno(), 1 << 24, 0).decode()

    @property
    def engines(self) -> list[psutil.Process]:
        """Its engine processes, the oldest first."""
        children = psutil.Process(self.process.pid).children()
        return sorted(
            (child for child in children if "service.engine" in child.cmdline()), key=lambda child: child.create_time()
        )

    def signal(self, number: int) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    async def exit_code(self) -> int:
        """Wait for its end."""
        return await asyncio.to_thread(self.process.wait, STOP_S)

    def stop(self) -> None:
        """End it, and the engines that it leaves behind where it has to be killed."""
        if self.process.poll() is None:
            engines = self.engines
            if self._is_hung():
                self.process.kill()
            for engine in engines:
                if engine.is_running():
                    engine.kill()
        self.process.wait(STOP_S)
        if self.process.stdout is not None:
            self.process.stdout.close()
        self._errors.close()

    def _is_hung(self) -> bool:
        """Ask it to end; whether it does not."""
        self.process.send_signal(signal.SIGTERM)
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(2)
        except subprocess.TimeoutExpired:
            return True
        return False

    def _ready_line(self) -> str:
        assert self.process.stdout is not None
        deadline = time.monotonic() + START_S
        line = b""
        while not line.endswith(b"\n"):
            if not select.select([self.process.stdout], [], [], max(0, deadline - time.monotonic()))[0]:
                raise AssertionError(f"the service was not ready in {START_S} s:\n{self.errors}")
            data = os.read(self.process.stdout.fileno(), 1 << 12)
            if not data:
                raise AssertionError(f"the service ended, exit code {self.process.wait(STOP_S)}:\n{self.errors}")
            line += data
        return line.decode().strip()


def model_flags(models: Mapping[str, Path]) -> list[str]:
    """Flags for models by their names."""
    return [part for name, folder in models.items() for part in ("--model", f"{name}={folder}")]


@contextlib.asynccontextmanager
async def starting(*flags: str, env: Mapping[str, str] | None = None) -> AsyncIterator[asyncio.subprocess.Process]:
    """Start a service without waiting until it is ready. Leaving the block ends it, and what it has started."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "service", *flags),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, **(env or {})},
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            for child in psutil.Process(process.pid).children(recursive=True):
                child.kill()
            process.kill()
            await process.communicate()


async def child_of(process: asyncio.subprocess.Process, module: str) -> psutil.Process:
    """Wait until a service has started `python -m module`."""
    async with asyncio.timeout(START_S):
        while True:
            for child in psutil.Process(process.pid).children():
                with contextlib.suppress(psutil.Error):
                    if module in child.cmdline():
                        return child
            await asyncio.sleep(0.01)


async def run_to_end(*flags: str, env: Mapping[str, str] | None = None) -> tuple[int, str]:
    """Run a service that is expected to fail; its exit code and standard error."""
    async with starting(*flags, env=env) as process:
        _, errors = await asyncio.wait_for(process.communicate(), START_S)
    assert process.returncode is not None
    return process.returncode, errors.decode()
