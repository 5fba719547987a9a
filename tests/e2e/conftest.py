"""The whole system as a user has it: a service and a shim, each a process of its own."""

import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from service.config import default_cache_dir
from tests.processes import ServiceProcess
from tests.shim.processes import command


@contextmanager
def shim_over(service: ServiceProcess) -> Iterator[str]:
    """Run a shim over a service; its URL."""
    flags = ("--listen", "127.0.0.1:0", "--service", service.address)
    process = subprocess.Popen(command(*flags), stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield process.stdout.readline().split()[-1]
    finally:
        process.terminate()
        process.communicate(timeout=20)


@pytest.fixture(scope="session")
def smollm2_url() -> Iterator[str]:
    """Run service and shim on the built-in model, from the machine's own cache so that it is fetched once."""
    flags = ["--listen", "127.0.0.1:0", "--cache-dir", str(default_cache_dir())]
    with ServiceProcess(flags) as service, shim_over(service) as url:
        yield url


@pytest.fixture(scope="session")
def url(service: ServiceProcess) -> Iterator[str]:
    """Run a shim over the tiny models of the shared service."""
    with shim_over(service) as url:
        yield url


@pytest.fixture
async def http(url: str) -> AsyncIterator[httpx.AsyncClient]:
    """Open a client of that shim."""
    async with httpx.AsyncClient(base_url=url, timeout=60) as client:
        yield client


@pytest.fixture(scope="session")
def root() -> Path:
    """Give the folder of the repository."""
    return Path(__file__).parents[2]
