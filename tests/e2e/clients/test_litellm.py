"""LiteLLM."""

import json
from typing import Any

import pytest

from tests.e2e.clients.conftest import Told, UseClient

ANSWER = "1, 2, 3, 4, 5."


@pytest.fixture(scope="module")
def told(use_client: UseClient) -> Told:
    """Run the script."""
    return use_client("litellm")


@pytest.mark.parametrize("case", ["complete", "complete_async"])
def test_a_whole_answer(told: Told, case: str) -> None:
    """The answer has its text, its end and its count."""
    answer = told[case]
    (choice,) = answer["choices"]
    assert (choice["message"]["content"], choice["finish_reason"]) == (ANSWER, "stop")
    assert answer["usage"]["total_tokens"] == answer["usage"]["prompt_tokens"] + answer["usage"]["completion_tokens"]


def test_a_stream_is_built_to_the_whole_answer(told: Told) -> None:
    """Its deltas are the text in parts, and what LiteLLM builds of it is the whole answer, usage included."""
    stream, whole = told["stream"], told["complete"]
    assert len([delta for delta in stream["deltas"] if delta]) > 5
    assert "".join(delta or "" for delta in stream["deltas"]) == ANSWER
    assert "".join(delta or "" for delta in told["stream_async"]) == ANSWER
    assert stream["built"]["choices"][0]["message"]["content"] == ANSWER
    assert stream["built"]["usage"]["completion_tokens"] == whole["usage"]["completion_tokens"]


def test_tokens(told: Told) -> None:
    """The tokens of the answer are its text."""
    assert "".join(token["token"] for token in told["logprobs"]["content"]) == ANSWER


def test_a_legacy_completion(told: Told) -> None:
    """The prompt comes first where it is asked for."""
    (choice,) = told["text"]["choices"]
    assert choice["text"].startswith("Count to five.")
    assert choice["finish_reason"] == "length"


def test_a_class_is_filled(told: Told) -> None:
    """A random model fills a Pydantic class."""
    assert told["structured"]["city"] in {"Paris", "Rome"}


@pytest.mark.parametrize("case", ["tool_calls", "streamed_tool_calls"])
def test_a_call_is_required(told: Told, case: str) -> None:
    """A random model calls the tool, with arguments of its schema, streamed and not."""
    (choice,) = told[case]["choices"]
    assert choice["finish_reason"] == "tool_calls"
    for call in choice["message"]["tool_calls"]:
        arguments: dict[str, Any] = json.loads(call["function"]["arguments"])
        assert call["function"]["name"] == "book"
        assert arguments["city"] in {"Paris", "Rome"}
        assert arguments["days"] in {1, 2}


def test_reasoning_is_kept_apart(told: Told) -> None:
    """What is thought and what is answered come in fields of their own, streamed and not."""
    whole, streamed = told["reasoning"]
    assert whole == streamed
    assert whole[0].startswith("Short waves")
    assert whole[1] == "Because the air scatters blue light."


def test_a_result_is_told(told: Told) -> None:
    """A call of the model's own will is answered, and the model tells the result."""
    (call,) = told["tool_turns"]["call"]["tool_calls"]
    assert (call["function"]["name"], json.loads(call["function"]["arguments"])) == ("get_weather", {"city": "Paris"})
    assert told["tool_turns"]["answer"] == "It has 18 degrees."


def test_errors_are_litellms_own(told: Told) -> None:
    """What is wrong is told by the exceptions that LiteLLM's users catch."""
    assert told["errors"]["range"] == "BadRequestError"
    assert told["errors"]["model"] == "NotFoundError"
    assert told["errors"]["context"] == "ContextWindowExceededError"
