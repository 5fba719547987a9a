"""The service's events, to the choices of OpenAI's chunks."""

import hashlib
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Sequence
from importlib.metadata import version
from typing import ClassVar, Generic

from mlx_grpc.v1 import generation_pb2 as wire
from shim import shapes
from shim.client import E, Events
from shim.errors import server_error
from shim.form import Form
from shim.logprobs import chat_logprobs, text_logprobs
from shim.places import Placed, Places
from shim.shapes import C, Completion, D, FinishReason, ObjectName

_VERSION = version("mlx-grpc")
FINISH_REASONS: dict[int, FinishReason] = {
    wire.FINISH_REASON_STOP: "stop",
    wire.FINISH_REASON_LENGTH: "length",
    wire.FINISH_REASON_TOOL_CALLS: "tool_calls",
}


class Chunks(ABC, Generic[E, D]):
    """One answer as a stream of choices of type D, each of which is a chunk, from events of type E.

    `finish` has the finish reason of each choice that has one yet; `counted` is set once the service has told
    it, which it does last.
    """

    id_prefix: ClassVar[str]
    object_name: ClassVar[ObjectName]

    def __init__(self, events: Events[E], form: Form) -> None:
        self._events = events
        self._form = form
        self._id = f"{self.id_prefix}-{events.started.request_id}"
        self._created = int(time.time())
        self._places = [Places() for _ in range(form.choices)] if form.logprobs else []
        self.finish: list[FinishReason | None] = [None] * form.choices
        self.counted: wire.Usage | None = None

    @property
    def usage(self) -> shapes.Usage | None:
        """What was counted, as OpenAI's object."""
        return None if self.counted is None else _usage(self.counted)

    async def __aiter__(self) -> AsyncIterator[D]:
        """Yield the choices; aio.AioRpcError where the call fails, ApiError where it ends without its last event."""
        async for event in self._events:
            kind = event.WhichOneof("event")
            if kind == "completed":
                self.counted = event.completed.usage
            else:
                for more in self._choices(event, kind):
                    if more["finish_reason"]:
                        self.finish[more["index"]] = more["finish_reason"]
                    yield more
        if self.counted is None:
            raise server_error()

    def completion(self, object_name: ObjectName, choices: list[C]) -> Completion[C]:
        """Make the object that choices come in."""
        model = self._form.model
        made: Completion[C] = {
            "id": self._id,
            "object": object_name,
            "created": self._created,
            "model": model,
            "system_fingerprint": _fingerprint(model),
            "choices": choices,
        }
        if self._form.service_tier:
            made["service_tier"] = "default"
        return made

    def _placed(self, index: int, delta: wire.TextDelta) -> list[Placed]:
        """The tokens whose text is there now."""
        return self._places[index].add(delta.text, delta.logprobs)

    def _left(self, index: int, finish: wire.Finish) -> list[Placed]:
        """The tokens without text that a choice ends with: those that stopped it are no part of it."""
        left = self._places[index].rest()
        # Who scores a text takes the last token for a generated one, which a stop token then has to be.
        scored = self._form.echo and finish.HasField("stop_token_id")
        return left if scored or finish.reason == wire.FINISH_REASON_LENGTH else []

    @abstractmethod
    def _choices(self, event: E, kind: str | None) -> Sequence[D]:
        """Turn an event into more of a choice, which is nothing where it has nothing for the client."""


