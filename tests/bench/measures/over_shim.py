"""Streams at once over the shim, against the library's own server, with one client for both."""

from tests.bench.bench import Bench
from tests.bench.client.answer import Answer, complete, rate
from tests.bench.client.over_http import HttpClient, completion
from tests.bench.results import Result, at_least, below, ratio
from tests.bench.rounds import alternate
from tests.bench.sides.library_server import MODEL
from tests.bench.workload import PROMPT_TOKENS

_STREAMS = 16
_LONGER = 200
"""Tokens of the prompts whose first tokens are waited for."""
_FEW = 4


def throughput(bench: Bench) -> list[Result]:
    """Tokens a second of all streams together."""
    tokens = bench.model.tokens

    def side(client: HttpClient, model: str) -> float:
        return rate(complete(_answers(bench, client, model, PROMPT_TOKENS, tokens), tokens))

    library = HttpClient(bench.library_server.address)
    figures = alternate(
        {"shim": lambda: side(bench.shim, bench.model.name), "library": lambda: side(library, MODEL)}, bench.rounds
    )
    line = f"{_STREAMS} streams, shim ÷ mlx_lm.server"
    return [ratio(line, bench.model.name, "tok/s", figures["shim"], figures["library"], at_least(4))]


def first_token(bench: Bench) -> list[Result]:
    """Milliseconds to the first tokens of longer prompts that are sent together: their mean, and the last."""

    def of(answers: list[Answer]) -> tuple[float, float]:
        times = [1e3 * answer.first_token for answer in answers]
        return sum(times) / len(times), max(times)

    def side(client: HttpClient, model: str) -> tuple[float, float]:
        return of(_answers(bench, client, model, _LONGER, _FEW))

    library = HttpClient(bench.library_server.address)
    figures = alternate(
        {
            "grpc": lambda: of(bench.answers(bench.prompts.many(_STREAMS, _LONGER), _FEW)),
            "library": lambda: side(library, MODEL),
            "shim": lambda: side(bench.shim, bench.model.name),
        },
        bench.rounds,
    )
    results = []
    for over in ("grpc", "shim"):
        for place, which in enumerate(("mean", "worst")):
            ours, theirs = ([figure[place] for figure in figures[side]] for side in (over, "library"))
            line = f"first token of {_STREAMS} x {_LONGER}, {which}, {_OVER[over]} ÷ mlx_lm.server"
            results.append(ratio(line, bench.model.name, "ms", ours, theirs, below(1)))
    return results


_OVER = {"grpc": "gRPC", "shim": "shim"}


def _answers(bench: Bench, client: HttpClient, model: str, length: int, tokens: int) -> list[Answer]:
    prompts = [bench.prompts.text(ids) for ids in bench.prompts.many(_STREAMS, length)]
    return bench.run(client.answers([completion(model, prompt, tokens) for prompt in prompts]))
