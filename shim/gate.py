"""The outermost layer: names every request, counts what runs, refuses what comes while draining, logs."""

import asyncio
import re
import uuid

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from shim.errors import server_error, unavailable
from shim.logs import RequestRecord

_DRAIN_RETRY_S = 5
_VISIBLE_ASCII = re.compile(r"[!-~]{1,128}")
_REQUEST_ID = "x-request-id"


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
        record = RequestRecord(_request_id(scope), scope["method"], scope["path"])
        scope.setdefault("state", {})["record"] = record

        async def recorded(message: Message) -> None:
            if message["type"] == "http.response.start":
                record.status = message["status"]
                # The service's word on the id, where it has one, is in both logs and in the answer.
                record.request_id = MutableHeaders(scope=message).setdefault(_REQUEST_ID, record.request_id)
            await send(message)

        try:
            await self._answer(scope, receive, recorded, record)
        finally:
            record.write()

    async def _answer(self, scope: Scope, receive: Receive, send: Send, record: RequestRecord) -> None:
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


def _request_id(scope: Scope) -> str:
    given = Headers(scope=scope).get(_REQUEST_ID, "")
    return given if _VISIBLE_ASCII.fullmatch(given) else uuid.uuid4().hex
