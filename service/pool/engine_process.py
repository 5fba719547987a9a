"""The parent's side of an engine: a child process and the socket to it."""

import asyncio
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from typing import cast

from service.engine.frames import Command, Event, Shutdown, Unpacker, events, pack
from service.pool.courtesy import NONE, Courtesy

_STOP_S = 5.0
"""How long a process may take to end by itself."""
_POLL_S = 0.01


class EngineProcess(asyncio.Protocol):
    """A running `python -m service.engine`. `lost` is done once nothing more will come from it."""

    def __init__(self, process: subprocess.Popen[bytes], receive: Callable[[Event], None]) -> None:
        """`process` has the other end; `receive` is called with each event, one after the other."""
        self._receive = receive
        self._unpacker = Unpacker()
        self._transport: asyncio.WriteTransport | None = None
        self._process = process
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @classmethod
    async def start(
        cls, environment: Mapping[str, str], receive: Callable[[Event], None], courtesy: Courtesy = NONE
    ) -> "EngineProcess":
        """Start a process, which yields to others until it is told to load a model.

        Raises OSError where the machine has none to give.
        """
        ours, theirs = socket.socketpair()
        process = None
        try:
            with theirs:
                process = _spawn(theirs, environment, courtesy)
            ours.setblocking(False)
            _, engine = await asyncio.get_running_loop().create_connection(lambda: cls(process, receive), sock=ours)
        except BaseException:  # a cancelled start too leaves nothing behind
            ours.close()
            if process is not None:
                process.kill()
                process.wait()
            raise
        return engine

    @property
    def pid(self) -> int:
        """The child's process id."""
        return self._process.pid

    def send(self, command: Command) -> None:
        """Send a command; one to a lost process goes nowhere."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(pack(command))

    async def stop(self) -> int:
        """End the process, by force if it does not end by itself; its exit code, negative for a signal.

        One that nobody waits for any more is ended at once: it would outlive the service if it hung.
        """
        self.send(Shutdown())
        try:
            async with asyncio.timeout(_STOP_S):
                return await self._ended()
        except TimeoutError:
            self.kill()
            return await self._ended()
        finally:
            if self._process.poll() is None:
                self.kill()
                threading.Thread(target=self._process.wait, daemon=True).start()  # else it would stay as a zombie
            if self._transport is not None:
                self._transport.close()

    def kill(self) -> None:
        """End the process at once."""
        self._process.kill()

    async def _ended(self) -> int:
        while (code := self._process.poll()) is None:  # noqa: ASYNC110 - no event tells of it on every system
            await asyncio.sleep(_POLL_S)
        return code

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        self._transport = cast(asyncio.WriteTransport, transport)  # as a stream socket's is; uvloop's has no such base

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        for body in self._unpacker.feed(data):
            self._receive(events.decode(body))

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the protocol's signature
        """See asyncio.Protocol."""
        if not self.lost.done():
            self.lost.set_result(None)


def _spawn(theirs: socket.socket, environment: Mapping[str, str], courtesy: Courtesy) -> subprocess.Popen[bytes]:
    """Not by the loop: uvloop forks, which holds all streams up until the memory is copied; this does not."""
    options = ["--background", str(courtesy.background_s), "--paced", str(courtesy.paced_s)]
    return subprocess.Popen(  # noqa: S603 - our own program
        [sys.executable, "-m", "service.engine", "--fd", str(theirs.fileno()), *options],
        pass_fds=[theirs.fileno()],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr,  # standard output says only when the service is ready
    )
