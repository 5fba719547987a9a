"""Work that would hold up the event loop, and with it every stream, is done in a thread."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

from google.protobuf.message import Message

Result = TypeVar("Result")

_SMALL = 4 << 10
"""Bytes of a request that is tokenized faster than a thread is woken."""


async def aside(request: Message, work: Callable[[], Result]) -> Result:
    """The result of `work`, whose time grows with the size of `request`."""
    return work() if request.ByteSize() <= _SMALL else await asyncio.to_thread(work)
