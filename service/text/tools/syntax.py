"""What is known of one way to write tool calls."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import msgspec

from service.types import Tool

Literal = Callable[[str], str]
"""Turns the text of markers into symbols of a Lark rule: special tokens as `<[id]>`, the rest as quoted strings."""


class Plain(msgspec.Struct, frozen=True):
    """Text that is no part of a call."""

    text: str


class Began(msgspec.Struct, frozen=True):
    """A call whose name is known and whose arguments begin."""

    id: str
    name: str


class Arguments(msgspec.Struct, frozen=True):
    """More of the JSON text of the call's arguments."""

    text: str


class Closed(msgspec.Struct, frozen=True):
    """The call is complete, with its closing marker if it has one. Markers of a whole section may give it again."""


Event = Plain | Began | Arguments | Closed


class CallReader(Protocol):
    """Finds the calls in one choice's answer, wherever it is cut."""

    @property
    def literals(self) -> frozenset[str]:
        """All texts whose special tokens the reader must see."""
        ...

    def feed(self, text: str) -> list[Event]:
        """Return what is certain now."""
        ...

    def flush(self) -> list[Event]:
        """Return what was held back, and end a call that is open; text that follows begins anew."""
        ...


class CallGrammar(Protocol):
    """Writes the Lark rules in which a model is made to call."""

    def forced(self, tools: Sequence[Tool], *, parallel: bool, literal: Literal) -> str: ...

    def triggered(self, tools: Sequence[Tool], *, parallel: bool, literal: Literal) -> str: ...


@dataclass(frozen=True, eq=False)
class ToolSyntax:
    """One way to write calls.

    `openings` are the markers that begin a call in the answer; formats of bare JSON have none. `literals` are all
    texts of markers, whose special tokens must be seen by the reader.
    """

    name: str
    openings: tuple[str, ...]
    literals: frozenset[str]
    read: Callable[[Sequence[Tool]], CallReader]
    grammar: CallGrammar

    def reader(self, tools: Sequence[Tool]) -> CallReader:
        """Return the reader of one choice, for which calls of `tools` are asked."""
        return self.read(tools)

    def forced(self, tools: Sequence[Tool], *, parallel: bool, literal: Literal) -> str:
        """Return Lark rules; the one named `calls` accepts one call of one of `tools`, or several if `parallel`.

        Arguments are held to the tool's JSON Schema. All other rules and terminals begin with `tool_` or `TOOL_`.
        """
        return self.grammar.forced(tools, parallel=parallel, literal=literal)

    def triggered(self, tools: Sequence[Tool], *, parallel: bool, literal: Literal) -> str:
        """Return Lark rules; the one named `answer` accepts free text with any number of calls, or up to one.

        Once a marker has opened a call, it is one of `tools`, its arguments held to the schema if the tool is strict.
        """
        return self.grammar.triggered(tools, parallel=parallel, literal=literal)
