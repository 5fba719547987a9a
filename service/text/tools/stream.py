"""What a format's reader stands on: the text of calls, and the events that it makes of it."""

import secrets
from collections.abc import Callable, Mapping

from service.text.tools.json_scanner import JsonScanner
from service.text.tools.markers import Markers
from service.text.tools.source import NotACall, Source, Step
from service.text.tools.syntax import Arguments, Began, Closed, Event
from service.text.tools.values import quoted
from service.types import Tool

MAX_HELD = 1 << 16
"""Characters that are held back at most until it is known whether they are a call."""


def new_id() -> str:
    """Return an id for a call to which the model gave none."""
    return f"call_{secrets.token_hex(12)}"


class CallStream(Source):
    """Text in which calls are. Until `begin` a reader may raise NotACall, and what it read is text again."""

    def __init__(self, tools: Mapping[str, Tool], make_id: Callable[[], str] = new_id) -> None:
        super().__init__()
        self.tools = tools
        """By their names."""
        self.events: list[Event] = []
        self.open = False
        """Whether a call has begun and is not closed."""
        self.awaited: tuple[str, ...] = ()
        """Closing markers that may still come."""
        self._make_id = make_id
        self._ids: set[str] = set()

    def more(self) -> Step[bool]:
        """Wait for text, as long as not too much of it is held back."""
        if not self.open and self.at > MAX_HELD:
            raise NotACall
        return (yield from super().more())

    def begin(self, name: str, own_id: str = "") -> None:
        """Say that a call of `name` has begun. Its `own_id` is used unless another call has it."""
        if not name or self.at > MAX_HELD:
            raise NotACall
        call_id = own_id if own_id and own_id not in self._ids else self._make_id()
        self._ids.add(call_id)
        self.events.append(Began(_characters(call_id), _characters(name)))
        self.open = True
        self.settle()

    def say(self, arguments: str) -> None:
        """Add to the arguments."""
        if arguments:
            self.events.append(Arguments(arguments))

    def mark(self) -> None:
        """Say that a call, or a marker after it, is complete."""
        self.settle()
        self.open = False
        self.events.append(Closed())

    def close(self, *closings: str) -> Step[None]:
        """End the call. The first of `closings` is read if it comes next; those that do not may come later.

        Where the end of the text cuts one of them, what there is of it is read.
        """
        self.settle()
        self.awaited = closings
        if closings:
            yield from self.blank()
            if (yield from self.take(closings[0])):
                self.awaited = closings[1:]
            elif not self.cut(*closings):
                self.at = 0
        self.mark()

    def arguments(self, ends: Markers) -> Step[None]:
        """Say the JSON value that comes next, as it comes.

        One that is broken ends before a marker of `ends`, or what the end of the text leaves of one. In a string such
        a marker is text, unless the text ends there or a control character follows, which no string may have.
        """
        scanner = JsonScanner()
        while True:
            edge, marker = ends.find(self.text, self.at)
            self._pass(scanner, edge)
            if scanner.complete:
                return
            if marker:
                if not scanner.in_string or (yield from self._ends_with(marker)):
                    return
                self._pass(scanner, self.at + len(marker))
            elif not (yield from self.more()):
                # A bracket alone is more likely the list that it begins.
                if scanner.in_string or self.text[self.at :] == "[":
                    self._pass(scanner, len(self.text))
                self._drop()
                return

    def verbatim(self, ends: Markers) -> Step[None]:
        """Say all text up to one of `ends`, whole or cut by the end."""
        while True:
            edge, marker = ends.find(self.text, self.at)
            self._say_to(edge)
            if marker:
                return
            if not (yield from self.more()):
                self._drop()
                return

    def escaped(self, ends: Markers) -> Step[str]:
        """Say all text up to one of `ends`, as it stands in a JSON string; return which, or "" at the end."""
        while True:
            edge, marker = ends.find(self.text, self.at)
            waits = not marker and (yield from self.more())
            self.say(quoted(self.text[self.at : edge])[1:-1])
            self.at = edge
            self.settle()
            if not (marker or waits):
                self._drop()
            if not waits:
                return marker

    def _pass(self, scanner: JsonScanner, end: int) -> None:
        self._say_to(scanner.scan(self.text, self.at, end))

    def _drop(self) -> None:
        """Read the rest: the beginning of a marker that the end of the text cuts."""
        self.at = len(self.text)
        self.settle()

    def _say_to(self, end: int) -> None:
        self.say(self.text[self.at : end])
        self.at = end
        self.settle()

    def _ends_with(self, marker: str) -> Step[bool]:
        after = self.at + len(marker)
        while after == len(self.text):
            if not (yield from self.more()):
                return True
        return self.text[after] < " "


def _characters(text: str) -> str:
    """Replace halves of surrogate pairs, which an escape may stand for: they are no characters."""
    return text.encode("utf-8", "replace").decode()
