"""Tests of finding the end of a JSON value."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.text.tools.json_scanner import JsonScanner

many = settings(deadline=None, max_examples=200)
values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text()),
    lambda inner: st.one_of(st.lists(inner), st.dictionaries(st.text(), inner)),
)


@given(value=values, indent=st.sampled_from([None, 1]), strict=st.booleans(), size=st.integers(1, 9))
@many
def test_a_value_ends_where_it_ends(value: object, indent: int | None, strict: bool, size: int) -> None:
    """Whatever the parts, and whatever follows."""
    text = json.dumps(value, indent=indent, ensure_ascii=False)
    whole = text + ', "more": 1}'
    scanner, place = JsonScanner(strict=strict), 0
    while not scanner.complete:
        place = scanner.scan(whole, place, min(place + size, len(whole)))
    assert whole[:place] == text
    assert not scanner.broken


@pytest.mark.parametrize(
    ("text", "read"), [('{"a": <x>', '{"a": '), ('{"a\nb"', '{"a'), ("{'a'", "{"), ("[1, `", "[1, "), ('"a\0', '"a')]
)
def test_a_strict_scan_stops_at_what_no_json_has(text: str, read: str) -> None:
    """Only a strict one does: what is broken may be arguments all the same."""
    scanner = JsonScanner(strict=True)
    assert text[: scanner.scan(text, 0, len(text))] == read
    assert scanner.broken
    lax = JsonScanner()
    assert lax.scan(text, 0, len(text)) == len(text)
    assert not lax.broken


def test_a_python_value_has_quotes_of_both_kinds() -> None:
    """A bracket in a string of single quotes is not counted."""
    text = """{'a"}': ("]", 'it\\'s')}"""
    scanner = JsonScanner(python=True)
    assert scanner.scan(text + ", 1", 0, len(text) + 3) == len(text)
    assert scanner.complete


def test_it_knows_when_it_is_in_a_string() -> None:
    """An escaped quote does not end one."""
    scanner = JsonScanner()
    text = r'{"a\"b'
    scanner.scan(text, 0, len(text))
    assert scanner.in_string
    scanner.scan('"', 0, 1)
    assert not scanner.in_string
