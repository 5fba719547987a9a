"""Tests of taking off what stands beside a value."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.text.tools.trim import Trim, Trimmer


@pytest.mark.parametrize(
    ("trim", "whole"),
    [
        (Trim.NOTHING, lambda text: text),
        (Trim.LINE, lambda text: text.removeprefix("\n").removesuffix("\n")),
        (Trim.BLANK, str.strip),
    ],
)
@given(parts=st.lists(st.text(alphabet="a \n", max_size=4), max_size=6))
def test_parts_give_what_the_whole_gives(trim: Trim, whole: object, parts: list[str]) -> None:
    """However the value arrives."""
    assert callable(whole)
    trimmer = Trimmer(trim)
    assert "".join(trimmer.feed(part) for part in parts) == whole("".join(parts))
