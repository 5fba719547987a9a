"""Streamed and unary answers are the same, for every feature, and the same over HTTP and gRPC."""

import asyncio
import json

import httpx
import pytest
from grpc import aio

from tests import calls
from tests.e2e.seen import CHAT, TEXT, Json, Refused, Seen, ask, call, stream, wire
from tests.e2e.ways import all_ways
from tests.e2e.wires import chat_json, text_json
from tests.taught import ADD, FACT_SCHEMA, TOOLS, lesson_body

QUESTION = [{"role": "user", "content": "Draw."}]
GREEDY: Json = {"model": "tiny", "messages": QUESTION, "temperature": 0, "max_tokens": 24}
DRAWN: Json = GREEDY | {"temperature": 1, "seed": 11}
PROMPT: Json = {"model": "tiny", "prompt": "The sky is", "temperature": 0, "max_tokens": 24}


FORM: Json = {"type": "json_schema", "json_schema": {"name": "fact", "schema": FACT_SCHEMA}}
NAMED: Json = {"type": "function", "function": {"name": ADD["function"]["name"]}}
CHATS: dict[str, Json] = {
    "greedy": GREEDY,
    "drawn": DRAWN,
    "several choices": DRAWN | {"n": 4},
    "top_p": DRAWN | {"top_p": 0.4},
    "top_k": DRAWN | {"top_k": 3},
    "min_p": DRAWN | {"min_p": 0.2},
    "penalties": GREEDY | {"frequency_penalty": 1.5, "presence_penalty": 1, "repetition_penalty": 1.3},
    "biased": GREEDY | {"logit_bias": {"40": 100, "41": 99.5}},
    "one token": GREEDY | {"max_tokens": 1},
    "past the end": GREEDY | {"ignore_eos": True, "max_tokens": 80},
    "at least": DRAWN | {"min_tokens": 20},
    "stop string": lesson_body("qwen", "plain", stop=[", 4"]),
    "stop strings": lesson_body("qwen", "plain", stop=["5", "3, ", "nothing"]),
    "stop string kept": lesson_body("qwen", "plain", stop=[" 4"], include_stop=True),
    "stop string in a thought": lesson_body("qwen", "thought", stop=["Short"]),
    "stop token": GREEDY | {"stop_token_ids": list(range(0, 384, 3)), "ignore_eos": True},
    "log-probabilities": DRAWN | {"logprobs": True, "top_logprobs": 3, "n": 2},
    "log-probabilities alone": GREEDY | {"logprobs": True},
    "log-probabilities of a thought": lesson_body("qwen", "thought", logprobs=True, top_logprobs=2),
    "log-probabilities and a stop": lesson_body("qwen", "plain", logprobs=True, stop=[", 4"]),
    "thought": lesson_body("qwen", "thought"),
    "thoughts": lesson_body("qwen", "thought", n=2),
    "switched off": lesson_body("qwen", "thought", chat_template_kwargs={"enable_thinking": False}),
    "no effort": lesson_body("llama3", "thought", reasoning_effort="none", max_completion_tokens=40),
    "a budget": lesson_body("qwen", "thought", thinking_budget=3, max_completion_tokens=40),
    "cut while it thinks": lesson_body("qwen", "thought", max_completion_tokens=5),
    "a call": lesson_body("qwen", "call"),
    "a thought and a call": lesson_body("qwen", "thought call"),
    "a thought and a bare call": lesson_body("llama3", "thought call"),
    "calls": lesson_body("qwen", "text and calls"),
    "bare calls": lesson_body("llama3", "calls"),
    "text around a call": lesson_body("qwen", "text around"),
    "one call only": lesson_body("qwen", "text and calls", parallel_tool_calls=False),
    "no calls": lesson_body("qwen", "text and calls", tool_choice="none", max_completion_tokens=40),
    "a call that must be": lesson_body("qwen", "no call", tool_choice="required"),
    "a call by name": lesson_body("llama3", "no call", tool_choice=NAMED),
    "calls of random weights": DRAWN | {"tools": list(TOOLS), "tool_choice": "required", "max_tokens": 300, "n": 2},
    "a cut call": lesson_body("qwen", "call", max_completion_tokens=12),
    "a broken call": lesson_body("qwen", "unreadable"),
    "call and log-probabilities": lesson_body("qwen", "text and calls", logprobs=True, top_logprobs=2),
    "results": lesson_body("qwen", "two results"),
    "a schema": DRAWN | {"response_format": FORM, "max_tokens": 400, "n": 2},
    "a schema after a thought": lesson_body("qwen", "fact", response_format=FORM),
    "an object": DRAWN | {"response_format": {"type": "json_object"}, "max_tokens": 200},
    "a regex": DRAWN | {"response_format": {"type": "regex", "regex": "[a-f]{3,9}é?"}},
    "a choice": DRAWN | {"response_format": {"type": "choice", "choice": ["yes", "no", "\N{CAT FACE}"]}},
    "a grammar": DRAWN | {"response_format": {"type": "grammar", "grammar": 'start: "(" start* ")"'}},
    "plain text": GREEDY | {"response_format": {"type": "text"}},
}
TEXTS: dict[str, Json] = {
    "greedy": PROMPT,
    "drawn choices": PROMPT | {"temperature": 1, "seed": 4, "n": 3},
    "token ids": PROMPT | {"prompt": [5, 6, 7, 8]},
    "echo": PROMPT | {"echo": True},
    "stop string": PROMPT | {"stop": ["e", "\n"], "max_tokens": 60},
    "log-probabilities": PROMPT | {"logprobs": 2},
    "log-probabilities of choices": PROMPT | {"logprobs": 1, "n": 2, "temperature": 1, "seed": 4},
    "echo and log-probabilities": PROMPT | {"logprobs": 1, "echo": True},
    "scored": PROMPT | {"logprobs": 1, "echo": True, "max_tokens": 0},
    "several prompts": PROMPT | {"prompt": ["The sky", "One, two"]},
    "several prompts and choices": PROMPT | {"prompt": ["The sky", "One"], "n": 2, "temperature": 1, "seed": 4},
    "several lists of tokens": PROMPT | {"prompt": [[5, 6], [7, 8, 9]], "echo": True},
    "several scored": PROMPT | {"prompt": ["The sky", "One, two"], "logprobs": 1, "echo": True, "max_tokens": 0},
    "a schema": PROMPT | {"guided_json": FACT_SCHEMA, "temperature": 1, "seed": 2, "max_tokens": 300},
    "a regex": PROMPT | {"regex": "[a-f]{3,9}"},
    "a choice": PROMPT | {"guided_choice": ["yes", "no"]},
    "best_of as many": PROMPT | {"n": 2, "best_of": 2},
}
SPLIT = {name for name in TEXTS if name.startswith("several")}
"""Several prompts are several calls over gRPC."""


