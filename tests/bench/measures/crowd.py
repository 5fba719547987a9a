"""Many more clients at once than rows that are decoded together."""

import asyncio

from tests.bench.bench import Bench
from tests.bench.client.answer import Answer, wall
from tests.bench.client.over_grpc import GrpcClient
from tests.bench.commands import Batch
from tests.bench.results import Result, at_least, ratio
from tests.bench.rounds import alternate

_CLIENTS = 200
_TOKENS = 8
_AT_ONCE = 32


def measure(bench: Bench) -> list[Result]:
    """Clients that got all they asked for; seconds until the last had it, against BatchGenerator on as many rows."""

    async def scene(clients: list[GrpcClient]) -> list[Answer]:
        requests = [bench.request(prompt, _TOKENS) for prompt in bench.prompts.many(_CLIENTS)]
        calls = zip(clients, requests, strict=True)
        answers = await asyncio.gather(*(client.answer(request) for client, request in calls), return_exceptions=True)
        return [answer for answer in answers if isinstance(answer, Answer) and answer.tokens == _TOKENS]

    async def connect(address: str) -> list[GrpcClient]:
        return list(await asyncio.gather(*(GrpcClient.connected(address) for _ in range(_CLIENTS))))

    async def leave(clients: list[GrpcClient]) -> None:
        await asyncio.gather(*(client.close() for client in clients))

    clients = bench.run(connect(bench.servers.address))

    def ours() -> tuple[float, float]:
        answers = bench.run(scene(clients))
        return len(answers), wall(answers)

    def library() -> tuple[float, float]:
        done = bench.baseline.run(Batch(bench.prompts.many(_CLIENTS), _TOKENS, _AT_ONCE))
        return _CLIENTS, done.seconds

    try:
        figures = alternate({"ours": ours, "library": library}, bench.rounds)
    finally:
        bench.run(leave(clients))
    answered, walls = ([figure[place] for figure in figures["ours"]] for place in (0, 1))
    asked, theirs = ([figure[place] for figure in figures["library"]] for place in (0, 1))
    line = f"{_CLIENTS} clients at once"
    return [
        ratio(f"{line}, answered ÷ asked", bench.model.name, "clients", answered, asked, at_least(1)),
        ratio(f"{line}, time ÷ BatchGenerator's", bench.model.name, "s", walls, theirs),
    ]
