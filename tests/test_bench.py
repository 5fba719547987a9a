"""The benchmarks run: their cheapest measure, on one round, and what they are made of."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bench.bench import Bench
from tests.bench.client.answer import Answer
from tests.bench.models import Model
from tests.bench.results import Result, at_least, at_most, below, ratio
from tests.bench.rounds import alternate
from tests.bench.suite import Measure, taken

_ROOT = Path(__file__).parent.parent


def test_a_measure_gives_a_table_a_json_file_and_a_page(tmp_path: Path) -> None:
    """One stream is measured over gRPC and over the shim, beside the library, and reported in all three forms."""
    figures, page = tmp_path / "made" / "bench.json", tmp_path / "RESULTS.md"
    flags = (
        "--only",
        "one-stream",
        "--models",
        "tiny",
        "--rounds",
        "1",
        "--json",
        figures,
        "--results",
        page,
    )
    command = [sys.executable, "-m", "tests.bench", *map(str, flags)]
    table = subprocess.run(command, cwd=_ROOT, check=True, capture_output=True, text=True, timeout=120).stdout
    results = json.loads(figures.read_text(encoding="utf-8"))["results"]
    assert [result["line"] for result in results] == [
        "one stream, gRPC ÷ stream_generate",
        "one stream, shim ÷ stream_generate",
    ]
    for result in results:
        assert result["ours"] / result["baseline"] == pytest.approx(result["median"])
        assert result["met"] is (result["median"] >= float(result["reach"].removeprefix("≥ ")))
        assert result["line"] in table
        assert f"| {result['line']} | tiny |" in page.read_text(encoding="utf-8")


def test_sides_take_turns() -> None:
    """Each round has every side once, in order, and the round that warms up counts for nothing."""
    turns: list[str] = []

    def side(name: str) -> float:
        turns.append(name)
        return float(len(turns))

    figures = alternate({"a": lambda: side("a"), "b": lambda: side("b")}, 2)
    assert "".join(turns) == "ababab"
    assert figures == {"a": [3, 5], "b": [4, 6]}


def test_a_result_is_held_to_the_median_of_its_rounds() -> None:
    """One round in three that is out of reach does not decide, and nothing is met where nothing is asked."""
    ours, baseline = [2.0, 9.0, 4.0], [2.0, 3.0, 2.0]
    met = {
        reach: ratio("a", "tiny", "s", ours, baseline, reach).is_met for reach in (at_least(2), at_most(2), below(2))
    }
    assert list(met.values()) == [True, True, False]
    assert ratio("a", "tiny", "s", ours, baseline).is_met is None


def test_a_measure_that_fails_is_reported(tmp_path: Path, tiny_model: Path) -> None:
    """Its error stands in the place of its results."""

    def broken(bench: Bench) -> list[Result]:
        raise RuntimeError("no such side")

    with asyncio.Runner() as runner:
        bench = Bench(Model("tiny", tiny_model, 8, 8), 1, runner, tmp_path, bypass=False)
        outcomes = taken(Measure("broken", broken, ("tiny",), ()), bench)
    assert [(outcome.line, outcome.model) for outcome in outcomes] == [("broken", "tiny")]
    assert "no such side" in str(outcomes[0])


def test_gaps_are_between_texts() -> None:
    """The time to the first text is none of them."""
    answer = Answer(sent=1.0, texts=[1.5, 1.75, 2.5], end=3.0, tokens=4)
    assert answer.first_token == 0.5
    assert answer.gaps == [(1.5, 1.75), (1.75, 2.5)]
