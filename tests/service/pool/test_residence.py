"""A model's way into memory and out of it, with real engines."""

import asyncio
import contextlib
import itertools
from pathlib import Path

import psutil
import pytest

from service.config import ModelConfig
from service.engine.frames import LoadLora, LoraLoaded, Sampling, Submit
from service.errors import ModelTooLarge, SetupError, Unavailable
from service.pool import memory as memory_module
from service.pool.loras import LoraState
from service.pool.model import Model
from service.pool.pool import ModelPool
from service.pool.progress import LoadProgress, Stage
from service.pool.state import ModelState
from service.pool.stream import Stream
from tests.service.fakes import FakeEngines
from tests.service.pool.conftest import LOAD_S, MakePool, mine
from tests.service.pool.models import KV_BYTES, MIB, ONE, TWO, check_books, engines, tiny

GREEDY = Sampling(seed=0, temperature=0)


async def use(pool: ModelPool, name: str) -> int | None:
    """Load a model, use it, and let it go; the process that it was in."""
    async with asyncio.timeout(LOAD_S), pool.lease(name) as model:
        return model.engine_pid


def states(pool: ModelPool) -> dict[str, ModelState]:
    return {model.name: model.state for model in pool.models}


async def to_its_end(stream: Stream) -> None:
    while not stream.ended:
        await stream.take()
    await stream.take()


async def reached(model: Model, state: ModelState) -> None:
    async with asyncio.timeout(LOAD_S):
        while model.state is not state:
            await model.changed()


async def test_many_wait_for_one_load(make_pool: MakePool, tiny_model: Path) -> None:
    """All get the same engine, and one that gives up waiting does not stop it for the others."""
    pool = make_pool(tiny("a", tiny_model), spare="never")
    first = asyncio.create_task(use(pool, "a"))
    await asyncio.sleep(0.1)
    waiting = [asyncio.create_task(use(pool, "a")) for _ in range(20)]
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(pool.acquire("a"), 0.1)
    first.cancel()
    pids = await asyncio.gather(*waiting)
    assert len(set(pids)) == 1
    assert [engine.pid for engine in engines()] == [pids[0]]
    assert pool.get("a").in_use == 0


async def test_a_load_that_nobody_waits_for_goes_on(make_pool: MakePool, tiny_model: Path) -> None:
    """It is there for the next one."""
    pool = make_pool(tiny("a", tiny_model))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(pool.acquire("a"), 0.1)
    assert pool.get("a").in_use == 0
    await reached(pool.get("a"), ModelState.READY)


async def test_those_that_wait_are_told_how_far_it_is(make_pool: MakePool, tiny_model: Path) -> None:
    """Each stage in turn, and fractions that grow to the whole."""
    pool = make_pool(tiny("a", tiny_model))
    async with asyncio.timeout(LOAD_S):
        told: list[LoadProgress] = [progress async for progress in pool.load("a")]
    assert [stage for stage, _ in itertools.groupby(told, lambda progress: progress.stage)] == [
        *(Stage.RESOLVING, Stage.LOADING, Stage.WARMING, Stage.READY)
    ]
    fractions = [progress.fraction for progress in told if progress.stage is Stage.LOADING]
    assert fractions == sorted(set(fractions))
    assert fractions[-1] == 1.0
    assert pool.get("a").is_serving
    assert [progress.stage async for progress in pool.load("a")] == [Stage.READY]


async def test_the_least_recently_used_makes_room(make_pool: MakePool, tiny_model: Path) -> None:
    """Not the one that was loaded first; what it had is given back."""
    pool = make_pool(*(tiny(name, tiny_model) for name in "abc"), memory_bytes=TWO)
    for name in "aba":
        await use(pool, name)
    assert (await pool.plan("c")).evicts == ("b",)
    await use(pool, "c")
    assert states(pool) == {"a": ModelState.READY, "b": ModelState.UNLOADED, "c": ModelState.READY}
    check_books(pool)


