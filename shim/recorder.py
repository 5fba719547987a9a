"""The outermost layer: names every request, and logs it."""

import asyncio
import re
import uuid

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from shim.logs import RequestRecord

REQUEST_ID = "x-request-id"
_VISIBLE_ASCII = re.compile(r"[!-~]{1,128}")


class Recorder:
    """ASGI middleware that gives each request a RequestRecord, and each answer its id."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and write its line when it is over."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        record = RequestRecord(_request_id(scope), scope["method"], scope["path"])
        scope.setdefault("state", {})["record"] = record

        ended = False

        async def recorded(message: Message) -> None:
            nonlocal ended
            if message["type"] == "http.response.start":
                record.status = message["status"]
                # The service's word on the id, where it has one, is in both logs and in the answer.
                record.request_id = MutableHeaders(scope=message).setdefault(REQUEST_ID, record.request_id)
            elif message["type"] == "http.response.body":
                ended = not message.get("more_body", False)
            await send(message)

        try:
            await self._app(scope, receive, recorded)
            if not ended:
                record.leave()
        except asyncio.CancelledError:
            record.error = record.error or "cut at the end of the drain time"
            raise
        finally:
            record.write()


def _request_id(scope: Scope) -> str:
    given = Headers(scope=scope).get(REQUEST_ID, "")
    return given if _VISIBLE_ASCII.fullmatch(given) else uuid.uuid4().hex
