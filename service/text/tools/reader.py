"""The streaming reader of all formats: plain text, in which calls begin at markers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from service.text.tools.markers import markers
from service.text.tools.source import NotACall, Step
from service.text.tools.stream import CallStream, new_id
from service.text.tools.syntax import CallGrammar, Event, Plain, ToolSyntax
from service.types import Tool

_MAX_NEWLINES = 64
"""Newlines before a marker that go with it."""

Body = Callable[[CallStream, str], Step[None]]
"""Reads the call, or the calls, after the marker that it gets. Raises NotACall before the first begins, or between."""


@dataclass(frozen=True, eq=False)
class Format:
    """How calls are read: by `body` after one of `openings`, by `lead` where the answer begins.

    No opening begins another. `others` are markers that the two look for.
    """

    body: Body
    openings: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    lead: Body | None = None
    make_id: Callable[[], str] = new_id

    @property
    def literals(self) -> frozenset[str]:
        """All markers."""
        return frozenset((*self.openings, *self.others))


class FormatReader:
    """Reads one choice's answer. Newlines beside a marker go with it."""

    def __init__(self, form: Format, tools: Sequence[Tool]) -> None:
        self._form = form
        self._tools = {tool.name: tool for tool in tools}
        self.literals = form.literals
        self._begin()

    def feed(self, text: str) -> list[Event]:
        """Return what is certain now."""
        self._stream.text += text
        return self._go_on()

    def flush(self) -> list[Event]:
        """Return what was held back, and end a call that is open; text that follows begins anew."""
        self._stream.ended = True
        events = self._go_on()
        self._begin()
        return events

    def _begin(self) -> None:
        self._stream = CallStream(self._tools, self._form.make_id)
        self._trims = False
        """Whether a marker has just gone by."""
        self._run = self._read()

    def _go_on(self) -> list[Event]:
        next(self._run, None)
        events, self._stream.events = self._stream.events, []
        return events

    def _read(self) -> Step[None]:
        stream = self._stream
        if self._form.lead:
            yield from self._attempt(self._form.lead, "")
        while marker := (yield from self._plain()):
            if marker in stream.awaited:
                stream.awaited = tuple(other for other in stream.awaited if other != marker)
                stream.mark()
                self._trims = True
            else:
                yield from self._attempt(self._form.body, marker)

    def _attempt(self, body: Body, marker: str) -> Step[None]:
        stream = self._stream
        try:
            yield from body(stream, marker)
            self._trims = True
        except NotACall:
            self._trims = False
            if stream.open:
                stream.at = 0
                stream.mark()
            elif marker:
                self._say(stream.at)
            else:
                stream.at = 0
        stream.settle()

    def _plain(self) -> Step[str]:
        """Say text up to a marker, which is read and returned; "" at the end.

        Beside a call, what the end leaves of an awaited marker is read.
        """
        stream, beside = self._stream, self._trims
        found = markers(*self._form.openings, *stream.awaited)
        while True:
            edge, marker = found.find(stream.text, 0)
            before = stream.text[:edge]
            beside = beside and not before.strip()
            if self._trims:
                before = before.lstrip("\n")
                stream.at, self._trims = edge - len(before), not before
                stream.settle()
            newlines = min(len(before) - len(before.rstrip("\n")), _MAX_NEWLINES)
            self._say(len(before) - newlines)
            if marker:
                stream.at = newlines + len(marker)
                return marker
            if not (yield from stream.more()):
                stream.at = len(stream.text) - len(stream.text.lstrip("\n"))
                if beside and stream.cut(*stream.awaited):
                    stream.mark()
                else:
                    self._say(len(stream.text))
                return ""

    def _say(self, end: int) -> None:
        """Say the text up to `end`, of which nothing was said, as it is."""
        stream = self._stream
        if end:
            stream.events.append(Plain(stream.text[:end]))
        stream.at = end
        stream.settle()


def syntax(name: str, form: Format, grammar: CallGrammar) -> ToolSyntax:
    """Return the syntax that is read as `form` says and written as `grammar` does."""
    return ToolSyntax(name, form.openings, form.literals, partial(FormatReader, form), grammar)
