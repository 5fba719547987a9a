"""Log-probabilities in OpenAI's two forms, streamed and whole."""

import json
import math
from collections.abc import Sequence
from typing import Any

import httpx
import openai
import pytest

from mlx_grpc.v1 import generation_pb2 as wire
from tests.shim.fakes import FakeService, Step, completed, finish, reasoning, started, text, token

CHAT: dict[str, Any] = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}], "logprobs": True}
TEXT: dict[str, Any] = {"model": "tiny", "prompt": "x", "logprobs": 2}
HEL = token(b"Hel", -0.25, {b"Hel": -0.25, b"Ja": -2.0})
EOS = token(b"<|im_end|>", -0.125)
HELLO: list[Step] = [
    started(),
    text("Hel", logprobs=[HEL]),
    text("", logprobs=[token(b"lo\xc3", -1.5)]),
    text("lo\u00e9!", logprobs=[token(b"\xa9", -3.0), token(b"!", -0.5)]),
    text("", logprobs=[EOS]),
    finish(),
    completed(),
]
PROMPT: list[Step] = [
    started(),
    text("The sky is", logprobs=[token(b"The", None), token(b" sky", -4.0, {b" dog": -0.5, b" cat": -1.0})]),
    text("", logprobs=[token(b" is", -0.5, {b" is": -0.5})]),
    text(" blue", logprobs=[token(b" blue", -0.75, {b" blue": -0.75})]),
    finish(wire.FINISH_REASON_LENGTH),
    completed(),
]


async def chunks(http: httpx.AsyncClient, path: str, body: dict[str, Any]) -> list[dict[str, Any]]:
    """Stream, and give the choices in order."""
    response = await http.post(path, json=body | {"stream": True})
    *events, done = response.text.strip().split("\n\n")
    assert done == "data: [DONE]"
    return [json.loads(event.removeprefix("data: "))["choices"][0] for event in events]


async def whole(http: httpx.AsyncClient, path: str, body: dict[str, Any]) -> Any:
    """Ask for the whole answer, and give its choice."""
    return (await http.post(path, json=body)).json()["choices"][0]


async def test_a_chat_has_the_tokens_of_its_text(http: httpx.AsyncClient, service: FakeService) -> None:
    """Token, bytes and alternatives are told for each token of the text, and nothing of the one that stopped it."""
    service.script = HELLO
    choice = await whole(http, "/v1/chat/completions", CHAT | {"top_logprobs": 2})
    logprobs = choice["logprobs"]
    assert logprobs["refusal"] is None
    assert logprobs["content"][0] == {
        "token": "Hel", "logprob": -0.25, "bytes": [72, 101, 108], "top_logprobs": [
            {"token": "Hel", "logprob": -0.25, "bytes": [72, 101, 108]},
            {"token": "Ja", "logprob": -2.0, "bytes": [74, 97]},
        ],
    }  # fmt: skip
    assert [each["token"] for each in logprobs["content"]] == ["Hel", "lo\ufffd", "\ufffd", "!"]
    assert b"".join(bytes(each["bytes"]) for each in logprobs["content"]).decode() == choice["message"]["content"]


async def test_a_chat_stream_has_the_same(http: httpx.AsyncClient, service: FakeService) -> None:
    """The chunks have the tokens whose text they have, and together those of the whole answer."""
    service.script = HELLO
    choices = await chunks(http, "/v1/chat/completions", CHAT)
    assert [(choice["delta"].get("content"), len(choice["logprobs"]["content"])) for choice in choices[1:]] == [
        ("Hel", 1),
        ("loé!", 3),
        (None, 0),
    ]
    gathered = [each for choice in choices if choice["logprobs"] for each in choice["logprobs"]["content"]]
    assert gathered == (await whole(http, "/v1/chat/completions", CHAT))["logprobs"]["content"]


@pytest.mark.parametrize(
    ("path", "body"),
    [("/v1/chat/completions", CHAT | {"logprobs": False}), ("/v1/completions", TEXT | {"logprobs": None})],
)
async def test_nothing_is_told_unless_asked(
    http: httpx.AsyncClient, service: FakeService, path: str, body: dict[str, Any]
) -> None:
    """Without the field they are null, and a delta without text is no chunk."""
    service.script = HELLO
    choices = await chunks(http, path, body)
    assert all(choice["logprobs"] is None for choice in choices)
    assert (await whole(http, path, body))["logprobs"] is None
    assert all(choice.get("text") != "" or choice["finish_reason"] for choice in choices)


async def test_an_empty_answer_has_an_empty_list(http: httpx.AsyncClient, service: FakeService) -> None:
    """Who asked for tokens finds a list, though there is no token in it."""
    service.script = [started(), text("", logprobs=[EOS]), finish(), completed()]
    assert (await whole(http, "/v1/chat/completions", CHAT))["logprobs"] == {"content": [], "refusal": None}
    assert (await whole(http, "/v1/completions", TEXT))["logprobs"] == {
        "tokens": [], "token_logprobs": [], "top_logprobs": [], "text_offset": [],
    }  # fmt: skip


async def test_reasoning_is_no_part_of_them(http: httpx.AsyncClient, service: FakeService) -> None:
    """The tokens are those of the content."""
    service.script = [started(), reasoning("hm", [token(b"hm")]), text("Hel", logprobs=[HEL]), finish(), completed()]
    choice = await whole(http, "/v1/chat/completions", CHAT)
    assert choice["message"]["reasoning_content"] == "hm"
    assert [each["token"] for each in choice["logprobs"]["content"]] == ["Hel"]