class ChatChunks(Chunks[wire.ChatResponse, shapes.ChatDelta]):
    """The chunks of a chat completion."""

    id_prefix = "chatcmpl"
    object_name = "chat.completion.chunk"

    def __init__(self, events: Events[wire.ChatResponse], form: Form) -> None:
        super().__init__(events, form)
        self._begun = [False] * form.choices
        self._answered = [False] * form.choices
        """Which choices have content, be it empty, or calls instead."""

    def _choices(self, event: wire.ChatResponse, kind: str | None) -> Sequence[shapes.ChatDelta]:
        more = self._more(event, kind)
        if more is None:
            return ()
        if self._begun[event.index]:
            return (more,)
        self._begun[event.index] = True
        # Whether there will be text is known of text only: beside reasoning and calls the content may stay null.
        content = "" if kind == "text" or not more["delta"] else None
        return _delta(event.index, {"role": "assistant", "content": content}), more

    def _more(self, event: wire.ChatResponse, kind: str | None) -> shapes.ChatDelta | None:
        match kind:
            case "text":
                return self._text(event.index, event.text)
            case "reasoning" if event.reasoning.text:
                return _delta(event.index, {"reasoning_content": event.reasoning.text})
            case "tool_call":
                return self._call(event.index, event.tool_call)
            case "finish":
                return self._finish(event.index, event.finish)
        return None

    def _call(self, index: int, call: wire.ToolCallDelta) -> shapes.ChatDelta | None:
        if not call.id and not call.arguments_delta:
            return None  # tokens, which are no part of the text
        self._answered[index] = True
        return _delta(index, {"tool_calls": [_tool_call(call)]})

    def _text(self, index: int, delta: wire.TextDelta) -> shapes.ChatDelta | None:
        tokens = self._placed(index, delta) if self._form.logprobs else []
        if not delta.text and not tokens:
            return None
        self._answered[index] = True
        if not self._form.logprobs:
            return _delta(index, {"content": delta.text})
        return _delta(index, {"content": delta.text}, logprobs=chat_logprobs(tokens))

    def _finish(self, index: int, finish: wire.Finish) -> shapes.ChatDelta:
        logprobs = chat_logprobs(self._left(index, finish)) if self._form.logprobs else None
        # Who was cut while it thought has said nothing, which is not the same as having called tools.
        silent = self._begun[index] and not self._answered[index]
        delta: shapes.Delta = {"content": ""} if silent else {}
        return _delta(index, delta, FINISH_REASONS[finish.reason], logprobs)


class TextChunks(Chunks[wire.GenerateResponse, shapes.TextChoice]):
    """The chunks of a text completion."""

    id_prefix = "cmpl"
    object_name = "text_completion"

    def _choices(self, event: wire.GenerateResponse, kind: str | None) -> Sequence[shapes.TextChoice]:
        match kind:
            case "text":
                return self._text(event.index, event.text)
            case "finish":
                return (self._finish(event.index, event.finish),)
        return ()

    def _text(self, index: int, delta: wire.TextDelta) -> Sequence[shapes.TextChoice]:
        tokens = self._placed(index, delta) if self._form.logprobs else []
        if not delta.text and not tokens:
            return ()
        logprobs = text_logprobs(tokens) if self._form.logprobs else None
        return ({"index": index, "text": delta.text, "logprobs": logprobs, "finish_reason": None},)

    def _finish(self, index: int, finish: wire.Finish) -> shapes.TextChoice:
        logprobs = text_logprobs(self._left(index, finish)) if self._form.logprobs else None
        return {"index": index, "text": "", "logprobs": logprobs, "finish_reason": FINISH_REASONS[finish.reason]}


def _delta(
    index: int,
    delta: shapes.Delta,
    finish_reason: FinishReason | None = None,
    logprobs: shapes.ChatLogprobs | None = None,
) -> shapes.ChatDelta:
    return {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish_reason}


def _fingerprint(model: str) -> str:
    """What stays the same for as long as this version serves a model under this name."""
    return "fp_" + hashlib.sha256(f"{_VERSION} {model}".encode()).hexdigest()[:10]


def _tool_call(call: wire.ToolCallDelta) -> shapes.ToolCallDelta:
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
        "prompt_tokens_details": {"audio_tokens": 0, "cached_tokens": usage.cached_tokens},
        "completion_tokens_details": {
            "accepted_prediction_tokens": 0,
            "audio_tokens": 0,
            "reasoning_tokens": usage.reasoning_tokens,
            "rejected_prediction_tokens": 0,
        },
    }
