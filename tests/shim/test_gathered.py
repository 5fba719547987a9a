"""Several prompts in one request, with a script for each."""

import asyncio
import json
from typing import Any

import grpc
import httpx
import openai
import pytest

from mlx_grpc.v1 import generation_pb2 as wire
from tests.shim.fakes import (
    TIMEOUT_S,
    Block,
    Failure,
    FakeService,
    Reached,
    Step,
    completed,
    eventually,
    finish,
    invalid,
    started,
    text,
    token,
)

PATH = "/v1/completions"
LENGTH = wire.FINISH_REASON_LENGTH


def says(words: str, index: int = 0) -> list[Step]:
    return [text(words, index), finish(LENGTH, index)]


def asking(*prompts: str, **fields: object) -> dict[str, Any]:
    return {"model": "tiny", "prompt": list(prompts), **fields}


async def streamed(http: httpx.AsyncClient, body: dict[str, Any]) -> list[dict[str, Any]]:
    response = await http.post(PATH, json=body | {"stream": True})
    *events, done = response.text.strip().split("\n\n")
    assert done == "data: [DONE]"
    return [json.loads(event.removeprefix("data: ")) for event in events]


async def test_choices_are_in_the_order_of_the_prompts(http: httpx.AsyncClient, service: FakeService) -> None:
    """The n choices of each prompt follow one another, and usage is the sum."""
    service.scripts = {
        "a": [started(), *says("a1", 1), *says("a0"), completed()],
        "b": [started(), *says("b0"), *says("b1", 1), completed()],
    }
    answer = (await http.post(PATH, json=asking("a", "b", n=2))).json()
    assert [(choice["index"], choice["text"]) for choice in answer["choices"]] == [
        (0, "a0"), (1, "a1"), (2, "b0"), (3, "b1"),
    ]  # fmt: skip
    assert answer["usage"]["prompt_tokens"] == 6
    assert answer["usage"]["completion_tokens"] == 8
    assert answer["usage"]["prompt_tokens_details"]["cached_tokens"] == 4
    assert answer["usage"]["completion_tokens_details"]["reasoning_tokens"] == 2


async def test_a_stream_has_the_same_choices(http: httpx.AsyncClient, service: FakeService) -> None:
    """Chunks of all prompts are mixed as they come, each choice ends once, and usage is told once."""
    service.scripts = {
        "a": [started(), text("A"), text("a"), finish(LENGTH), completed()],
        "b": [started(), *says("Bb"), completed()],
    }
    body = asking("a", "b", stream_options={"include_usage": True})
    *chunks, last = await streamed(http, body)
    said = ["", ""]
    ended = []
    for chunk in chunks:
        (choice,) = chunk["choices"]
        said[choice["index"]] += choice["text"]
        ended += [choice["index"]] if choice["finish_reason"] else []
    assert said == ["Aa", "Bb"]
    assert sorted(ended) == [0, 1]
    assert (last["choices"], last["usage"]["total_tokens"]) == ([], 14)


async def test_it_is_one_request_with_one_name(http: httpx.AsyncClient, service: FakeService) -> None:
    """The answer has the client's id, and each call that id and its place."""
    response = await http.post(PATH, json=asking("a", "b"), headers={"x-request-id": "mine"})
    assert response.headers["x-request-id"] == "mine"
    assert response.json()["id"] == "cmpl-mine"
    assert sorted(request.request_id for request in service.requests) == ["mine-0", "mine-1"]
    await http.post(PATH, json=asking("a"), headers={"x-request-id": "mine"})
    assert service.requests[-1].request_id == "mine"


@pytest.mark.parametrize("stream", [False, True])
async def test_a_prompt_that_is_refused_fails_all(http: httpx.AsyncClient, service: FakeService, stream: bool) -> None:
    """The error has its status, streamed or not, and what was begun or waits is cancelled."""
    begun, waiting = blocks = Block(), Block()
    service.scripts = {"a": [started(), begun], "b": [Reached(blocks), invalid("text")], "c": [waiting]}
    response = await http.post(PATH, json=asking("a", "b", "c", stream=stream))
    assert (response.status_code, response.json()["error"]["param"]) == (400, "prompt")
    for block in blocks:
        await asyncio.wait_for(block.cancelled.wait(), TIMEOUT_S)


