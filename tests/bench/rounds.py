"""Rounds in which every side runs once, in turn, so that what else the machine does falls on all of them."""

from collections.abc import Callable, Mapping
from typing import TypeVar

Figures = TypeVar("Figures")


def alternate(
    sides: Mapping[str, Callable[[], Figures]], rounds: int, *, warm: bool = True
) -> dict[str, list[Figures]]:
    """Run all sides `rounds` times, after one that does not count unless `warm` is false; each side's figures."""
    if warm:
        for run in sides.values():
            run()
    figures: dict[str, list[Figures]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, run in sides.items():
            figures[name].append(run())
    return figures
