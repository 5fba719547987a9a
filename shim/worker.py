"""One worker process: serves on an inherited socket until it is told to stop, or its parent is gone.

Started as `python -m shim.worker FD`. The first line of its standard input is its Config as JSON, and the
end of that input means that the parent is gone. It prints one line when it takes calls.
"""

import asyncio
import socket
import sys
from functools import partial

import orjson
import uvloop

import shim.grpc_core  # noqa: F401 - before all that imports grpc
from shim import logs
from shim.config import Config
from shim.server import ready_line, serve


def encode(config: Config) -> bytes:
    """Write a Config as the line that a worker reads."""
    return orjson.dumps(config) + b"\n"


def decode(line: bytes) -> Config:
    """Read that line."""
    fields = orjson.loads(line)
    lists = {name: tuple(value) for name, value in fields.items() if isinstance(value, list)}
    return Config(**(fields | lists))


async def main(descriptor: int) -> None:
    """Serve on the socket with this file descriptor."""
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    config = decode(await reader.readline())
    logs.configure(config.log_level)
    orphaned = asyncio.Event()
    watch = asyncio.create_task(_watch(reader, orphaned))
    bound = socket.socket(fileno=descriptor)
    await serve(config, bound, partial(print, ready_line(config, bound), flush=True), orphaned)
    watch.cancel()


async def _watch(parent: asyncio.StreamReader, orphaned: asyncio.Event) -> None:
    await parent.read()
    orphaned.set()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
