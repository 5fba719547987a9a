"""JSON text for arguments that a model writes without JSON's quotes."""

import json
import math
import re
from collections.abc import Callable
from typing import Any, NoReturn

_PYTHON = re.compile(
    r"""(?P<string>'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")|(?P<word>[^\W\d]\w*)|(?P<comma>,(?=\s*[\])}]))|(?P<round>[()])""",
    re.DOTALL,
)
_WORDS = {"True": "true", "False": "false", "None": "null"}
_ROUND = {"(": "[", ")": "]"}
_ESCAPE = re.compile(r"\\(x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U00(?:0[0-9a-fA-F]|10)[0-9a-fA-F]{4}|[^xuU])", re.DOTALL)
_ESCAPED = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", "v": "\v", "a": "\a", "0": "\0", "\n": ""}
_INTEGER = re.compile(r"[+-]?\d{1,4000}(\.0*)?")
_SURROGATE = re.compile("[\ud800-\udfff]")
_YES, _NO = {"true", "1", "yes", "on"}, {"false", "0", "no", "off"}


def quoted(text: str) -> str:
    """Return `text` as a JSON string."""
    return _dumped(text)


def from_json(text: str) -> str | None:
    """Return the JSON that `text` is, with raw line breaks in its strings escaped, or None."""
    try:
        value = json.loads(text, parse_constant=_refuse)
        return _dumped(value) if _SURROGATE.search(text) else text.strip()
    except (ValueError, RecursionError):
        pass
    try:
        return _dumped(json.loads(text, strict=False, parse_constant=_refuse))
    except (ValueError, RecursionError):
        return None


def from_python(text: str) -> str | None:
    """Return the JSON of a Python literal, in which JSON's own words count too, or None."""
    return from_json(_PYTHON.sub(_translated, text))


def typed(text: str, types: frozenset[str] | None, *, guess: bool) -> str:
    """Return JSON of one of `types`, which may be empty or unknown, else of the string that `text` is.

    Where types do not tell, `guess` says whether text that is JSON or Python is meant as such.
    """
    if not types:
        value = _any(text) if guess else None if types is None else _container(text)
        return value or quoted(text)
    for kind, convert in _CONVERSIONS.items():
        if kind in types and (value := convert(text.strip(), types)) is not None:
            return value
    return quoted(text) if "string" in types else _any(text) or quoted(text)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(constant)


def _dumped(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    # Half of a surrogate pair, which an escape may stand for, is no character.
    return text if text.isascii() or not _SURROGATE.search(text) else json.dumps(value)


def _any(text: str) -> str | None:
    return from_json(text) or from_python(text)


def _container(text: str, _: Any = None) -> str | None:
    return _any(text) if text.lstrip().startswith(("{", "[")) else None


def _null(text: str, _: Any) -> str | None:
    return "null" if text.lower() == "null" or text == "None" else None


def _integer(text: str, _: Any) -> str | None:
    return str(int(text.partition(".")[0])) if _INTEGER.fullmatch(text) else None


def _number(text: str, _: Any) -> str | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return (from_json(text) or repr(number)) if math.isfinite(number) else None


def _boolean(text: str, types: frozenset[str]) -> str | None:
    word = text.lower()
    if len(types) > 1 and word not in {"true", "false"}:
        return None
    return "true" if word in _YES else "false" if word in _NO else None


_CONVERSIONS: dict[str, Callable[[str, frozenset[str]], str | None]] = {
    "null": _null,
    "integer": _integer,
    "number": _number,
    "boolean": _boolean,
    "object": _container,
    "array": _container,
}


def _translated(found: re.Match[str]) -> str:
    """Return one token of Python as JSON has it."""
    token = found[0]
    if found["string"]:
        return quoted(_ESCAPE.sub(_character, token[1:-1]))
    if found["word"]:
        return _WORDS.get(token, token)
    return _ROUND.get(token, "")


def _character(found: re.Match[str]) -> str:
    code = found[1]
    if code[0] in "xuU":
        return chr(int(code[1:], 16))
    return _ESCAPED.get(code, code if code in "\\'\"" else found[0])
