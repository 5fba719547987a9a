"""Counts what runs, refuses what comes while draining, and answers for bugs."""

import asyncio

from starlette.types import ASGIApp, Receive, Scope, Send

from shim.errors import server_error, unavailable
from shim.logs import record_in

_DRAIN_RETRY_S = 5


class Lifecycle:
    """Whether requests are taken, and how many run."""

    def __init__(self) -> None:
        self.draining = False
        self._running = 0
        self._idle = asyncio.Event()
        self._idle.set()

    def drain(self) -> None:
        """Take nothing new from now on."""
        self.draining = True

    async def idle(self) -> None:
        """Wait until no request runs."""
        await self._idle.wait()

    def enter(self) -> None:
        """Count one request more."""
        self._running += 1
        self._idle.clear()

    def leave(self) -> None:
        """Count one request less."""
        self._running -= 1
        if not self._running:
            self._idle.set()


class Gate:
    """ASGI middleware that holds a Lifecycle."""

    def __init__(self, app: ASGIApp, lifecycle: Lifecycle) -> None:
        self._app = app
        self._lifecycle = lifecycle

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it while draining."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        record = record_in(scope)
        if self._lifecycle.draining:
            refusal = unavailable("The server is shutting down. Try again later.", _DRAIN_RETRY_S)
            refusal.headers["connection"] = "close"
            record.error = refusal.message
            await refusal.response()(scope, receive, send)
            return
        self._lifecycle.enter()
        try:
            await self._app(scope, receive, send)
        except Exception:
            # A bug. Its answer needs the id and its line the error; the server logs the traceback.
            error = server_error()
            record.error = error.message
            if record.status is None:
                await error.response()(scope, receive, send)
            raise
        finally:
            self._lifecycle.leave()
