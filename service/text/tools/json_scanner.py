"""Finding the end of a JSON value in text that arrives bit by bit."""

import re

_STRING_ENDS = {quote: re.compile(rf"[{quote}\\]") for quote in "\"'"}
_STRICT_STRING_ENDS = re.compile(r'["\\\x00-\x1f]')
_NESTS = re.compile(r"[\"{}\[\]()]")
_PYTHON_NESTS = re.compile(r"[\"'{}\[\]()]")
_STRICT_NESTS = re.compile(r"[^\s\w.+:,-]")
_SCALAR_ENDS = re.compile(r"[\s,)}\]]")
_STRICT_SCALAR_ENDS = re.compile(r"[^\w.+-]")


class JsonScanner:
    """Follows strings and nesting, and checks nothing else, so that a broken value may have an end or none.

    `strict` stops at the first character that no JSON has there. `python` knows single quotes too.
    """

    __slots__ = ("_depth", "_escaped", "_nests", "_quote", "_scalar", "_strict", "broken", "complete")

    def __init__(self, *, strict: bool = False, python: bool = False) -> None:
        self._strict = strict
        self._nests = _STRICT_NESTS if strict else _PYTHON_NESTS if python else _NESTS
        self._depth = 0
        self._quote = ""
        self._escaped = False
        self._scalar = False
        self.complete = False
        self.broken = False
        """Whether a strict scan has come to an end that is none."""

    @property
    def in_string(self) -> bool:
        """Whether the text so far ends inside a string."""
        return bool(self._quote)

    def scan(self, text: str, start: int, end: int) -> int:
        """Go on with `text[start:end]`, which begins with the value or its continuation; return how far it reaches."""
        while start < end and not (self.complete or self.broken):
            if self._quote:
                start = self._in_string(text, start, end)
            elif self._scalar:
                start = self._in_scalar(text, start, end)
            elif self._depth:
                start = self._in_container(text, start, end)
            else:
                self._scalar = not self._nests.match(text, start)
                start = start if self._scalar else self._in_container(text, start, end)
        return start

    def _in_string(self, text: str, start: int, end: int) -> int:
        if self._escaped:
            self._escaped = False
            return start + 1
        ends = _STRICT_STRING_ENDS if self._strict else _STRING_ENDS[self._quote]
        found = ends.search(text, start, end)
        if found is None:
            return end
        if found[0] == self._quote:
            self._quote = ""
            self.complete = not self._depth
        elif found[0] == "\\":
            self._escaped = True
        else:
            self.broken = True
            return found.start()
        return found.end()

    def _in_scalar(self, text: str, start: int, end: int) -> int:
        found = (_STRICT_SCALAR_ENDS if self._strict else _SCALAR_ENDS).search(text, start, end)
        if found is None:
            return end
        self.complete = True
        return found.start()

    def _in_container(self, text: str, start: int, end: int) -> int:
        found = self._nests.search(text, start, end)
        if found is None:
            return end
        character = found[0]
        if self._strict and character not in '"{}[]':
            self.broken = True
            return found.start()
        if character in "{[(":
            self._depth += 1
        elif character in ")]}" and self._depth:
            self._depth -= 1
            self.complete = not self._depth
        elif character in "\"'":
            self._quote = character
        return found.end()
