"""The JSON Schema of a tool's arguments, as a grammar needs it and as a reader of untyped text needs it."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from service.text.json_schema import MAX_ENDS, count_numbers, enforceable
from service.types import Tool

_SPACING = {"whitespace_flexible": False, "item_separator": ", ?", "key_separator": ": ?"}
"""The ways of `json.dumps`, compact or not. Unbounded whitespace would let a model write nothing else."""
_APPLICATORS = ("anyOf", "oneOf", "allOf")
_KINDS = {
    "null": type(None),
    "boolean": bool,
    "integer": int,
    "number": float,
    "string": str,
    "array": list,
    "object": dict,
}
_MAX_DEPTH = 16
"""Of references and applicators in each other."""

Schema = Mapping[str, Any]


_NO_ARGUMENTS: Schema = {"type": "object", "properties": {}, "additionalProperties": False}


def any_object() -> str:
    """Return the schema of a tool whose arguments are not held to its own."""
    return json.dumps({"type": "object", "x-guidance": _SPACING})


def arguments_schema(tool: Tool, *, ends: bool = True) -> str:
    """Return the schema that a grammar holds the tool's arguments to; they are an object, whatever else it says.

    `ends`: the digits of numbers come to an end.
    """
    schema = parameters(tool)
    kind = schema.get("type", "object")
    if isinstance(kind, list) and "object" in kind:
        kind = "object"
    enforced = enforceable(schema, ends=ends)
    return json.dumps({"x-guidance": _SPACING, **enforced, "type": kind}, ensure_ascii=False)


def may_have_ends(tools: Iterable[Tool]) -> bool:
    """Whether the tools have few enough numbers together."""
    return sum(count_numbers(parameters(tool)) for tool in tools) <= MAX_ENDS


def parameters(tool: Tool) -> Schema:
    """Return the tool's own schema; where it has none, it takes no arguments."""
    schema = json.loads(tool.parameters) if tool.parameters else _NO_ARGUMENTS
    return schema if isinstance(schema, dict) else {}


def argument_types(schema: Schema, name: str) -> frozenset[str] | None:
    """Which types the schema lets an argument have; empty where it does not tell, None where it has no such one."""
    properties = _resolved(schema, schema, 0).get("properties")
    if not isinstance(properties, dict) or name not in properties:
        return None
    return frozenset(_types(properties[name], schema, 0))


def _resolved(schema: Any, root: Schema, depth: int) -> Schema:
    """Follow references inside the document."""
    while isinstance(schema, dict) and isinstance(reference := schema.get("$ref"), str) and depth < _MAX_DEPTH:
        depth += 1
        target: Any = root
        for part in reference.removeprefix("#").strip("/").split("/"):
            key = part.replace("~1", "/").replace("~0", "~")
            if part:
                target = target.get(key) if isinstance(target, dict) else None
        schema = target
    return schema if isinstance(schema, dict) else {}


def _types(schema: Any, root: Schema, depth: int) -> set[str]:
    schema = _resolved(schema, root, depth)
    found: set[str] = set()
    kinds = schema.get("type")
    found.update([kinds] if isinstance(kinds, str) else [kind for kind in kinds or [] if isinstance(kind, str)])
    values = schema.get("enum")
    found.update(_type_of(value) for value in [*(values if isinstance(values, list) else []), *_const(schema)])
    if depth < _MAX_DEPTH:
        for applicator in _APPLICATORS:
            parts = schema.get(applicator)
            for part in parts if isinstance(parts, list) else []:
                found |= _types(part, root, depth + 1)
    return found


def _const(schema: Schema) -> list[Any]:
    return [schema["const"]] if "const" in schema else []


def _type_of(value: Any) -> str:
    return next(name for name, kind in _KINDS.items() if isinstance(value, kind))
