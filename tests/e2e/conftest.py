"""The whole system as a user has it: a service and a shim, each a process of its own."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest

from service.config import default_cache_dir
from tests.processes import ServiceProcess
from tests.shim.processes import ShimProcess, started_shim


@pytest.fixture(scope="session")
def smollm2() -> Iterator[ServiceProcess]:
    """Run a service on the built-in model, from the machine's own cache so that it is fetched once."""
    with ServiceProcess(["--listen", "127.0.0.1:0", "--cache-dir", str(default_cache_dir())]) as process:
        yield process


@pytest.fixture
async def smollm2_shim(smollm2: ServiceProcess) -> AsyncIterator[ShimProcess]:
    """Run a shim over the built-in model."""
    async with started_shim("--service", smollm2.address) as shim:
        yield shim


@pytest.fixture
async def shim(service: ServiceProcess) -> AsyncIterator[ShimProcess]:
    """Run a shim over the tiny models of the shared service."""
    async with started_shim("--service", service.address) as shim:
        yield shim


@pytest.fixture
async def http(shim: ShimProcess) -> AsyncIterator[httpx.AsyncClient]:
    """Open a client of that shim."""
    async with httpx.AsyncClient(base_url=shim.url, timeout=60) as client:
        yield client


@pytest.fixture(scope="session")
def root() -> Path:
    """Give the folder of the repository."""
    return Path(__file__).parents[2]
