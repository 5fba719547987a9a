"""What becomes of engines that die, hang or leak, with real ones."""

import asyncio
import gc
import json
import shutil
import signal
import time
from collections.abc import Mapping
from pathlib import Path

import psutil
import pytest

from service.config import ModelConfig
from service.engine.frames import Heartbeat, Sampling, Submit
from service.errors import SetupError, Unavailable
from service.pool import deaths, residence
from service.pool.courtesy import BACKGROUND, NONE, PACED, Courtesy
from service.pool.engine import Engine
from service.pool.model import Model
from service.pool.pool import ModelPool
from service.pool.state import ModelState
from service.pool.stream import Stream
from service.text.tokenizer import Tokenizer
from tests.service.fakes import FakeEngines
from tests.service.pool import leaky
from tests.service.pool.conftest import LOAD_S, MakePool, load, mine
from tests.service.pool.models import KV_BYTES, check_books, engines, tiny

ENDLESS = Submit(0, [1, 2, 3], Sampling(seed=0, temperature=0), 30_000)


async def to_its_end(stream: Stream) -> None:
    """Read a stream until it fails."""
    async with asyncio.timeout(LOAD_S):
        while True:
            await stream.take()


async def reached(model: Model, state: ModelState) -> None:
    async with asyncio.timeout(LOAD_S):
        while model.state is not state:
            await model.changed()


async def end_of(model: Model, number: int) -> None:
    """Send the engine a signal and wait until the next one runs, or none comes any more."""
    pid = model.engine_pid
    assert pid is not None
    psutil.Process(pid).send_signal(number)
    async with asyncio.timeout(LOAD_S):
        while model.engine_pid == pid or model.state not in {ModelState.READY, ModelState.FAILED}:
            await model.changed()