async def test_a_prompt_that_fails_later_fails_all(http: httpx.AsyncClient, service: FakeService) -> None:
    """A whole answer has its status, a stream its last event, and the others are cancelled."""
    failure = Failure(grpc.StatusCode.ABORTED, "stopped")
    for stream in (False, True):
        running = Block()
        reached = Reached([running])
        service.scripts = {"a": [started(), text("a"), running], "b": [started(), text("b"), reached, failure]}
        response = await http.post(PATH, json=asking("a", "b", stream=stream))
        assert response.status_code == (200 if stream else 409)
        *_, last = response.text.strip().split("\n\n")
        assert json.loads(last.removeprefix("data: "))["error"]["code"] == "request_aborted"
        await asyncio.wait_for(running.cancelled.wait(), TIMEOUT_S)


async def test_an_end_without_the_last_event_is_an_error(http: httpx.AsyncClient, service: FakeService) -> None:
    """An answer is not passed off as whole where one of its prompts is cut short."""
    service.scripts = {"b": [started(), text("b"), finish()]}
    assert (await http.post(PATH, json=asking("a", "b"))).status_code == 500
    service.scripts = {}
    assert (await http.post(PATH, json=asking("a", "b"))).status_code == 200


async def test_leaving_cancels_all(http: httpx.AsyncClient, service: FakeService) -> None:
    """A client that goes away ends every call of its request."""
    blocks = [Block(), Block(), Block()]
    service.scripts = {
        "a": [started(), text("a"), blocks[0]], "b": [started(), blocks[1]], "c": [started(), *says("c"), blocks[2]],
    }  # fmt: skip
    async with http.stream("POST", PATH, json=asking("a", "b", "c", stream=True)):
        for block in blocks:
            await asyncio.wait_for(block.reached.wait(), TIMEOUT_S)
    for block in blocks:
        await asyncio.wait_for(block.cancelled.wait(), TIMEOUT_S)


async def test_what_is_not_read_is_not_gathered(http: httpx.AsyncClient, service: FakeService) -> None:
    """A prompt that says much waits for its reader, and loses nothing."""
    many: list[Step] = [text(f"{number} ") for number in range(1000)]
    service.scripts = {"a": [started(), *many, finish(), completed()], "b": [started(), *many, finish(), completed()]}
    words = "".join(f"{number} " for number in range(1000))
    said = ["", ""]
    for chunk in await streamed(http, asking("a", "b")):
        said[chunk["choices"][0]["index"]] += chunk["choices"][0]["text"]
    assert said == [words, words]


async def test_a_harness_scores_several_texts_at_once(http: httpx.AsyncClient, service: FakeService) -> None:
    """It works in the form in which lm-eval asks and reads: token ids in, tokens and the likeliest ones out.

    Of three tokens the first is the context, and one is generated, which is dropped.
    """
    service.script = [
        started(),
        text("The sky", logprobs=[token(b"The", None), token(b" sky", -4.0, {b" dog": -0.5})]),
        text(" is", logprobs=[token(b" is", -0.5, {b" is": -0.5})]),
        text("", logprobs=[token(b"<eos>", -0.1, {b"<eos>": -0.1})]),
        finish(stop_token=2),
        completed(),
    ]
    body = {
        "model": "tiny", "prompt": [[5, 6, 7], [5, 6, 7]], "max_tokens": 1, "temperature": 0, "logprobs": 1,
        "echo": True, "seed": 1234,
    }  # fmt: skip
    choices = (await http.post(PATH, json=body)).json()["choices"]
    assert [list(request.token_ids.ids) for request in service.generates] == [[5, 6, 7]] * 2
    assert [choice["index"] for choice in choices] == [0, 1]
    for choice in choices:
        logprobs = choice["logprobs"]
        scored = slice(1, -1)
        assert sum(logprobs["token_logprobs"][scored]) == -4.5
        likeliest = [max(top, key=top.get) for top in logprobs["top_logprobs"][scored]]
        assert [one == two for one, two in zip(logprobs["tokens"][scored], likeliest, strict=True)] == [False, True]


async def test_the_sdk_reads_several_prompts(sdk: openai.AsyncOpenAI, service: FakeService) -> None:
    """The official SDK sends a list, and its types fit what comes back."""
    done = await sdk.completions.create(model="tiny", prompt=["a", "b"])
    assert [choice.text for choice in done.choices] == ["Hello world"] * 2
    said = ["", ""]
    async for chunk in await sdk.completions.create(model="tiny", prompt=["a", "b"], stream=True):
        said[chunk.choices[0].index] += chunk.choices[0].text
    assert said == ["Hello world"] * 2
    await eventually(lambda: len(service.requests) == 4)
