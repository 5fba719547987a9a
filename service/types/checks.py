"""Checks that values share. Each raises InvalidField with the name that it is given."""

import math
from collections.abc import Sequence

from service.errors import InvalidField


def check_count(name: str, count: int, most: int, of_what: str = "entries") -> None:
    """Raise InvalidField for more than `most`."""
    if count > most:
        raise InvalidField(name, f"must have at most {most} {of_what}")


def check_tokens(name: str, tokens: Sequence[int], vocab_size: int) -> None:
    """Raise InvalidField, naming the first of them, unless all `tokens` are ids of the vocabulary."""
    if not tokens or (min(tokens) >= 0 and max(tokens) < vocab_size):
        return
    index = next(index for index, token in enumerate(tokens) if not 0 <= token < vocab_size)
    raise InvalidField(f"{name}[{index}]", outside(vocab_size))


def outside(vocab_size: int) -> str:
    """Say what a token id outside the vocabulary should have been."""
    return f"must be a token id from 0 to {vocab_size - 1}"


def within(name: str, value: float | None, low: float, high: float, *, above: bool = False) -> None:
    """Raise InvalidField unless the value is None or from `low` to `high`; `above` leaves out `low` itself."""
    if value is None:
        return
    if not math.isfinite(value) or not low <= value <= high or (above and value == low):
        bounds = f"above {low} and at most {high}" if above else f"from {low} to {high}"
        raise InvalidField(name, f"must be a number {bounds}")


def at_least(name: str, value: int | None, low: int) -> None:
    """Raise InvalidField for a value under `low`."""
    if value is not None and value < low:
        raise InvalidField(name, f"must be at least {low}")
