"""The whole system as a user has it: a service and a shim, each a process of its own."""

import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from grpc import aio

from service.config import default_cache_dir
from tests.conftest import Folders
from tests.processes import ServiceProcess, model_flags
from tests.shim.processes import command
from tests.taught import COURSES, taught_folder


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
def taught_service(model_folder: Folders, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    """Run a service with the models of tests.taught, by the names of their courses, and the random `tiny`."""
    tiny = model_folder("llama")
    models = {"tiny": tiny} | {name: taught_folder(tiny.parent, name) for name in COURSES}
    cache = str(tmp_path_factory.mktemp("taught"))
    with ServiceProcess(["--listen", "127.0.0.1:0", "--cache-dir", cache, *model_flags(models)]) as process:
        yield process


@pytest.fixture(scope="session")
def taught_url(taught_service: ServiceProcess) -> Iterator[str]:
    """Run a shim over the taught models."""
    with shim_over(taught_service) as url:
        yield url


@pytest.fixture
async def taught(taught_url: str) -> AsyncIterator[httpx.AsyncClient]:
    """Open a client of that shim."""
    async with httpx.AsyncClient(base_url=taught_url, timeout=60) as client:
        yield client


@pytest.fixture
async def taught_channel(taught_service: ServiceProcess) -> AsyncIterator[aio.Channel]:
    """Open a channel to the service of the taught models."""
    async with aio.insecure_channel(taught_service.address) as channel:
        yield channel


@pytest.fixture(scope="session")
def root() -> Path:
    """Give the folder of the repository."""
    return Path(__file__).parents[2]
