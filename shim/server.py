"""Runs the app on a bound socket until a signal has drained it."""

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Callable, Iterator

import uvicorn
from fastapi import FastAPI

from shim.app import create_app
from shim.config import Address, Config
from shim.gate import Lifecycle
from shim.protocol import Limits, bounded

SIGNALS = (signal.SIGTERM, signal.SIGINT)
_KEEP_ALIVE_S = 65
_CUT_S = 1  # for what still runs when the drain is over to be cancelled and end


def bind(address: Address) -> socket.socket:
    """Bind the listening socket, without listening yet; OSError where that cannot be."""
    found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, kind, protocol, _, where = found[0]
    bound = socket.socket(family, kind, protocol)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(where)
    except OSError:
        bound.close()
        raise
    return bound


def ready_line(config: Config, bound: socket.socket) -> str:
    """Say where the shim takes calls, with the real port."""
    return f"shim ready on http://{Address(config.address.host, bound.getsockname()[1])}"


def settings_for(app: FastAPI, config: Config) -> uvicorn.Config:
    """Say how uvicorn serves the app."""
    return uvicorn.Config(
        app,
        http=bounded(Limits(_KEEP_ALIVE_S, config.head_timeout_s, config.write_timeout_s)),
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=_CUT_S,
    )


class Server(uvicorn.Server):
    """uvicorn, with the signals left to us: its own way closes the socket first and ends with 143."""

    def __init__(self, config: uvicorn.Config, on_ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_ready()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class _Drain:
    """Ends the server once what runs has finished; a second signal ends the process at once."""

    def __init__(self, server: uvicorn.Server, lifecycle: Lifecycle, longest_s: float) -> None:
        self._server = server
        self._lifecycle = lifecycle
        self._longest_s = longest_s
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start draining, if that has not begun."""
        self._lifecycle.drain()
        self._task = self._task or asyncio.create_task(self._run())

    def on_signal(self, number: int) -> None:
        """Take a signal."""
        if self._task is not None:
            os._exit(128 + number)
        self.start()

    async def _run(self) -> None:
        # The socket stays open meanwhile, so that new requests are told 503.
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._lifecycle.idle(), self._longest_s)
        self._server.should_exit = True


async def serve(
    config: Config, bound: socket.socket, on_ready: Callable[[], None], stop: asyncio.Event | None = None
) -> None:
    """Serve on the socket until SIGTERM, SIGINT or `stop`, and then until what runs has finished."""
    app = create_app(config)
    server = Server(settings_for(app, config), on_ready)
    drain = _Drain(server, app.state.lifecycle, config.drain_s)
    loop = asyncio.get_running_loop()
    for number in SIGNALS:
        loop.add_signal_handler(number, drain.on_signal, number)
    stopping = asyncio.create_task(_when(stop, drain.start)) if stop else None
    try:
        await server.serve(sockets=[bound])
    finally:
        if stopping:
            stopping.cancel()


async def _when(event: asyncio.Event, then: Callable[[], None]) -> None:
    await event.wait()
    then()
