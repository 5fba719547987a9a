"""One line a request."""

import asyncio
import contextlib
import json
from typing import Any

import pytest
import structlog
from grpc import aio

from service.errors import UnknownModel
from service.servicers.request_log import logged
from tests.calls import answer, chat_request, refused, text_request
from tests.processes import ServiceProcess


def lines(service: ServiceProcess, request_id: str) -> list[dict[str, Any]]:
    """Give the lines of the service's log about a request."""
    entries = [json.loads(line) for line in service.errors.splitlines() if line.startswith("{")]
    return [entry for entry in entries if entry.get("request_id") == request_id]


async def test_a_request_is_one_line(service: ServiceProcess, channel: aio.Channel) -> None:
    """It has who, what, how much and how long, and nothing of what was said."""
    question = "What is two and two?"
    await answer(channel, chat_request(question, requestId="logged-1"))
    [entry] = lines(service, "logged-1")
    said = {"rpc": "Chat", "model": "talker", "outcome": "ok", "finish": "stop", "event": "request", "from": "service"}
    assert entry.items() >= (said | {"prompt_tokens": 18, "completion_tokens": 5}).items()
    assert 0 < entry["first_token_ms"] <= entry["total_ms"]
    assert question not in service.errors
    assert "Four." not in service.errors


async def test_a_refused_request_is_a_line_too(service: ServiceProcess, channel: aio.Channel) -> None:
    """With the kind of its failure, and what was wrong."""
    await refused(answer(channel, text_request("hi", model="nobody", requestId="logged-2")))
    [entry] = lines(service, "logged-2")
    assert (entry["rpc"], entry["model"], entry["outcome"]) == ("Generate", "nobody", "UnknownModel")
    assert entry["error"] == "there is no model 'nobody'"


async def test_the_lora_of_a_request_is_told(service: ServiceProcess, channel: aio.Channel) -> None:
    """As it was asked for; that of none is nothing."""
    await refused(answer(channel, chat_request("hi", lora="nobody", requestId="logged-lora")))
    await answer(channel, chat_request("hi", requestId="logged-none"))
    assert [lines(service, name)[0]["lora"] for name in ("logged-lora", "logged-none")] == ["nobody", None]


async def test_a_line_stays_short(service: ServiceProcess, channel: aio.Channel) -> None:
    """However long the words of a caller are that go into it."""
    written = len(service.errors)
    await refused(answer(channel, text_request("hi", model="m" * 100_000, requestId="logged-3")))
    await refused(answer(channel, text_request("hi", requestId="x" * 100_000)))
    assert lines(service, "logged-3")
    assert len(service.errors) - written < 2000


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (asyncio.CancelledError(), "cancelled"),
        (GeneratorExit(), "cancelled"),
        (UnknownModel("m"), "UnknownModel"),
        (KeyError(), "bug"),
        (None, "ok"),
    ],
)
def test_the_outcome_is_told(error: BaseException | None, outcome: str) -> None:
    """However the request ends, there is one line."""
    with structlog.testing.capture_logs() as entries:
        expected = contextlib.nullcontext() if error is None else pytest.raises(type(error))
        with expected, logged(chat_request("hi", requestId="r1")):
            if error is not None:
                raise error
    assert [(entry["request_id"], entry["outcome"]) for entry in entries] == [("r1", outcome)]
