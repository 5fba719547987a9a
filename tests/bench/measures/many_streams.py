"""Greedy streams at once over gRPC, against the library's BatchGenerator on the same rows."""

from tests.bench.bench import Bench
from tests.bench.client.answer import complete, rate
from tests.bench.commands import Batch
from tests.bench.results import Reach, Result, at_least, ratio
from tests.bench.rounds import alternate

_REACH = {
    16: {"tiny": at_least(2.6), "smollm2": at_least(1.05)},
    32: {"tiny": at_least(3.2), "smollm2": at_least(1.05)},
}


def sixteen(bench: Bench) -> list[Result]:
    """Tokens a second of 16 streams together."""
    return _streams(bench, 16, _REACH[16][bench.model.name])


def thirty_two(bench: Bench) -> list[Result]:
    """Tokens a second of 32 streams together."""
    return _streams(bench, 32, _REACH[32][bench.model.name])


def _streams(bench: Bench, count: int, reach: Reach) -> list[Result]:
    tokens = bench.model.tokens

    def grpc() -> float:
        return rate(complete(bench.answers(bench.prompts.many(count), tokens), tokens))

    def library() -> float:
        done = bench.baseline.run(Batch(bench.prompts.many(count), tokens, at_once=count))
        assert done.tokens == count * tokens
        return done.tokens / done.seconds

    figures = alternate({"grpc": grpc, "library": library}, bench.rounds)
    line = f"{count} greedy streams, gRPC ÷ BatchGenerator"
    return [ratio(line, bench.model.name, "tok/s", figures["grpc"], figures["library"], reach)]
