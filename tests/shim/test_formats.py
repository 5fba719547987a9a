"""What an answer must look like, in all of its spellings."""

from typing import Any

import pytest

from mlx_grpc.v1 import generation_pb2 as wire
from shim.errors import ApiError
from shim.formats import constraint_of
from shim.reading import read
from shim.schemas import ChatRequest

Json = dict[str, Any]
HELLO: Json = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}]}
SCHEMA = {"type": "object", "properties": {"b": {"maximum": 1}, "a": {}}}
TEXT = '{"type":"object","properties":{"b":{"maximum":1},"a":{}}}'
CHOICE = wire.Constraint(choice=wire.Choice(options=["x", "y"]))
GRAMMAR = "start: /a+/"


def found(**fields: object) -> tuple[str, wire.Constraint] | None:
    return constraint_of(read(ChatRequest, HELLO | fields))


@pytest.mark.parametrize(
    ("fields", "param", "constraint"),
    [
        ({"response_format": {"type": "json_object"}}, "response_format", wire.Constraint(json_object=True)),
        ({"response_format": {"type": "json_schema", "json_schema": {"name": "n", "strict": False, "schema": SCHEMA}}},
         "response_format", wire.Constraint(json_schema=TEXT)),
        ({"response_format": {"type": "json_object", "schema": SCHEMA}}, "response_format",
         wire.Constraint(json_schema=TEXT)),
        ({"response_format": {"type": "regex", "regex": "a+"}}, "response_format", wire.Constraint(regex="a+")),
        ({"response_format": {"type": "grammar", "grammar": GRAMMAR}}, "response_format",
         wire.Constraint(grammar=GRAMMAR)),
        ({"response_format": {"type": "choice", "choice": ["x", "y"]}}, "response_format", CHOICE),
        ({"guided_json": SCHEMA}, "guided_json", wire.Constraint(json_schema=TEXT)),
        ({"guided_json": "{}"}, "guided_json", wire.Constraint(json_schema="{}")),
        ({"guided_regex": "a+"}, "guided_regex", wire.Constraint(regex="a+")),
        ({"guided_choice": ["x", "y"]}, "guided_choice", CHOICE),
        ({"guided_choice": []}, "guided_choice", wire.Constraint(choice=wire.Choice())),
        ({"guided_grammar": GRAMMAR}, "guided_grammar", wire.Constraint(grammar=GRAMMAR)),
        ({"regex": ""}, "regex", wire.Constraint(regex="")),
        ({"structured_outputs": {"json": SCHEMA}}, "structured_outputs.json", wire.Constraint(json_schema=TEXT)),
        ({"structured_outputs": {"json": "{}"}}, "structured_outputs.json", wire.Constraint(json_schema="{}")),
        ({"structured_outputs": {"json_object": True}}, "structured_outputs.json_object",
         wire.Constraint(json_object=True)),
        ({"structured_outputs": {"regex": "a+"}}, "structured_outputs.regex", wire.Constraint(regex="a+")),
        ({"structured_outputs": {"choice": ["x", "y"]}}, "structured_outputs.choice", CHOICE),
        ({"structured_outputs": {"grammar": GRAMMAR}}, "structured_outputs.grammar", wire.Constraint(grammar=GRAMMAR)),
    ],
)  # fmt: skip
def test_every_spelling_has_its_place_on_the_wire(fields: Json, param: str, constraint: wire.Constraint) -> None:
    """The rule arrives as it was sent, with the name that it is blamed by."""
    assert found(**fields) == (param, constraint)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"response_format": {"type": "text"}},
        {"structured_outputs": {}},
        {"structured_outputs": {"json_object": False, "regex": None}},
        {"response_format": None, "guided_json": None, "guided_choice": None, "regex": None},
    ],
    ids=str,
)
def test_what_says_nothing_constrains_nothing(fields: Json) -> None:
    """Nulls and defaults are no constraint."""
    assert found(**fields) is None


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"response_format": {"type": "json_object"}, "regex": "a"}, "regex", "invalid_value"),
        ({"guided_json": {}, "guided_regex": "a"}, "guided_regex", "invalid_value"),
        ({"structured_outputs": {"regex": "a", "choice": ["a"]}}, "structured_outputs.choice", "invalid_value"),
        ({"response_format": {"type": "regex"}}, "response_format.regex", "missing_required_parameter"),
        ({"response_format": {"type": "choice", "choice": [1]}}, "response_format.choice[0]", "invalid_type"),
        ({"response_format": {"type": "structural_tag"}}, "response_format.type", "invalid_value"),
        ({"response_format": {"type": 5}}, "response_format.type", "invalid_type"),
        ({"response_format": {}}, "response_format.type", "missing_required_parameter"),
        ({"response_format": {"type": "json_object", "json_schema": {"schema": {}}}}, "response_format.json_schema",
         "unsupported_parameter"),
        ({"response_format": {"type": "text", "json_schema": {"schema": {}}}}, "response_format.json_schema",
         "unsupported_parameter"),
        ({"response_format": "json"}, "response_format", "invalid_type"),
        ({"response_format": {"type": "json_schema", "json_schema": {"schema": []}}},
         "response_format.json_schema.schema", "invalid_type"),
        ({"guided_json": 5}, "guided_json", "invalid_type"),
        ({"guided_choice": "a"}, "guided_choice", "invalid_type"),
        ({"structured_outputs": {"json": 5}}, "structured_outputs.json", "invalid_type"),
        ({"structured_outputs": {"structural_tag": {}}}, "structured_outputs.structural_tag", "unsupported_parameter"),
        ({"guided_whitespace_pattern": " ?"}, "guided_whitespace_pattern", "unsupported_parameter"),
    ],
)  # fmt: skip
def test_what_cannot_be_held_to_is_refused_by_name(fields: Json, param: str, code: str) -> None:
    """Two rules, rules that are not there, and rules of other types are a 400 that names the field."""
    with pytest.raises(ApiError) as refused:
        found(**fields)
    assert refused.value.status == 400
    error = refused.value.body["error"]
    assert (error["param"], error["code"]) == (param, code)


def test_a_schema_beyond_what_can_be_written_is_refused() -> None:
    """It could be read, and is blamed where it stands."""
    deep: Json = {}
    for _ in range(600):
        deep = {"a": deep}
    with pytest.raises(ApiError) as refused:
        found(response_format={"type": "json_schema", "json_schema": {"schema": deep}})
    assert refused.value.body["error"]["param"] == "response_format.json_schema.schema"
