"""The table of results: on a terminal, as JSON, as Markdown."""

import json
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from tests.bench.machine import machine, versions
from tests.bench.results import Failure, Outcome

_COLUMNS = ("measure", "model", "ours", "baseline", "ratio", "lowest to highest", "reach", "met")
_WIDTHS = (68, 8, 14, 14, 8, 18, 7, 4)
_MET = {True: "yes", False: "no", None: ""}
_ABOUT = """\
Each measure runs beside its baseline, in turn with it, in the same rounds; both sides have the same BLAS, preloaded,
with one thread, and the client is a process of its own. Figures are medians over {rounds} rounds after one that warms
up; a ratio is the median of the rounds' ratios, with the lowest and the highest. Prompts have 32 tokens, streams
generate 128 on tiny and 48 on smollm2, past every stop token, unless the line says otherwise. *tiny* is a random llama
of two layers, 64 wide, with SmolLM2's vocabulary; *smollm2* is the built-in model; both are float32. Memory is compared
by a difference instead of a ratio. `make bench` takes them again.
"""


def header() -> str:
    """The terminal's first line."""
    return _aligned(_COLUMNS)


def line(outcome: Outcome) -> str:
    """The terminal's line of an outcome."""
    return _aligned(_cells(outcome))


def markdown(outcomes: Sequence[Outcome], rounds: int) -> str:
    """The page that is committed."""
    order = list(dict.fromkeys(outcome.line for outcome in outcomes))
    together = sorted(outcomes, key=lambda outcome: order.index(outcome.line))
    rows = [_COLUMNS, ("---",) * len(_COLUMNS), *map(_cells, together)]
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    facts = "\n".join(f"- {name}: {value}" for name, value in (machine() | versions() | {"date": _today()}).items())
    return f"# Benchmarks\n\n{_ABOUT.format(rounds=rounds)}\n{table}\n\n## Machine\n\n{facts}\n"


def as_json(outcomes: Sequence[Outcome], rounds: int) -> str:
    """All figures."""
    content = {
        "date": _today(),
        "machine": machine(),
        "versions": versions(),
        "rounds": rounds,
        "results": [_as_dict(outcome) for outcome in outcomes],
    }
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def _aligned(cells: Sequence[str]) -> str:
    return "  ".join(f"{cell:{width}}" for cell, width in zip(cells, _WIDTHS, strict=True)).rstrip()


def _cells(outcome: Outcome) -> Sequence[str]:
    if isinstance(outcome, Failure):
        error = " ".join(outcome.error.split())
        return (outcome.line, outcome.model, f"failed: {error[:200]}", "", "", "", "", "no")
    unit, compared = outcome.unit, outcome.compared
    return (
        outcome.line,
        outcome.model,
        f"{_figure(outcome.ours)} {unit}",
        f"{_figure(outcome.baseline)} {unit}",
        _figure(outcome.median),
        f"{_figure(min(compared))} to {_figure(max(compared))}",
        str(outcome.reach or ""),
        _MET[outcome.is_met],
    )


def _figure(value: float) -> str:
    """With three digits that count."""
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2 if abs(value) >= 0.1 else 3
    return f"{value:.{digits}f}"


def _as_dict(outcome: Outcome) -> dict[str, Any]:
    if isinstance(outcome, Failure):
        return asdict(outcome)
    derived = {"median": outcome.median, "low": min(outcome.compared), "high": max(outcome.compared)}
    reach = None if outcome.reach is None else str(outcome.reach)
    return asdict(outcome) | derived | {"reach": reach, "met": outcome.is_met}


def _today() -> str:
    return time.strftime("%Y-%m-%d")
