"""Request bodies that are not what they should be, over a real socket."""

import asyncio
import http.client
from collections.abc import AsyncIterator
from contextlib import closing

import httpx
import pytest

from tests.shim.fakes import TIMEOUT_S, FakeService, Shim

LIMIT = 1024 * 1024
GOOD = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}]}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"not json",
        b'"text"',
        b"[]",
        b"null",
        b'{"model": "\xff"}',
        b'{"model": "\\ud800"}',
        b'{"model": "tiny", "temperature": NaN}',
        b'{"model": "tiny", "temperature": Infinity}',
        b'{"model": "tiny", "temperature": -Infinity}',
        b'{"model": "tiny", "temperature": 1e999}',
        b'{"model": ' + b"[" * 10_000 + b"]" * 10_000 + b"}",
        b'{"model": ' + b'{"a":' * 10_000 + b"1" + b"}" * 10_000 + b"}",
    ],
    ids=range(14),
)
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
async def test_what_is_not_a_strict_json_object_is_refused(
    http: httpx.AsyncClient, service: FakeService, path: str, body: bytes
) -> None:
    """Bad JSON is a 400 with OpenAI's error object, reaches no service, and spoils nothing."""
    response = await http.post(path, content=body)
    assert response.status_code == 400
    assert response.json()["error"]["type"] == "invalid_request_error"
    assert service.requests == []
    assert (await http.post("/v1/chat/completions", json=GOOD)).status_code == 200


async def test_a_compressed_body_is_named_as_such(http: httpx.AsyncClient, service: FakeService) -> None:
    """It is a 415 and no riddle about UTF-8, and a body that says it is not compressed is read."""
    response = await http.post("/v1/chat/completions", content=b"\x1f\x8b", headers={"content-encoding": "gzip"})
    assert (response.status_code, response.json()["error"]["type"]) == (415, "invalid_request_error")
    assert "gzip" in response.json()["error"]["message"]
    assert service.requests == []
    plain = await http.post("/v1/chat/completions", json=GOOD, headers={"content-encoding": "Identity"})
    assert plain.status_code == 200


async def test_a_body_over_the_limit_is_413(http: httpx.AsyncClient, service: FakeService) -> None:
    """A body that declares too large a size is refused."""
    response = await http.post("/v1/chat/completions", content=b"x" * (LIMIT + 1))
    assert (response.status_code, response.json()["error"]["type"]) == (413, "invalid_request_error")
    assert service.requests == []


async def test_a_chunked_body_over_the_limit_is_413(http: httpx.AsyncClient) -> None:
    """A body that does not declare its size is refused when it turns out too large, and the next request works."""

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield b"x" * (LIMIT // 10)

    assert (await http.post("/v1/chat/completions", content=chunks())).status_code == 413
    assert (await http.post("/v1/chat/completions", json=GOOD)).status_code == 200


async def test_too_large_a_body_is_refused_before_it_has_arrived(shim: Shim) -> None:
    """Neither a declared nor a chunked body is waited for once it is known to be too large."""
    head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n"
    endless = b"transfer-encoding: chunked\r\n\r\n" + (b"10000\r\n" + b"x" * 65536 + b"\r\n") * 17
    for rest in (b"content-length: 999999999\r\n\r\nxxx", endless):
        reader, writer = await asyncio.open_connection("127.0.0.1", shim.port)
        writer.write(head + rest)
        status = await asyncio.wait_for(reader.readline(), TIMEOUT_S)
        writer.close()
        await writer.wait_closed()
        assert b" 413 " in status


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_client_that_closes_gets_its_413(shim: Shim, chunked: bool) -> None:
    """What such a client still sends is read before the connection closes, so that it is not reset."""

    def ask() -> tuple[int, bytes]:
        body = iter([b"x" * LIMIT] * 10) if chunked else b"x" * (10 * LIMIT)
        with closing(http.client.HTTPConnection("127.0.0.1", shim.port, timeout=TIMEOUT_S)) as connection:
            connection.request("POST", "/v1/chat/completions", body, {"connection": "close"}, encode_chunked=chunked)
            response = connection.getresponse()
            return response.status, response.read()

    status, body = await asyncio.to_thread(ask)
    assert status == 413
    assert b"invalid_request_error" in body


@pytest.mark.parametrize(
    "head", [b"content-length: 99999999\r\n", b"content-length: 9999999\r\nexpect: 100-continue\r\n"]
)
async def test_a_client_that_closes_is_not_read_for_long(shim: Shim, head: bytes) -> None:
    """A size beyond all bounds, and a body that is held back until it is asked for, are answered at once."""
    reader, writer = await asyncio.open_connection("127.0.0.1", shim.port)
    writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nconnection: close\r\n" + head + b"\r\n")
    assert b" 413 " in await asyncio.wait_for(reader.readline(), TIMEOUT_S)
    writer.close()
    await writer.wait_closed()


async def test_a_client_that_stalls_gets_its_413(shim: Shim, monkeypatch: pytest.MonkeyPatch) -> None:
    """What does not come in time is not waited for."""
    monkeypatch.setattr("shim.body._DISCARD_S", 0.1)
    reader, writer = await asyncio.open_connection("127.0.0.1", shim.port)
    head = b"POST /v1/completions HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 9999999\r\n\r\nxxx"
    writer.write(head)
    assert b" 413 " in await asyncio.wait_for(reader.readline(), TIMEOUT_S)
    writer.close()
    await writer.wait_closed()


async def test_unknown_fields_are_ignored(http: httpx.AsyncClient) -> None:
    """A field that the shim does not know is no error."""
    assert (await http.post("/v1/chat/completions", json=GOOD | {"surprise": {"a": 1}})).status_code == 200
