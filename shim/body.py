"""Reads a request's body as strict JSON, within a bound."""

import orjson
from starlette.requests import ClientDisconnect, Request

from shim.errors import ClientGoneError, bad_request, too_large


async def read_object(request: Request, limit: int) -> dict[str, object]:
    """Read a JSON object of at most `limit` bytes.

    Raises ApiError: 413 as soon as the body is known to be larger, 400 for what is not strict JSON
    (not UTF-8, NaN, numbers beyond a double, nesting beyond 1024) or not an object. Raises
    ClientGoneError where the client leaves before its body is complete.
    """
    try:
        value = orjson.loads(await _read(request, limit))
    except orjson.JSONDecodeError as error:
        raise bad_request(f"The request body is not valid JSON: {error}.", None) from error
    if not isinstance(value, dict):
        raise bad_request("The request body must be a JSON object.", None)
    return value


async def _read(request: Request, limit: int) -> bytes:
    declared = request.headers.get("content-length", "")
    if declared.isascii() and declared.isdigit() and int(declared) > limit:
        raise too_large(limit)
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > limit:
                raise too_large(limit)
    except ClientDisconnect as error:
        raise ClientGoneError from error
    return bytes(body)
