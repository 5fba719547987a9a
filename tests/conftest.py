"""Tiny models, made once for all workers of a test run, and services that run on them."""

import os
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from pathlib import Path

import pytest
from grpc import aio

from tests.folders import made_once
from tests.processes import ServiceProcess, model_flags

# Read by the library when it first polls, so this is soon enough: processes are started beside its threads here.
os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"

Folders = Callable[[str], Path]
StartService = Callable[..., Awaitable[ServiceProcess]]

_MAKE_S = 120
_SHARED = """
listen = ["127.0.0.1:0"]
[[models]]
name = "tiny"
path = "{llama}"
[[models]]
name = "talker"
path = "{talker}"
[[models]]
name = "bare"
path = "{bare}"
context_length = 64
"""


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    """Give the folder of a model by its kind, one of tests.tiny.KINDS."""
    # Workers of pytest-xdist have folders of their own in one that they share.
    shared = tmp_path_factory.getbasetemp()
    shared = (shared.parent if "PYTEST_XDIST_WORKER" in os.environ else shared) / "models"

    def folder(kind: str) -> Path:
        return made_once(shared / kind, "tests.tiny", kind, limit_s=_MAKE_S)

    return folder


@pytest.fixture(scope="session")
def tiny_model(model_folder: Folders) -> Path:
    """Give the folder of a random llama: quick, and its text means nothing."""
    return model_folder("llama")


@pytest.fixture(scope="session")
def talker_model(model_folder: Folders) -> Path:
    """Give the folder of a llama that knows tests.tiny.DIALOGUES by heart."""
    return model_folder("talker")


@pytest.fixture
async def start_service(tmp_path: Path) -> AsyncIterator[StartService]:
    """Start services that end with the test, given folders by model names, flags and environment."""
    started: list[ServiceProcess] = []

    async def start(models: Mapping[str, Path], *flags: str, env: Mapping[str, str] | None = None) -> ServiceProcess:
        listen = () if "--listen" in flags else ("--listen", "127.0.0.1:0")
        process = await ServiceProcess.start(
            *listen, *model_flags(models), "--cache-dir", str(tmp_path / "cache"), *flags, env=env
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.stop()


@pytest.fixture
def socket_path() -> Iterator[Path]:
    """Give a path for a Unix socket, which may have some hundred characters only."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder) / "service.sock"


@pytest.fixture(scope="session")
def service(model_folder: Folders, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    """Run a service for all tests of a worker, with the models `tiny`, `talker` and `bare`, which has no template.

    Tests leave it as they found it; one that kills or stops something starts its own.
    """
    folder = tmp_path_factory.mktemp("service")
    config = folder / "service.toml"
    folders = {kind: str(model_folder(kind)) for kind in ("llama", "talker", "bare")}
    config.write_text(_SHARED.format(**folders))
    with ServiceProcess(["--config", str(config), "--cache-dir", str(folder / "cache")]) as process:
        yield process


@pytest.fixture
async def channel(service: ServiceProcess) -> AsyncIterator[aio.Channel]:
    """Open a channel to the shared service."""
    async with aio.insecure_channel(service.address) as channel:
        yield channel
