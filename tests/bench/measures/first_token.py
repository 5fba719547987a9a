"""Time to the first tokens of prompts that are sent together, against one batched prefill of as many."""

from tests.bench.bench import Bench
from tests.bench.commands import FirstTokens
from tests.bench.results import Result, at_most, ratio
from tests.bench.rounds import alternate

_STREAMS = 16
_FEW = 4
_REACH = at_most(3)


def measure(bench: Bench) -> list[Result]:
    """Milliseconds over all streams: their mean, and the last."""

    def grpc() -> tuple[float, float]:
        times = [1e3 * answer.first_token for answer in bench.answers(bench.prompts.many(_STREAMS), _FEW)]
        return sum(times) / len(times), max(times)

    def library() -> tuple[float, float]:
        prefill = 1e3 * bench.baseline.run(FirstTokens(bench.prompts.many(_STREAMS))).seconds
        return prefill, prefill

    figures = alternate({"grpc": grpc, "library": library}, bench.rounds)
    results = []
    for place, which in enumerate(("mean", "worst")):
        ours, theirs = ([figure[place] for figure in figures[side]] for side in ("grpc", "library"))
        line = f"first token of {_STREAMS} x 32, {which}, gRPC ÷ batched prefill"
        results.append(ratio(line, bench.model.name, "ms", ours, theirs, _REACH))
    return results
