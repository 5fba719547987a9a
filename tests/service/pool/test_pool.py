"""All configured models."""

import asyncio
from pathlib import Path
from typing import Any

import psutil
import pytest

from service.config import ModelConfig, ServiceConfig
from service.errors import InvalidField, PathNotAllowed, SetupError, Unavailable, UnknownModel
from service.pool.pool import ModelPool
from service.pool.progress import Stage


def allowing(folder: Path, cache: Path, **settings: Any) -> ModelPool:
    """Make a pool of one model, to which callers may add those of a folder."""
    config = ModelConfig("first", path=str(folder / "llama"), preload=False)
    return ModelPool(
        ServiceConfig(models=(config,), cache_dir=str(cache), model_folders=(str(folder),), **settings), lambda: None
    )


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
    waiting = [asyncio.create_task(made.acquire(model.name)) for model in made.models]
    await asyncio.sleep(0)
    made.turn_away()
    await asyncio.wait(waiting, timeout=5)
    assert [type(task.exception()) for task in waiting] == [Unavailable] * 2
    with pytest.raises(Unavailable):
        await made.acquire("a")


async def test_a_model_can_be_added(tiny_model: Path, tmp_path: Path) -> None:
    """By its source, once; from then on it is one of the others, and its source need not be named."""
    made = allowing(tiny_model.parent, tmp_path, kv_cache_bytes=16 << 20)
    await made.start()
    plan = await made.plan("added", str(tiny_model))
    assert (plan.fits, plan.loaded, [model.name for model in made.models]) == (True, False, ["first"])
    assert [progress.stage async for progress in made.load("added", str(tiny_model), pin=True)][-1] is Stage.READY
    assert [model.name for model in made.models] == ["first", "added"]
    assert made.get("added").pinned
    await made.unload("added")
    async with made.lease("added") as model:
        assert model.is_serving
    for source in (str(tiny_model.parent / "other"), "owner/name"):
        with pytest.raises(InvalidField):
            _ = [progress async for progress in made.load("added", source)]
    await made.stop()


async def test_what_callers_may_not_name_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    """A path that is outside, one through a link too, and a name without a source; nothing of it is remembered."""
    allowed = tmp_path / "allowed"
    (allowed / "broken").mkdir(parents=True)
    (allowed / "link").symlink_to(tiny_model)
    made = allowing(allowed, tmp_path)
    for source in (str(tiny_model), str(allowed / "link"), f"{allowed}/../x"):
        with pytest.raises(PathNotAllowed):
            _ = [progress async for progress in made.load("added", source)]
    with pytest.raises(UnknownModel):
        _ = [progress async for progress in made.load("added")]
    with pytest.raises(Unavailable):
        _ = [progress async for progress in made.load("added", str(allowed / "broken"))]
    assert [model.name for model in made.models] == ["first"]
    await made.stop()


async def test_the_default_model_can_be_loaded_without_its_name(tiny_model: Path, tmp_path: Path) -> None:
    """As in requests."""
    made = allowing(tiny_model.parent, tmp_path, kv_cache_bytes=16 << 20)
    assert [progress.stage async for progress in made.load("")][-1] is Stage.READY
    assert made.models[0].is_serving
    await made.stop()


async def test_models_share_the_memory_that_nobody_has_spoken_for(tiny_model: Path, tmp_path: Path) -> None:
    """All that are there from the start fit, and use nearly all of it."""
    models = [ModelConfig(name, path=str(tiny_model)) for name in "abc"]
    made = ModelPool(ServiceConfig(models=tuple(models), cache_dir=str(tmp_path), memory_bytes=1 << 30), lambda: None)
    await made.start()
    assert all(model.is_serving for model in made.models)
    reserved = made.budget.reserved
    assert 0.8 * (1 << 30) < sum(reserved.values()) <= 1 << 30
    assert max(reserved.values()) < 1.3 * min(reserved.values())
    await made.stop()


async def test_those_that_wait_do_not_keep_it_from_starting(tiny_model: Path, tmp_path: Path) -> None:
    """Even where they fill the queue of a model that is loaded later."""
    models = [ModelConfig(name, path=str(tiny_model)) for name in "ab"]
    made = ModelPool(ServiceConfig(models=tuple(models), cache_dir=str(tmp_path), max_queued=1), lambda: None)
    waiting = asyncio.create_task(made.acquire("b"))
    await asyncio.sleep(0)
    await asyncio.wait_for(made.start(), 60)
    (await waiting).release()
    await made.stop()
