"""Tests of looking for markers."""

import pytest

from service.text.tools.markers import Markers, markers


@pytest.mark.parametrize(
    ("text", "start", "found"),
    [
        ("a<b>c", 0, (1, "<b>")),
        ("a<b>c", 2, (5, "")),
        ("[x]<b>", 0, (0, "[x]")),
        ("a<b", 0, (1, "")),
        ("a<<b", 0, (2, "")),
        ("a<b<", 0, (3, "")),
        ("a<b", 3, (3, "")),
        ("", 0, (0, "")),
        ("abc", 0, (3, "")),
    ],
)
def test_the_first_marker_or_what_may_become_one_is_found(text: str, start: int, found: tuple[int, str]) -> None:
    """Of what is not complete, the longest beginning counts."""
    assert Markers("<b>", "[x]").find(text, start) == found


def test_without_markers_nothing_is_found() -> None:
    """All text is before them."""
    assert markers().find("a<b>", 0) == (4, "")
