"""Memory of a service after a model was loaded, used and unloaded, above that before."""

from pathlib import Path
from tempfile import TemporaryDirectory

from tests.bench.bench import Bench
from tests.bench.client.answer import complete
from tests.bench.client.over_grpc import GrpcClient
from tests.bench.results import Result, at_most, difference
from tests.bench.rounds import alternate
from tests.bench.sides.pool_service import PoolClient, PoolService
from tests.bench.usage import private_bytes

_NAME = "other"
_STREAMS = 16
_MIB = 1 << 20


def measure(bench: Bench) -> list[Result]:
    """MiB that the service and its engines share with no other process (USS), a spare engine both times."""
    tokens = bench.model.tokens

    def ours() -> tuple[float, float]:
        requests = [bench.request(prompt, tokens) for prompt in bench.prompts.many(_STREAMS)]
        with TemporaryDirectory() as scratch:
            service = PoolService(bench.model, Path(scratch), [_NAME], loaded=False)
            try:

                async def work() -> None:
                    client = await GrpcClient.connected(service.address)
                    complete(await client.answers(requests), tokens)
                    await client.close()
                    async with PoolClient(service.address) as operator:
                        await operator.unload(_NAME)

                service.rest(1)
                before = private_bytes([service.pid]) / _MIB
                bench.run(work())
                service.rest(1)
                return private_bytes([service.pid]) / _MIB, before
            finally:
                service.stop()

    figures = alternate({"ours": ours}, bench.rounds, warm=False)["ours"]
    after, before = ([figure[place] for figure in figures] for place in (0, 1))
    line = f"memory (USS) of service and engines, {_STREAMS} streams and an unload later - before"
    return [difference(line, bench.model.name, "MiB", after, before, at_most(20))]
