"""JSON values, as text and as a Struct of the wire."""

import orjson
from google.protobuf.struct_pb2 import Struct

from shim.errors import bad_request

# A protobuf message may nest 100 deep, and each level of a Struct takes three of them.
_STRUCT_DEPTH = 24
_STRUCT_BYTES = 64 << 10
"""What the service takes."""
_ESCAPED = 6
"""Bytes of JSON that one of a Struct's may come from."""


def json_text(value: dict[str, object], param: str) -> str:
    """Write an object as text, its keys in order; ApiError 400 blames `param` where it is too deep."""
    try:
        return orjson.dumps(value).decode()
    except orjson.JSONEncodeError as error:  # what could be read may still be too deep to write
        raise bad_request(f"{param} is nested too deeply.", param, "invalid_value") from error


def struct(value: dict[str, object], param: str) -> Struct:
    """Make a Struct; ApiError 400 blames `param` where it is too deep for the wire or too large for the service."""
    if len(json_text(value, param)) > _STRUCT_BYTES * _ESCAPED:
        raise bad_request(f"{param}: must have at most {_STRUCT_BYTES} bytes.", param, "invalid_value")
    if _is_deeper(value, _STRUCT_DEPTH):
        raise bad_request(f"{param} is nested more than {_STRUCT_DEPTH} deep.", param, "invalid_value")
    made = Struct()
    made.update(value)  # type: ignore[arg-type]  # any JSON value will do
    return made


def _is_deeper(value: object, depth: int) -> bool:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return bool(inner) and (depth == 0 or any(_is_deeper(each, depth - 1) for each in inner))
