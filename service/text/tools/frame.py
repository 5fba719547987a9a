"""Lark rules for calls whose arguments are JSON between texts of the format."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from service.text.tools.schema import any_object, arguments_schema, may_have_ends
from service.text.tools.syntax import Literal
from service.text.tools.values import quoted
from service.types import Tool

TEXT = r"TOOL_TEXT: /(.|\n)+/"
_SYMBOL = re.compile(r'<\[[^\]]*\]>|"(?:[^"\\]|\\.)*"')
_NUMBER = "{number}"


@dataclass(frozen=True)
class Frame:
    """The texts around the arguments of a call: `head` and `tail`; around all calls: `before` and `after`.

    In `head` stand `{name}`, `{string}` for the name as a JSON string, and `{number}` for a number of the call.
    `opening` begins `before`, or if that is empty, `head`. `asides` are markers that an answer may have beside calls.
    `loose`: spaces in `head`, which has no markers then, may be left out, and it is one terminal up to the name, which
    begins with what the pattern `blank` matches.
    """

    opening: str
    head: str
    tail: str = ""
    before: str = ""
    between: str = ""
    after: str = ""
    asides: tuple[str, ...] = ()
    loose: bool = False
    blank: str = ""

    def forced(self, tools: Sequence[Tool], *, parallel: bool, literal: Literal) -> str:
        """Return rules of which `calls` is one call, or several."""
        return self._of(tools, parallel=parallel, literal=literal)

    def held(self, tools: Sequence[Tool], *, parallel: bool, literal: Literal) -> str:
        """As `forced`, but only strict tools are held to their schemas."""
        return self._of(tools, parallel=parallel, literal=literal, strict_only=True)

    def triggered(self, tools: Sequence[Tool], *, parallel: bool, literal: Literal) -> str:
        """Return rules of which `answer` is free text with calls in it."""
        opened = len(self.opening)
        head = self.head if self.before else self.head[opened:]
        section = (
            self._several(self.before[opened:], parallel=parallel, literal=literal) if self.before else "tool_call"
        )
        first, *rest = _SYMBOL.findall(literal(self.opening))
        if first.startswith("<["):
            called = _row(first, *rest, section)
            answer = f"tool_free ({called} tool_free)*" if parallel else f"tool_free ({called})?"
            head_rules = []
        else:
            called = _row("tool_opened", *rest, section)
            answer = f"({called})* tool_free" if parallel else f"tool_free | {called}"
            # Lazy: the text ends with the first marker.
            head_rules = ["tool_opened[lazy]: TOOL_TEXT_OR_NONE " + first, r"TOOL_TEXT_OR_NONE: /(.|\n)*/"]
        free = " | ".join(["TOOL_TEXT", *(literal(aside) for aside in self.asides)])
        calls = self._calls(head, tools, literal, strict_only=True)
        return _lines(f"answer: {answer}", *head_rules, f"tool_free: ({free})*", TEXT, *calls)

    def _of(self, tools: Sequence[Tool], *, parallel: bool, literal: Literal, strict_only: bool = False) -> str:
        calls = self._several(self.before, parallel=parallel, literal=literal)
        return _lines(f"calls: {calls}", *self._calls(self.head, tools, literal, strict_only=strict_only))

    def _several(self, before: str, *, parallel: bool, literal: Literal) -> str:
        more = f"({_row(_text(self.between, literal), 'tool_call')})*" if parallel else ""
        return _row(_text(before, literal), "tool_call", more, _text(self.after, literal))

    def _calls(self, head: str, tools: Sequence[Tool], literal: Literal, *, strict_only: bool) -> list[str]:
        held = [tool for tool in tools if tool.strict or not strict_only]
        ends = may_have_ends(held)
        rules = [f"tool_call: {' | '.join(f'tool_call_{place}' for place in range(len(tools)))}"]
        for place, tool in enumerate(tools):
            opened = _loose(self.blank, head, tool.name) if self.loose else _opened(head, tool.name, literal)
            rules.append(f"tool_call_{place}: {_row(opened, f'tool_arguments_{place}', _text(self.tail, literal))}")
            schema = arguments_schema(tool, ends=ends) if tool.strict or not strict_only else any_object()
            rules.append(f"tool_arguments_{place}: %json {schema}")
        return rules


def _text(text: str, literal: Literal) -> str:
    return literal(text) if text else ""


def _opened(head: str, name: str, literal: Literal) -> str:
    named = head.replace("{string}", quoted(name)).replace("{name}", name)
    return " /[0-9]{1,3}/ ".join(_text(part, literal) for part in named.split(_NUMBER))


def _loose(blank: str, head: str, name: str) -> str:
    first, rest = (" ?".join(map(re.escape, text.split(" "))) for text in head.split("{string}"))
    return f"/{blank}{first}{re.escape(quoted(name))}/ /{rest}/"


def _row(*symbols: str) -> str:
    return " ".join(filter(None, symbols))


def _lines(*rules: str) -> str:
    return "\n".join(rules) + "\n"
