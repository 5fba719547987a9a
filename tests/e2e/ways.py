"""One chat request by all ways: HTTP whole, HTTP streamed, gRPC."""

import asyncio

import httpx
from grpc import aio

from tests.e2e.seen import CHAT, Json, Seen, ask, call, stream
from tests.e2e.wires import chat_json


async def all_ways(http: httpx.AsyncClient, channel: aio.Channel, request: Json) -> tuple[Seen, Seen, Seen]:
    """Ask over HTTP, whole and streamed, and over gRPC, all at the same time."""
    return await asyncio.gather(
        ask(http, CHAT, request), stream(http, CHAT, request), call(channel, chat_json(request))
    )
