"""langchain-openai."""

import json

import pytest

from tests.e2e.clients.conftest import Told, UseClient

ANSWER = "1, 2, 3, 4, 5."


@pytest.fixture(scope="module")
def told(use_client: UseClient) -> Told:
    """Run the script."""
    return use_client("langchain")


@pytest.mark.parametrize("case", ["invoke", "invoke_async"])
def test_a_whole_answer(told: Told, case: str) -> None:
    """The message has its text, its end and its count."""
    message = told[case]
    assert (message["content"], message["response_metadata"]["finish_reason"]) == (ANSWER, "stop")
    assert message["usage_metadata"]["total_tokens"] > message["usage_metadata"]["output_tokens"] > 5


def test_a_stream_sums_to_the_whole_answer(told: Told) -> None:
    """The sum of the chunks is the whole message, its usage counted once."""
    stream = told["stream"]
    assert len([text for text in stream["texts"] if text]) > 5
    assert stream["total"]["content"] == "".join(stream["texts"]) == "".join(told["stream_async"]) == ANSWER
    usage = told["invoke"]["usage_metadata"]
    assert stream["total"]["usage_metadata"]["total_tokens"] == usage["total_tokens"]


def test_a_batch(told: Told) -> None:
    """Questions that are sent at once are each answered."""
    assert told["batch"] == [ANSWER, ANSWER]


def test_tokens(told: Told) -> None:
    """The tokens of the answer are its text, with alternatives."""
    tokens = told["logprobs"]["content"]
    assert "".join(token["token"] for token in tokens) == ANSWER
    assert {len(token["top_logprobs"]) for token in tokens} == {2}


def test_a_legacy_completion(told: Told) -> None:
    """It is the same streamed and whole."""
    assert told["text"]["whole"] == told["text"]["streamed"] != ""


def test_any_tool_is_called(told: Told) -> None:
    """A random model calls the bound tool, and takes its result."""
    done = told["any_tool"]
    assert done["finish"] == "tool_calls"
    assert {call["name"] for call in done["calls"]} == {"book"}
    assert done["results"] == [f"{call['args']['days']} days in {call['args']['city']}" for call in done["calls"]]
    assert done["is_answered"]


def test_a_named_tool_is_streamed(told: Told) -> None:
    """The name comes once, and the parts of the arguments join to JSON."""
    streamed = told["streamed_tool"]
    assert streamed["broken"] == []
    (call,) = streamed["calls"]
    assert [part["name"] for part in streamed["parts"] if part["name"]] == ["book"]
    assert len({part["id"] for part in streamed["parts"] if part["id"]}) == 1
    assert json.loads("".join(part["args"] or "" for part in streamed["parts"])) == call["args"]


def test_a_result_is_told(told: Told) -> None:
    """A call of the model's own will is answered, and the model tells the result."""
    (call,) = told["tool_turns"]["calls"]
    assert (call["name"], call["args"]) == ("get_weather", {"city": "Paris"})
    assert told["tool_turns"]["answer"] == "It has 18 degrees."


def test_json_comes_after_reasoning(told: Told) -> None:
    """With JSON mode a thinking model's answer is parsed, its thoughts are not."""
    assert told["json_mode"] == {"city": "Paris", "degrees": 18}


@pytest.mark.parametrize("way", ["json_schema", "strict", "function_calling"])
def test_a_class_is_filled(told: Told, way: str) -> None:
    """A random model fills a Pydantic class, in whichever way LangChain asks."""
    trip = told["structured"][way]
    assert trip["city"] in {"Paris", "Rome"}
    assert 1 <= trip["days"] <= 9
    assert set(trip["by"]) <= {"train", "boat"}


def test_a_growing_object(told: Told) -> None:
    """The streamed object grows to one of the schema."""
    parts = told["structured_stream"]
    assert len(parts) > 1
    assert set(parts[-1]) == {"city", "days", "by"}