async def test_choices_have_their_own(http: httpx.AsyncClient, service: FakeService) -> None:
    """Interleaved choices do not mix their tokens."""
    service.script = [
        started(),
        text("a", 1, [token(b"a")]),
        text("b", 0, [token(b"b")]),
        text("c", 1, [token(b"c")]),
        finish(index=1),
        finish(index=0),
        completed(),
    ]
    answer = (await http.post("/v1/completions", json=TEXT | {"n": 2})).json()
    assert [choice["logprobs"]["tokens"] for choice in answer["choices"]] == [["b"], ["a", "c"]]
    assert [choice["logprobs"]["text_offset"] for choice in answer["choices"]] == [[0], [0, 1]]


@pytest.mark.parametrize("stream", [False, True])
async def test_an_echoed_prompt_is_scored(http: httpx.AsyncClient, service: FakeService, stream: bool) -> None:
    """The lists begin with the prompt's tokens, of which the first is predicted by nothing."""
    service.script = PROMPT
    body = TEXT | {"echo": True, "max_tokens": 1}
    logprobs: dict[str, list[Any]]
    if stream:
        choices = await chunks(http, "/v1/completions", body)
        said = "".join(choice["text"] for choice in choices)
        logprobs = {
            name: [each for choice in choices for each in choice["logprobs"][name]] for name in choices[0]["logprobs"]
        }
    else:
        choice = await whole(http, "/v1/completions", body)
        said, logprobs = choice["text"], choice["logprobs"]
    assert said == "The sky is blue"
    assert logprobs == {
        "tokens": ["The", " sky", " is", " blue"],
        "token_logprobs": [None, -4.0, -0.5, -0.75],
        "top_logprobs": [None, {" dog": -0.5, " cat": -1.0, " sky": -4.0}, {" is": -0.5}, {" blue": -0.75}],
        "text_offset": [0, 3, 7, 10],
    }
    assert service.generates[0].output == wire.OutputOptions(
        echo=True, logprobs=True, top_logprobs=2, prompt_logprobs=2
    )


async def test_a_prompt_is_scored_without_an_answer(http: httpx.AsyncClient, service: FakeService) -> None:
    """No token is generated where none is asked for, which is how evaluation harnesses score a text."""
    service.script = [*PROMPT[:3], finish(wire.FINISH_REASON_LENGTH), completed()]
    choice = await whole(http, "/v1/completions", TEXT | {"echo": True, "max_tokens": 0})
    assert service.generates[0].stopping.max_tokens == 0
    assert service.generates[0].stopping.HasField("max_tokens")
    assert (choice["text"], choice["finish_reason"]) == ("The sky is", "length")
    assert choice["logprobs"]["token_logprobs"] == [None, -4.0, -0.5]


async def test_tokens_without_text_count_where_nothing_stopped(http: httpx.AsyncClient, service: FakeService) -> None:
    """An answer that ends by its length has all of its tokens, those that do not show too."""
    service.script = [started(), text("a", logprobs=[token(b"a")]), text("", logprobs=[EOS])]
    service.script += [finish(wire.FINISH_REASON_LENGTH), completed()]
    choice = await whole(http, "/v1/completions", TEXT)
    assert choice["logprobs"]["tokens"] == ["a", "<|im_end|>"]
    assert choice["logprobs"]["text_offset"] == [0, 1]


@pytest.mark.parametrize(("echo", "tokens"), [(True, ["The", " sky", " is", "<|im_end|>"]), (False, [])])
async def test_a_scored_text_may_be_followed_by_a_stop_token(
    http: httpx.AsyncClient, service: FakeService, echo: bool, tokens: list[str]
) -> None:
    """A harness scores with one token to generate, and drops the last one, which may be the end of the text."""
    said = PROMPT[1:3] if echo else []
    service.script = [started(), *said, text("", logprobs=[EOS]), finish(stop_token=2), completed()]
    choice = await whole(http, "/v1/completions", TEXT | {"echo": echo, "max_tokens": 1})
    assert choice["logprobs"]["tokens"] == tokens
    assert choice["text"] == ("The sky is" if echo else "")


async def test_what_json_cannot_say(http: httpx.AsyncClient, service: FakeService) -> None:
    """A probability of zero is told as OpenAI does, and of alternatives that look the same the likelier counts."""
    top = {b"\xff": -1.0, b"\xfe": -2.0}
    service.script = [started(), text("a", logprobs=[token(b"a", -math.inf, top)]), finish(), completed()]
    logprobs = (await whole(http, "/v1/completions", TEXT))["logprobs"]
    assert logprobs["token_logprobs"] == [-9999.0]
    assert logprobs["top_logprobs"] == [{"\ufffd": -1.0, "a": -9999.0}]


async def test_the_sdk_reads_both_forms(sdk: openai.AsyncOpenAI, service: FakeService) -> None:
    """The official SDK's types fit."""
    service.script = HELLO
    messages: Sequence[Any] = CHAT["messages"]
    chat = await sdk.chat.completions.create(model="tiny", messages=messages, logprobs=True, top_logprobs=2)
    assert chat.choices[0].logprobs is not None
    assert chat.choices[0].logprobs.content is not None
    assert chat.choices[0].logprobs.content[0].top_logprobs[1].token == "Ja"
    service.script = PROMPT
    done = await sdk.completions.create(model="tiny", prompt="x", logprobs=2, echo=True)
    assert done.choices[0].logprobs is not None
    assert done.choices[0].logprobs.tokens == ["The", " sky", " is", " blue"]
