"""What one field of a request says of another, as the document tells it. The service enforces most of it."""

from dataclasses import dataclass

from pydantic.json_schema import JsonSchemaValue


@dataclass(frozen=True, slots=True)
class Relation:
    """Where `field` has a value of `value`, `other` has to have one of `needed`; both are JSON Schemas."""

    field: str
    value: JsonSchemaValue
    other: str
    needed: JsonSchemaValue

    def described(self) -> JsonSchemaValue:
        """Tell it as a JSON Schema of the body."""
        return {"if": _has(self.field, self.value), "then": _has(self.other, self.needed)}


def _has(field: str, value: JsonSchemaValue) -> JsonSchemaValue:
    return {"properties": {field: value}, "required": [field]}


_TRUE = {"const": True}
_FORCED = {"anyOf": [{"const": "required"}, {"type": "object"}]}
_STREAM = Relation("stream_options", {"type": "object"}, "stream", _TRUE)
_TOP_LOGPROBS = Relation("top_logprobs", {"type": "integer", "minimum": 1}, "logprobs", _TRUE)
_TOOLS = Relation("tool_choice", _FORCED, "tools", {"type": "array", "minItems": 1})
CHAT = (_STREAM, _TOP_LOGPROBS, _TOOLS)
COMPLETIONS = (_STREAM, Relation("max_tokens", {"const": 0}, "echo", _TRUE))
