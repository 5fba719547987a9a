"""From the start of a process to its first token, against the library's server."""

import time

from tests.bench.bench import Bench
from tests.bench.client.over_grpc import GrpcClient
from tests.bench.client.over_http import HttpClient, completion
from tests.bench.results import Result, at_most, ratio
from tests.bench.rounds import alternate
from tests.bench.sides.library_server import MODEL, LibraryServer
from tests.bench.sides.servers import start_service

_FEW = 4


def measure(bench: Bench) -> list[Result]:
    """Milliseconds until one prompt's first token is there; the model lies on the disk, for the library in float32."""
    folder = bench.library_folder

    def ours() -> float:
        request = bench.request(bench.prompts.one(), _FEW)
        began = time.perf_counter()
        service = start_service(bench.model)
        try:

            async def first() -> float:
                client = await GrpcClient.connected(service.address)
                answer = await client.answer(request)
                await client.close()
                return answer.sent + answer.first_token

            return 1e3 * (bench.run(first()) - began)
        finally:
            service.stop()

    def library() -> float:
        body = completion(MODEL, bench.prompts.text(bench.prompts.one()), _FEW)
        began = time.perf_counter()
        server = LibraryServer(folder)
        try:
            client = HttpClient(server.address)
            bench.run(client.listening())
            answer = bench.run(client.answer(body))
            return 1e3 * (answer.sent + answer.first_token - began)
        finally:
            server.stop()

    figures = alternate({"ours": ours, "library": library}, bench.rounds)
    line = "start to first token, gRPC ÷ mlx_lm.server"
    return [ratio(line, bench.model.name, "ms", figures["ours"], figures["library"], at_most(2))]
