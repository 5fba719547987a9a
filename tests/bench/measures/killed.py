"""Steady streams of one model while the engine of another is killed and started again, against those before."""

import asyncio
import statistics
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.bench.bench import Bench
from tests.bench.client.answer import Answer
from tests.bench.client.over_grpc import GrpcClient
from tests.bench.results import Result, at_least, at_most, ratio
from tests.bench.rounds import alternate
from tests.bench.sides.pool_service import PoolClient, PoolService

_STREAMS = 4
_BEFORE_S, _BEFORE_ANSWERS = 4.0, 2
"""How long the streams run before, and how many answers of each: joining is a part of what both sides measure."""
_MINE, _OTHER = "mine", "other"


def measure(bench: Bench) -> list[Result]:
    """Answers that came whole, and milliseconds between two messages of a stream: the 99th percentile."""
    tokens = bench.model.tokens

    async def scene(service: PoolService) -> tuple[float, float, float, float]:
        answers: list[Answer] = []
        asked, is_over = 0, False

        async def stream(client: GrpcClient) -> None:
            nonlocal asked
            while not is_over:
                asked += 1
                answer = await client.answer(bench.request(bench.prompts.one(), tokens))
                answers.extend([answer] if answer.tokens == tokens else [])

        client = await GrpcClient.connected(service.address)
        async with PoolClient(service.address) as operator:
            streams = asyncio.gather(*(stream(client) for _ in range(_STREAMS)), return_exceptions=True)
            await asyncio.sleep(_BEFORE_S)
            while len(answers) < _STREAMS * _BEFORE_ANSWERS and not streams.done():  # noqa: ASYNC110 - rarely looked
                await asyncio.sleep(0.1)
            restart = asyncio.create_task(operator.restarted(_OTHER))
            await asyncio.sleep(0)
            service.engine_of(_OTHER).kill()
            killed = time.perf_counter()
            await restart
            ready = time.perf_counter()
            is_over = True
            await streams
        await client.close()
        gaps = [gap for answer in answers for gap in answer.gaps]
        before = [end - begin for begin, end in gaps if end <= killed]
        during = [end - begin for begin, end in gaps if end > killed and begin < ready]
        return len(answers), asked, _high(during), _high(before)

    def ours() -> tuple[float, float, float, float]:
        with TemporaryDirectory() as scratch:
            service = PoolService(bench.model, Path(scratch), [_MINE, _OTHER], loaded=True)
            try:
                service.rest(2)
                return bench.run(scene(service))
            finally:
                service.stop()

    figures = alternate({"ours": ours}, bench.rounds)["ours"]
    answered, asked, during, before = zip(*figures, strict=True)
    name = bench.model.name
    line = f"{_STREAMS} streams, another model's engine killed"
    return [
        ratio(f"{line}, answered ÷ asked", name, "answers", answered, asked, at_least(1)),
        ratio(f"{line}, inter-token p99 until it is back ÷ before", name, "ms", during, before, at_most(1.5)),
    ]


def _high(gaps: list[float]) -> float:
    return 1e3 * statistics.quantiles(gaps, n=100)[98]
