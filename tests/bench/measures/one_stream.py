"""One stream over gRPC and over the shim, against the library's `stream_generate`."""

from tests.bench.bench import Bench
from tests.bench.client.answer import complete, rate
from tests.bench.client.over_http import completion
from tests.bench.commands import OneStream
from tests.bench.results import Result, at_least, ratio
from tests.bench.rounds import alternate

_GRPC = {"tiny": at_least(1.6), "smollm2": at_least(1.0)}
_SHIM = {"tiny": at_least(1.4), "smollm2": at_least(0.98)}


def measure(bench: Bench) -> list[Result]:
    """Tokens a second, from the request to the end of the answer."""
    name, tokens = bench.model.name, bench.model.tokens

    def grpc() -> float:
        return rate(complete(bench.answers(bench.prompts.many(1), tokens), tokens))

    def shim() -> float:
        body = completion(name, bench.prompts.one(), tokens)
        return rate(complete([bench.run(bench.shim.answer(body))], tokens))

    def library() -> float:
        done = bench.baseline.run(OneStream(bench.prompts.one(), tokens))
        assert done.tokens == tokens
        return tokens / done.seconds

    figures = alternate({"grpc": grpc, "library": library, "shim": shim}, bench.rounds)
    return [
        ratio("one stream, gRPC ÷ stream_generate", name, "tok/s", figures["grpc"], figures["library"], _GRPC[name]),
        ratio("one stream, shim ÷ stream_generate", name, "tok/s", figures["shim"], figures["library"], _SHIM[name]),
    ]
