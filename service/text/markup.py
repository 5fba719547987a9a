"""How model families mark reasoning in their output, and the streaming parser that takes the marks apart."""

import enum
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property


class Kind(enum.Enum):
    """What a piece of output is."""

    ANSWER = "answer"
    REASONING = "reasoning"


class State(enum.Enum):
    """Where in the output the parser stands."""

    START = "start"
    """Nothing but whitespace yet."""
    OPENED = "opened"
    """In reasoning, of which nothing but whitespace is there yet."""
    REASONING = "reasoning"
    CLOSED = "closed"
    """Just after reasoning."""
    WRAPPED = "wrapped"
    """In an answer that has markers of its own."""
    ANSWER = "answer"

    @property
    def kind(self) -> Kind:
        """What text is in this state."""
        return Kind.REASONING if self in _REASONING else Kind.ANSWER


_REASONING = {State.OPENED, State.REASONING}
_OUTSIDE = {State.START, State.CLOSED}
"""What no marker closes."""
_SETTLES = {State.START: State.ANSWER, State.CLOSED: State.ANSWER, State.OPENED: State.REASONING}
"""Where the first text that is not whitespace leads."""
_ALL = sys.maxsize


@dataclass(frozen=True, eq=False)
class Markup:
    """The markers of a family: for each state, which strings are taken out of the text there and where they lead.

    No marker of a state begins another one of it.
    """

    opening: str
    """Begins reasoning; a prompt that ends with it begins it as well."""
    evidence: tuple[str, ...]
    """A model writes this markup if its vocabulary or its template knows each of these; empty: it always does."""
    transitions: Mapping[State, Mapping[str, State]]
    also_shown: tuple[str, ...] = ()
    """Special tokens that belong to no marker but to a header that may come out as text."""
    gap: int | None = None
    """Newlines between reasoning and an answer that may begin with some itself; None: all that there are."""

    @cached_property
    def literals(self) -> frozenset[str]:
        """All texts whose special tokens must be seen by the parser."""
        return frozenset(marker for markers in self.transitions.values() for marker in markers) | set(self.also_shown)

    @cached_property
    def closings(self) -> frozenset[str]:
        """The markers that begin nothing."""
        begin = {marker for state in _OUTSIDE for marker in self.transitions.get(state, ())}
        return frozenset(marker for markers in self.transitions.values() for marker in markers) - begin


def think(opening: str, closing: str, *, evidence: tuple[str, ...] = ()) -> Markup:
    """Reasoning between two markers, at the start of the answer only: later an opening marker is plain text."""
    return Markup(
        opening=opening,
        evidence=evidence or (opening, closing),
        transitions={
            State.START: {opening: State.OPENED},
            # A model may repeat the marker that its prompt ended with.
            State.OPENED: {opening: State.OPENED, closing: State.CLOSED},
            State.REASONING: {closing: State.CLOSED},
        },
    )


def wrapped(
    opening: str, closing: str, wrapper: str, end_wrapper: str, *, evidence: tuple[str, ...], end: str = ""
) -> Markup:
    """Reasoning as `think` has it, then an answer that may be between markers too; `end` may come after all."""
    plain = think(opening, closing)
    return Markup(
        opening=opening,
        evidence=evidence,
        transitions={
            **plain.transitions,
            State.START: {opening: State.OPENED, wrapper: State.WRAPPED},
            State.CLOSED: {wrapper: State.WRAPPED},
            State.WRAPPED: {end_wrapper: State.ANSWER},
            State.ANSWER: {end: State.ANSWER} if end else {},
        },
    )


@dataclass(frozen=True, slots=True)
class Segment:
    """Text of one kind. A change of kind is told at once, by a segment that may be empty."""

    kind: Kind
    text: str


class Splitter:
    """Sorts a stream of text by kind and takes the markers out, wherever the stream is cut.

    Newlines beside a marker go with it: those after every marker, unless the markup's `gap` tells how many, and those
    before one that closes what it is in. A closing marker of which the end cuts off but the first character is one too.
    All other text comes out, unknown headers too.
    """

    def __init__(self, markup: Markup, *, reasoning_open: bool = False) -> None:
        """`reasoning_open`: the prompt ended with the opening marker."""
        self._markup = markup
        self._closings = markup.closings
        self._held = ""
        """May become a marker."""
        self._newlines = 0
        """Newlines held back, since a closing marker may follow. They come before `_held`."""
        self._trims = _ALL if reasoning_open else 0
        """Newlines that still go with the marker that has just gone by, at most."""
        self._enter(State.OPENED if reasoning_open else State.START)

    @property
    def kind(self) -> Kind:
        """What the stream is at now."""
        return self._state.kind

    def feed(self, text: str) -> list[Segment]:
        """Return what is certain now."""
        if not (self._markers or self._trims or self._held or self._state in _SETTLES):
            return [Segment(self.kind, text)]
        segments: list[Segment] = []
        rest = self._held + text
        self._held = ""
        while rest:
            start = self._candidate(rest)
            self._emit(segments, rest[:start])
            rest = rest[start:]
            marker = next((marker for marker in self._markers if rest.startswith(marker)), None)
            if marker is not None:
                self._pass(segments, marker)
                rest = rest[len(marker) :]
            elif any(marker.startswith(rest) for marker in self._markers):
                self._held, rest = rest, ""
            elif rest:
                self._emit(segments, rest[0])
                rest = rest[1:]
        return segments

    def flush(self) -> list[Segment]:
        """Return what was held back: the stream has ended."""
        segments: list[Segment] = []
        text, self._held = self._held, ""
        # A single character is more often text.
        if len(text) > 1 and any(marker in self._markers and marker.startswith(text) for marker in self._closings):
            self._newlines = 0
            return segments
        self._emit(segments, text)
        if self._newlines:
            segments.append(Segment(self.kind, "\n" * self._newlines))
            self._newlines = 0
        return segments

    def _candidate(self, text: str) -> int:
        """How much of `text` is before the first character that a marker may begin with."""
        found = self._beginnings.search(text) if self._beginnings else None
        end = found.start() if found else len(text)
        if self._state in _SETTLES and (blank := len(text) - len(text.lstrip())) < end:
            # What follows it is in another state, with other markers.
            return blank
        return end

    def _emit(self, segments: list[Segment], text: str) -> None:
        if trimmed := min(len(text) - len(text.lstrip("\n")), self._trims):
            text = text[trimmed:]
            self._trims -= trimmed
        if not text:
            return
        self._trims = 0
        settled = _SETTLES.get(self._state)
        if settled and not text.isspace():
            self._enter(settled)
        body = text.rstrip("\n") if self._closes else text
        if body:
            segments.append(Segment(self.kind, "\n" * self._newlines + body))
            self._newlines = 0
        self._newlines += len(text) - len(body)

    def _pass(self, segments: list[Segment], marker: str) -> None:
        before = self.kind
        self._newlines = 0
        self._enter(self._markers[marker])
        self._trims = self._newlines_after()
        if self.kind is not before:
            segments.append(Segment(self.kind, ""))

    def _newlines_after(self) -> int:
        """How many newlines may go with the marker that led here."""
        if self._markup.gap is None or self._state is State.OPENED:
            return _ALL
        return self._markup.gap if self._state is State.CLOSED else 0

    def _enter(self, state: State) -> None:
        self._state = state
        self._markers = self._markup.transitions.get(state, {})
        self._closes = bool(self._markers) and state not in _OUTSIDE
        first = "".join(sorted({re.escape(marker[0]) for marker in self._markers}))
        self._beginnings = re.compile(f"[{first}]") if first else None