async def test_one_that_is_pinned_stays(make_pool: MakePool, tiny_model: Path) -> None:
    """Another goes in its place; with all pinned there is no room for one more, until one is not."""
    pool = make_pool(*(tiny(name, tiny_model) for name in "abc"), memory_bytes=TWO)
    pool.pin("a")
    for name in "abc":
        await use(pool, name)
    assert states(pool) == {"a": ModelState.READY, "b": ModelState.UNLOADED, "c": ModelState.READY}
    pool.pin("c")
    assert not (await pool.plan("b")).fits
    with pytest.raises(ModelTooLarge):
        await pool.acquire("b")
    pool.unpin("a")
    await use(pool, "b")
    assert states(pool) == {"a": ModelState.UNLOADED, "b": ModelState.READY, "c": ModelState.READY}


async def test_one_that_is_in_use_stays(make_pool: MakePool, tiny_model: Path) -> None:
    """The newcomer waits until somebody has done with one of the others, and says that it waits."""
    pool = make_pool(*(tiny(name, tiny_model) for name in "abc"), memory_bytes=TWO)
    async with asyncio.timeout(LOAD_S):
        leases = {name: await pool.acquire(name) for name in "ab"}
        waiting = asyncio.create_task(use(pool, "c"))
        while (progress := pool.get("c").progress) is None or progress.stage is not Stage.WAITING:
            await pool.get("c").changed()
        assert progress.total_bytes > progress.bytes == pool.budget.free
        await asyncio.sleep(0.3)
        assert (waiting.done(), pool.get("a").is_open, pool.get("b").is_open) == (False, True, True)
        leases["b"].release()
        await waiting
        leases["a"].release()
    assert states(pool) == {"a": ModelState.READY, "b": ModelState.UNLOADED, "c": ModelState.READY}


async def test_two_that_do_not_fit_together_take_turns(make_pool: MakePool, tiny_model: Path) -> None:
    """In the order in which memory was asked for, and never both at a time."""
    pool = make_pool(*(tiny(name, tiny_model) for name in "abc"), memory_bytes=ONE)
    order: list[str] = []

    async def ask(name: str) -> None:
        with await pool.acquire(name):
            assert list(pool.budget.reserved) == [name]
            order.append(name)
            await asyncio.sleep(0.1)

    async def asked_for_memory(name: str) -> None:  # files are looked into before, which takes each its own time
        model = pool.get(name)
        while not (model.reserved_bytes or (model.progress and model.progress.stage is Stage.WAITING)):
            await model.changed()

    async with asyncio.timeout(LOAD_S), asyncio.TaskGroup() as asking:
        for name in "abc":
            asking.create_task(ask(name))
            await asked_for_memory(name)
    assert order == ["a", "b", "c"]
    check_books(pool)


async def test_what_can_never_fit_is_refused_at_once(make_pool: MakePool, tiny_model: Path) -> None:
    """With the figures, and nothing has to go for it."""
    pool = make_pool(tiny("large", tiny_model), memory_bytes=100 * MIB)
    with pytest.raises(ModelTooLarge) as raised:
        await pool.acquire("large")
    assert raised.value.available_bytes == 100 * MIB
    assert raised.value.needed_bytes > 160 * MIB + KV_BYTES
    plan = await pool.plan("large")
    assert (plan.fits, plan.needed, plan.total) == (False, raised.value.needed_bytes, 100 * MIB)
    assert (pool.get("large").state, dict(pool.budget.reserved)) == (ModelState.UNLOADED, {})
    assert engines() == [psutil.Process(pool.spare_pid)]
    with pytest.raises(SetupError, match="bytes of memory"):
        await make_pool(mine(tiny_model), memory_bytes=100 * MIB).start()


