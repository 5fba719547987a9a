"""What an answer must look like, in the names that OpenAI's API and the common extensions have, to the wire."""

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from mlx_grpc.v1 import generation_pb2 as wire
from shim.errors import bad_request
from shim.fields import Fields, Grammar, ObjectText, Options, Regex, Schema, Unserved
from shim.values import json_text

Found = tuple[str, wire.Constraint]
"""A constraint, and the field that says it."""


class JsonSchema(Fields):
    """A JSON Schema to hold the answer to, which it is whether `strict` or not."""

    name: str | None = None
    description: str | None = None
    schema_: Schema = Field(alias="schema")
    strict: bool | None = None


class TextFormat(Fields):
    """The answer may look like anything."""

    type: Literal["text"]
    json_schema: Unserved = None


class JsonObjectFormat(Fields):
    """The answer is any JSON object, or what a schema describes; that it may stand here is an extension."""

    type: Literal["json_object"]
    schema_: Schema | None = Field(None, alias="schema")
    json_schema: Unserved = None


class JsonSchemaFormat(Fields):
    """The answer is JSON that a schema describes."""

    type: Literal["json_schema"]
    json_schema: JsonSchema


class RegexFormat(Fields):
    """The answer matches a regular expression; an extension."""

    type: Literal["regex"]
    regex: Regex


class GrammarFormat(Fields):
    """The answer is of a grammar, in Lark's form; an extension."""

    type: Literal["grammar"]
    grammar: Grammar


class ChoiceFormat(Fields):
    """The answer is one of several texts; an extension."""

    type: Literal["choice"]
    choice: Options


ResponseFormat = Annotated[
    TextFormat | JsonObjectFormat | JsonSchemaFormat | RegexFormat | GrammarFormat | ChoiceFormat,
    Field(discriminator="type"),
]


class StructuredOutputs(Fields):
    """The extension that gathers all kinds of constraints, of which one may be set."""

    json_: ObjectText | Schema | None = Field(None, alias="json")
    json_object: bool | None = None
    regex: Regex | None = None
    choice: Options | None = None
    grammar: Grammar | None = None
    structural_tag: Unserved = None
    whitespace_pattern: Unserved = None


class ConstrainedFields(Fields):
    """The fields of a request that constrain its answer, of which one may be set."""

    response_format: ResponseFormat | None = None
    structured_outputs: StructuredOutputs | None = None
    guided_json: ObjectText | Schema | None = None
    guided_regex: Regex | None = None
    guided_choice: Options | None = None
    guided_grammar: Grammar | None = None
    regex: Regex | None = None


def constraint_of(request: ConstrainedFields) -> Found | None:
    """Find the constraint, and the field that it is blamed on; ApiError 400 where there are several."""
    found = [*_of_format(request.response_format), *_of_outputs(request.structured_outputs), *_of_fields(request)]
    if len(found) > 1:
        (first, _), (second, _), *_ = found
        raise bad_request(f"{second}: cannot be combined with {first}.", second, "invalid_value")
    return found[0] if found else None


def _of_format(asked: ResponseFormat | None) -> Iterator[Found]:
    param = "response_format"
    match asked:
        case JsonObjectFormat(schema_=None):
            yield param, wire.Constraint(json_object=True)
        case JsonObjectFormat(schema_=dict() as schema):
            yield param, _schema(schema, f"{param}.schema")
        case JsonSchemaFormat():
            yield param, _schema(asked.json_schema.schema_, f"{param}.json_schema.schema")
        case RegexFormat():
            yield param, _rule(asked.type, asked.regex)
        case GrammarFormat():
            yield param, _rule(asked.type, asked.grammar)
        case ChoiceFormat():
            yield param, _rule(asked.type, asked.choice)


def _of_outputs(asked: StructuredOutputs | None) -> Iterator[Found]:
    if asked is None:
        return
    param = "structured_outputs"
    if asked.json_ is not None:
        yield f"{param}.json", _schema(asked.json_, f"{param}.json")
    if asked.json_object:
        yield f"{param}.json_object", wire.Constraint(json_object=True)
    for kind in ("regex", "choice", "grammar"):
        if (said := getattr(asked, kind)) is not None:
            yield f"{param}.{kind}", _rule(kind, said)


def _of_fields(request: ConstrainedFields) -> Iterator[Found]:
    if request.guided_json is not None:
        yield "guided_json", _schema(request.guided_json, "guided_json")
    for kind in ("regex", "choice", "grammar"):
        if (said := getattr(request, f"guided_{kind}")) is not None:
            yield f"guided_{kind}", _rule(kind, said)
    if request.regex is not None:
        yield "regex", _rule("regex", request.regex)


def _schema(schema: str | dict[str, object], param: str) -> wire.Constraint:
    return wire.Constraint(json_schema=schema if isinstance(schema, str) else json_text(schema, param))


def _rule(kind: str, said: str | list[str]) -> wire.Constraint:
    if isinstance(said, list):
        return wire.Constraint(choice=wire.Choice(options=said))
    return wire.Constraint(regex=said) if kind == "regex" else wire.Constraint(grammar=said)
