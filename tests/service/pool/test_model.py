"""A model of the pool on its real engine."""

import asyncio
import errno
import shutil
import time
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest
import structlog

from service.config import ModelConfig
from service.engine.frames import Cleared, LoadLora, LoraLoaded, Row, Sampling, Submit
from service.errors import QueueFull, SetupError, Unavailable
from service.pool.engine_process import EngineProcess
from service.pool.facts import ModelFacts
from service.pool.model import Model
from service.pool.pool import ModelPool
from service.pool.state import ModelState
from service.pool.stream import Stream
from tests import tiny
from tests.service.fakes import FakeEngines
from tests.service.pool.conftest import MakePool, load, mine

GREEDY = Sampling(seed=0, temperature=0)
ENDLESS = 30_000


def submit(model: Model, max_tokens: int = 5) -> Stream:
    """Start a greedy sequence."""
    return model.submit(Submit(0, [1, 2, 3], GREEDY, max_tokens))


async def ready(pool: ModelPool) -> ModelFacts:
    """Wait for the model as a request does."""
    with pool.enter("mine") as lease:
        return await lease.ready()


async def rows(stream: Stream) -> list[Row]:
    """Read a stream to its end."""
    found: list[Row] = []
    async with asyncio.timeout(30):
        while not found or found[-1].finish is None:
            found += [item for item in await stream.take() if isinstance(item, Row)]
    return found


async def test_a_loaded_model_is_known_and_generates(make_pool: MakePool, tiny_model: Path) -> None:
    """Its facts are the folder's, and a sequence gets its tokens and its end."""
    model = await load(make_pool(mine(tiny_model)))
    facts = model.facts
    assert facts is not None
    assert (model.state, model.is_serving, facts.context_length) == (ModelState.READY, True, 1 << 15)
    assert tiny.tokenizer().token_to_id(tiny.END) in facts.format.stop_ids
    found = await rows(submit(model))
    assert (sum(len(row.tokens) for row in found), found[-1].finish, model.running) == (5, "length", 0)


async def test_a_dead_engine_is_replaced(make_pool: MakePool, tiny_model: Path) -> None:
    """Its streams fail within a second, new requests are refused in between, and the next engine serves."""
    states: list[bool] = []
    pool: ModelPool = make_pool(mine(tiny_model), changed=lambda: states.append(pool.models[0].is_serving))
    model = await load(pool)
    stream = submit(model, ENDLESS)
    await stream.take()
    assert model.engine_pid is not None
    engine = psutil.Process(model.engine_pid)
    engine.kill()
    began = time.monotonic()
    with pytest.raises(Unavailable) as raised:
        await rows(stream)
    assert time.monotonic() - began < 1
    assert raised.value.retry_after > 0
    with pytest.raises(Unavailable):
        submit(model)
    await asyncio.wait_for(ready(pool), 60)
    assert model.engine_pid != engine.pid
    assert (await rows(submit(model)))[-1].finish == "length"
    assert states == [True, False, True]


async def test_stopping_leaves_no_process(make_pool: MakePool, tiny_model: Path) -> None:
    """Streams that still run end, and so does the engine."""
    pool = make_pool(mine(tiny_model))
    model = await load(pool)
    stream = submit(model, ENDLESS)
    await stream.take()
    assert model.engine_pid is not None
    engine = psutil.Process(model.engine_pid)
    await pool.stop()
    assert not engine.is_running()
    assert not model.is_serving
    with pytest.raises(Unavailable):
        await rows(stream)


async def test_a_full_engine_takes_no_more(make_pool: MakePool, tiny_model: Path) -> None:
    """Those that run and those that may wait fill it; one that is given up makes room."""
    model = await load(make_pool(mine(tiny_model), max_running=1, max_queued=1))
    streams = [submit(model, ENDLESS), submit(model, ENDLESS)]
    with pytest.raises(QueueFull):
        submit(model)
    for stream in streams:
        stream.close()
    assert (await rows(submit(model)))[-1].finish == "length"


