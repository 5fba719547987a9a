"""A short request after other clients have gone away, against the same request before they came."""

import asyncio

from tests.bench.bench import Bench
from tests.bench.client.over_grpc import GrpcClient
from tests.bench.results import Result, at_most, ratio
from tests.bench.rounds import alternate

_LEAVERS = 4
_SHORT = 16
"""Tokens of the short request."""
_SEEN = 10
"""Messages that each client reads before it leaves."""
_ENOUGH = 2000
"""Tokens that those who leave have asked for."""


def mid_decode(bench: Bench) -> list[Result]:
    """Milliseconds that the short request takes; the others leave while their tokens come."""

    async def scene(client: GrpcClient) -> float:
        calls = [client.call(bench.request(prompt, _ENOUGH)) for prompt in bench.prompts.many(_LEAVERS)]
        await asyncio.gather(*(call.read(_SEEN) for call in calls))
        for call in calls:
            call.cancel()
        return await _short(bench, client)

    figures = alternate(
        {"after": lambda: bench.run(scene(bench.grpc)), "before": lambda: bench.run(_short(bench, bench.grpc))},
        bench.rounds,
    )
    line = f"short request after {_LEAVERS} clients leave mid-decode ÷ before"
    return [ratio(line, bench.model.name, "ms", figures["after"], figures["before"], at_most(1.2))]


def mid_prefill(bench: Bench) -> list[Result]:
    """Milliseconds that the short request takes; the others leave while their long prompts are processed."""
    length = bench.model.long_prompt
    alone = bench.answers([bench.prompts.one(length)], 1)[0].first_token

    async def scene(client: GrpcClient) -> float:
        calls = [client.call(bench.request(prompt, _ENOUGH)) for prompt in bench.prompts.many(_LEAVERS, length)]
        await asyncio.sleep(alone / 2)
        for call in calls:
            call.cancel()
        return await _short(bench, client)

    figures = alternate(
        {"after": lambda: bench.run(scene(bench.grpc)), "before": lambda: bench.run(_short(bench, bench.grpc))},
        bench.rounds,
    )
    line = f"short request after {_LEAVERS} clients leave mid-prefill of {length} ÷ before"
    return [ratio(line, bench.model.name, "ms", figures["after"], figures["before"], at_most(1.5))]


async def _short(bench: Bench, client: GrpcClient) -> float:
    answer = await client.answer(bench.request(bench.prompts.one(), _SHORT))
    return 1e3 * answer.seconds