@pytest.mark.parametrize("name", CHATS)
async def test_a_chat_is_the_same_by_all_ways(
    taught: httpx.AsyncClient, taught_channel: aio.Channel, name: str
) -> None:
    """The stream folds to the whole answer, log-probabilities included, and gRPC says the same."""
    whole, streamed, wired = await all_ways(taught, taught_channel, CHATS[name])
    assert streamed == whole
    assert wired.bare == whole.bare


@pytest.mark.parametrize("name", TEXTS)
async def test_a_completion_is_the_same_by_all_ways(
    taught: httpx.AsyncClient, taught_channel: aio.Channel, name: str
) -> None:
    """The stream folds to the whole answer, and gRPC says the same, several prompts one by one."""
    body = TEXTS[name]
    prompts = body["prompt"] if name in SPLIT else [body["prompt"]]
    whole, streamed, *wired = await asyncio.gather(
        ask(taught, TEXT, body),
        stream(taught, TEXT, body),
        *(call(taught_channel, text_json(body | {"prompt": prompt})) for prompt in prompts),
    )
    assert streamed == whole
    together = Seen(
        tuple(said for each in wired for said in each.bare.said),
        prompt_tokens=sum(each.prompt_tokens for each in wired),
        completion_tokens=sum(each.completion_tokens for each in wired),
    )
    assert together == whole.bare


async def test_the_table_of_chats_is_what_it_says(taught: httpx.AsyncClient) -> None:
    """Requests that are there for an effect have it, so that none compares nothing with nothing."""
    names = (
        "greedy",
        "drawn",
        "top_p",
        "top_k",
        "penalties",
        "biased",
        "thought",
        "switched off",
        "calls",
        "a cut call",
    )
    answers = await asyncio.gather(*(ask(taught, CHAT, CHATS[name]) for name in names))
    seen = dict(zip(names, answers, strict=True))
    texts = [seen[name].one.text for name in names[:6]]
    assert all(texts)
    assert len(set(texts)) == len(texts)
    assert seen["thought"].one.reasoning
    assert not seen["switched off"].one.reasoning
    assert [len(seen[name].one.calls) for name in names[-2:]] == [2, 1]


async def test_usage_comes_only_where_it_is_asked_for(taught: httpx.AsyncClient) -> None:
    """Without include_usage no chunk has any."""
    for path, body in ((CHAT, GREEDY), (TEXT, PROMPT)):
        for options in ({}, {"stream_options": None}, {"stream_options": {"include_usage": False}}):
            response = await taught.post(path, json=body | {"stream": True} | options)
            *events, done = response.text.strip().split("\n\n")
            chunks = [json.loads(event.removeprefix("data: ")) for event in events]
            assert done == "data: [DONE]"
            assert not any(chunk.get("usage") for chunk in chunks)
            assert all(chunk["choices"] for chunk in chunks)


async def test_a_refusal_is_the_same_streamed(taught: httpx.AsyncClient) -> None:
    """What is refused before the first byte has its status, streamed or not."""
    bad = GREEDY | {"temperature": 3}
    answers = await asyncio.gather(ask(taught, CHAT, bad), stream(taught, CHAT, bad), return_exceptions=True)
    errors = [answer.error for answer in answers if isinstance(answer, Refused)]
    assert len(errors) == 2
    assert errors[0] == errors[1]


async def test_ids_of_tokens_are_those_of_the_text(taught_channel: aio.Channel) -> None:
    """Over gRPC each generated token is in one delta, with its log-probability beside it."""
    for name in ("drawn", "thought", "calls", "a schema after a thought", "stop string", "a cut call"):
        request = chat_json(CHATS[name] | {"n": 1})
        asked = {"logprobs": True, "tokenIds": True, "topLogprobs": 0}
        answer = await calls.answer(taught_channel, wire(request | {"output": asked}))
        deltas = [getattr(event, kind) for event in answer.events for kind in ("text", "reasoning", "tool_call")]
        ids = [number for delta in deltas for number in delta.token_ids]
        assert len(ids) == answer.usage.completion_tokens
        assert [token.token_id for delta in deltas for token in delta.logprobs] == ids
