"""Work that stops when its client goes away."""

import asyncio
from collections.abc import Coroutine
from typing import TypeVar

from starlette.requests import Request

from shim.errors import ClientGoneError

T = TypeVar("T")


async def unless_gone(request: Request, work: Coroutine[None, None, T]) -> T:
    """Do the work, cancelling it and raising ClientGoneError where the client closes its connection first.

    The request's body has to be read before.
    """
    doing = asyncio.ensure_future(work)
    watching = asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait({doing, watching}, return_when=asyncio.FIRST_COMPLETED)
        if not doing.done():
            raise ClientGoneError
        return doing.result()
    finally:
        doing.cancel()
        watching.cancel()
        # The work's own cleanup is part of stopping it.
        await asyncio.wait({doing, watching})


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
