"""Pydantic AI."""

import pytest

from tests.e2e.clients.conftest import Told, UseClient

ANSWER = "1, 2, 3, 4, 5."


@pytest.fixture(scope="module")
def told(use_client: UseClient) -> Told:
    """Run the script."""
    return use_client("pydantic_ai")


def test_a_whole_answer(told: Told) -> None:
    """An agent's run and a request without one give the text, the end and the count."""
    assert told["run"]["text"] == told["request"] == ANSWER
    assert told["run"]["finish"] == "stop"
    assert min(told["run"]["tokens"]) > 5


def test_a_stream(told: Told) -> None:
    """The deltas join to the whole answer, and the usage is that of the whole one."""
    assert len(told["stream"]["deltas"]) > 5
    assert "".join(told["stream"]["deltas"]) == ANSWER
    assert told["stream"]["tokens"] == told["run"]["tokens"]


@pytest.mark.parametrize("case", ["tool_output", "streamed_tool_output", "native_output", "streamed_native_output"])
def test_a_class_is_filled(told: Told, case: str) -> None:
    """A random model fills a Pydantic class at the first try, by a required call and by a schema."""
    trip = told[case]
    assert trip["city"] in {"Paris", "Rome"}
    assert 1 <= trip["days"] <= 9


def test_an_agent_uses_its_tool(told: Told) -> None:
    """The agent calls the function that the model names, and the model tells the result."""
    assert told["agent"] == {"answer": "It has 18 degrees.", "requests": 2}


def test_reasoning_is_a_part_of_its_own(told: Told) -> None:
    """What is thought comes before what is answered, apart from it."""
    (thinking, thought), (text, answer) = told["reasoning"]
    assert (thinking, text) == ("thinking", "text")
    assert thought.startswith("Short waves")
    assert answer == "Because the air scatters blue light."
