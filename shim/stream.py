"""The HTTP response that server-sent events are written to."""

import asyncio
from collections.abc import AsyncIterator, Callable

from sse_starlette import EventSourceResponse
from starlette.types import Message, Receive, Scope, Send

_KEEP_ALIVE = b": keep-alive\n\n"


class StreamResponse(EventSourceResponse):
    """A stream that ends its generation however it ends itself, even before its first event.

    Where nothing was written for `keep_alive_s` seconds it writes a comment, which clients skip; 0 writes none.
    """

    def __init__(self, body: AsyncIterator[bytes], close: Callable[[], None], keep_alive_s: float) -> None:
        super().__init__(body, sep="\n", ping=keep_alive_s)
        del self.headers["connection"]  # whether that is kept is the server's to say
        self._close = close
        self._clock = asyncio.get_running_loop().time
        self._written_at = self._clock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._close()

    async def _send_with_timeout(self, send: Send, message: Message) -> None:
        """Send as it is: the connection has the timeout, and the scope that one takes costs as much as a chunk."""
        await send(message)
        self._written_at = self._clock()

    async def _ping(self, send: Send) -> None:
        while self.active:
            quiet = self._clock() - self._written_at
            if quiet < self.ping_interval:
                await asyncio.sleep(self.ping_interval - quiet)
                continue
            async with self._send_lock:
                if self.active:
                    await self._send_with_timeout(
                        send, {"type": "http.response.body", "body": _KEEP_ALIVE, "more_body": True}
                    )
