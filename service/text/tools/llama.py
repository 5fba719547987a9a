"""Llama 3 and 4: a JSON object, or a list of calls as Python has them, as the whole answer or after a token.

Sources: https://github.com/meta-llama/llama-models/blob/main/models/llama3_2/text_prompt_format.md and
https://github.com/meta-llama/llama-models/blob/main/models/llama4/prompt_format.md.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

from service.text.tools.frame import Frame
from service.text.tools.objects import ARGUMENTS, NAMES, NOTES, read_object
from service.text.tools.pythonic import read_bare
from service.text.tools.reader import Format, syntax
from service.text.tools.source import Step
from service.text.tools.stream import CallStream
from service.text.tools.syntax import Literal
from service.types import Tool

_TAG = "<|python_tag|>"
_START, _END = "<|python_start|>", "<|python_end|>"
_EXACT = Frame(opening="{", head='{"name": {string}, "parameters": ', tail="}", between="; ")
_LOOSE = replace(_EXACT, loose=True)
_BLANK = r"[\s\x1c-\x1f]*"
"""What Python takes for whitespace, in Rust's syntax."""
_TRIGGERED = replace(_LOOSE, blank=_BLANK)
"""Beside free text: a grammar takes the longest terminal, and blanks of their own would end before those of text."""
_MOST = 128
"""Tools whose names a pattern may tell apart; more are too much for llguidance."""
_BRACELESS = rf"/{_BLANK}[^\s\x1c-\x1f{{\[](?s:.*)/"
_SCALAR = r"""("([^"\\]|\\.)*"|[^\s,{}\[\]"]+)"""
_ESCAPED = r"""[^"\\]*\\"""
"""The beginning of a JSON string up to an escape, which may stand for any character."""


def _read(closings: tuple[str, ...], stream: CallStream, _: str) -> Step[None]:
    yield from stream.blank()
    if (yield from stream.next_is("[")):
        yield from read_bare(stream, *closings)
        return
    while True:
        yield from read_object(stream, bare=True, may_lack_arguments=True)
        yield from stream.close(*closings)
        yield from stream.blank()
        if (yield from stream.take(";")):
            yield from stream.blank()
        if not (yield from stream.next_is("{")):
            stream.at = stream.at if stream.over else 0
            return


def _beginning(tools: Sequence[Tool]) -> str:
    """Return a pattern of Rust's for texts that the reader may take for a call of one of `tools`, up to its name."""
    names = "|".join(re.escape(tool.name) for tool in tools)
    colon = f'"{_BLANK}:{_BLANK}'
    notes = f'"({"|".join(NOTES)}){colon}'
    named = f'"({"|".join(NAMES)}){colon}("({names})"|"{_ESCAPED}|\\{{)'
    key = f'{named}|"({"|".join(ARGUMENTS)})"|{notes}[\\[{{]|"{_ESCAPED}'
    return f"{_BLANK}(\\{{{_BLANK}({notes}{_SCALAR}{_BLANK},{_BLANK})*({key})|\\[{_BLANK}({names})\\()"


@dataclass(frozen=True)
class _Bare:
    """An answer is calls if it begins like one of a tool, and has none otherwise; `tag` may come before them.

    With very many tools it is calls if it begins with a brace or a bracket.
    """

    tag: str = ""

    def forced(self, tools: Sequence[Tool], *, parallel: bool, literal: Literal) -> str:
        frame = _LOOSE if len(tools) <= _MOST else _EXACT
        rules = frame.forced(tools, parallel=parallel, literal=literal)
        tag = self._tag(literal)
        return f"calls: {tag}? tool_calls\ntool_{rules}" if tag else rules

    def triggered(self, tools: Sequence[Tool], *, parallel: bool, literal: Literal) -> str:
        tag = self._tag(literal)
        calls = f"calls | tool_free? {tag} calls" if tag else "calls"
        # One terminal, which ends where a call is certain: a text is read as the longest terminal that it may be.
        free = f"/(?s:.+)/ & ~/{_beginning(tools)}(?s:.*)/" if len(tools) <= _MOST else _BRACELESS
        if self.tag and not tag:
            free += f" & ~/(?s:.*){re.escape(self.tag)}(?s:.*)/"
        frame = _TRIGGERED if len(tools) <= _MOST else _EXACT
        held = frame.held(tools, parallel=parallel, literal=literal)
        return f"answer: tool_free? | {calls}\ntool_free: TOOL_FREE\nTOOL_FREE: {free}\n{held}"

    def _tag(self, literal: Literal) -> str:
        """Return the tag's symbol if it is a token of the model."""
        symbol = literal(self.tag)
        return symbol if symbol.startswith("<[") else ""


LLAMA = syntax("llama", Format(partial(_read, ()), (_TAG,), lead=partial(_read, ())), _Bare(_TAG))
LLAMA4 = syntax("llama4", Format(partial(_read, (_END,)), (_START, _END), lead=partial(_read, (_END,))), _Bare())
