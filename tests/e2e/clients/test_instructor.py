"""Instructor."""

import pytest

from tests.e2e.clients.conftest import Told, UseClient


@pytest.fixture(scope="module")
def told(use_client: UseClient) -> Told:
    """Run the script."""
    return use_client("instructor")


@pytest.mark.parametrize("mode", ["tools", "strict_tools", "json_schema"])
def test_a_class_is_filled(told: Told, mode: str) -> None:
    """A random model fills a Pydantic class without a retry, in each mode."""
    trip = told[mode]
    assert trip["city"] in {"Paris", "Rome"}
    assert 1 <= trip["days"] <= 9
    assert set(trip["by"]) <= {"train", "boat"}


def test_a_class_grows(told: Told) -> None:
    """A streamed class begins empty and ends whole."""
    parts = told["partial"]
    assert len(parts) > 1
    assert parts[0]["by"] in (None, [])
    assert parts[-1]["city"] in {"Paris", "Rome"}
    assert parts[-1]["by"]


def test_an_asynchronous_class(told: Told) -> None:
    """The asynchronous client gives the class beside the completion that it came from."""
    assert told["tools_async"]["made"]["city"] in {"Paris", "Rome"}
    assert told["tools_async"]["finish"] in {"tool_calls", "stop"}
