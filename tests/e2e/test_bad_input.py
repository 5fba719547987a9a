"""Bad requests over HTTP, to the real system: each is refused by name, and none of them harms the next request."""

import json
from typing import Any

import httpx
import pytest

CHAT: dict[str, Any] = {"model": "talker", "messages": [{"role": "user", "content": "What is two and two?"}]}
TEXT: dict[str, Any] = {"model": "tiny", "prompt": "The sky is", "max_tokens": 4}
LONG = "blue " * 40_000

BAD_CHATS: list[tuple[dict[str, Any], str]] = [
    ({"messages": []}, "messages"),
    ({"messages": "hello"}, "messages"),
    ({"messages": [{"role": "wizard", "content": "hello"}]}, "messages[0].role"),
    ({"messages": [{"role": "user"}]}, "messages[0].content"),
    ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages[0].content[0].type"),
    ({"model": None}, "model"),
    ({"max_tokens": -1}, "max_tokens"),
    ({"max_tokens": 0}, "max_tokens"),
    ({"max_tokens": 10**12}, "max_tokens"),
    ({"max_tokens": "5"}, "max_tokens"),
    ({"max_completion_tokens": -1}, "max_completion_tokens"),
    ({"temperature": -0.1}, "temperature"),
    ({"temperature": 2.1}, "temperature"),
    ({"temperature": "hot"}, "temperature"),
    ({"top_p": 0}, "top_p"),
    ({"top_p": 1.1}, "top_p"),
    ({"top_k": -1}, "top_k"),
    ({"min_p": 1.5}, "min_p"),
    ({"frequency_penalty": 2.5}, "frequency_penalty"),
    ({"presence_penalty": -2.5}, "presence_penalty"),
    ({"repetition_penalty": 0}, "repetition_penalty"),
    ({"logit_bias": {"999999": 1}}, "logit_bias"),
    ({"logit_bias": {"-1": 1}}, "logit_bias"),
    ({"logit_bias": {"five": 1}}, "logit_bias"),
    ({"logit_bias": {"5": 101}}, "logit_bias"),
    ({"stop": [5]}, "stop"),
    ({"stop": ["a", "b", "c", "d", "e"]}, "stop"),
    ({"stop": ["a", ""]}, "stop"),
    ({"stop": ""}, "stop"),
    ({"seed": 1.5}, "seed"),
    ({"seed": 2**70}, "seed"),
    ({"n": 0}, "n"),
    ({"n": 129}, "n"),
    ({"n": 10**12}, "n"),
    ({"top_logprobs": 2}, "top_logprobs"),
    ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
    ({"response_format": {"type": "xml"}}, "response_format.type"),
    ({"tools": [{"type": "function", "function": {"name": ""}}]}, "tools[0].function.name"),
    ({"stream": "yes"}, "stream"),
]
BAD_TEXTS: list[tuple[dict[str, Any], str]] = [
    ({"prompt": ""}, "prompt"),
    ({"prompt": []}, "prompt"),
    ({"prompt": 5}, "prompt"),
    ({"prompt": [1, "a"]}, "prompt"),
    ({"prompt": {"text": "a"}}, "prompt"),
    ({"prompt": ["a", ""]}, "prompt"),
    ({"prompt": [999_999]}, "prompt"),
    ({"prompt": [-1]}, "prompt"),
    ({"prompt": [2**40]}, "prompt"),
    ({"max_tokens": 0}, "max_tokens"),
    ({"best_of": 3}, "best_of"),
    ({"suffix": "end"}, "suffix"),
]
BAD_BODIES: dict[str, tuple[bytes, int]] = {
    "not JSON": (b"model=talker", 400),
    "cut short": (b'{"model": "talker"', 400),
    "empty": (b"", 400),
    "not an object": (b"[1, 2]", 400),
    "not UTF-8": (b'{"model": "\xff\xfe"}', 400),
    "NaN": (json.dumps(CHAT | {"temperature": float("nan")}).encode(), 400),
    "infinity": (json.dumps(CHAT | {"top_p": float("inf")}).encode(), 400),
    "too large a number": (json.dumps(CHAT)[:-1].encode() + b', "temperature": 1e999}', 400),
    "10,000 deep": (b"[" * 10_000 + b"]" * 10_000, 400),
    "10,000 deep inside": (json.dumps(CHAT)[:-1].encode() + b', "x": ' + b"[" * 10_000 + b"]" * 10_000 + b"}", 400),
    "10 MB": (json.dumps(CHAT | {"user": "x" * 10_000_000}).encode(), 413),
}


