"""Text that arrives bit by bit, read by generators which wait where they need more."""

import re
from collections.abc import Generator
from typing import TypeVar

from service.text.tools.json_scanner import JsonScanner
from service.text.tools.markers import Markers

T = TypeVar("T")
Step = Generator[None, None, T]
"""What reads: it yields for more text, and returns what it read."""

_BLANK = re.compile(r"\s*")


class NotACall(Exception):
    """What began like a call goes on in another way; `Source.at` is where."""


class Source:
    """Text that is not settled yet, and how far it is read."""

    def __init__(self) -> None:
        self.text = ""
        self.at = 0
        self.ended = False
        """Whether no more text comes."""

    @property
    def over(self) -> bool:
        """Whether all text so far is read; after `blank` or `run`, all that there is."""
        return self.at == len(self.text)

    def settle(self) -> None:
        """Forget what is read."""
        self.text, self.at = self.text[self.at :], 0

    def more(self) -> Step[bool]:
        """Wait for text; return False where none comes."""
        size = len(self.text)
        while len(self.text) == size and not self.ended:
            yield
        return len(self.text) > size

    def blank(self) -> Step[None]:
        """Read whitespace, if there is any."""
        yield from self.run(_BLANK)

    def run(self, pattern: re.Pattern[str]) -> Step[str]:
        """Read and return characters of one class; `pattern` matches any number of them."""
        start = self.at
        while True:
            found = pattern.match(self.text, self.at)
            self.at = found.end() if found else self.at
            if self.at < len(self.text) or not (yield from self.more()):
                return self.text[start : self.at]

    def next_is(self, *texts: str) -> Step[str]:
        """Return which of `texts` comes next, or ""; it is not read."""
        while True:
            for text in texts:
                if self.text.startswith(text, self.at):
                    return text
            rest = self.text[self.at :]
            if not any(text.startswith(rest) for text in texts) or not (yield from self.more()):
                return ""

    def take(self, *texts: str) -> Step[str]:
        """Read which of `texts` comes next, if one does, and return it."""
        found = yield from self.next_is(*texts)
        self.at += len(found)
        return found

    def cut(self, *texts: str) -> bool:
        """Read what the end of the text leaves of one of `texts`, if one comes next; return whether it did."""
        rest = self.text[self.at :]
        found = self.ended and bool(rest) and any(text.startswith(rest) for text in texts)
        self.at = len(self.text) if found else self.at
        return found

    def expect(self, *texts: str) -> Step[str]:
        """Read one of `texts`, and return it. Raises NotACall."""
        found = yield from self.take(*texts)
        if not found:
            raise NotACall
        return found

    def before(self, ends: Markers) -> Step[str]:
        """Read the text up to one of `ends`, which is not read, or to the end, which may cut one."""
        start = self.at
        while True:
            self.at, found = ends.find(self.text, self.at)
            if found or not (yield from self.more()):
                text = self.text[start : self.at]
                self.at = self.at if found else len(self.text)
                return text

    def value(self, *, python: bool = False) -> Step[str]:
        """Read a JSON value, whose text is returned, or a Python one. Raises NotACall for none."""
        start, scanner = self.at, JsonScanner(strict=not python, python=python)
        while True:
            self.at = scanner.scan(self.text, self.at, len(self.text))
            if scanner.complete and self.at > start:
                return self.text[start : self.at]
            if scanner.complete or scanner.broken or not (yield from self.more()):
                raise NotACall
