"""Streams of which some ask for log-probabilities, against as many that do not."""

from tests.bench.bench import Bench
from tests.bench.client.answer import complete, rate
from tests.bench.results import Result, at_least, ratio
from tests.bench.rounds import alternate

_STREAMS, _ASKING, _TOP = 16, 4, 5
_REACH = at_least(0.85)


def measure(bench: Bench) -> list[Result]:
    """Tokens a second of all streams together."""
    tokens = bench.model.tokens

    def side(asking: int) -> float:
        requests = [
            bench.request(prompt, tokens, top_logprobs=_TOP if row < asking else 0)
            for row, prompt in enumerate(bench.prompts.many(_STREAMS))
        ]
        return rate(complete(bench.run(bench.grpc.answers(requests)), tokens))

    figures = alternate({"some": lambda: side(_ASKING), "none": lambda: side(0)}, bench.rounds)
    line = f"{_STREAMS} greedy streams, {_ASKING} with the log-probabilities of {_TOP} ÷ none"
    return [ratio(line, bench.model.name, "tok/s", figures["some"], figures["none"], _REACH)]
