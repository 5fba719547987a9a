"""The service's events, to the chunks of OpenAI's streams."""

import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from typing import ClassVar, Generic

from mlx_grpc.v1 import generation_pb2 as wire
from shim import shapes
from shim.client import E, EventStream
from shim.errors import server_error
from shim.shapes import Completion, D

_FINISH_REASONS = {
    wire.FINISH_REASON_STOP: "stop",
    wire.FINISH_REASON_LENGTH: "length",
    wire.FINISH_REASON_TOOL_CALLS: "tool_calls",
}


class Chunks(ABC, Generic[E, D]):
    """One stream of chunks with choices of type D, from events of type E.

    `finish` has the finish reason of each choice that has one yet; `usage` is set once the service has told
    it, which it does last.
    """

    id_prefix: ClassVar[str]
    object_name: ClassVar[str]

    def __init__(self, events: EventStream[E], choices: int, *, include_usage: bool) -> None:
        self._events = events
        self._choices = choices
        self._include_usage = include_usage
        self._id = f"{self.id_prefix}-{events.started.request_id}"
        self._created = int(time.time())
        self.finish: list[str | None] = [None] * choices
        self.usage: shapes.Usage | None = None

    async def __aiter__(self) -> AsyncIterator[Completion[D]]:
        """Yield the chunks; aio.AioRpcError where the call fails, ApiError where it ends without its last event."""
        for choice in self._opening():
            yield self._chunk([choice])
        async for event in self._events:
            kind = event.WhichOneof("event")
            if kind == "completed":
                self.usage = _usage(event.completed.usage)
            elif (more := self._choice(event, kind)) is not None:
                if more["finish_reason"]:
                    self.finish[more["index"]] = more["finish_reason"]
                yield self._chunk([more])
        if self.usage is None:
            raise server_error()
        if self._include_usage:
            last = self._chunk([])
            last["usage"] = self.usage
            yield last

    def _chunk(self, choices: list[D]) -> Completion[D]:
        chunk: Completion[D] = {
            "id": self._id,
            "object": self.object_name,
            "created": self._created,
            "model": self._events.started.model,
            "choices": choices,
        }
        if self._include_usage:
            chunk["usage"] = None
        return chunk

    def _opening(self) -> list[D]:
        return []

    @abstractmethod
    def _choice(self, event: E, kind: str | None) -> D | None:
        """Turn an event into more of a choice; None where it has nothing for the client."""


class ChatChunks(Chunks[wire.ChatResponse, shapes.ChatDelta]):
    """The chunks of a chat completion."""

    id_prefix = "chatcmpl"
    object_name = "chat.completion.chunk"

    def _opening(self) -> list[shapes.ChatDelta]:
        return [_delta(index, {"role": "assistant", "content": ""}) for index in range(self._choices)]

    def _choice(self, event: wire.ChatResponse, kind: str | None) -> shapes.ChatDelta | None:
        match kind:
            case "text" if event.text.text:
                return _delta(event.index, {"content": event.text.text})
            case "reasoning" if event.reasoning.text:
                return _delta(event.index, {"reasoning_content": event.reasoning.text})
            case "tool_call":
                return _delta(event.index, {"tool_calls": [_tool_call(event.tool_call)]})
            case "finish":
                return _delta(event.index, {}, _FINISH_REASONS[event.finish.reason])
        return None


class TextChunks(Chunks[wire.GenerateResponse, shapes.TextChoice]):
    """The chunks of a text completion."""

    id_prefix = "cmpl"
    object_name = "text_completion"

    def _choice(self, event: wire.GenerateResponse, kind: str | None) -> shapes.TextChoice | None:
        match kind:
            case "text" if event.text.text:
                return {"index": event.index, "text": event.text.text, "logprobs": None, "finish_reason": None}
            case "finish":
                reason = _FINISH_REASONS[event.finish.reason]
                return {"index": event.index, "text": "", "logprobs": None, "finish_reason": reason}
        return None


def _delta(index: int, delta: shapes.Delta, finish_reason: str | None = None) -> shapes.ChatDelta:
    return {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish_reason}


def _tool_call(call: wire.ToolCallDelta) -> shapes.ToolCall:
    if not call.id:
        return {"index": call.tool_index, "function": {"arguments": call.arguments_delta}}
    return {
        "index": call.tool_index,
        "id": call.id,
        "type": "function",
        "function": {"name": call.name, "arguments": call.arguments_delta},
    }


def _usage(usage: wire.Usage) -> shapes.Usage:
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
    }
