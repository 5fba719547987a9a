"""What the engine gives each row, as a client of OpenAI's API gets it: choices, log-probabilities, cache, deadlines."""

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import StartService
from tests.processes import ServiceProcess
from tests.shim.processes import started_shim
from tests.tiny import DIALOGUES

QUESTION = "Count to five."
ANSWER = DIALOGUES[QUESTION]
CHAT: dict[str, Any] = {"model": "talker", "messages": [{"role": "user", "content": QUESTION}], "temperature": 0}
PROMPT = "The sky is blue because the air scatters it"
TEXT: dict[str, Any] = {"model": "tiny", "prompt": PROMPT, "max_tokens": 6, "temperature": 0, "ignore_eos": True}
ENDLESS = TEXT | {"max_tokens": 30_000}


async def ask(http: httpx.AsyncClient, path: str, body: dict[str, Any]) -> Any:
    """Ask for a whole answer."""
    response = await http.post(path, json=body)
    assert response.status_code == 200, response.text
    return response.json()


async def chunks(http: httpx.AsyncClient, path: str, body: dict[str, Any]) -> list[dict[str, Any]]:
    """Stream to `[DONE]`, and give the chunks."""
    response = await http.post(path, json=body | {"stream": True})
    *events, done = response.text.strip().split("\n\n")
    assert done == "data: [DONE]"
    return [json.loads(event.removeprefix("data: ")) for event in events]


async def test_greedy_choices_are_the_same(http: httpx.AsyncClient) -> None:
    """Each of several choices is what one alone is, and the prompt that they share counts once."""
    one = await ask(http, "/v1/completions", TEXT)
    several = await ask(http, "/v1/completions", TEXT | {"n": 3})
    assert [choice["index"] for choice in several["choices"]] == [0, 1, 2]
    assert {choice["text"] for choice in several["choices"]} == {one["choices"][0]["text"]}
    assert several["usage"]["prompt_tokens"] == one["usage"]["prompt_tokens"]
    assert several["usage"]["completion_tokens"] == 3 * one["usage"]["completion_tokens"] == 18


@pytest.mark.parametrize("path", ["/v1/completions", "/v1/chat/completions"])
async def test_streamed_choices_are_the_whole_ones(http: httpx.AsyncClient, path: str) -> None:
    """With a seed the stream of drawn choices folds to the whole answer, and they differ from each other."""
    body = TEXT | {"temperature": 1, "seed": 5, "n": 4, "messages": CHAT["messages"], "max_tokens": 12}
    answer = await ask(http, path, body)
    whole = [choice["text"] if "text" in choice else choice["message"]["content"] for choice in answer["choices"]]
    said = [""] * 4
    finishes = []
    for (choice,) in (chunk["choices"] for chunk in await chunks(http, path, body)):
        said[choice["index"]] += choice["text"] if "text" in choice else choice["delta"].get("content", "")
        finishes += [choice["index"]] if choice["finish_reason"] else []
    assert said == whole
    assert len(set(whole)) > 1
    assert sorted(finishes) == [0, 1, 2, 3]


async def test_a_chats_tokens_are_its_text(http: httpx.AsyncClient) -> None:
    """The tokens joined are the content, without the one that ended it, and greedy ones are the likeliest."""
    choice = (await ask(http, "/v1/chat/completions", CHAT | {"logprobs": True, "top_logprobs": 3}))["choices"][0]
    tokens = choice["logprobs"]["content"]
    assert choice["message"]["content"] == ANSWER
    assert b"".join(bytes(token["bytes"]) for token in tokens).decode() == ANSWER
    for token in tokens:
        likeliest = [top["logprob"] for top in token["top_logprobs"]]
        assert likeliest == sorted(likeliest, reverse=True)
        assert len(likeliest) == 3
        assert token["top_logprobs"][0]["bytes"] == token["bytes"]
        assert token["logprob"] == pytest.approx(likeliest[0])
        assert token["logprob"] <= 0


@pytest.mark.parametrize("stop", [None, ", 4"])
async def test_streamed_tokens_are_the_whole_ones(http: httpx.AsyncClient, stop: str | None) -> None:
    """A stream has the same tokens as the whole answer, and none of a stop string's."""
    body = CHAT | {"logprobs": True, "top_logprobs": 2, "stop": stop}
    whole = (await ask(http, "/v1/chat/completions", body))["choices"][0]
    streamed = [chunk["choices"][0]["logprobs"] for chunk in await chunks(http, "/v1/chat/completions", body)]
    tokens = [token for logprobs in streamed if logprobs for token in logprobs["content"]]
    assert [token["token"] for token in tokens] == [token["token"] for token in whole["logprobs"]["content"]]
    joined = b"".join(bytes(token["bytes"]) for token in tokens).decode()
    assert joined.startswith(whole["message"]["content"])
    # The last token may reach into the stop string; a whole token of it is too much.
    assert len(joined) - len(whole["message"]["content"]) < max(len(tokens[-1]["token"]), 1)


