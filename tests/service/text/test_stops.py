"""Tests of stop strings."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.text.stops import StopMatcher

many = settings(deadline=None, max_examples=300)
letters = st.text("ab\n", max_size=25)
stop_lists = st.lists(st.text("ab\n", min_size=1, max_size=5), min_size=1, max_size=5)


def expected(text: str, stops: list[str]) -> tuple[str, str | None, str]:
    """Text before the stop string, the stop string, and the text with it: by the definition."""
    found = [(text.index(stop) + len(stop), text.index(stop), stop) for stop in stops if stop in text]
    if not found:
        return text, None, text
    end, start, stop = min(found)
    return text[:start], stop, text[:end]


@given(text=letters, stops=stop_lists, include=st.booleans(), data=st.data())
@many
def test_any_split_gives_what_the_definition_gives(
    text: str, stops: list[str], include: bool, data: st.DataObject
) -> None:
    """The stop string that is complete first wins, the longest of several, wherever the text is cut."""
    marks = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=5)))
    matcher = StopMatcher(stops, include_stop=include)
    out = ""
    for start, end in zip([0, *marks], [*marks, len(text)], strict=True):
        out += matcher.feed(text[start:end])
    out += matcher.flush()
    before, stop, through = expected(text, stops)
    assert matcher.matched == stop
    assert out == (through if include else before)


@given(text=letters, stops=stop_lists)
@many
def test_nothing_is_held_that_cannot_become_a_stop_string(text: str, stops: list[str]) -> None:
    """What is held back after each character is the longest end of the text that begins a stop string."""
    matcher = StopMatcher(stops, include_stop=False)
    out = ""
    for place, character in enumerate(text, start=1):
        out += matcher.feed(character)
        if matcher.matched is not None:
            return
        held = text[:place].removeprefix(out)
        begins = (size for size in range(place, -1, -1) if any(s.startswith(text[place - size : place]) for s in stops))
        assert len(held) == next(begins)


def test_a_stop_string_over_several_feeds_is_not_leaked() -> None:
    """No part of a stop string comes out, and nothing that comes after it."""
    matcher = StopMatcher(["STOP"], include_stop=False)
    assert [matcher.feed(text) for text in ("a S", "TO", "P b", "c")] == ["a ", "", "", ""]
    assert matcher.matched == "STOP"
    assert matcher.flush() == ""


def test_a_stop_string_that_does_not_come_is_not_lost() -> None:
    """What was held back comes out as soon as it cannot be a stop string, or with the flush."""
    matcher = StopMatcher(["STOP"], include_stop=False)
    assert [matcher.feed(text) for text in ("ST", "A", "STO")] == ["", "STA", ""]
    assert matcher.flush() == "STO"
    assert matcher.feed("P") == "P"


@pytest.mark.parametrize(("include", "out"), [(True, "xab"), (False, "x")])
def test_the_stop_string_is_kept_when_asked_for(include: bool, out: str) -> None:
    """`include_stop` lets the stop string through and nothing after it."""
    assert StopMatcher(["ab"], include_stop=include).feed("xabc") == out


def test_without_stop_strings_all_text_passes() -> None:
    """No stop strings hold nothing back."""
    matcher = StopMatcher([], include_stop=False)
    assert matcher.feed("any") == "any"
    assert matcher.flush() == ""


def test_the_longest_stop_strings_are_quick() -> None:
    """16 stop strings of 256 characters over text made to hold them back cost microseconds a character."""
    stops = ["a" * 255 + chr(0x62 + place) for place in range(16)]
    text = "a" * 20_000
    start = time.perf_counter()
    matcher = StopMatcher(stops, include_stop=False)
    for place in range(0, len(text), 4):
        matcher.feed(text[place : place + 4])
    assert time.perf_counter() - start < 0.5
    assert matcher.flush() == "a" * 255
