"""Pieces of grammars in Lark, as llguidance reads it.

Source: https://github.com/guidance-ai/llguidance/blob/main/docs/syntax.md
"""

import json
import re
from typing import Any

from service.text.json_schema import MAX_ENDS, count_numbers, enforceable
from service.text.tokenizer import Tokenizer

_BLANKS = r" |\r?\n[ \t]{0,16}"
"""Between the parts of a JSON text, at most once: what printed JSON has, lest a model write nothing but blanks."""
_BLANK_OPTIONS = {"whitespace_pattern", "whitespace_flexible"}


def quoted(text: str) -> str:
    """`text` itself, as a terminal."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", r"\u007f")


def pattern(expression: str) -> str:
    """A text that a regular expression, in Rust's syntax and not empty, matches as a whole."""
    return f"/{_delimited(expression)}/"


def json_text(schema: dict[str, Any] | bool) -> str:
    """A JSON text that a schema accepts. Its own `x-guidance` wins."""
    if isinstance(schema, bool):
        schema = {} if schema else {"enum": []}
    own = schema.get("x-guidance", {})
    if isinstance(own, dict) and not _BLANK_OPTIONS & own.keys():
        schema = {**schema, "x-guidance": {"whitespace_pattern": _BLANKS, **own}}
    enforced = enforceable(schema, ends=count_numbers(schema) <= MAX_ENDS)
    return f"%json {json.dumps(enforced, ensure_ascii=False)}"


def literal(tokenizer: Tokenizer, text: str) -> str:
    """The text of a marker: added tokens by their ids, since a model writes them so, and the rest as text."""
    return " ".join(f"<[{part}]>" if isinstance(part, int) else quoted(part) for part in tokenizer.parts(text))


def without(*texts: str) -> str:
    """Any text that has none of `texts` in it, as the definition of a terminal."""
    banned = "|".join(_delimited(re.escape(text)) for text in texts)
    return f"/(?s:.*)/ & ~/(?s:.*)({banned})(?s:.*)/"


def up_to(text: str) -> str:
    """Any text up to the first `text`, for a rule that is lazy."""
    return f"/(?s:.*){_delimited(re.escape(text))}/"


def _delimited(expression: str) -> str:
    """A regular expression as it stands between slashes."""
    written = {"/": r"\/", "\n": r"\n", "\r": r"\r"}
    return re.sub(r"(?s)\\.|[/\n\r]", lambda found: written.get(found[0][-1], found[0]), expression)
