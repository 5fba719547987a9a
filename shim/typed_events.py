"""The events of POST /api/chat/completions, which user interfaces read without knowing OpenAI's API."""

from collections.abc import AsyncIterator
from typing import Literal

import grpc
from grpc import aio
from typing_extensions import TypedDict

from mlx_grpc.v1 import generation_pb2 as wire
from shim.client import Events
from shim.errors import RichStatus
from shim.logs import RequestRecord
from shim.respond import FINISH_REASONS
from shim.sse import event

_LATER = "Please try again in a moment."
_BUG = f"Something went wrong while the answer was made. {_LATER}"


class TextEvent(TypedDict):
    """More of what the model thinks, or of its answer."""

    type: Literal["thinking", "response"]
    content: str


class ThinkingDone(TypedDict):
    """The model has stopped thinking, after so many seconds, to one decimal."""

    type: Literal["thinking_done"]
    duration: float


class ErrorEvent(TypedDict):
    """The answer ends here, for a reason in words that a person can use."""

    type: Literal["error"]
    content: str


class Done(TypedDict):
    """The answer is whole. Nothing follows."""

    type: Literal["done"]


TypedEvent = TextEvent | ThinkingDone | ErrorEvent | Done


async def written(events: Events[wire.ChatResponse], record: RequestRecord) -> AsyncIterator[bytes]:
    """Write the events of one answer, to `done` or to an error."""
    try:
        async for each in events:
            match each.WhichOneof("event"):
                case "reasoning" if each.reasoning.text:
                    yield _text("thinking", each.reasoning.text)
                case "reasoning_done":
                    yield _thinking_done(each.reasoning_done)
                case "text" if each.text.text:
                    yield _text("response", each.text.text)
                case "finish":
                    record.finish = FINISH_REASONS[each.finish.reason]
                case "completed":
                    record.count(each.completed.usage)
                    yield event(Done(type="done"))
                    return
        yield failed(_BUG, record)
    except aio.AioRpcError as error:
        yield failed(words_of(error), record)


def failed(words: str, record: RequestRecord) -> bytes:
    """Write the error that ends a stream."""
    record.error = words
    return event(ErrorEvent(type="error", content=words))


def words_of(error: aio.AioRpcError) -> str:
    """Say what went wrong with a call, and what can be done."""
    status = RichStatus(error)
    match status.code:
        case grpc.StatusCode.UNAVAILABLE if not status.is_service_made:
            return f"The service is not running or cannot be reached. {_LATER}"
        case grpc.StatusCode.UNAVAILABLE:
            return f"The service cannot answer now: {status.message.rstrip('.')}. {_LATER}"
        case grpc.StatusCode.DEADLINE_EXCEEDED:
            return "The request timed out. The model may be busy with a long request. Please try again later."
        case grpc.StatusCode.ABORTED:
            return "The request was stopped by an operator."
        case grpc.StatusCode.RESOURCE_EXHAUSTED | grpc.StatusCode.INVALID_ARGUMENT:
            return f"The request cannot be answered: {status.message.rstrip('.')}."
        case _:
            return _BUG


def _text(kind: Literal["thinking", "response"], content: str) -> bytes:
    return event(TextEvent(type=kind, content=content))


def _thinking_done(done: wire.ReasoningDone) -> bytes:
    seconds = done.duration.ToNanoseconds() / 1e9
    return event(ThinkingDone(type="thinking_done", duration=round(seconds, 1)))
