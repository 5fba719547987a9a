"""Tests of arguments that are written without JSON's quotes."""

import ast
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.text.tools.values import from_json, from_python, typed

literals = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text()),
    lambda inner: st.one_of(st.lists(inner), st.dictionaries(st.text(), inner)),
)


@given(literals)
def test_a_python_literal_is_the_json_of_its_value(value: object) -> None:
    """As Python itself reads it."""
    text = repr(value)
    assert json.loads(from_python(text) or "") == ast.literal_eval(text)


@pytest.mark.parametrize(
    ("text", "json_text"),
    [
        ("(1, 'a',)", '[1, "a"]'),
        ("{'a': true, 'b': None}", '{"a": true, "b": null}'),
        (r"'\ud800'", r'"\ud800"'),
        (r"'\d \x41 \' \U0001f44d'", '"\\\\d A \' 👍"'),
        ("f(x)", None),
        ("[1", None),
        ("NaN", None),
        ("[" * 100_000, None),
    ],
)
def test_what_is_near_to_python_is_read_or_refused(text: str, json_text: str | None) -> None:
    """JSON's words count in it, and nothing is run."""
    assert from_python(text) == json_text


def test_json_stays_as_it_is_written() -> None:
    """Numbers keep their digits; raw line breaks in strings, which JSON does not have, are escaped."""
    assert from_json(" 1.50 ") == "1.50"
    assert from_json('{"a": "x\ny"}') == '{"a": "x\\ny"}'
    assert from_json("oops") is None


@pytest.mark.parametrize(
    ("text", "types", "guess", "value"),
    [
        ("5", {"string"}, True, "5"),
        ("null", {"string"}, False, "null"),
        ("null", {"string", "null"}, False, None),
        ("5", {"integer", "string"}, False, 5),
        ("5.0", {"integer"}, False, 5),
        ("five", {"integer"}, False, "five"),
        ("2.50", {"number"}, False, 2.5),
        ("inf", {"number"}, False, "inf"),
        ("True", {"boolean"}, False, True),
        ("yes", {"boolean"}, False, True),
        ("yes", {"boolean", "string"}, False, "yes"),
        ("['a']", {"array"}, False, ["a"]),
        ('{"a": 1}', {"object"}, False, {"a": 1}),
        ("{a}", {"object", "string"}, False, "{a}"),
        ("5", None, False, "5"),
        ("5", None, True, 5),
        ("5", set(), False, "5"),
        ("[5]", set(), False, [5]),
        ("five", None, True, "five"),
    ],
)
def test_a_value_has_the_type_that_the_schema_says(
    text: str, types: set[str] | None, guess: bool, value: object
) -> None:
    """What cannot have it is a string."""
    found = json.loads(typed(text, None if types is None else frozenset(types), guess=guess))
    assert found == value
    assert type(found) is type(value)
