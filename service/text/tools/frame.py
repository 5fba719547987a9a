"""Lark rules for calls whose arguments are JSON between texts of the format."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from service.text.tools.schema import any_object, arguments_schema
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
    """

    opening: str
    head: str
    tail: str = ""
    before: str = ""
    between: str = ""
    after: str = ""
    asides: tuple[str, ...] = ()

    def forced(self, tools: Sequence[Tool], *, parallel: bool, literal: Literal) -> str:
        """Return rules of which `calls` is one call, or several."""
        return self._of(tools, arguments_schema, parallel=parallel, literal=literal)

    def held(self, tools: Sequence[Tool], *, parallel: bool, literal: Literal) -> str:
        """As `forced`, but only strict tools are held to their schemas."""
        return self._of(tools, _schema_if_strict, parallel=parallel, literal=literal)

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
        calls = self._calls(head, tools, literal, _schema_if_strict)
        return _lines(f"answer: {answer}", *head_rules, f"tool_free: ({free})*", TEXT, *calls)

    def _of(self, tools: Sequence[Tool], schema_of: Callable[[Tool], str], *, parallel: bool, literal: Literal) -> str:
        calls = self._several(self.before, parallel=parallel, literal=literal)
        return _lines(f"calls: {calls}", *self._calls(self.head, tools, literal, schema_of))

    def _several(self, before: str, *, parallel: bool, literal: Literal) -> str:
        more = f"({_row(_text(self.between, literal), 'tool_call')})*" if parallel else ""
        return _row(_text(before, literal), "tool_call", more, _text(self.after, literal))

    def _calls(self, head: str, tools: Sequence[Tool], literal: Literal, schema_of: Callable[[Tool], str]) -> list[str]:
        rules = [f"tool_call: {' | '.join(f'tool_call_{place}' for place in range(len(tools)))}"]
        for place, tool in enumerate(tools):
            named = head.replace("{string}", quoted(tool.name)).replace("{name}", tool.name)
            parts = (_text(part, literal) for part in named.split(_NUMBER))
            opened = " /[0-9]{1,3}/ ".join(parts)
            rules.append(f"tool_call_{place}: {_row(opened, f'tool_arguments_{place}', _text(self.tail, literal))}")
            rules.append(f"tool_arguments_{place}: %json {schema_of(tool)}")
        return rules


def _schema_if_strict(tool: Tool) -> str:
    return arguments_schema(tool) if tool.strict else any_object()


def _text(text: str, literal: Literal) -> str:
    return literal(text) if text else ""


def _row(*symbols: str) -> str:
    return " ".join(filter(None, symbols))


def _lines(*rules: str) -> str:
    return "\n".join(rules) + "\n"
