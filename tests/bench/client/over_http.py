"""Streaming completions over HTTP whose bytes are read after the time has been taken, the same for any server."""

import asyncio
import bisect
import json
import time
from collections.abc import Sequence
from itertools import accumulate
from typing import Any, Self

from tests.bench.client.answer import Answer

_DATA, _DONE = b"data: ", b"[DONE]"
_RETRY_S = 0.005

Body = dict[str, Any]


def completion(model: str, prompt: list[int] | str, tokens: int) -> Body:
    """The body of a greedy streaming request, for a server of OpenAI's kind."""
    return {
        "model": model,
        "prompt": prompt,
        "max_tokens": tokens,
        "temperature": 0,
        "ignore_eos": True,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


class _HttpCall(asyncio.Protocol):
    """One request on a connection of its own."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._times: list[float] = []
        self.closed = asyncio.Event()

    def data_received(self, data: bytes) -> None:
        self._times.append(time.perf_counter())
        self._pieces.append(data)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the protocol's name
        self.closed.set()

    def lines(self) -> list[tuple[float, bytes]]:
        """When the end of each line came, and the line."""
        lines = b"".join(self._pieces).splitlines(keepends=True)
        received = list(accumulate(map(len, self._pieces)))
        return [
            (self._times[bisect.bisect_left(received, end)], line.strip())
            for end, line in zip(accumulate(map(len, lines)), lines, strict=True)
        ]


class HttpClient:
    """A server's completions at HOST:PORT."""

    def __init__(self, address: str) -> None:
        self._host, _, self._port = address.rpartition(":")

    @classmethod
    def of_url(cls, url: str) -> Self:
        """One for http://HOST:PORT."""
        return cls(url.removeprefix("http://").rstrip("/"))

    async def answer(self, body: Body) -> Answer:
        """Make a request and read its answer to the end. Raises AssertionError where it is no whole answer."""
        head = f"POST /v1/completions HTTP/1.1\r\nHost: {self._host}\r\nContent-Type: application/json\r\n"
        content = json.dumps(body).encode()
        head += f"Content-Length: {len(content)}\r\nConnection: close\r\n\r\n"
        sent = time.perf_counter()
        transport, call = await asyncio.get_running_loop().create_connection(_HttpCall, self._host, int(self._port))
        try:
            transport.write(head.encode() + content)
            await call.closed.wait()
        finally:
            transport.close()
        return _answer(sent, call.lines())

    async def answers(self, bodies: Sequence[Body]) -> list[Answer]:
        """Make requests at once and read all answers to their ends."""
        return list(await asyncio.gather(*map(self.answer, bodies)))

    async def listening(self) -> None:
        """Wait until somebody listens."""
        while True:
            try:
                _, writer = await asyncio.open_connection(self._host, int(self._port))
            except OSError:
                await asyncio.sleep(_RETRY_S)
            else:
                writer.close()
                return


def _answer(sent: float, lines: list[tuple[float, bytes]]) -> Answer:
    events = [(at, line.removeprefix(_DATA)) for at, line in lines if line.startswith(_DATA)]
    assert events, f"no events, but {lines}"
    end, last = events.pop()
    assert last == _DONE, last
    texts, tokens = [], 0
    for at, event in events:
        chunk = json.loads(event)
        tokens = (chunk.get("usage") or {}).get("completion_tokens", tokens)
        if any(choice.get("text") for choice in chunk["choices"]):
            texts.append(at)
    return Answer(sent, texts, end, tokens)
