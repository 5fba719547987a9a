"""`python -m tests.bench`: every measure beside its baseline, as a table and, if asked for, as files."""

import argparse
import signal
import sys
import tempfile
from pathlib import Path

from tests.bench import report
from tests.bench.models import MODELS
from tests.bench.results import Outcome
from tests.bench.suite import NAMES, Plan, outcomes

_ROUNDS, _QUICK_ROUNDS = 5, 2


def main() -> None:
    """Run the benchmarks and print their table."""
    options = _options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that all sides are ended
    rounds = options.rounds or (_QUICK_ROUNDS if options.quick else _ROUNDS)
    plan = Plan(options.models, options.only, options.quick, rounds, options.bypass)
    taken: list[Outcome] = []
    print(report.header(), flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        for outcome in outcomes(plan, Path(scratch)):
            print(report.line(outcome), flush=True)
            taken.append(outcome)
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(report.as_json(taken, rounds), encoding="utf-8")
    if options.results:
        options.results.write_text(report.markdown(taken, rounds), encoding="utf-8")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="the measures that take little time, in under two minutes")
    parser.add_argument("--rounds", type=int, help=f"that count; default {_ROUNDS}, with --quick {_QUICK_ROUNDS}")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--only", nargs="+", choices=NAMES, default=[], metavar="NAME", help=", ".join(NAMES))
    parser.add_argument("--bypass", action="store_true", help="keep requests out of the prefix cache")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to write all figures")
    parser.add_argument("--results", type=Path, metavar="FILE", help="where to write the table as Markdown")
    options = parser.parse_args()
    if options.quick and options.results:
        parser.error("--results is for whole runs, not for --quick ones")
    return options


if __name__ == "__main__":
    main()
