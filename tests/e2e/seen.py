"""What a client sees of an answer, in one form for both ways, streamed and not; reading it checks its own rules."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import httpx
from google.protobuf import json_format
from google.protobuf.message import Message
from grpc import aio

from mlx_grpc.v1 import generation_pb2 as pb
from tests import calls

Json = dict[str, Any]

CHAT = "/v1/chat/completions"
TEXT = "/v1/completions"
_REASONS = {
    pb.FINISH_REASON_STOP: "stop",
    pb.FINISH_REASON_LENGTH: "length",
    pb.FINISH_REASON_TOOL_CALLS: "tool_calls",
}
_FINISHES = {"stop", "length", "tool_calls"}


@dataclass(frozen=True)
class Call:
    """A tool call. Its id is a random one."""

    name: str
    arguments: str
    id: str = field(default="", compare=False)


@dataclass(frozen=True)
class Token:
    """A token with what the model thinks of it, rounded: rows that run beside it may change the last digits."""

    text: bytes
    logprob: float | None
    top: tuple[tuple[bytes, float], ...] = ()
    offset: int | None = None
    """Where it stands in the text; for completions over HTTP."""


@dataclass(frozen=True)
class Said:
    """One choice."""

    text: str
    finish: str
    reasoning: str = ""
    calls: tuple[Call, ...] = ()
    tokens: tuple[Token, ...] = ()
    ids: tuple[int, ...] = ()
    """Token ids, over gRPC only."""


@dataclass(frozen=True)
class Seen:
    """An answer. What was cached depends on what came before it."""

    said: tuple[Said, ...]
    prompt_tokens: int = 0
    completion_tokens: int = 0
    reasoning_tokens: int = 0
    cached_tokens: int = field(default=0, compare=False)
    raw: Any = field(default=None, compare=False, repr=False)
    """The JSON, the chunks or the events."""

    @property
    def one(self) -> Said:
        """The only choice."""
        (said,) = self.said
        return said

    @property
    def texts(self) -> list[str]:
        """Of all choices."""
        return [said.text for said in self.said]

    @property
    def bare(self) -> "Seen":
        """The same without what one way alone tells."""
        return replace(self, said=tuple(replace(said, tokens=(), ids=()) for said in self.said))


@dataclass(frozen=True)
class Error:
    """A refusal: the status of HTTP, or the number of gRPC's code, and the field that it names."""

    status: int
    field: str
    message: str


class Refused(Exception):
    """The request was refused, as `error` says."""

    def __init__(self, error: Error) -> None:
        super().__init__(error)
        self.error = error


async def ask(http: httpx.AsyncClient, path: str, body: Mapping[str, Any]) -> Seen:
    """Read a whole answer over HTTP."""
    response = await http.post(path, json=dict(body))
    _check(response)
    answer = response.json()
    assert answer["object"] == ("chat.completion" if path == CHAT else "text_completion")
    choices = sorted(answer["choices"], key=lambda choice: int(choice["index"]))
    assert [choice["index"] for choice in choices] == list(range(len(choices)))
    said = [_message(choice) if path == CHAT else _completion(choice) for choice in choices]
    return _seen(said, answer["usage"], answer)


async def stream(http: httpx.AsyncClient, path: str, body: Mapping[str, Any]) -> Seen:
    """Read a stream over HTTP, with its usage, and check each chunk's form."""
    options = {"stream": True, "stream_options": {"include_usage": True}}
    response = await http.post(path, json=dict(body) | options)
    _check(response)
    *events, done, rest = response.text.split("\n\n")
    assert (done, rest) == ("data: [DONE]", "")
    chunks: list[Json] = [json.loads(event.removeprefix("data: ")) for event in events if not event.startswith(":")]
    *body_chunks, last = chunks
    assert len({(chunk["id"], chunk["created"], chunk["model"], chunk["object"]) for chunk in chunks}) == 1
    assert last["choices"] == []
    assert all(chunk["usage"] is None for chunk in body_chunks)
    by_index: dict[int, list[Json]] = {}
    for chunk in body_chunks:
        for choice in chunk["choices"]:
            by_index.setdefault(choice["index"], []).append(choice)
    assert sorted(by_index) == list(range(len(by_index)))
    said = [
        _streamed_message(by_index[index]) if path == CHAT else _streamed_completion(by_index[index])
        for index in sorted(by_index)
    ]
    return _seen(said, last["usage"], chunks)


async def call(channel: aio.Channel, request: calls.Request | Mapping[str, Any]) -> Seen:
    """Read an answer over gRPC; a mapping is the JSON of a ChatRequest, or of a GenerateRequest if it has a prompt."""
    message = request if isinstance(request, Message) else wire(request)
    try:
        answer = await calls.answer(channel, message)
    except aio.AioRpcError as error:
        refusal = calls.refusal(error)
        named = refusal.fields if "BadRequest" in refusal.details else [""]
        raise Refused(Error(refusal.code.value[0], named[0], refusal.message)) from error
    events = answer.events
    count = 1 + max(event.index for event in events)
    said = [_events([event for event in events if event.index == index]) for index in range(count)]
    usage = answer.usage
    return Seen(
        tuple(said),
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        reasoning_tokens=usage.reasoning_tokens,
        cached_tokens=usage.cached_tokens,
        raw=events,
    )


def wire(request: Mapping[str, Any]) -> calls.Request:
    """Make a message of the wire's JSON; what has a prompt is for Generate."""
    message = pb.GenerateRequest() if {"text", "tokenIds"} & set(request) else pb.ChatRequest()
    return json_format.ParseDict(dict(request), message)


def _check(response: httpx.Response) -> None:
    if response.status_code == 200:
        return
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    raise Refused(Error(response.status_code, error["param"] or "", error["message"]))


