"""JSON Schemas as a grammar takes them: without notes, and with numbers that come to an end."""

from collections.abc import Mapping
from typing import Any

MAX_INTEGER = 2**63 - 1024
"""Integers without bounds go so far from zero: nearly 64 bits, and the furthest that llguidance can bound."""
MAX_NUMBER = 10**15
"""Numbers with one bound go so far on the other side."""
DECIMALS = 9
"""Of numbers with bounds. llguidance writes these without exponents, and with any number of digits else."""
MAX_ENDS = 64
"""Numbers of one grammar that get ends; llguidance takes a millisecond for each, and some hundreds at most."""

_FORMATS = {
    *("date", "date-time", "duration", "email", "hostname", "idn-email", "idn-hostname", "ipv4", "ipv6", "iri"),
    *("iri-reference", "json-pointer", "regex", "relative-json-pointer", "time", "uri", "uri-reference"),
    *("uri-template", "uuid"),
}
"""That JSON Schema defines; a grammar refuses those that it cannot enforce. Any other is a note on the text."""
_VALUES = {"const", "default", "enum", "examples"}
"""Keywords that hold values, not schemas."""
_NAMED = {"properties", "patternProperties", "$defs", "definitions", "dependentSchemas"}
"""Keywords that hold schemas by names."""
_CHOSEN = {"const", "enum"}
_BELOW, _ABOVE = ("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")
Schema = dict[str, Any]


def enforceable(schema: Any, *, ends: bool = True) -> Any:
    """Return `schema` without formats that are only notes, and with `ends` for the digits of numbers.

    Without these a model may write digits for ever. An integer gets the bounds that it lacks; a number that has a bound
    gets the other one and a last decimal. Numbers without any are left alone, since they may have exponents.
    """
    if isinstance(schema, list):
        return [enforceable(part, ends=ends) for part in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {
        key: _inside(key, value, ends=ends)
        for key, value in schema.items()
        if key != "format" or not isinstance(value, str) or value in _FORMATS
    }
    return kept | _ends(kept) if ends else kept


def count_numbers(schema: Any) -> int:
    """Return how many schemas in this one, itself included, get ends."""
    if isinstance(schema, list):
        return sum(map(count_numbers, schema))
    if not isinstance(schema, dict):
        return 0
    inside = (
        sum(map(count_numbers, value.values() if key in _NAMED and isinstance(value, dict) else [value]))
        for key, value in schema.items()
        if key not in _VALUES
    )
    return bool(_ends(schema)) + sum(inside)


def _inside(key: str, value: Any, *, ends: bool) -> Any:
    if key in _VALUES:
        return value
    if key in _NAMED and isinstance(value, dict):
        return {name: enforceable(schema, ends=ends) for name, schema in value.items()}
    return enforceable(value, ends=ends)


def _ends(schema: Schema) -> Schema:
    """Return the keywords to set so that the numbers of a schema have so many digits at most."""
    if _CHOSEN & schema.keys():
        return {}
    kinds = schema.get("type")
    kinds = [kinds] if isinstance(kinds, str) else kinds if isinstance(kinds, list) else []
    if "number" in kinds:
        return _number_ends(schema)
    return _integer_ends(schema) if "integer" in kinds else {}


def _integer_ends(schema: Schema) -> Schema:
    low, high = _bounds(schema, _BELOW), _bounds(schema, _ABOVE)
    ends: Schema = {}
    ends |= {key: -MAX_INTEGER for key, bound in low.items() if bound < -MAX_INTEGER}
    ends |= {key: MAX_INTEGER for key, bound in high.items() if bound > MAX_INTEGER}
    ends |= {} if low else {"minimum": -MAX_INTEGER}
    return ends if high else ends | {"maximum": MAX_INTEGER}


def _number_ends(schema: Schema) -> Schema:
    low, high = _bounds(schema, _BELOW), _bounds(schema, _ABOVE)
    given = (*low.values(), *high.values())
    if not given or any(abs(bound) > MAX_NUMBER or round(bound, DECIMALS) != bound for bound in given):
        return {}
    ends: Schema = {} if low else {"minimum": -MAX_NUMBER}
    ends |= {} if high else {"maximum": MAX_NUMBER}
    return ends if "multipleOf" in schema else ends | {"multipleOf": 10**-DECIMALS}


def _bounds(schema: Mapping[str, Any], keys: tuple[str, ...]) -> dict[str, float]:
    return {
        key: value for key in keys if isinstance(value := schema.get(key), int | float) and not isinstance(value, bool)
    }
