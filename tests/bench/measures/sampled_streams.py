"""Streams that each draw their tokens in their own way, against BatchGenerator with a sampler a row, and greedy."""

from tests.bench.bench import Bench
from tests.bench.client.answer import complete, rate
from tests.bench.commands import Batch
from tests.bench.results import Result, at_least, ratio
from tests.bench.rounds import alternate
from tests.bench.workload import Sampling

_STREAMS = 16
_OWN = {"tiny": at_least(10), "smollm2": at_least(1.5)}
_GREEDY = {"tiny": at_least(1.5), "smollm2": at_least(0.95)}


def measure(bench: Bench) -> list[Result]:
    """Tokens a second of all streams together."""
    name, tokens = bench.model.name, bench.model.tokens

    def grpc() -> float:
        rows = zip(bench.prompts.many(_STREAMS), bench.prompts.samplings(_STREAMS), strict=True)
        requests = [bench.request(prompt, tokens, sampling) for prompt, sampling in rows]
        return rate(complete(bench.run(bench.grpc.answers(requests)), tokens))

    def library(samplings: list[Sampling]) -> float:
        done = bench.baseline.run(Batch(bench.prompts.many(_STREAMS), tokens, _STREAMS, samplings))
        assert done.tokens == _STREAMS * tokens
        return done.tokens / done.seconds

    figures = alternate(
        {
            "grpc": grpc,
            "own": lambda: library(bench.prompts.samplings(_STREAMS)),
            "greedy": lambda: library([]),
        },
        bench.rounds,
    )
    line = f"{_STREAMS} streams with top_p, gRPC ÷ BatchGenerator"
    return [
        ratio(f"{line}, a sampler a row", name, "tok/s", figures["grpc"], figures["own"], _OWN[name]),
        ratio(f"{line}, greedy", name, "tok/s", figures["grpc"], figures["greedy"], _GREEDY[name]),
    ]
