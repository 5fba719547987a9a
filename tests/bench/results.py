"""What a measure gives: figures of both sides by rounds, how they compare, and what is asked of that."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Reach:
    """What is asked of the median."""

    limit: float
    sign: str
    """One of ≥, ≤ and <."""

    def is_met_by(self, value: float) -> bool:
        """Whether a figure is on the right side of the limit."""
        match self.sign:
            case "≥":
                return value >= self.limit
            case "≤":
                return value <= self.limit
            case _:
                return value < self.limit

    def __str__(self) -> str:
        return f"{self.sign} {self.limit:g}"


def at_least(limit: float) -> Reach:
    """That the median is so high."""
    return Reach(limit, "≥")


def at_most(limit: float) -> Reach:
    """That the median is no higher."""
    return Reach(limit, "≤")


def below(limit: float) -> Reach:
    """That the median is lower."""
    return Reach(limit, "<")


@dataclass(frozen=True, slots=True)
class Result:
    """One line of the table."""

    line: str
    model: str
    unit: str
    """Of both sides' figures."""
    ours: float
    """Median."""
    baseline: float
    """Median."""
    compared: Sequence[float]
    """Ours against the baseline, round by round: the ratio, or the difference where that is asked for."""
    reach: Reach | None = None
    """None where nothing is asked."""

    @property
    def median(self) -> float:
        """Over the rounds."""
        return statistics.median(self.compared)

    @property
    def is_met(self) -> bool | None:
        """Whether the median is what is asked; None where nothing is."""
        return None if self.reach is None else self.reach.is_met_by(self.median)


@dataclass(frozen=True, slots=True)
class Failure:
    """A measure that could not be taken."""

    line: str
    model: str
    error: str


Outcome = Result | Failure


def ratio(
    line: str, model: str, unit: str, ours: Sequence[float], baseline: Sequence[float], reach: Reach | None = None
) -> Result:
    """Ours ÷ baseline."""
    compared = [mine / theirs for mine, theirs in zip(ours, baseline, strict=True)]
    return Result(line, model, unit, statistics.median(ours), statistics.median(baseline), compared, reach)


def difference(
    line: str, model: str, unit: str, ours: Sequence[float], baseline: Sequence[float], reach: Reach | None = None
) -> Result:
    """Ours minus baseline."""
    compared = [mine - theirs for mine, theirs in zip(ours, baseline, strict=True)]
    return Result(line, model, unit, statistics.median(ours), statistics.median(baseline), compared, reach)
