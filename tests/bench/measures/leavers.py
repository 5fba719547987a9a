"""A short request after other clients have gone away, against the same request before they came."""

import asyncio
from collections.abc import Awaitable, Callable

from tests.bench.bench import Bench
from tests.bench.client.over_grpc import GrpcCall
from tests.bench.results import Result, at_most, ratio
from tests.bench.rounds import alternate
from tests.bench.workload import PROMPT_TOKENS

_LEAVERS = 4
_SHORT = 16
"""Tokens of the short request."""
_SEEN = 10
"""Messages that each client reads before it leaves."""
_ENOUGH = 2000
"""Tokens that those who leave have asked for."""


def mid_decode(bench: Bench) -> list[Result]:
    """Milliseconds that the short request takes; the others leave while their tokens come."""

    async def stay(calls: list[GrpcCall]) -> None:
        await asyncio.gather(*(call.read(_SEEN) for call in calls))

    after, before = _times(bench, PROMPT_TOKENS, stay)
    line = f"short request after {_LEAVERS} clients leave mid-decode ÷ before"
    return [ratio(line, bench.model.name, "ms", after, before, at_most(1.2))]


def mid_prefill(bench: Bench) -> list[Result]:
    """Milliseconds that the short request takes; the others leave while their long prompts are processed."""
    length = bench.model.long_prompt
    alone = bench.answers([bench.prompts.one(length)], 1)[0].first_token

    async def stay(_: list[GrpcCall]) -> None:
        await asyncio.sleep(alone / 2)

    after, before = _times(bench, length, stay)
    line = f"short request after {_LEAVERS} clients leave mid-prefill of {length} ÷ before"
    return [ratio(line, bench.model.name, "ms", after, before, at_most(1.5))]


def _times(
    bench: Bench, length: int, stay: Callable[[list[GrpcCall]], Awaitable[None]]
) -> tuple[list[float], list[float]]:
    """Milliseconds after clients with prompts of this length have stayed and left, and before."""
    client = bench.grpc

    async def scene() -> float:
        calls = [client.call(bench.request(prompt, _ENOUGH)) for prompt in bench.prompts.many(_LEAVERS, length)]
        await stay(calls)
        for call in calls:
            call.cancel()
        return await short()

    async def short() -> float:
        answer = await client.answer(bench.request(bench.prompts.one(), _SHORT))
        return 1e3 * answer.seconds

    figures = alternate({"after": lambda: bench.run(scene()), "before": lambda: bench.run(short())}, bench.rounds)
    return figures["after"], figures["before"]
