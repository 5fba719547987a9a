"""To a model that is not in memory, against loading it in a process that has all else."""

from pathlib import Path
from tempfile import TemporaryDirectory

from tests.bench.bench import Bench
from tests.bench.client.over_grpc import GrpcClient, generate
from tests.bench.commands import Reload
from tests.bench.results import Result, below, ratio
from tests.bench.rounds import alternate
from tests.bench.sides.pool_service import PoolClient, PoolService

_NAME = "other"


def measure(bench: Bench) -> list[Result]:
    """Milliseconds until the model takes requests, and until a request for it has its first token."""
    folder = str(bench.model.folder)
    with TemporaryDirectory() as scratch:
        service = PoolService(bench.model, Path(scratch), [_NAME], loaded=False)

        async def load() -> float:
            async with PoolClient(service.address) as client:
                seconds = await client.load(_NAME)
                await client.unload(_NAME)
            return 1e3 * seconds

        async def request() -> float:
            client = await GrpcClient.connected(service.address)
            answer = await client.answer(generate(bench.prompts.one(), 1))
            await client.close()
            async with PoolClient(service.address) as operator:
                await operator.unload(_NAME)
            return 1e3 * answer.first_token

        def ours() -> tuple[float, float]:
            service.rest(1)
            loaded = bench.run(load())
            service.rest(1)
            return loaded, bench.run(request())

        def library() -> tuple[float, float]:
            first = bench.baseline.run(Reload(folder, bench.prompts.one()))
            return 1e3 * first.loaded, 1e3 * first.seconds

        try:
            figures = alternate({"ours": ours, "library": library}, bench.rounds)
        finally:
            service.stop()
    (loads, requests), (their_loads, their_requests) = (zip(*figures[side], strict=True) for side in figures)
    name = bench.model.name
    return [
        ratio("load of a model, warm spare ÷ in-process", name, "ms", loads, their_loads, below(1.5)),
        ratio("first token of a model not loaded, warm spare ÷ in-process", name, "ms", requests, their_requests),
    ]
