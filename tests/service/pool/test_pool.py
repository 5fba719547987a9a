"""All configured models."""

import asyncio
import shutil
from pathlib import Path
from typing import Any

import psutil
import pytest

from service.config import ModelConfig, ServiceConfig
from service.errors import InvalidField, PathNotAllowed, SetupError, Unavailable, UnknownModel
from service.pool.pool import ModelPool
from service.pool.progress import LoadProgress, Stage
from service.pool.state import ModelState
from tests.service.fakes import FakeEngines
from tests.service.pool.conftest import LOAD_S, MakePool


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


async def test_one_that_never_came_is_not_known_even_if_nobody_waited(
    make_pool: MakePool, engines: FakeEngines, fake_folder: Path
) -> None:
    """Else callers who leave could fill the list with names of nothing."""
    broken = write_broken(fake_folder.parent / "broken", fake_folder)
    pool = make_pool(ModelConfig("first", path=str(fake_folder)), model_folders=(str(broken.parent),))
    for number in range(20):
        load = pool.load(f"new-{number}", str(broken), pin=True)
        await anext(load)
        await load.aclose()
    async with asyncio.timeout(5):
        while len(pool.models) > 1:  # noqa: ASYNC110 - one that is gone tells nobody
            await asyncio.sleep(0.01)
    assert dict(pool.budget.reserved) == {}


async def test_who_hears_late_of_a_failure_does_not_begin_again(
    make_pool: MakePool, engines: FakeEngines, fake_folder: Path
) -> None:
    """The name may belong to another model by then, which is not harmed."""
    broken = write_broken(fake_folder.parent / "broken", fake_folder)
    pool = make_pool(ModelConfig("first", path=str(fake_folder)), model_folders=(str(broken.parent),))
    slow = pool.load("new", str(broken))
    await anext(slow)
    with pytest.raises(Unavailable, match="cannot be read"):
        _ = [progress async for progress in pool.load("new", str(broken))]
    assert [progress.stage async for progress in pool.load("new", str(fake_folder))][-1] is Stage.READY
    reserved = dict(pool.budget.reserved)
    with pytest.raises(Unavailable, match="cannot be read"):
        _ = [progress async for progress in slow]
    assert (dict(pool.budget.reserved), pool.get("new").is_serving) == (reserved, True)
    assert len([engine for engine in engines.started if engine.load]) == 1


async def test_a_name_can_be_used_again_while_its_first_model_goes(
    make_pool: MakePool, engines: FakeEngines, fake_folder: Path
) -> None:
    """What the first one gives back is not taken from the second."""
    pool = make_pool(ModelConfig("first", path=str(fake_folder)), model_folders=(str(fake_folder.parent),))
    first = asyncio.create_task(to_its_end(pool, "new", str(fake_folder)))
    await asyncio.sleep(0)
    unloading = asyncio.create_task(pool.unload("new", force=True))
    with pytest.raises(Unavailable):
        await first
    async with asyncio.timeout(5):
        while not await loaded(pool, "new", str(fake_folder)):
            pass
    await unloading
    model = pool.get("new")
    assert (model.is_serving, dict(pool.budget.reserved)) == (True, {"new": model.reserved_bytes})


async def test_a_load_of_a_known_model_may_say_again_what_it_is(
    make_pool: MakePool, engines: FakeEngines, fake_folder: Path
) -> None:
    """By its path in any form; another source or revision is refused, by a dry run too."""
    pool = make_pool(
        ModelConfig("path", path=str(fake_folder), preload=False),
        ModelConfig("repo", repo="owner/name", revision="v1", preload=False),
        model_folders=(str(fake_folder.parent),),
    )
    for source in (fake_folder.name, str(fake_folder), str(fake_folder / ".." / fake_folder.name)):
        assert await loaded(pool, "path", source)
        assert await loaded(pool, "new", source)
        assert (await pool.plan("path", source)).loaded
        assert (await pool.plan("new", source)).loaded
    for name, source, revision, field in (
        *(("path", "owner/name", "", "source"), ("path", "/etc", "", "source")),
        *(("path", "", "v1", "revision"), ("path", fake_folder.name, "v1", "revision")),
        *(("repo", "", "v2", "revision"), ("repo", "owner/name", "", "revision")),
        *(("repo", fake_folder.name, "v1", "source"), ("repo", "owner/other", "v1", "source")),
    ):
        for ask in (pool.plan(name, source, revision), to_its_end(pool, name, source, revision)):
            with pytest.raises(InvalidField) as raised:
                await ask
            assert raised.value.field == field


@pytest.mark.parametrize("name", ["x" * 201, "two words", "bell\a", "line\n"])
async def test_a_name_that_nobody_could_read_is_refused(
    make_pool: MakePool, engines: FakeEngines, fake_folder: Path, name: str
) -> None:
    """It would be in every list and log from then on; one of 200 characters is not too long."""
    pool = make_pool(ModelConfig("first", path=str(fake_folder)), model_folders=(str(fake_folder.parent),))
    for ask in (pool.plan(name, str(fake_folder)), to_its_end(pool, name, str(fake_folder))):
        with pytest.raises(InvalidField) as raised:
            await ask
        assert raised.value.field == "name"
    assert await loaded(pool, "x" * 200, str(fake_folder))
    assert [model.name for model in pool.models] == ["first", "x" * 200]


async def test_a_model_that_is_unloaded_while_the_service_starts_does_not_end_it(
    make_pool: MakePool, engines: FakeEngines, fake_folder: Path
) -> None:
    """Before its turn, or while it is loaded; the others come, and it too when somebody asks for it."""
    pool = make_pool(*(ModelConfig(name, path=str(fake_folder)) for name in "abc"))
    starting = asyncio.create_task(pool.start())
    async with asyncio.timeout(LOAD_S):
        while pool.get("a").state is not ModelState.LOADING:
            await pool.get("a").changed()
        await asyncio.gather(*(pool.unload(name, force=force) for name, force in (("a", False), ("b", True))))
        await starting
    assert [model.is_serving for model in pool.models] == [False, False, True]
    assert [model.is_available for model in pool.models] == [True, True, True]
    async with pool.lease("a") as model:
        assert model.is_serving


async def test_the_load_itself_does_not_use_the_model(
    make_pool: MakePool, engines: FakeEngines, fake_folder: Path
) -> None:
    """Once it is ready, nobody does; and it is there nevertheless when that is told."""
    pool = make_pool(ModelConfig("a", path=str(fake_folder), preload=False, ttl_s=0.001))
    async for progress in pool.load("a"):
        seen = pool.get("a").snapshot()
        assert seen.in_use == (progress.stage is not Stage.READY)
    assert (progress.stage, seen.state) == (Stage.READY, ModelState.READY)


def write_broken(folder: Path, like: Path) -> Path:
    """Write what looks like a model until its weights are read."""
    shutil.copytree(like, folder)
    (folder / "model.safetensors").write_bytes(b"x" * 100)
    return folder


async def to_its_end(pool: ModelPool, name: str, source: str, revision: str = "") -> list[LoadProgress]:
    return [progress async for progress in pool.load(name, source, revision)]


async def loaded(pool: ModelPool, name: str, source: str) -> bool:
    """Whether a model could be loaded just now."""
    try:
        return (await to_its_end(pool, name, source))[-1].stage is Stage.READY
    except Unavailable:
        return False
