"""uvicorn's side of a connection, with the bounds that it lacks: for slow heads, and for clients that do not read."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, ClassVar

import orjson
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from shim.errors import ApiError

_MAX_HEAD_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """How long a connection is kept for a client that does nothing, in seconds."""

    keep_alive_s: float
    """Between an answer and the next request."""
    head_s: float
    """For the head of a request to arrive, from its first byte or from the connection on."""
    write_s: float
    """For a client to read on, once the buffers between it and the shim are full."""


class _Countdown:
    """Calls back when a while is over, unless it is stopped before."""

    def __init__(self, loop: asyncio.AbstractEventLoop, callback: Callable[[], None]) -> None:
        self._loop = loop
        self._callback = callback
        self._handle: asyncio.TimerHandle | None = None

    def start(self, seconds: float) -> None:
        self.stop()
        self._handle = self._loop.call_later(seconds, self._callback)

    def stop(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None


class Protocol(HttpToolsProtocol):
    """One connection; to be derived from, with limits."""

    limits: ClassVar[Limits]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._reading = _Countdown(self.loop, self._cut)
        self._writing = _Countdown(self.loop, self._cut)
        self._in_head = True
        self._head_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._reading.start(self.limits.head_s)

    def connection_lost(self, exc: Exception | None) -> None:
        self._reading.stop()
        self._writing.stop()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        began_in_head = self._in_head
        super().data_received(data)
        self._head_bytes = self._head_bytes + len(data) if began_in_head and self._in_head else 0
        if self._head_bytes > _MAX_HEAD_BYTES and not self.transport.is_closing():
            self._refuse(ApiError(431, f"The head of the request is larger than {_MAX_HEAD_BYTES} bytes."))

    def on_message_begin(self) -> None:
        self._in_head = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._reading.stop()
        super().on_headers_complete()

    def on_response_complete(self) -> None:
        has_next = bool(self.pipeline)
        super().on_response_complete()
        if not has_next:
            # uvicorn's own wait ends with the next byte, be it of a body that nobody reads any more.
            self._reading.start(self.limits.keep_alive_s + self.limits.head_s)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._writing.start(self.limits.write_s)

    def resume_writing(self) -> None:
        self._writing.stop()
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - uvicorn's words
        self._refuse(ApiError(400, "This is not a valid HTTP request."))

    def _is_answering(self) -> bool:
        """Whether an answer is on its way, or due to a request that came whole."""
        cycle = self.cycle
        if cycle is None or cycle.response_complete:
            return False
        return bool(cycle.response_started) or not cycle.more_body

    def _cut(self) -> None:
        self.transport.abort()

    def _refuse(self, error: ApiError) -> None:
        """Answer what never became a request, and close."""
        if self._is_answering():
            self.transport.close()  # which this would be read as a part of
            return
        if self.cycle is not None:
            self.cycle.disconnected = True  # so that what waits for the rest of the body has no answer of its own
        body = orjson.dumps(error.body)
        status = HTTPStatus(error.status)
        head = (
            f"HTTP/1.1 {status.value} {status.phrase}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()


def bounded(limits: Limits) -> type[Protocol]:
    """Make the class of connections with these limits, as uvicorn takes it."""
    return type("Bounded", (Protocol,), {"limits": limits})
