"""Models of the pool with real engines, on the loop of the test."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from service.config import ModelConfig, ServiceConfig
from service.pool.blas import engine_environment
from service.pool.model import Model

MakeModel = Callable[..., Model]
LOAD_S = 60.0


@pytest.fixture
async def make_model(tmp_path: Path) -> AsyncIterator[MakeModel]:
    """Make models that end with the test; keywords are settings."""
    made: list[Model] = []

    def make(folder: Path, changed: Callable[[], None] = lambda: None, **settings: Any) -> Model:
        config = ModelConfig("mine", path=str(folder))
        service = ServiceConfig(models=(config,), cache_dir=str(tmp_path / "cache"), **settings)
        made.append(Model(config, service, engine_environment(1), changed))
        return made[-1]

    yield make
    await asyncio.gather(*(model.stop() for model in made))


async def load(model: Model, folder: Path) -> Model:
    """Load a model from a folder that is there."""

    async def fetch() -> Path:
        return folder

    async with asyncio.timeout(LOAD_S):
        await model.start(fetch)
    return model