async def test_nobody_waits_for_ever(make_pool: MakePool, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that is always in use has to go at last; who asks for it then is served after the one who waited."""
    monkeypatch.setattr(memory_module, "PATIENCE_S", 0.3)
    pool = make_pool(*(tiny(name, tiny_model) for name in "ab"), memory_bytes=ONE)
    served: list[str] = []

    async def ask(name: str) -> None:
        with await pool.acquire(name):
            served.append(name)
            await asyncio.sleep(0.05)

    async with asyncio.timeout(LOAD_S):
        await use(pool, "a")
        busy = [asyncio.create_task(ask("a"))]
        newcomer = asyncio.create_task(ask("b"))
        while not newcomer.done():
            await asyncio.sleep(0.02)
            busy.append(asyncio.create_task(ask("a")))
        await asyncio.gather(newcomer, *busy)
    late = served[served.index("b") :]
    assert served.index("b") > 5
    assert late.count("a") > 0
    check_books(pool)


async def test_one_that_nobody_uses_is_unloaded(make_pool: MakePool, tiny_model: Path) -> None:
    """After its own time, or the service's; one that is in use, or pinned, stays."""
    own, pinned = tiny("own", tiny_model, ttl_s=0.2), tiny("pinned", tiny_model, pinned=True)
    pool = make_pool(own, tiny("general", tiny_model), pinned, ttl_s=1.0)
    for name in ("pinned", "general"):
        await use(pool, name)
    async with asyncio.timeout(LOAD_S):
        with await pool.acquire("own"):
            await asyncio.sleep(0.5)
            assert pool.get("own").is_open
        await reached(pool.get("own"), ModelState.UNLOADED)
        await reached(pool.get("general"), ModelState.UNLOADED)
    assert pool.get("pinned").is_open
    await use(pool, "own")


async def test_unloading_waits_for_those_that_use_it(make_pool: MakePool, tiny_model: Path) -> None:
    """Nobody new is let in meanwhile; then the process is gone, and the next one loads it again."""
    pool = make_pool(tiny("a", tiny_model))
    async with asyncio.timeout(LOAD_S):
        lease = await pool.acquire("a")
        process = psutil.Process(lease.model.engine_pid)
        stream = lease.model.submit(Submit(0, [1, 2, 3], GREEDY, 5))
        unloading = asyncio.create_task(pool.unload("a"))
        await reached(lease.model, ModelState.DRAINING)
        with pytest.raises(Unavailable):
            await pool.acquire("a")
        while not stream.ended:
            await stream.take()
        assert (unloading.done(), process.is_running()) == (False, True)
        lease.release()
        await unloading
    assert (pool.get("a").state, dict(pool.budget.reserved)) == (ModelState.UNLOADED, {})
    assert not process.is_running()
    assert await use(pool, "a") != process.pid


async def test_unloading_by_force_cuts(make_pool: MakePool, tiny_model: Path) -> None:
    """Each stream gets its end at once, and who waits for a load is told as well."""
    pool = make_pool(tiny("a", tiny_model), tiny("b", tiny_model))
    async with asyncio.timeout(LOAD_S):
        lease = await pool.acquire("a")
        streams = [lease.model.submit(Submit(0, [1, 2, 3], GREEDY, 30_000)) for _ in range(3)]
        await pool.unload("a", force=True)
        for stream in streams:
            with pytest.raises(Unavailable):
                await to_its_end(stream)
        lease.release()
        waiting = asyncio.create_task(pool.acquire("b"))
        await reached(pool.get("b"), ModelState.LOADING)
        await pool.unload("b", force=True)
        with pytest.raises(Unavailable):
            await waiting
    check_books(pool)


async def test_who_asks_for_it_to_go_need_not_wait(make_pool: MakePool, tiny_model: Path) -> None:
    """It goes all the same; and one that is not there, or goes already, can be told to go."""
    pool = make_pool(tiny("a", tiny_model))
    assert (await pool.unload("a")).state is ModelState.UNLOADED
    lease = await pool.acquire("a")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(pool.unload("a"), 0.1)
    both = [asyncio.create_task(pool.unload("a")) for _ in range(2)]
    lease.release()
    async with asyncio.timeout(LOAD_S):
        await asyncio.gather(*both)
    check_books(pool)


async def test_one_that_has_not_begun_to_load_can_be_told_to_go(
    make_pool: MakePool, engines: FakeEngines, fake_folder: Path
) -> None:
    """In the same moment as it is asked for; it is unloaded then, and can be loaded again."""
    pool = make_pool(mine(fake_folder), spare="never")
    model = pool.get("mine")
    for force in (True, False):
        waiting = asyncio.create_task(pool.acquire("mine"))
        await asyncio.sleep(0)
        assert (model.waiting, model.state) == (1, ModelState.UNLOADED)
        async with asyncio.timeout(5):
            await pool.unload("mine", force=force)
            with pytest.raises(Unavailable):
                await waiting
        assert (model.state, model.leaving, model.in_use) == (ModelState.UNLOADED, False, 0)
    assert engines.started == []
    await use(pool, "mine")


async def test_one_that_dies_while_it_goes_is_gone(
    make_pool: MakePool, engines: FakeEngines, fake_folder: Path
) -> None:
    """Though somebody still holds it: no other engine is started for that."""
    pool = make_pool(mine(fake_folder))
    lease = await pool.acquire("mine")
    unloading = asyncio.create_task(pool.unload("mine"))
    await reached(pool.get("mine"), ModelState.DRAINING)
    engines.process.lose()
    await asyncio.wait_for(unloading, 5)
    assert (pool.get("mine").state, len(engines.started)) == (ModelState.UNLOADED, 1)
    lease.release()
    assert pool.get("mine").in_use == 0


async def test_one_that_dies_before_its_loras_are_back_is_started_again(
    make_pool: MakePool, engines: FakeEngines, fake_folder: Path
) -> None:
    """As at any other time."""
    pool = make_pool(ModelConfig("mine", path=str(fake_folder), loras={"x": str(fake_folder)}), spare="never")
    using = asyncio.create_task(use(pool, "mine"))
    async with asyncio.timeout(5):
        while not engines.started or engines.process.load is None:  # noqa: ASYNC110 - it tells nobody
            await asyncio.sleep(0.01)
        await engines.process.heard(LoadLora)
        engines.process.lose()
        while len(engines.started) < 2 or engines.process.load is None:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        await engines.process.heard(LoadLora)
        engines.process.say(LoraLoaded("x", 4, 1.0, 100))
        await reached(pool.get("mine"), ModelState.READY)
        with contextlib.suppress(Unavailable):
            await using
    assert [lora.state for lora in pool.get("mine").loras.all] == [LoraState.READY]


async def test_every_change_is_seen(make_pool: MakePool, tiny_model: Path) -> None:
    """From one end to the other, with what it takes of the memory."""
    pool = make_pool(tiny("a", tiny_model))
    watch = pool.watch()
    seen = [await anext(watch)]
    await use(pool, "a")
    await pool.unload("a")
    async with asyncio.timeout(5):
        while seen[-1].state is not ModelState.UNLOADED or len(seen) == 1:
            seen.append(await anext(watch))
    assert [state.value for state, _ in itertools.groupby(seen, lambda snapshot: snapshot.state)] == [
        *("UNLOADED", "DOWNLOADING", "LOADING", "WARMING", "READY", "DRAINING", "UNLOADED")
    ]
    ready = next(snapshot for snapshot in seen if snapshot.state is ModelState.READY)
    assert ready.memory_bytes > KV_BYTES
    assert ready.facts is not None
    assert (seen[-1].memory_bytes, seen[-1].facts) == (0, None)


async def test_what_an_engine_takes_is_measured(make_pool: MakePool, tiny_model: Path) -> None:
    """The books have the weights, the memory for keys and values, and the process as they are."""
    pool = make_pool(tiny("a", tiny_model))
    async with pool.lease("a") as model:
        assert model.facts is not None
        loaded = model.facts.loaded
        process = model.reserved_bytes - loaded.weights_bytes - KV_BYTES
        assert loaded.kv_bytes == KV_BYTES
        assert process == pytest.approx(psutil.Process(model.engine_pid).memory_info().rss, rel=0.25)


async def test_one_that_is_alone_gets_all_the_memory(make_pool: MakePool, tiny_model: Path) -> None:
    """Where nobody says how much its keys and values get, they get what weights and process leave."""
    pool = make_pool(mine(tiny_model), memory_bytes=400 * MIB)
    await pool.start()
    [model] = pool.models
    assert model.reserved_bytes <= 400 * MIB
    assert model.reserved_bytes > 390 * MIB
