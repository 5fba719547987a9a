"""Taking off what stands beside a value, while it arrives bit by bit."""

import enum


class Trim(enum.Enum):
    """What beside a value is no part of it."""

    NOTHING = "nothing"
    LINE = "line"
    """A newline before and one after it."""
    BLANK = "blank"


class Trimmer:
    """Holds back what may be the value's end; what is held at the end is none of it."""

    def __init__(self, trim: Trim) -> None:
        self._trim = trim
        self._fresh = trim is not Trim.NOTHING
        self._held = ""

    def feed(self, text: str) -> str:
        """Return what is certain now."""
        if self._fresh and text:
            text = text.lstrip() if self._trim is Trim.BLANK else text.removeprefix("\n")
            self._fresh = self._trim is Trim.BLANK and not text
        text = self._held + text
        if self._trim is Trim.NOTHING:
            return text
        kept = text.rstrip() if self._trim is Trim.BLANK else text.removesuffix("\n")
        self._held = text[len(kept) :]
        return kept