async def check_error(answer: httpx.Response, status: int, param: str | None = None) -> None:
    """Check that it is OpenAI's error object, and the right one."""
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"]
    if param is not None:
        assert error["param"] == param


async def check_still_well(http: httpx.AsyncClient) -> None:
    """Check that a normal request is answered, word for word."""
    answer = await http.post("/v1/chat/completions", json=CHAT | {"temperature": 0})
    assert answer.json()["choices"][0]["message"]["content"] == "Four."


@pytest.mark.parametrize(("change", "param"), BAD_CHATS, ids=str)
@pytest.mark.parametrize("stream", [False, True])
async def test_a_bad_chat_is_refused_by_name(
    http: httpx.AsyncClient, change: dict[str, Any], param: str, stream: bool
) -> None:
    """A chat request with one thing wrong is a 400 that names it, streamed or not."""
    answer = await http.post("/v1/chat/completions", json=CHAT | {"stream": stream} | change)
    await check_error(answer, 400, param)
    await check_still_well(http)


@pytest.mark.parametrize(("change", "param"), BAD_TEXTS, ids=str)
async def test_a_bad_completion_is_refused_by_name(http: httpx.AsyncClient, change: dict[str, Any], param: str) -> None:
    """A completion request with one thing wrong is a 400 that names it."""
    await check_error(await http.post("/v1/completions", json=TEXT | change), 400, param)
    await check_still_well(http)


@pytest.mark.parametrize(("body", "status"), BAD_BODIES.values(), ids=BAD_BODIES)
async def test_a_bad_body_is_refused(http: httpx.AsyncClient, body: bytes, status: int) -> None:
    """A body that is not a JSON object of a bearable size is refused before anything else sees it."""
    headers = {"content-type": "application/json"}
    await check_error(await http.post("/v1/chat/completions", content=body, headers=headers), status)
    await check_still_well(http)


async def test_an_unknown_model_is_not_found(http: httpx.AsyncClient) -> None:
    """A model that is not there is a 404 with OpenAI's code."""
    answer = await http.post("/v1/chat/completions", json=CHAT | {"model": "nobody"})
    await check_error(answer, 404, "model")
    assert answer.json()["error"]["code"] == "model_not_found"
    await check_error(await http.get("/v1/models/nobody"), 404)
    await check_still_well(http)


@pytest.mark.parametrize("name", ["m" * 3000, "m" * 100_000, "\N{WAVING HAND SIGN}" * 3000], ids=len)
async def test_an_unknown_model_may_have_a_long_name(http: httpx.AsyncClient, name: str) -> None:
    """It is not found like any other."""
    answer = await http.post("/v1/completions", json=TEXT | {"model": name})
    await check_error(answer, 404, "model")
    assert answer.json()["error"]["code"] == "model_not_found"
    assert len(answer.content) < 4000


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/v1/chat/completions", CHAT | {"messages": [{"role": "user", "content": LONG}]}, "messages"),
        ("/v1/completions", TEXT | {"prompt": LONG}, "prompt"),
    ],
    ids=["chat", "text"],
)
async def test_a_prompt_beyond_the_context_is_refused(
    http: httpx.AsyncClient, path: str, body: dict[str, Any], param: str
) -> None:
    """A prompt that leaves no room is a 400 with OpenAI's code."""
    answer = await http.post(path, json=body)
    await check_error(answer, 400, param)
    assert answer.json()["error"]["code"] == "context_length_exceeded"
    await check_still_well(http)


async def test_a_model_without_a_template_takes_no_chat(http: httpx.AsyncClient) -> None:
    """A model with no chat template refuses conversations and still completes text."""
    await check_error(await http.post("/v1/chat/completions", json=CHAT | {"model": "bare"}), 400)
    answer = await http.post("/v1/completions", json=TEXT | {"model": "bare"})
    assert answer.json()["usage"]["completion_tokens"] == 4


async def test_nulls_are_defaults_and_unknown_fields_are_ignored(http: httpx.AsyncClient) -> None:
    """What clients send without meaning anything changes nothing."""
    nulls = dict.fromkeys(
        ["stream", "stop", "seed", "max_tokens", "n", "tools", "response_format", "logit_bias", "user"]
    )
    answer = await http.post(
        "/v1/chat/completions", json=CHAT | nulls | {"temperature": 0, "shoe_size": 43, "metadata": {"a": "b"}}
    )
    assert answer.json()["choices"][0]["message"]["content"] == "Four."
