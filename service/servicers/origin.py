"""Who makes a call, and how long they wait for it."""

import time
from typing import Any

from grpc import aio

from service.errors import InvalidField
from service.types import Origin

CALLER_KEY = "x-mlx-grpc-caller"
"""The metadata that names the caller; the shim's clients are told apart by it."""
MAX_CALLER = 128
"""In characters."""

Context = aio.ServicerContext[Any, Any]


def origin_of(context: Context) -> Origin:
    """Who calls: what the metadata says, else the peer's address without its port. Raises InvalidField."""
    arrived = time.monotonic()
    remaining = context.time_remaining()
    return Origin(
        caller=_named(context) or _peer(context.peer()),
        arrived=arrived,
        deadline=None if remaining is None else arrived + remaining,
    )


def _named(context: Context) -> str:
    name = next((value for key, value in context.invocation_metadata() or () if key == CALLER_KEY), "")
    if not isinstance(name, str) or len(name) > MAX_CALLER or not name.isprintable():
        raise InvalidField(CALLER_KEY, f"must be metadata of at most {MAX_CALLER} printable characters")
    return name


def _peer(address: str) -> str:
    """An address such as `ipv4:10.0.0.1:50123` without its port; all who come over a Unix socket are one."""
    return "unix:" if address.startswith("unix:") else address.rpartition(":")[0]