async def test_only_so_many_wait_for_a_model_that_is_loading(make_pool: MakePool, tiny_model: Path) -> None:
    """Those that do are let in once it is ready."""
    pool = make_pool(mine(tiny_model), max_queued=2)
    waiting = [asyncio.create_task(ready(pool)) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(QueueFull):
        await ready(pool)
    assert [facts.context_length for facts in await asyncio.gather(*waiting)] == [1 << 15] * 2


async def test_one_that_gives_up_waiting_leaves_its_place(make_pool: MakePool, tiny_model: Path) -> None:
    """Its deadline frees the place in the queue."""
    pool = make_pool(mine(tiny_model), max_queued=1)
    for _ in range(3):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(ready(pool), 0.01)


async def test_a_model_that_cannot_be_loaded_says_why(make_pool: MakePool, tiny_model: Path, tmp_path: Path) -> None:
    """Starting it fails, and whoever waited learns that too."""
    (tmp_path / "config.json").write_text("{")
    shutil.copytree(tiny_model, tmp_path / "broken")
    (tmp_path / "broken" / "tokenizer.json").write_text("{")
    pool = make_pool(mine(tmp_path / "broken"))
    waiting = asyncio.create_task(ready(pool))
    with pytest.raises(SetupError) as raised:
        await load(pool)
    assert str(tmp_path) in str(raised.value)
    assert "\n" not in str(raised.value)
    [model] = pool.models
    assert (model.state, bool(model.error), pool.budget.reserved) == (ModelState.FAILED, True, {})
    with pytest.raises(Unavailable):
        await waiting


async def test_a_silent_engine_does_not_serve(make_pool: MakePool, tiny_model: Path) -> None:
    """It is told when it falls silent and when it speaks again."""
    changes: asyncio.Queue[bool] = asyncio.Queue()
    pool: ModelPool = make_pool(
        mine(tiny_model), changed=lambda: changes.put_nowait(pool.models[0].is_serving), heartbeat_timeout_s=1.5
    )
    model = await load(pool)
    assert await changes.get()
    engine = psutil.Process(model.engine_pid)
    engine.suspend()
    try:
        assert not await asyncio.wait_for(changes.get(), 10)
    finally:
        engine.resume()
    assert await asyncio.wait_for(changes.get(), 10)
    assert model.engine_pid == engine.pid


def break_start(monkeypatch: pytest.MonkeyPatch, *errors: Exception) -> list[Exception]:
    """Let the next starts of an engine fail; those that are left to fail."""
    start = EngineProcess.start
    left = list(errors)

    async def failing(*args: Any, **kwargs: Any) -> EngineProcess:
        if left:
            raise left.pop(0)
        return await start(*args, **kwargs)

    monkeypatch.setattr(EngineProcess, "start", failing)
    return left


async def test_an_engine_that_cannot_be_started_again_is_tried_again(
    make_pool: MakePool, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The machine may lack descriptors or memory for a moment."""
    changes: asyncio.Queue[bool] = asyncio.Queue()
    pool: ModelPool = make_pool(mine(tiny_model), changed=lambda: changes.put_nowait(pool.models[0].is_serving))
    model = await load(pool)
    left = break_start(monkeypatch, OSError(errno.EMFILE, "Too many open files"))
    psutil.Process(model.engine_pid).kill()
    async with asyncio.timeout(60):
        assert [await changes.get() for _ in range(3)] == [True, False, True]
    assert (left, model.state, model.error) == ([], ModelState.READY, "")
    assert (await rows(submit(model)))[-1].finish == "length"


async def test_a_bug_while_an_engine_is_replaced_lets_nobody_wait(
    make_pool: MakePool, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The model has failed, its callers are told so, and the log says why."""
    changes: asyncio.Queue[bool] = asyncio.Queue()
    pool: ModelPool = make_pool(mine(tiny_model), changed=lambda: changes.put_nowait(pool.models[0].is_serving))
    model = await load(pool)
    bug = RuntimeError("unexpected")
    break_start(monkeypatch, bug)
    with structlog.testing.capture_logs() as entries:
        psutil.Process(model.engine_pid).kill()
        async with asyncio.timeout(10):
            assert [await changes.get() for _ in range(2)] == [True, False]
            waiting = asyncio.create_task(ready(pool))
            await asyncio.wait([waiting])
    assert isinstance(waiting.exception(), Unavailable)
    assert (model.state, bool(model.error)) == (ModelState.FAILED, True)
    assert [entry["exc_info"] for entry in entries if entry["event"] == "bug"] == [bug]
    with pytest.raises(Unavailable):
        await ready(pool)


@pytest.mark.parametrize(
    ("general", "own", "told"),
    [
        ({}, {}, (None, None)),
        ({"kv_cache_bytes": 5}, {}, (5, None)),
        ({"kv_cache_bytes": 5}, {"kv_cache_bytes": 7}, (7, None)),
        ({"prefix_cache_bytes": 5}, {"prefix_cache_bytes": 0}, (None, 0)),
        ({"prefix_cache_bytes": 0}, {"kv_cache_bytes": 7}, (7, 0)),
    ],
)
async def test_an_engine_is_told_how_much_memory_it_has(
    make_pool: MakePool,
    engines: FakeEngines,
    fake_folder: Path,
    general: dict[str, int],
    own: dict[str, int],
    told: tuple[int | None, int | None],
) -> None:
    """The model's own settings win over the service's; what nobody set is left to the engine."""
    config = ModelConfig("m", path=str(fake_folder), **own)  # type: ignore[arg-type]
    await load(make_pool(config, max_running=3, prefill_chunk=9, **general))
    sent = engines.process.load
    assert sent is not None
    assert (sent.kv_bytes, sent.prefix_bytes) == told
    assert (sent.folder, sent.max_running, sent.prefill_chunk) == (str(fake_folder), 3, 9)


async def test_a_lora_is_listed_once_it_is_loaded(
    make_pool: MakePool, engines: FakeEngines, fake_folder: Path, tmp_path: Path
) -> None:
    """While it is loaded nobody may ask for it, so nobody is told of it."""
    model = await load(make_pool(mine(fake_folder)))
    loading = asyncio.create_task(model.loras.load("l", str(tmp_path)))
    await engines.process.heard(LoadLora)
    assert model.snapshot().loras == ()
    engines.process.say(LoraLoaded("l", 8, 2.0, 1000))
    await loading
    assert model.snapshot().loras == ("l",)


async def test_those_that_run_leave_the_queue_to_others(
    make_pool: MakePool, engines: FakeEngines, fake_folder: Path
) -> None:
    """Only those count that were not admitted; the one that is turned away learns when to come back."""
    model = await load(make_pool(mine(fake_folder), max_running=8, max_queued=2))
    for _ in range(8):
        submit(model)
        await engines.process.begin()
    for _ in range(2):
        submit(model)
    with pytest.raises(QueueFull) as raised:
        submit(model)
    assert raised.value.retry_after >= 1
    await engines.process.begin()
    submit(model)


async def test_memory_may_let_fewer_in_than_there_are_places_for(
    make_pool: MakePool, engines: FakeEngines, fake_folder: Path
) -> None:
    """Those that the engine has passed over wait, and fill the queue."""
    model = await load(make_pool(mine(fake_folder), max_running=8, max_queued=1))
    submit(model)
    await engines.process.begin()
    submit(model)
    for _ in range(2):
        engines.process.step()
    with pytest.raises(QueueFull):
        submit(model)


async def test_a_model_that_is_not_ready_has_no_cache(make_pool: MakePool, fake_folder: Path) -> None:
    """So there is nothing to empty."""
    assert await make_pool(mine(fake_folder)).models[0].clear_cache() == Cleared(0, 0)


async def test_a_request_that_waited_for_a_lora_that_cannot_be_loaded_is_told_why(
    make_pool: MakePool, tiny_model: Path, tmp_path: Path
) -> None:
    """It holds the name since before anyone could know."""
    pool = make_pool(msgspec.structs.replace(mine(tiny_model), loras={"gone": str(tmp_path / "gone")}))
    lease = pool.enter("mine")
    with lease.model.loras.acquire("gone"):
        await lease.ready()
        with pytest.raises(Unavailable, match="is not a folder"):
            lease.model.submit(Submit(0, [1, 2, 3], Sampling(seed=0), 3, lora="gone"))
    lease.release()
