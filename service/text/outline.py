"""How an output is put together around its answer: what a family's markers tell of the texts that a model writes."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from service.text.markup import Markup, State

_Markers = Mapping[str, State]


@dataclass(frozen=True, slots=True)
class Outline:
    """The markers of a markup by what they are for; empty where it has none for that."""

    markup: Markup
    opening: str
    """Begins reasoning."""
    closing: str
    """Ends it."""
    turn: str
    """Follows it, before anything else does."""
    header: str
    """Must come before an answer in words."""
    wrapper: str
    """May come before an answer in words."""

    @classmethod
    def of(cls, markup: Markup) -> "Outline":
        """Sort the markers of a family."""
        start, closed = (markup.transitions.get(state, {}) for state in (State.START, State.CLOSED))
        header = _first(start, State.ANSWER)
        again = (marker.removesuffix(header) for marker in closed if header and marker.endswith(header))
        return cls(
            markup=markup,
            opening=markup.opening,
            closing=_first(markup.transitions[State.REASONING], State.CLOSED),
            turn=max(again, key=len, default=""),
            header=header,
            wrapper=_first(start, State.WRAPPED),
        )

    @property
    def ends(self) -> tuple[str, ...]:
        """All markers that are no part of reasoning."""
        return tuple(self.markup.transitions[State.REASONING])

    @property
    def gap(self) -> str:
        """Newlines that a model writes between its reasoning and what follows."""
        return "\n\n" if self.closing.startswith("</") else ""

    @property
    def ending(self) -> str:
        """What ends reasoning that is cut short, as a model would have written it."""
        return f"\n{self.closing}{self.gap}" if self.gap else self.closing + self.turn

    def for_answers(self, *, may_reason: bool, exact: bool = False) -> Markup:
        """Markup of an output whose answer is held to a grammar: once the answer has begun, all of it is the answer.

        `exact`: there is just the `gap` before it, and more newlines are its own.
        """
        opens = {self.opening: State.OPENED} if may_reason else {}
        answers = {marker: State.ANSWER for marker in (self.header, self.wrapper) if marker}
        later = {self.turn + self.header: State.ANSWER} if self.header else answers
        closes = {self.closing: State.CLOSED}
        return replace(
            self.markup,
            gap=len(self.gap) if exact else None,
            transitions={
                State.START: {**opens, **answers},
                State.OPENED: {self.opening: State.OPENED, **closes},
                State.REASONING: closes,
                State.CLOSED: later,
            },
        )


def _first(markers: _Markers, state: State) -> str:
    return next((marker for marker, leads_to in markers.items() if leads_to is state), "")
