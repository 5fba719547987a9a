"""Pools of models on real engines, on the loop of the test."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from service.config import ModelConfig, ServiceConfig
from service.pool.model import Model
from service.pool.pool import ModelPool

MakePool = Callable[..., ModelPool]
LOAD_S = 60.0


@pytest.fixture
async def make_pool(tmp_path: Path) -> AsyncIterator[MakePool]:
    """Make pools of models that end with the test; keywords are settings."""
    made: list[ModelPool] = []

    def make(*models: ModelConfig, changed: Callable[[], None] = lambda: None, **settings: Any) -> ModelPool:
        made.append(ModelPool(ServiceConfig(models=models, cache_dir=str(tmp_path / "cache"), **settings), changed))
        return made[-1]

    yield make
    await asyncio.gather(*(pool.stop() for pool in made))


def mine(folder: Path) -> ModelConfig:
    """Configure the one model of most tests."""
    return ModelConfig("mine", path=str(folder))


async def load(pool: ModelPool) -> Model:
    """Start a pool; its first model."""
    async with asyncio.timeout(LOAD_S):
        await pool.start()
    return pool.models[0]
