"""The command line `llm`."""

import pytest

from tests.e2e.clients.conftest import Told, UseClient

ANSWER = "1, 2, 3, 4, 5."


@pytest.fixture(scope="module")
def told(use_client: UseClient) -> Told:
    """Run the script."""
    return use_client("llm")


def test_models_are_known(told: Told) -> None:
    """The models of its settings file are listed."""
    assert told["known"] == ["our-llama3", "our-tiny", "our-text"]


def test_answers(told: Told) -> None:
    """The terminal shows the answer, streamed and not, and its log has the counts."""
    assert told["stream"].strip() == told["whole"]["text"].strip() == ANSWER
    assert min(told["whole"]["tokens"]) > 5


def test_a_conversation(told: Told) -> None:
    """A second turn is answered too."""
    assert told["conversation"] == [ANSWER, True]


def test_the_asynchronous_model(told: Told) -> None:
    """Its chunks join to the answer."""
    assert len(told["asynchronous"]) > 5
    assert "".join(told["asynchronous"]) == ANSWER


def test_a_legacy_completion(told: Told) -> None:
    """A model of the completions API writes on."""
    assert told["completion"].strip()


def test_a_schema(told: Told) -> None:
    """A random model's answer follows `--schema`."""
    assert set(told["schema"]) == {"city", "days", "by"}


def test_a_chain_of_a_tool(told: Told) -> None:
    """The model calls a tool of its own will, and tells the result."""
    assert told["chain"] == {"calls": [["get_weather", {"city": "Paris"}]], "answer": "It has 18 degrees."}