def _seen(said: Sequence[Said], usage: Json, raw: object) -> Seen:
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    return Seen(
        tuple(said),
        prompt_tokens=usage["prompt_tokens"],
        completion_tokens=usage["completion_tokens"],
        reasoning_tokens=(usage.get("completion_tokens_details") or {}).get("reasoning_tokens", 0),
        cached_tokens=usage["prompt_tokens_details"]["cached_tokens"],
        raw=raw,
    )


def _message(choice: Json) -> Said:
    message = choice["message"]
    assert message["role"] == "assistant"
    assert "content" in message
    assert "tool_calls" not in message or message["tool_calls"]
    made = []
    for each in message.get("tool_calls", ()):
        assert each["type"] == "function"
        made.append(Call(each["function"]["name"], each["function"]["arguments"], each["id"]))
    return _checked(
        Said(
            text=message["content"] or "",
            finish=choice["finish_reason"],
            reasoning=message.get("reasoning_content") or "",
            calls=tuple(made),
            tokens=_tokens(choice["logprobs"]),
        )
    )


def _streamed_message(choices: Sequence[Json]) -> Said:
    deltas = [choice["delta"] for choice in choices]
    assert deltas[0].get("role") == "assistant"
    assert not any("role" in delta for delta in deltas[1:])
    made: list[Call] = []
    for part in (part for delta in deltas for part in delta.get("tool_calls") or ()):
        function = part["function"]
        if part["index"] == len(made):
            assert part["type"] == "function"
            made.append(Call(function["name"], function.get("arguments") or "", part["id"]))
            continue
        # Id, type and name come once, in a call's first delta, and a call is over when the next begins.
        assert part["index"] == len(made) - 1
        assert not any((part.get("id"), part.get("type"), function.get("name")))
        made[-1] = replace(made[-1], arguments=made[-1].arguments + function["arguments"])
    return _checked(
        Said(
            text="".join(delta.get("content") or "" for delta in deltas),
            finish=_finish(choices),
            reasoning="".join(delta.get("reasoning_content") or "" for delta in deltas),
            calls=tuple(made),
            tokens=tuple(token for choice in choices for token in _tokens(choice.get("logprobs"))),
        )
    )


def _completion(choice: Json) -> Said:
    return _checked(Said(choice["text"], choice["finish_reason"], tokens=_legacy(choice["logprobs"])))


def _streamed_completion(choices: Sequence[Json]) -> Said:
    tokens = tuple(token for choice in choices for token in _legacy(choice.get("logprobs")))
    return _checked(Said("".join(choice["text"] for choice in choices), _finish(choices), tokens=tokens))


def _finish(choices: Sequence[Json]) -> str:
    """Give the reason of the last chunk; no other has one."""
    *before, last = (choice["finish_reason"] for choice in choices)
    assert set(before) <= {None}
    return str(last)


def _events(events: Sequence[calls.Event]) -> Said:
    reasoning, text = "", ""
    ids: list[int] = []
    finishes: list[str] = []
    made: list[Call] = []
    tokens: list[Token] = []
    for event in events:
        kind = event.WhichOneof("event")
        delta = getattr(event, kind or "")
        assert not finishes or kind == "completed"
        if isinstance(delta, pb.Finish):
            finishes.append(_REASONS[delta.reason])
        elif isinstance(delta, pb.TextDelta):
            text += delta.text
        elif isinstance(delta, pb.ReasoningDelta):
            reasoning += delta.text
        elif isinstance(delta, pb.ToolCallDelta):
            if delta.tool_index == len(made):
                made.append(Call(delta.name, delta.arguments_delta, delta.id))
            else:
                assert delta.tool_index == len(made) - 1
                assert (delta.id, delta.name) == ("", "")
                made[-1] = replace(made[-1], arguments=made[-1].arguments + delta.arguments_delta)
        if isinstance(delta, pb.TextDelta | pb.ReasoningDelta | pb.ToolCallDelta):
            ids += delta.token_ids
            tokens += [
                Token(
                    each.token,
                    round(each.logprob, 3) if each.HasField("logprob") else None,
                    tuple((top.token, round(top.logprob, 3)) for top in each.top),
                )
                for each in delta.logprobs
            ]
    (finish,) = finishes
    return _checked(Said(text, finish, reasoning, tuple(made), tuple(tokens), tuple(ids)))


def _checked(said: Said) -> Said:
    assert said.finish in _FINISHES
    assert all(call.id and call.name for call in said.calls)
    assert len({call.id for call in said.calls}) == len(said.calls)
    return said


def _tokens(logprobs: Json | None) -> tuple[Token, ...]:
    entries = (logprobs or {}).get("content") or ()
    for entry in entries:
        assert entry["token"] == bytes(entry["bytes"]).decode(errors="replace")
    return tuple(
        Token(
            bytes(entry["bytes"]),
            round(entry["logprob"], 3),
            tuple((bytes(top["bytes"]), round(top["logprob"], 3)) for top in entry["top_logprobs"]),
        )
        for entry in entries
    )


def _legacy(logprobs: Json | None) -> tuple[Token, ...]:
    if logprobs is None:
        return ()
    names = ("tokens", "token_logprobs", "top_logprobs", "text_offset")
    tops = logprobs["top_logprobs"] or [None] * len(logprobs["tokens"])
    columns = [logprobs[name] if name != "top_logprobs" else tops for name in names]
    return tuple(
        Token(
            token.encode(),
            None if logprob is None else round(logprob, 3),
            tuple(sorted((text.encode(), round(each, 3)) for text, each in (top or {}).items())),
            offset,
        )
        for token, logprob, top, offset in zip(*columns, strict=True)
    )
