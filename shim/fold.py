"""The whole answer, as a fold over the choices of its stream."""

from collections.abc import AsyncIterable, Callable
from typing import Protocol, TypeVar

from shim import shapes
from shim.shapes import D

D_contra = TypeVar("D_contra", contravariant=True)
W_co = TypeVar("W_co", covariant=True)
W = TypeVar("W")


class Part(Protocol[D_contra, W_co]):
    """Gathers the deltas of one choice."""

    def add(self, delta: D_contra) -> None:
        """Take one more delta."""

    def whole(self) -> W_co:
        """Make the whole choice."""


class ChatPart:
    """Gathers the deltas of one choice of a chat completion."""

    def __init__(self, index: int) -> None:
        self._index = index
        self._content: list[str] = []
        self._reasoning: list[str] = []
        self._calls: dict[int, shapes.ToolCall] = {}
        self._logprobs: shapes.ChatLogprobs | None = None
        self._finish_reason: shapes.FinishReason | None = None

    def add(self, delta: shapes.ChatDelta) -> None:
        """Take one more delta."""
        more = delta["delta"]
        if (content := more.get("content")) is not None:
            self._content.append(content)
        self._reasoning.append(more.get("reasoning_content", ""))
        for call in more.get("tool_calls", ()):
            self._add_call(call)
        if (logprobs := delta["logprobs"]) is not None:
            self._logprobs = self._logprobs or {"content": [], "refusal": None}
            self._logprobs["content"] += logprobs["content"]
        self._finish_reason = delta["finish_reason"] or self._finish_reason

    def _add_call(self, call: shapes.ToolCallDelta) -> None:
        more = call["function"]
        if (made := self._calls.get(call["index"])) is not None:
            made["function"]["arguments"] += more["arguments"]
            return
        self._calls[call["index"]] = {
            "id": call["id"],
            "type": "function",
            "function": {"name": more["name"], "arguments": more["arguments"]},
        }

    def whole(self) -> shapes.ChatChoice:
        """Make the whole choice."""
        content = "".join(self._content) if self._content else None
        message: shapes.Message = {"role": "assistant", "content": content, "refusal": None, "annotations": []}
        if reasoning := "".join(self._reasoning):
            message["reasoning_content"] = reasoning
        if self._calls:
            message["tool_calls"] = [self._calls[index] for index in sorted(self._calls)]
        return {
            "index": self._index,
            "message": message,
            "logprobs": self._logprobs,
            "finish_reason": self._finish_reason,
        }


class TextPart:
    """Gathers the deltas of one choice of a text completion."""

    def __init__(self, index: int) -> None:
        self._index = index
        self._text: list[str] = []
        self._logprobs: shapes.TextLogprobs | None = None
        self._finish_reason: shapes.FinishReason | None = None

    def add(self, delta: shapes.TextChoice) -> None:
        """Take one more delta."""
        self._text.append(delta["text"])
        if (logprobs := delta["logprobs"]) is not None:
            self._add_logprobs(logprobs)
        self._finish_reason = delta["finish_reason"] or self._finish_reason

    def _add_logprobs(self, more: shapes.TextLogprobs) -> None:
        if self._logprobs is None:
            self._logprobs = {"tokens": [], "token_logprobs": [], "top_logprobs": [], "text_offset": []}
        self._logprobs["tokens"] += more["tokens"]
        self._logprobs["token_logprobs"] += more["token_logprobs"]
        self._logprobs["top_logprobs"] += more["top_logprobs"]
        self._logprobs["text_offset"] += more["text_offset"]

    def whole(self) -> shapes.TextChoice:
        """Make the whole choice."""
        return {
            "index": self._index,
            "text": "".join(self._text),
            "logprobs": self._logprobs,
            "finish_reason": self._finish_reason,
        }


async def fold(deltas: AsyncIterable[D], part: Callable[[int], Part[D, W]], choices: int) -> list[W]:
    """Gather the deltas of `choices` choices into the whole of each."""
    parts = [part(index) for index in range(choices)]
    async for delta in deltas:
        parts[delta["index"]].add(delta)
    return [each.whole() for each in parts]
