"""Memory of all our processes, above that of the library in one process, after the same work."""

import time

from tests.bench.bench import Bench
from tests.bench.client.answer import complete
from tests.bench.client.over_grpc import GrpcClient
from tests.bench.commands import Batch
from tests.bench.results import Result, at_most, difference
from tests.bench.rounds import alternate
from tests.bench.sides.baseline import Baseline
from tests.bench.sides.servers import Servers
from tests.bench.usage import private_bytes

_STREAMS = 16
_MIB = 1 << 20
_REST_S = 2.0
"""An engine that has been idle for half a second gives back what it has freed."""


def measure(bench: Bench) -> list[Result]:
    """MiB that a process shares with no other (USS), of processes that have done nothing else."""
    tokens = bench.model.tokens

    def ours() -> float:
        servers = Servers(bench.model)
        try:
            requests = [bench.request(prompt, tokens) for prompt in bench.prompts.many(_STREAMS)]

            async def work() -> None:
                client = await GrpcClient.connected(servers.address)
                complete(await client.answers(requests), tokens)
                await client.close()

            bench.run(work())
            time.sleep(_REST_S)
            return private_bytes(servers.pids) / _MIB
        finally:
            servers.stop()

    def library() -> float:
        baseline = Baseline(bench.model.folder)
        try:
            baseline.run(Batch(bench.prompts.many(_STREAMS), tokens, _STREAMS))
            time.sleep(_REST_S)
            return private_bytes([baseline.pid]) / _MIB
        finally:
            baseline.stop()

    figures = alternate({"ours": ours, "library": library}, bench.rounds, warm=False)
    line = f"memory (USS) of service, engine, shim minus in-process, {_STREAMS} streams"
    return [difference(line, bench.model.name, "MiB", figures["ours"], figures["library"], at_most(200))]