async def test_a_prompt_is_scored(http: httpx.AsyncClient) -> None:
    """With echo and no token to generate the prompt's tokens come with what the model thinks of them."""
    body = TEXT | {"echo": True, "logprobs": 1}
    scored = (await ask(http, "/v1/completions", body | {"max_tokens": 0}))["choices"][0]
    logprobs = scored["logprobs"]
    assert scored["text"] == "".join(logprobs["tokens"]) == PROMPT
    assert logprobs["token_logprobs"][0] is None
    assert logprobs["top_logprobs"][0] is None
    assert all(logprob < 0 for logprob in logprobs["token_logprobs"][1:])
    predicted = [logprobs[name][1:] for name in ("tokens", "token_logprobs", "top_logprobs")]
    for token, logprob, top in zip(*predicted, strict=True):
        assert top[token] == logprob <= max(top.values())
    for token, offset in zip(logprobs["tokens"], logprobs["text_offset"], strict=True):
        assert scored["text"][offset:].startswith(token)
    longer = (await ask(http, "/v1/completions", body))["choices"][0]["logprobs"]
    assert len(longer["tokens"]) == len(logprobs["tokens"]) + 6
    assert longer["token_logprobs"][1 : len(logprobs["tokens"])] == pytest.approx(logprobs["token_logprobs"][1:])


async def test_a_cached_prompt_is_told_and_keys_keep_it_apart(http: httpx.AsyncClient) -> None:
    """The second request of a key has cached tokens, and the first of another has none."""
    body = TEXT | {"prompt": PROMPT * 20}
    cached = []
    for key in ("one", "one", "another"):
        usage = (await ask(http, "/v1/completions", body | {"prompt_cache_key": key}))["usage"]
        cached.append(usage["prompt_tokens_details"]["cached_tokens"])
    assert cached[0] == cached[2] == 0
    assert 0 < cached[1] < usage["prompt_tokens"]


@pytest.mark.parametrize(
    ("path", "fields", "param"),
    [
        ("/v1/chat/completions", {"n": 0}, "n"),
        ("/v1/chat/completions", {"n": 129}, "n"),
        ("/v1/completions", {"n": 129}, "n"),
        ("/v1/chat/completions", {"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ("/v1/chat/completions", {"logprobs": True, "top_logprobs": -1}, "top_logprobs"),
        ("/v1/chat/completions", {"top_logprobs": 2}, "top_logprobs"),
        ("/v1/completions", {"logprobs": 21}, "logprobs"),
        ("/v1/completions", {"logprobs": 21, "echo": True}, "logprobs"),
        ("/v1/completions", {"logprobs": -1}, "logprobs"),
        ("/v1/completions", {"max_tokens": 0}, "max_tokens"),
        ("/v1/completions", {"prompt_cache_key": "x" * 257}, "prompt_cache_key"),
        ("/v1/completions", {"priority": 2**31}, "priority"),
    ],
)
async def test_what_is_out_of_range_is_named(
    http: httpx.AsyncClient, path: str, fields: dict[str, Any], param: str
) -> None:
    """The field is told as the client sent it, and a normal request works after it."""
    body = TEXT | CHAT if "chat" in path else TEXT
    response = await http.post(path, json=body | fields)
    assert (response.status_code, response.json()["error"]["param"]) == (400, param)
    assert (await http.post(path, json=body | {"max_tokens": 2})).status_code == 200


async def test_a_request_past_its_deadline_is_a_504(service: ServiceProcess, tmp_path: Path) -> None:
    """A whole answer that does not come in time is 504, a stream that has begun ends with the error."""
    config = tmp_path / "shim.toml"
    config.write_text("deadline_s = 1.0\n")
    async with (
        started_shim("--service", service.address, "--config", str(config)) as shim,
        httpx.AsyncClient(base_url=shim.url, timeout=30) as client,
    ):
        late = await client.post("/v1/completions", json=ENDLESS)
        assert (late.status_code, late.json()["error"]["code"]) == (504, "timeout")
        stream = await client.post("/v1/completions", json=ENDLESS | {"stream": True})
        *_, last = stream.text.strip().split("\n\n")
        assert json.loads(last.removeprefix("data: "))["error"]["code"] == "timeout"
        assert (await client.post("/v1/completions", json=TEXT)).status_code == 200


async def test_a_full_queue_is_a_429(start_service: StartService, tiny_model: Path, tmp_path: Path) -> None:
    """Who finds the queue full is told when to come back, and who was in it is answered."""
    config = tmp_path / "service.toml"
    config.write_text("max_running = 1\nmax_queued = 1\n")
    service = await start_service({"tiny": tiny_model}, "--config", str(config))
    async with (
        started_shim("--service", service.address) as shim,
        httpx.AsyncClient(base_url=shim.url, timeout=30) as client,
    ):
        running = asyncio.create_task(client.post("/v1/completions", json=ENDLESS))
        await asyncio.sleep(1)
        queued = asyncio.create_task(client.post("/v1/completions", json=TEXT))
        await asyncio.sleep(0.5)
        refused = await client.post("/v1/completions", json=TEXT)
        running.cancel()
        assert (refused.status_code, refused.json()["error"]["type"]) == (429, "rate_limit_error")
        assert int(refused.headers["retry-after"]) >= 1
        assert (await queued).status_code == 200
