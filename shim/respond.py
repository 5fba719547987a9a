"""The service's events, to the choices of OpenAI's chunks."""

import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from typing import ClassVar, Generic

from mlx_grpc.v1 import generation_pb2 as wire
from shim import shapes
from shim.client import E, EventStream
from shim.errors import server_error
from shim.form import Form
from shim.logprobs import chat_logprobs, text_logprobs
from shim.places import Placed, Places
from shim.shapes import C, Completion, D

_FINISH_REASONS = {
    wire.FINISH_REASON_STOP: "stop",
    wire.FINISH_REASON_LENGTH: "length",
    wire.FINISH_REASON_TOOL_CALLS: "tool_calls",
}


class Chunks(ABC, Generic[E, D]):
    """One answer as a stream of choices of type D, each of which is a chunk, from events of type E.

    `finish` has the finish reason of each choice that has one yet; `usage` is set once the service has told
    it, which it does last.
    """

    id_prefix: ClassVar[str]
    object_name: ClassVar[str]

    def __init__(self, events: EventStream[E], form: Form) -> None:
        self._events = events
        self._form = form
        self._id = f"{self.id_prefix}-{events.started.request_id}"
        self._created = int(time.time())
        self._places = [Places() for _ in range(form.choices)] if form.logprobs else []
        self.finish: list[str | None] = [None] * form.choices
        self.usage: shapes.Usage | None = None

    async def __aiter__(self) -> AsyncIterator[D]:
        """Yield the choices; aio.AioRpcError where the call fails, ApiError where it ends without its last event."""
        for choice in self._opening():
            yield choice
        async for event in self._events:
            kind = event.WhichOneof("event")
            if kind == "completed":
                self.usage = _usage(event.completed.usage)
            elif (more := self._choice(event, kind)) is not None:
                if more["finish_reason"]:
                    self.finish[more["index"]] = more["finish_reason"]
                yield more
        if self.usage is None:
            raise server_error()

    def completion(self, object_name: str, choices: list[C]) -> Completion[C]:
        """Make the object that choices come in."""
        return {
            "id": self._id,
            "object": object_name,
            "created": self._created,
            "model": self._events.started.model,
            "choices": choices,
        }

    def _placed(self, index: int, delta: wire.TextDelta) -> list[Placed]:
        """The tokens whose text is there now."""
        return self._places[index].add(delta.text, delta.logprobs)

    def _left(self, index: int, finish: wire.Finish) -> list[Placed]:
        """The tokens without text that a choice ends with: those that stopped it are no part of it."""
        left = self._places[index].rest()
        return left if finish.reason == wire.FINISH_REASON_LENGTH else []

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
        return [_delta(index, {"role": "assistant", "content": ""}) for index in range(self._form.choices)]

    def _choice(self, event: wire.ChatResponse, kind: str | None) -> shapes.ChatDelta | None:
        match kind:
            case "text":
                return self._text(event.index, event.text)
            case "reasoning" if event.reasoning.text:
                return _delta(event.index, {"reasoning_content": event.reasoning.text})
            case "tool_call":
                return _delta(event.index, {"tool_calls": [_tool_call(event.tool_call)]})
            case "finish":
                return self._finish(event.index, event.finish)
        return None

    def _text(self, index: int, delta: wire.TextDelta) -> shapes.ChatDelta | None:
        if not self._form.logprobs:
            return _delta(index, {"content": delta.text}) if delta.text else None
        tokens = self._placed(index, delta)
        if not delta.text and not tokens:
            return None
        return _delta(index, {"content": delta.text}, logprobs=chat_logprobs(tokens))

    def _finish(self, index: int, finish: wire.Finish) -> shapes.ChatDelta:
        logprobs = chat_logprobs(self._left(index, finish)) if self._form.logprobs else None
        return _delta(index, {}, _FINISH_REASONS[finish.reason], logprobs)


class TextChunks(Chunks[wire.GenerateResponse, shapes.TextChoice]):
    """The chunks of a text completion."""

    id_prefix = "cmpl"
    object_name = "text_completion"

    def _choice(self, event: wire.GenerateResponse, kind: str | None) -> shapes.TextChoice | None:
        match kind:
            case "text":
                return self._text(event.index, event.text)
            case "finish":
                return self._finish(event.index, event.finish)
        return None

    def _text(self, index: int, delta: wire.TextDelta) -> shapes.TextChoice | None:
        tokens = self._placed(index, delta) if self._form.logprobs else []
        if not delta.text and not tokens:
            return None
        logprobs = text_logprobs(tokens) if self._form.logprobs else None
        return {"index": index, "text": delta.text, "logprobs": logprobs, "finish_reason": None}

    def _finish(self, index: int, finish: wire.Finish) -> shapes.TextChoice:
        logprobs = text_logprobs(self._left(index, finish)) if self._form.logprobs else None
        return {"index": index, "text": "", "logprobs": logprobs, "finish_reason": _FINISH_REASONS[finish.reason]}


def _delta(
    index: int,
    delta: shapes.Delta,
    finish_reason: str | None = None,
    logprobs: shapes.ChatLogprobs | None = None,
) -> shapes.ChatDelta:
    return {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish_reason}


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
