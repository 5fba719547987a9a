"""All configured models."""

import asyncio
from pathlib import Path

import psutil
import pytest

from service.config import ModelConfig, ServiceConfig
from service.errors import SetupError, Unavailable, UnknownModel
from service.pool.pool import ModelPool


def pool(*models: ModelConfig, cache: Path) -> ModelPool:
    return ModelPool(ServiceConfig(models=models, cache_dir=str(cache)), lambda: None)


async def test_models_are_found_by_name(tmp_path: Path) -> None:
    """No name is the first one."""
    made = pool(ModelConfig("b", path="/b"), ModelConfig("a", path="/a"), cache=tmp_path)
    assert [model.name for model in made.models] == ["b", "a"]
    assert (made.get("a").name, made.get("").name) == ("a", "b")
    with pytest.raises(UnknownModel):
        made.get("c")


async def test_stopping_a_pool_leaves_no_engine(tiny_model: Path, tmp_path: Path) -> None:
    """Each model has its own until then."""
    configs = [ModelConfig(name, path=str(tiny_model)) for name in "ab"]
    made = pool(*configs, cache=tmp_path)
    await made.start()
    engines = [psutil.Process(model.engine_pid) for model in made.models]
    assert len({engine.pid for engine in engines}) == 2
    await made.stop()
    assert not any(engine.is_running() for engine in engines)


async def test_one_bad_model_stops_the_start(tmp_path: Path) -> None:
    """And a pool that was never started can be stopped."""
    made = pool(ModelConfig("a", path=str(tmp_path / "missing")), cache=tmp_path)
    with pytest.raises(SetupError):
        await made.start()
    await made.stop()


async def test_nobody_waits_for_a_pool_that_is_not_started(tmp_path: Path) -> None:
    """Those that wait already are let go too."""
    made = pool(ModelConfig("b", path="/b"), ModelConfig("a", path="/a"), cache=tmp_path)
    waiting = [asyncio.create_task(model.ready()) for model in made.models]
    await asyncio.sleep(0)
    made.turn_away()
    await asyncio.wait(waiting, timeout=5)
    assert [type(task.exception()) for task in waiting] == [Unavailable] * 2
    with pytest.raises(Unavailable):
        await made.get("a").ready()
