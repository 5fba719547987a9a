"""When an answer ends has bounds."""

from typing import Any

import pytest

from service.errors import InvalidField
from service.types import Stopping


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"max_tokens": -1}, "max_tokens"),
        ({"min_tokens": -1}, "min_tokens"),
        ({"max_tokens": 3, "min_tokens": 4}, "min_tokens"),
        ({"stop": ["x"] * 17}, "stop"),
        ({"stop": ["x", ""]}, "stop[1]"),
        ({"stop": ["x" * 257]}, "stop[0]"),
        ({"stop_token_ids": [1] * 1025}, "stop_token_ids"),
    ],
)
def test_stopping_has_bounds(fields: dict[str, Any], path: str) -> None:
    """Counts, lengths and what must not be empty."""
    Stopping(max_tokens=3, min_tokens=3, stop=["é" * 256] * 16, stop_token_ids=[1] * 1024)
    with pytest.raises(InvalidField) as raised:
        Stopping(**fields)
    assert raised.value.field == path


@pytest.mark.parametrize("token", [10, -1])
def test_stop_tokens_are_of_the_vocabulary(token: int) -> None:
    """The place of the first that is not is named."""
    Stopping(stop_token_ids=[0, 9]).check_tokens(10)
    with pytest.raises(InvalidField) as raised:
        Stopping(stop_token_ids=[9, token, 11]).check_tokens(10)
    assert raised.value.field == "stop_token_ids[1]"
