"""Time to the first token with a cached prefix, against the same prompt cold."""

from tests.bench.bench import Bench
from tests.bench.client.over_grpc import generate
from tests.bench.results import Result, at_most, ratio
from tests.bench.rounds import alternate

_PREFIX, _NEW = 600, 8
_FEW = 4


def measure(bench: Bench) -> list[Result]:
    """Milliseconds, over gRPC."""

    def side(prompt: list[int]) -> float:
        return 1e3 * bench.run(bench.grpc.answer(generate(prompt, _FEW))).first_token

    def both() -> tuple[float, float]:
        prefix = bench.prompts.one(_PREFIX)
        cold = side(prefix)
        return side(prefix + bench.prompts.one(_NEW)), cold

    figures = alternate({"both": both}, bench.rounds)["both"]
    cached, cold = [figure[0] for figure in figures], [figure[1] for figure in figures]
    line = f"first token, prefix of {_PREFIX} cached ÷ cold"
    return [ratio(line, bench.model.name, "ms", cached, cold, at_most(0.09))]
