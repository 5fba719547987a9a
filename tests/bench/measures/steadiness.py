"""How evenly the tokens of steady streams come."""

import statistics

from tests.bench.bench import Bench
from tests.bench.client.answer import complete
from tests.bench.results import Result, at_most, ratio
from tests.bench.rounds import alternate

_STREAMS = 16


def measure(bench: Bench) -> list[Result]:
    """Milliseconds between two messages of a stream, while all streams run: the 99th percentile and the median."""
    tokens = bench.model.tokens

    def grpc() -> tuple[float, float]:
        answers = complete(bench.answers(bench.prompts.many(_STREAMS), tokens), tokens)
        begun = max(answer.texts[0] for answer in answers)
        until = min(answer.texts[-1] for answer in answers)
        gaps = [1e3 * (b - a) for answer in answers for a, b in answer.gaps if begun <= a and b <= until]
        return statistics.quantiles(gaps, n=100)[98], statistics.median(gaps)

    figures = alternate({"grpc": grpc}, bench.rounds)["grpc"]
    high, middle = [figure[0] for figure in figures], [figure[1] for figure in figures]
    line = f"inter-token p99 ÷ p50, {_STREAMS} steady streams"
    return [ratio(line, bench.model.name, "ms", high, middle, at_most(2))]
