"""Tests of what is taken from a tool's JSON Schema."""

import json

import pytest

from service.text.tools.schema import argument_types, arguments_schema, parameters
from service.types import Tool

SCHEMA = {
    "properties": {
        "plain": {"type": "string"},
        "several": {"type": ["integer", "null"]},
        "reference": {"$ref": "#/$defs/a~1b"},
        "loop": {"$ref": "#/$defs/loop"},
        "lost": {"$ref": "#/$defs/none"},
        "any of": {"anyOf": [{"type": "string"}, {"$ref": "#/$defs/a~1b"}]},
        "values": {"enum": [1, 1.5, "a", None, True, [], {}]},
        "constant": {"const": "a"},
        "open": {},
    },
    "$defs": {"a/b": {"type": "boolean"}, "loop": {"$ref": "#/$defs/loop"}},
}


@pytest.mark.parametrize(
    ("name", "types"),
    [
        ("plain", {"string"}),
        ("several", {"integer", "null"}),
        ("reference", {"boolean"}),
        ("loop", set()),
        ("lost", set()),
        ("any of", {"string", "boolean"}),
        ("values", {"integer", "number", "string", "null", "boolean", "array", "object"}),
        ("constant", {"string"}),
        ("open", set()),
        ("unknown", None),
    ],
)
def test_the_types_of_an_argument_are_found(name: str, types: set[str] | None) -> None:
    """Through references and alternatives; a reference in a circle leads nowhere."""
    assert argument_types(SCHEMA, name) == (None if types is None else frozenset(types))


def test_the_schema_itself_may_be_a_reference() -> None:
    """As generators of schemas write it for a class."""
    assert argument_types({"$ref": "#/$defs/A", "$defs": {"A": SCHEMA}}, "plain") == frozenset({"string"})


def test_a_tool_without_a_schema_takes_no_arguments() -> None:
    """As OpenAI's reference has it."""
    schema = json.loads(arguments_schema(Tool("t", "", "")))
    assert (schema["type"], schema["properties"], schema["additionalProperties"]) == ("object", {}, False)


@pytest.mark.parametrize("text", ["{}", "true", "[]", "null"])
def test_a_schema_may_say_nothing(text: str) -> None:
    """Then any object will do."""
    tool = Tool("t", "", text)
    assert parameters(tool) == {}
    assert json.loads(arguments_schema(tool))["type"] == "object"


def test_only_notes_on_formats_are_dropped() -> None:
    """Formats that are not enforced are no constraint; a property, or a value, of that name stays."""
    schema = {
        "properties": {
            "format": {"type": "string", "format": "zip-code", "default": {"format": "zip-code"}},
            "day": {"type": "string", "format": "date"},
            "link": {"type": "string", "format": "uri-reference"},
        }
    }
    kept = json.loads(arguments_schema(Tool("t", "", json.dumps(schema))))["properties"]
    assert kept == {
        "format": {"type": "string", "default": {"format": "zip-code"}},
        "day": {"type": "string", "format": "date"},
        "link": {"type": "string", "format": "uri-reference"},
    }


def test_the_schemas_own_word_on_whitespace_wins() -> None:
    """Without it the ways of `json.dumps` are allowed."""
    own = Tool("t", "", '{"x-guidance": {"item_separator": ";"}}')
    assert json.loads(arguments_schema(own))["x-guidance"] == {"item_separator": ";"}
    assert json.loads(arguments_schema(Tool("t", "", "{}")))["x-guidance"]["whitespace_flexible"] is False


@pytest.mark.parametrize(("kind", "kept"), [(["object", "null"], "object"), ("object", "object"), ("string", "string")])
def test_arguments_are_an_object_if_the_schema_lets_them(kind: object, kept: str) -> None:
    """A schema of something else is left to those who check requests."""
    assert json.loads(arguments_schema(Tool("t", "", json.dumps({"type": kind}))))["type"] == kept
