"""Services that are set up for one kind of test."""

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from grpc import aio

from service.config import ModelConfig, ServiceConfig
from service.server import Server
from tests.processes import ServiceProcess, model_flags
from tests.service.fakes import FakeEngines, FakeProcess


@pytest.fixture(scope="session")
def narrow_service(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    """Run a service that decodes one request at a time and lets one more wait."""
    cache = tmp_path_factory.mktemp("narrow")
    limits = ("--max-running", "1", "--max-queued", "1", "--cache-dir", str(cache))
    with ServiceProcess(["--listen", "127.0.0.1:0", *model_flags({"tiny": tiny_model}), *limits]) as process:
        yield process


@pytest.fixture
async def narrow(narrow_service: ServiceProcess) -> AsyncIterator[aio.Channel]:
    """Open a channel to the narrow service."""
    async with aio.insecure_channel(narrow_service.address) as channel:
        yield channel


@dataclass(frozen=True)
class Spoken:
    """A server whose engines say what the test tells them to: a channel to it, and those of its models a and b."""

    channel: aio.Channel
    a: FakeProcess
    b: FakeProcess


@pytest.fixture
async def spoken(engines: FakeEngines, fake_folder: Path, tmp_path: Path) -> AsyncIterator[Spoken]:
    """Run a server on fake engines, with the models `a`, the default one, and `b`."""
    models = tuple(ModelConfig(name, path=str(fake_folder)) for name in "ab")
    server = Server(ServiceConfig(listen=("127.0.0.1:0",), models=models, cache_dir=str(tmp_path)))
    await server.start()
    async with aio.insecure_channel(server.addresses[0]) as channel:
        yield Spoken(channel, *engines.started)
    await server.stop(0)
