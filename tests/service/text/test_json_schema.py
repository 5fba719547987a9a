"""Tests of schemas as grammars take them."""

from typing import Any

import pytest

from service.text import lark
from service.text.json_schema import MAX_ENDS, MAX_INTEGER, MAX_NUMBER, count_numbers, enforceable
from tests.service.text.grammars import problem, takes
from tests.service.text.tokenizers import byte_level

ENDS = {"minimum": -MAX_INTEGER, "maximum": MAX_INTEGER}


@pytest.mark.parametrize(
    ("schema", "text", "allowed"),
    [
        ({"type": "integer"}, "9" * 18, True),
        ({"type": "integer"}, "-" + "9" * 18, True),
        ({"type": "integer"}, "1844674407370955162", True),
        ({"type": "integer"}, "9" * 20, False),
        ({"type": ["integer", "null"]}, "9" * 20, False),
        ({"type": ["integer", "null"]}, "null", True),
        ({"type": "integer", "minimum": 0}, "9" * 20, False),
        ({"type": "integer", "exclusiveMinimum": 0}, "0", False),
        ({"type": "integer", "minimum": -(2**63), "maximum": 2**63 - 1}, "-42", True),
        ({"type": "integer", "multipleOf": 5}, "105", True),
        ({"items": {"type": "integer"}}, f"[{'9' * 20}]", False),
        ({"properties": {"enum": {"type": "integer"}}}, f'{{"enum": {"9" * 20}}}', False),
        ({"type": "number", "minimum": 0, "maximum": 1}, "0.123456789", True),
        ({"type": "number", "minimum": 0, "maximum": 1}, "0.1234567891", False),
        ({"type": "number", "minimum": 0}, "9" * 17, False),
        ({"type": "number", "maximum": 0, "multipleOf": 0.25}, "-0.75", True),
        ({"type": "number", "minimum": 1e-10, "maximum": 1}, "0.0000000002", True),
        ({"type": "number", "minimum": 0.12345678901, "maximum": 0.12345678901}, "0.12345678901", True),
        ({"type": "number", "maximum": 10**16}, "9" * 16, True),
        ({"type": "number"}, "6.02e23", True),
    ],
)
def test_numbers_come_to_an_end(schema: dict[str, Any], text: str, allowed: bool) -> None:
    """After some digits, and as the schema says; what has exponents is left alone."""
    grammar = f"start: {lark.json_text(schema)}"
    assert problem(grammar, byte_level()) == ""
    assert takes(grammar, text) is allowed


@pytest.mark.parametrize(
    ("schema", "kept"),
    [
        ({"type": "integer", "const": 5}, {"type": "integer", "const": 5}),
        ({"minimum": 5}, {"minimum": 5}),
        ({"default": {"type": "integer"}}, {"default": {"type": "integer"}}),
        ({"$defs": {"default": {"type": "integer"}}}, {"$defs": {"default": {"type": "integer"} | ENDS}}),
        ({"type": "integer", "minimum": 10**20}, {"type": "integer", "minimum": 10**20, "maximum": MAX_INTEGER}),
        ({"type": "number", "minimum": True}, {"type": "number", "minimum": True}),
        (
            {"type": ["number", "integer"], "exclusiveMaximum": 5},
            {
                "type": ["number", "integer"],
                "exclusiveMaximum": 5,
                "minimum": -MAX_NUMBER,
                "multipleOf": 1e-9,
            },
        ),
    ],
)
def test_only_schemas_of_numbers_get_bounds(schema: object, kept: object) -> None:
    """Values and properties that look like one are what they are, and no bound that is there is lost."""
    assert enforceable(schema) == kept


@pytest.mark.parametrize("count", [MAX_ENDS, MAX_ENDS + 1, 2000])
def test_numbers_have_ends_unless_they_are_too_many(count: int) -> None:
    """A schema of very many is enforced as it is, rather than refused."""
    names = [f"n{place}" for place in range(count)]
    schema = {"properties": {name: {"type": "integer"} for name in names}, "required": names}
    assert count_numbers(schema) == count
    rule = lark.json_text(schema)
    assert problem(f"start: {rule}", byte_level()) == ""
    assert ('"maximum"' in rule) is (count <= MAX_ENDS)


def test_only_what_gets_ends_is_counted() -> None:
    """Wherever it is, and no values."""
    integer = {"type": "integer"}
    schema = {"anyOf": [integer, {"items": integer}], "default": integer, "$defs": {"enum": integer, "a": {"const": 1}}}
    assert count_numbers(schema) == 3
