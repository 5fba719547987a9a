"""The shim on a real socket before a scripted service."""

from collections.abc import AsyncIterator, Iterator, MutableMapping
from typing import Any

import httpx
import openai
import pytest
import structlog

from shim.config import Config
from tests.shim.fakes import TIMEOUT_S, FakeService, Shim, running_service, running_shim


@pytest.fixture
async def service() -> AsyncIterator[FakeService]:
    async with running_service() as fake:
        yield fake


@pytest.fixture
async def shim(service: FakeService) -> AsyncIterator[Shim]:
    async with running_shim(Config(service=(service.address,), max_body_bytes=1024 * 1024)) as running:
        yield running


@pytest.fixture
async def http(shim: Shim) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=shim.url, timeout=TIMEOUT_S) as client:
        yield client


@pytest.fixture
async def sdk(shim: Shim) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"{shim.url}/v1", api_key="none", max_retries=0) as client:
        yield client


@pytest.fixture(autouse=True)
def logged() -> Iterator[list[MutableMapping[str, Any]]]:
    with structlog.testing.capture_logs() as entries:
        yield entries
