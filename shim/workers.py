"""The parent of several workers: binds the socket once, starts the workers, and starts dead ones again."""

import asyncio
import contextlib
import os
import signal
import socket
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable

from shim.config import Config
from shim.logs import log
from shim.server import SIGNALS
from shim.worker import encode

_RESTART_S = (0.1, 5.0)  # first and longest pause before a worker that died is started again


class WorkerError(Exception):
    """The workers cannot be started."""


class Supervisor:
    """Keeps `config.workers` processes serving on one socket."""

    def __init__(self, config: Config, bound: socket.socket) -> None:
        self._config = config
        self._bound = bound
        self._workers: dict[int, Process] = {}
        self._draining = asyncio.Event()

    async def run(self, on_ready: Callable[[], None]) -> None:
        """Serve until SIGTERM or SIGINT and the drain after it; WorkerError where no worker comes up."""
        loop = asyncio.get_running_loop()
        for number in SIGNALS:
            loop.add_signal_handler(number, self._on_signal, number)
        slots = range(self._config.workers)
        started = await asyncio.gather(*(self._start(slot) for slot in slots))
        if self._draining.is_set() or not all(started):
            self._stop(signal.SIGTERM)
            await asyncio.gather(*(worker.wait() for worker in self._workers.values()))
            if not self._draining.is_set():
                raise WorkerError("a worker ended before it took calls")
            return
        on_ready()
        await asyncio.gather(*(self._keep(slot) for slot in slots))

    def _on_signal(self, number: int) -> None:
        if self._draining.is_set():
            self._stop(signal.SIGKILL)
            os._exit(128 + number)
        self._draining.set()
        self._bound.close()  # the workers hold it open for as long as they need it
        self._stop(signal.SIGTERM)

    def _stop(self, number: signal.Signals) -> None:
        for worker in self._workers.values():
            if worker.returncode is None:
                worker.send_signal(number)

    async def _keep(self, slot: int) -> None:
        first, longest = _RESTART_S
        pause = first
        while True:
            worker = self._workers[slot]
            code = await worker.wait()
            if self._draining.is_set():
                return
            log.warning("worker died", pid=worker.pid, exit_code=code, restart_s=pause)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._draining.wait(), pause)
                return
            pause = first if await self._start(slot) else min(pause * 2, longest)

    async def _start(self, slot: int) -> bool:
        """Start a worker; whether it takes calls."""
        if self._draining.is_set():  # the socket is closed
            return False
        descriptor = self._bound.fileno()
        worker = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "shim.worker", str(descriptor)),
            stdin=PIPE,
            stdout=PIPE,
            pass_fds=[descriptor],
            # A terminal sends its signals to the whole group; the parent passes them on, once.
            start_new_session=True,
        )
        self._workers[slot] = worker
        if self._draining.is_set():
            worker.terminate()
        assert worker.stdin is not None  # noqa: S101 - as asked for above
        assert worker.stdout is not None  # noqa: S101 - as asked for above
        worker.stdin.write(encode(self._config))
        return bool(await worker.stdout.readline())
