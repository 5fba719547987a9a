"""Reasoning, from a tiny model that really emits it, over both ways."""

import json
from typing import Any

import httpx
import pytest
from grpc import aio

from mlx_grpc.v1 import generation_pb2 as pb
from mlx_grpc.v1.generation_pb2_grpc import GenerationServiceStub
from tests.tiny import DIALOGUES

QUESTION = "Why is the sky blue?"
THOUGHT, ANSWER = (part.strip() for part in DIALOGUES[QUESTION].removeprefix("<think>").split("</think>"))
CHAT: dict[str, Any] = {"model": "talker", "messages": [{"role": "user", "content": QUESTION}], "temperature": 0}


async def test_reasoning_over_grpc(channel: aio.Channel) -> None:
    """The reasoning comes first, ends with how long it took, and is not part of the answer."""
    request = pb.ChatRequest(
        model="talker",
        messages=[pb.ChatMessage(role=pb.ROLE_USER, content=[pb.ContentPart(text=QUESTION)])],
        sampling=pb.SamplingParams(temperature=0),
    )
    events = [event async for event in GenerationServiceStub(channel).Chat(request)]
    kinds = [event.WhichOneof("event") for event in events]
    assert "".join(event.reasoning.text for event in events) == THOUGHT
    assert "".join(event.text.text for event in events) == ANSWER
    assert kinds.index("reasoning") < kinds.index("reasoning_done") < kinds.index("text")
    assert events[kinds.index("reasoning_done")].reasoning_done.duration.ToNanoseconds() > 0
    assert 0 < events[-1].completed.usage.reasoning_tokens < events[-1].completed.usage.completion_tokens


async def test_reasoning_over_http(http: httpx.AsyncClient) -> None:
    """A whole answer has it beside the content, and counts its tokens."""
    answer = (await http.post("/v1/chat/completions", json=CHAT)).json()
    assert answer["choices"][0]["message"]["reasoning_content"] == THOUGHT
    assert answer["choices"][0]["message"]["content"] == ANSWER
    assert answer["usage"]["completion_tokens_details"]["reasoning_tokens"] > 0


async def test_streamed_reasoning_over_http(http: httpx.AsyncClient) -> None:
    """The deltas have it in a field of its own, before the content."""
    async with http.stream("POST", "/v1/chat/completions", json=CHAT | {"stream": True}) as response:
        lines = [line.removeprefix("data: ") async for line in response.aiter_lines() if line.startswith("data: {")]
    deltas = [json.loads(line)["choices"][0]["delta"] for line in lines]
    assert "".join(delta.get("reasoning_content") or "" for delta in deltas) == THOUGHT
    assert "".join(delta.get("content") or "" for delta in deltas) == ANSWER


@pytest.mark.parametrize(("stop", "text"), [([" air"], "Because the"), (["Short"], ANSWER)])
async def test_stop_strings_end_the_answer_and_not_the_reasoning(
    http: httpx.AsyncClient, stop: list[str], text: str
) -> None:
    """A stop string counts in the answer alone."""
    answer = (await http.post("/v1/chat/completions", json=CHAT | {"stop": stop})).json()
    assert answer["choices"][0]["message"]["content"] == text
    assert answer["choices"][0]["message"]["reasoning_content"] == THOUGHT
    assert answer["choices"][0]["finish_reason"] == "stop"
