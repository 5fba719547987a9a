"""CPU time for each token of all our processes, against the library in one process."""

from tests.bench.bench import Bench
from tests.bench.client.answer import complete
from tests.bench.commands import Batch
from tests.bench.results import Result, at_most, ratio
from tests.bench.rounds import alternate
from tests.bench.usage import cpu_seconds

_STREAMS = 16
_REPEATS = {"tiny": 2, "smollm2": 1}
"""Runs in a round, so that the system's clock ticks are short beside it."""
_REACH = {"tiny": at_most(0.5), "smollm2": at_most(1.0)}


def measure(bench: Bench) -> list[Result]:
    """Microseconds of user and system time, the client's left out."""
    name, tokens = bench.model.name, bench.model.tokens
    repeats = _REPEATS[name]
    made = repeats * _STREAMS * tokens

    def grpc() -> float:
        pids = bench.servers.pids
        before = cpu_seconds(pids)
        for _ in range(repeats):
            complete(bench.answers(bench.prompts.many(_STREAMS), tokens), tokens)
        return 1e6 * (cpu_seconds(pids) - before) / made

    def library() -> float:
        pids = [bench.baseline.pid]
        before = cpu_seconds(pids)
        for _ in range(repeats):
            bench.baseline.run(Batch(bench.prompts.many(_STREAMS), tokens, _STREAMS))
        return 1e6 * (cpu_seconds(pids) - before) / made

    figures = alternate({"grpc": grpc, "library": library}, bench.rounds)
    line = f"CPU a token, {_STREAMS} streams, ours ÷ BatchGenerator"
    return [ratio(line, name, "µs", figures["grpc"], figures["library"], _REACH[name])]
