"""llguidance's grammars: their limits, what is said of those that cannot be used, and the compiling itself."""

import re
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from llguidance import LLMatcher, LLParserLimits, LLTokenizer

LONGEST = 1 << 19
"""Characters of a grammar's text. What compiles longer ones recursively may need more than the stack."""
_STACK = 1 << 29
"""Bytes of address space: a chain of references takes a frame or more for each of them."""
_LIMITS = LLParserLimits(
    max_items_in_row=20_000,
    initial_lexer_fuel=500_000,
    step_lexer_fuel=50_000,
    step_max_items=20_000,
    max_lexer_states=50_000,
    max_grammar_size=200_000,
    verbose_errors=False,
)
"""About a quarter of the library's own for what a token may cost, and half for what is done once."""
_WORDS = 400
"""Characters of an explanation."""
_NEAR = 30
"""Characters of a grammar's line on either side of a fault."""

_INTERNALS = re.compile(r"\s*(?:<non-verbose/>|<state>|<backtrace>).*", re.DOTALL)
_EXCERPT = re.compile(r"^ *(\d+) \| (.*)\n? *\^?\n?", re.MULTILINE)
_PLACE = re.compile(r"^(?:at )?(\d+)\((\d+)\): ")
_SCHEMA = "failed to compile JSON schema: "
_TOO_LARGE = "it is too large"
_TOO_MANY = "its rules leave too many possibilities at a time"
_TOO_COMPLEX = "its strings, numbers or regular expressions are too complex"


class InvalidGrammar(Exception):
    """A grammar cannot be used; the message says why, and where if that is known, for a person."""


def vocabulary(tokenizer_file: Path, stop_ids: Sequence[int]) -> LLTokenizer:
    """A model's tokens as llguidance sees them. Takes long, and keeps other Python threads from running meanwhile."""
    with suppress(ValueError):  # ids that the tokenizer does not have
        if stop_ids:
            return LLTokenizer(str(tokenizer_file), eos_token=list(stop_ids))
    return LLTokenizer(str(tokenizer_file))


def compiled(words: LLTokenizer, text: str) -> LLMatcher:
    """A matcher at the beginning of the grammar's language, its first mask computed. Raises InvalidGrammar.

    Whether that ends in good time nobody can tell beforehand: the library's limits bound most that takes long, not all.
    """
    if len(text) > LONGEST:
        raise InvalidGrammar(f"it has {len(text)} characters, and may have {LONGEST}")
    matcher = LLMatcher(words, text, log_level=0, limits=_LIMITS)
    if not matcher.is_error() and not matcher.is_stopped():
        matcher.compute_bitmask()
    if matcher.is_error():
        raise InvalidGrammar(explained(matcher.get_error()))
    return matcher


def explained(error: str) -> str:
    """What the library says of a fault, on one line, without its own internals."""
    said = _INTERNALS.sub("", error)
    if said.startswith("panic"):
        return _TOO_LARGE
    if "Too many items" in said or "Current row has" in said:
        return _TOO_MANY
    if "fuel" in said or "lexer configuration" in said or "too many" in said:
        return _TOO_COMPLEX
    lines = dict(_EXCERPT.findall(said))
    said = _EXCERPT.sub("", said)
    if place := _PLACE.match(said):
        line, column = place.groups()
        said = said[place.end() :].strip()
        if said.startswith(_SCHEMA):
            said = said.removeprefix(_SCHEMA)
        else:
            start = max(0, int(column) - 1 - _NEAR)
            near = lines.get(line, "")[start : int(column) - 1 + _NEAR].strip()
            said = f"{said}, near {near!r}"
        said = f"line {line}, column {column}: {said}"
    said = " ".join(said.removeprefix(_SCHEMA).split())
    return said[:_WORDS] or _TOO_COMPLEX


def thread(target: threading.Thread) -> None:
    """Start a thread with the stack that compiling needs."""
    with suppress(ValueError):  # where the system has no such stacks, the guard finds out what fits
        before = threading.stack_size(_STACK if sys.maxsize > 1 << 32 else 0)
        target.start()
        threading.stack_size(before)
        return
    target.start()
