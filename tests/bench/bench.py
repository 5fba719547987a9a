"""What the measures of one model share: its prompts, and the sides, each started when it is first asked for."""

import asyncio
from collections.abc import Coroutine
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from tests.bench.client.answer import Answer
from tests.bench.client.over_grpc import GrpcClient, generate
from tests.bench.client.over_http import HttpClient
from tests.bench.models import Model, for_library_server
from tests.bench.sides.baseline import Baseline
from tests.bench.sides.library_server import LibraryServer
from tests.bench.sides.servers import Servers
from tests.bench.workload import Prompts, Sampling

Value = TypeVar("Value")

_LIMIT_S = 900
"""Longest that one run may take; a side that hangs must not hold up the other measures."""


class Bench:
    """A model with all sides. What the client does runs on one event loop, and only while it is waited for."""

    def __init__(self, model: Model, rounds: int, runner: asyncio.Runner, scratch: Path, *, bypass: bool) -> None:
        """`bypass`: keep requests out of the prefix cache where it is not what is measured."""
        self.model = model
        self.rounds = rounds
        self.prompts = Prompts(model.folder / "tokenizer.json")
        self._runner = runner
        self._scratch = scratch
        self._bypass = bypass

    @cached_property
    def library_folder(self) -> Path:
        """The model's folder as the library's server gets it: in float32, without an end-of-sequence token."""
        return for_library_server(self.model.folder, self._scratch / f"{self.model.name}-for-library")

    @cached_property
    def baseline(self) -> Baseline:
        """The library in a process."""
        return Baseline(self.model.folder)

    @cached_property
    def servers(self) -> Servers:
        """The service and the shim."""
        return Servers(self.model)

    @cached_property
    def library_server(self) -> LibraryServer:
        """The library's server, on the same model."""
        server = LibraryServer(self.library_folder)
        self.run(HttpClient(server.address).listening())
        return server

    @cached_property
    def grpc(self) -> GrpcClient:
        """A connection to the service."""
        return self.run(GrpcClient.connected(self.servers.address))

    @cached_property
    def shim(self) -> HttpClient:
        """The shim's completions."""
        return HttpClient.of_url(self.servers.url)

    def request(
        self,
        prompt: list[int],
        tokens: int,
        sampling: Sampling | None = None,
        *,
        schema: str = "",
        top_logprobs: int = 0,
    ) -> bytes:
        """A request over gRPC, as `generate` makes it."""
        return generate(prompt, tokens, sampling, schema=schema, top_logprobs=top_logprobs, bypass=self._bypass)

    def answers(self, prompts: list[list[int]], tokens: int) -> list[Answer]:
        """Greedy answers to prompts that are sent together over gRPC."""
        return self.run(self.grpc.answers([self.request(prompt, tokens) for prompt in prompts]))

    def run(self, work: Coroutine[Any, Any, Value]) -> Value:
        """Run the client until this is done. Raises TimeoutError."""
        return self._runner.run(_limited(work))

    def stop(self) -> None:
        """End all sides; what is asked for afterwards is started anew."""
        if (client := self.__dict__.pop("grpc", None)) is not None:
            self.run(client.close())
        self.__dict__.pop("shim", None)
        for name in ("baseline", "servers", "library_server"):
            if (side := self.__dict__.pop(name, None)) is not None:
                side.stop()


async def _limited(work: Coroutine[Any, Any, Value]) -> Value:
    async with asyncio.timeout(_LIMIT_S):
        return await work
