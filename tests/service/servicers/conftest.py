"""Services that are set up for one kind of test."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from grpc import aio

from tests.processes import ServiceProcess, model_flags


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