async def test_repeated_deaths_are_too_many(
    make_pool: MakePool, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fifth is the last: the model has failed and says why, and its memory is free.

    A request may try again after a while, and whoever loads it at once.
    """
    monkeypatch.setattr(deaths, "_PAUSES_S", (0.01, 0.01, 0.01, 0.01))
    pool = make_pool(mine(tiny_model))
    model = await load(pool)
    for _ in range(4):
        await end_of(model, signal.SIGABRT)
        assert (model.state, model.reserved_bytes > 0) == (ModelState.READY, True)
    await end_of(model, signal.SIGKILL)
    assert (model.state, "5 times" in model.error, dict(pool.budget.reserved)) == (ModelState.FAILED, True, {})
    assert engines() == []
    with pytest.raises(Unavailable) as raised:
        await pool.acquire("mine")
    assert 0 < raised.value.retry_after <= residence.COOL_DOWN_S
    async with asyncio.timeout(LOAD_S):
        _ = [progress async for progress in pool.load("mine")]
        assert (model.state, model.error) == (ModelState.READY, "")
    check_books(pool)


async def test_a_request_tries_again_after_a_while(
    make_pool: MakePool, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was wrong may have been mended."""
    monkeypatch.setattr(deaths, "_PAUSES_S", ())
    pool = make_pool(mine(tiny_model))
    model = await load(pool)
    await end_of(model, signal.SIGKILL)
    assert model.state is ModelState.FAILED
    monkeypatch.setattr(residence, "COOL_DOWN_S", 0.0)
    async with asyncio.timeout(LOAD_S), pool.lease("mine"):
        assert model.is_serving


async def test_the_next_engine_yields_to_those_that_generate(
    make_pool: MakePool, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In small turns; where none does, and for a model that is wanted for the first time, it does not pause."""
    start, started = Engine.start, list[Courtesy]()

    async def noted(environment: Mapping[str, str], courtesy: Courtesy = NONE) -> Engine:
        started.append(courtesy)
        return await start(environment, courtesy)

    pool = make_pool(*(tiny(name, tiny_model) for name in "abc"), spare="never")
    monkeypatch.setattr(Engine, "start", noted)
    async with asyncio.timeout(2 * LOAD_S):
        async with pool.lease("a") as dying, pool.lease("b") as other:
            stream = other.submit(ENDLESS)
            await stream.take()
            started.clear()
            async with pool.lease("c"):
                await end_of(dying, signal.SIGKILL)
            stream.close()
            while other.running:
                await other.changed()
            await end_of(dying, signal.SIGKILL)
    assert started == [BACKGROUND, PACED, NONE]


async def test_an_engine_that_hangs_is_replaced(make_pool: MakePool, tiny_model: Path) -> None:
    """After the time that is set; its streams end as those of a dead one, and other models are not concerned."""
    pool = make_pool(
        *(ModelConfig(name, path=str(tiny_model), kv_cache_bytes=KV_BYTES) for name in "ab"), hang_timeout_s=2.0
    )
    hung = await load(pool)
    streams = [model.submit(ENDLESS) for model in pool.models]
    for stream in streams:
        await stream.take()
    assert hung.engine_pid is not None
    began, first = time.monotonic(), psutil.Process(hung.engine_pid)
    first.suspend()
    with pytest.raises(Unavailable):
        await to_its_end(streams[0])
    assert 2.0 <= time.monotonic() - began < 10.0
    assert "hung" in hung.error
    assert await asyncio.wait_for(streams[1].take(), 5)
    await reached(hung, ModelState.READY)
    assert (hung.engine_pid != first.pid, first.is_running()) == (True, False)


async def test_a_service_that_was_stopped_itself_judges_nobody(make_pool: MakePool, tiny_model: Path) -> None:
    """An engine was not silent only because nobody listened."""
    pool = make_pool(mine(tiny_model), hang_timeout_s=2.0)
    model = await load(pool)
    pid = model.engine_pid
    time.sleep(3.0)  # noqa: ASYNC251 - what is tested
    await asyncio.sleep(1.0)
    assert (model.engine_pid, model.is_serving) == (pid, True)


async def test_an_engine_that_leaks_is_replaced(make_pool: MakePool, tiny_model: Path, tmp_path: Path) -> None:
    """Before it takes what belongs to others; the reason is told."""
    folder = tmp_path / "leaky"
    shutil.copytree(tiny_model, folder)
    shutil.copy(leaky.__file__, folder / "leaky.py")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_file": "leaky.py"}))
    pool = make_pool(ModelConfig("mine", path=str(folder), kv_cache_bytes=KV_BYTES, trust_remote_code=True))
    model = await load(pool)
    pid, limit = model.engine_pid, int(model.reserved_bytes * 1.25) + (256 << 20)
    stream = model.submit(ENDLESS)
    with pytest.raises(Unavailable):
        await to_its_end(stream)
    taken = int(model.error.split("took ")[1].split()[0])
    assert limit < taken
    await reached(model, ModelState.READY)
    assert model.engine_pid != pid


async def test_what_is_taken_within_the_limit_is_no_leak(
    make_pool: MakePool, engines: FakeEngines, fake_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One byte more is."""
    monkeypatch.setattr("service.pool.supervisor._CHECK_S", 0.02)
    model = await load(make_pool(mine(fake_folder)))
    limit = int(model.reserved_bytes * 1.25) + (256 << 20)
    first = engines.process
    first.say(Heartbeat(limit))
    await asyncio.sleep(0.2)
    assert not first.lost.done()
    first.say(Heartbeat(limit + 1))
    await asyncio.wait_for(first.lost, 5)


async def test_an_engine_that_dies_while_it_loads_is_tried_again(make_pool: MakePool, tiny_model: Path) -> None:
    """Those that wait go on waiting."""
    pool = make_pool(tiny("a", tiny_model), spare="never")
    waiting = asyncio.create_task(pool.acquire("a"))
    await reached(pool.get("a"), ModelState.LOADING)
    async with asyncio.timeout(LOAD_S):
        while (pid := pool.get("a").engine_pid) is None:
            await pool.get("a").changed()
        psutil.Process(pid).kill()
        lease = await waiting
    assert lease.model.engine_pid not in {None, pid}
    lease.release()
    check_books(pool)


async def test_a_death_while_it_drains_is_the_end(make_pool: MakePool, tiny_model: Path) -> None:
    """Nothing is started again for those that are gone."""
    pool: ModelPool = make_pool(tiny("a", tiny_model))
    async with asyncio.timeout(LOAD_S):
        lease = await pool.acquire("a")
        unloading = asyncio.create_task(pool.unload("a"))
        await reached(lease.model, ModelState.DRAINING)
        psutil.Process(lease.model.engine_pid).kill()
        lease.release()
        await unloading
    assert lease.model.state is ModelState.UNLOADED
    check_books(pool)


async def test_nothing_is_left_of_an_engine_that_refuses(
    make_pool: MakePool, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the reading of its tokenizer, whose fault nobody would ask for."""
    folder = Path(shutil.copytree(tiny_model, tmp_path / "model"))
    (folder / "config.json").write_text(json.dumps({"model_type": "llama99"}))
    monkeypatch.setattr(Tokenizer, "from_file", _bug)
    faults: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: faults.append(context))
    with pytest.raises(SetupError, match="llama99"):
        await load(make_pool(mine(folder)))
    gc.collect()
    await asyncio.sleep(0)
    assert faults == []


def _bug(_: object) -> None:
    raise ZeroDivisionError


@pytest.mark.parametrize("turns", range(4))
async def test_one_that_is_told_to_go_as_its_engine_dies_goes(
    make_pool: MakePool, engines: FakeEngines, fake_folder: Path, turns: int
) -> None:
    """However far its end has come, no other engine is started."""
    pool = make_pool(mine(fake_folder), spare="never")
    (await pool.acquire("mine")).release()
    engines.process.lose()
    for _ in range(turns):
        await asyncio.sleep(0)
    async with asyncio.timeout(LOAD_S):
        await pool.unload("mine", force=True)
    assert pool.get("mine").state is ModelState.UNLOADED
    assert len(engines.started) == 1
