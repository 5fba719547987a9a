"""Rounds in which every side runs once, in turn, so that what else the machine does falls on all of them."""

import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass

Run = Callable[[], float]
"""One run; its figure in tokens a second."""


@dataclass(frozen=True, slots=True)
class Ratio:
    """How a side compares with the baseline: the median over the rounds, and the lowest and highest."""

    name: str
    figure: float
    """Median tokens a second."""
    median: float
    low: float
    high: float


def compare(baseline: str, sides: Mapping[str, Run], rounds: int) -> list[Ratio]:
    """Run all sides `rounds` times, after one that does not count, and set each against the baseline of its round."""
    for run in sides.values():
        run()
    figures: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, run in sides.items():
            figures[name].append(run())
    ratios = []
    for name, values in figures.items():
        against = [value / base for value, base in zip(values, figures[baseline], strict=True)]
        figure, median = statistics.median(values), statistics.median(against)
        ratios.append(Ratio(name, figure, median, min(against), max(against)))
    return ratios
