"""Reads a request's body as strict JSON, within a bound."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from http import HTTPStatus

import orjson
from starlette.requests import ClientDisconnect, Request

from shim.config import Config
from shim.errors import ApiError, ClientGoneError, bad_request, too_large, too_slow

_IDENTITY = "identity"
_DISCARD_BYTES = 64 * 1024 * 1024
_DISCARD_S = 10.0


async def read_object(request: Request, config: Config) -> dict[str, object]:
    """Read a JSON object of at most `max_body_bytes` that arrives within `body_timeout_s`.

    Raises ApiError: 415 for a body that is compressed, 413 for one that is larger, as soon as that is known
    and can be told, 408 for one that does not arrive in time, 400 for what is not strict JSON (not UTF-8, NaN,
    numbers beyond a double, nesting beyond 1024) or not an object. Raises ClientGoneError where the client
    leaves before its body is complete.
    """
    encoding = request.headers.get("content-encoding", _IDENTITY)
    if encoding.lower() != _IDENTITY:
        raise ApiError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"A content-encoding of {encoding} is not supported.")
    try:
        async with asyncio.timeout(config.body_timeout_s):
            body = await _read(request, config.max_body_bytes)
    except TimeoutError as error:
        raise too_slow(config.body_timeout_s) from error
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise bad_request(f"The request body is not valid JSON: {error}.", None) from error
    if not isinstance(value, dict):
        raise bad_request("The request body must be a JSON object.", None)
    return value


async def _read(request: Request, limit: int) -> bytes:
    length = request.headers.get("content-length", "")
    declared = int(length) if length.isascii() and length.isdigit() else 0
    body = bytearray()
    chunks = request.stream()
    try:
        if declared > limit:
            # Who waits for "100 Continue" has sent nothing that would have to be read.
            if declared <= _DISCARD_BYTES and "expect" not in request.headers:
                await _discard(request, chunks)
            raise too_large(limit)
        async for chunk in chunks:
            body += chunk
            if len(body) > limit:
                await _discard(request, chunks)
                raise too_large(limit)
    except ClientDisconnect as error:
        raise ClientGoneError from error
    return bytes(body)


async def _discard(request: Request, chunks: AsyncIterator[bytes]) -> None:
    """Read what else the client sends, within bounds, where the connection is closed after the answer.

    Closing with unread data resets the connection, and the client may lose the answer. What comes on one
    that is kept open, the server reads by itself.
    """
    connection = request.headers.get("connection", "").lower()
    if request.scope["http_version"] != "1.0" and "close" not in connection:
        return
    left = _DISCARD_BYTES
    with suppress(TimeoutError):
        async with asyncio.timeout(_DISCARD_S):
            async for chunk in chunks:
                left -= len(chunk)
                if left < 0:
                    return
