"""The service's view of an engine."""

import asyncio
import signal
from collections.abc import AsyncIterator

import psutil
import pytest

from service.engine.frames import Abort, ClearCache, Cleared, Progress, Queued, Row, Sampling, Submit
from service.errors import Unavailable
from service.pool.blas import engine_environment
from service.pool.engine import Engine
from tests.service.fakes import FakeEngines, FakeProcess

GREEDY = Sampling(seed=0, temperature=0)


@pytest.fixture
async def engine(engines: FakeEngines) -> AsyncIterator[Engine]:
    made = await Engine.start({})
    yield made
    await made.stop()


@pytest.fixture
def process(engine: Engine, engines: FakeEngines) -> FakeProcess:
    return engines.process


def submit(choices: int = 1) -> Submit:
    return Submit(0, [1, 2, 3], GREEDY, 5, choices=choices)


async def test_each_sequence_has_its_own_number_and_items(engine: Engine, process: FakeProcess) -> None:
    """What a step says of a sequence goes to its stream, in the order of what happens to it."""
    streams = [engine.submit(submit()) for _ in range(2)]
    one, two = [(await process.heard(Submit)).seq for _ in range(2)]
    assert [stream.seq for stream in streams] == [one, two]
    assert one != two
    process.step(Row(two, [7]), Queued(one, 1), Progress(two, 3, 0.0), Row(99, [7]))
    assert await streams[0].take() == [Queued(one, 1)]
    assert await streams[1].take() == [Progress(two, 3, 0.0), Row(two, [7])]


async def test_a_sequence_is_forgotten_with_its_last_choice(engine: Engine, process: FakeProcess) -> None:
    """Those that are dropped one by one are told of one by one."""
    stream = engine.submit(submit(choices=3))
    seq = (await process.heard(Submit)).seq
    process.step(Progress(seq, 3, 0.0), Row(seq, [7], "length", 1))
    stream.drop(0)
    assert await process.heard(Abort) == Abort(seq, 0)
    assert engine.running == 1
    stream.drop(2)
    assert await process.heard(Abort) == Abort(seq, None)
    assert (engine.running, process.unheard) == (0, [])


async def test_only_those_that_are_not_admitted_wait(engine: Engine, process: FakeProcess) -> None:
    """A request counts once, however many choices it has; its rows count once it is admitted."""
    many, late = engine.submit(submit(choices=3)), engine.submit(submit())
    assert [engine.waiting(rows) for rows in (0, 1, 2)] == [2, 1, 0]
    process.step(Progress(many.seq, 1, 0.0))
    assert [engine.waiting(rows) for rows in (3, 4)] == [1, 0]
    process.step()
    assert engine.waiting(4) == 1
    late.close()
    assert engine.waiting(0) == 0
    many.close()
    for seq in (many.seq, late.seq):
        assert (await process.heard(Submit)).seq == seq
    assert [(await process.heard(Abort)).seq for _ in range(2)] == [late.seq, many.seq]


async def test_each_clearing_has_its_own_answer(engine: Engine, process: FakeProcess) -> None:
    """In their order."""
    clearing = [asyncio.create_task(engine.clear_cache()) for _ in range(2)]
    for figures in ((3, 300), (0, 0)):
        await process.heard(ClearCache)
        process.say(Cleared(*figures))
    assert [await task for task in clearing] == [Cleared(3, 300), Cleared(0, 0)]


async def test_a_lost_engine_has_no_cache(engine: Engine, process: FakeProcess) -> None:
    """Nobody waits for its answer."""
    process.lose()
    assert await engine.clear_cache() == Cleared(0, 0)


async def test_cutting_ends_every_stream(engine: Engine, process: FakeProcess) -> None:
    """Those of many choices too, with one word to the engine."""
    stream = engine.submit(submit(choices=2))
    await process.heard(Submit)
    engine.cut(Unavailable("over"))
    assert await process.heard(Abort) == Abort(stream.seq, None)
    with pytest.raises(Unavailable):
        await stream.take()
    assert (engine.running, engine.waiting(0)) == (0, 0)


async def test_one_that_hangs_does_not_outlive_those_who_wait_for_its_end() -> None:
    """It would stay on the machine when the service has ended."""
    engine = await Engine.start(engine_environment(1))
    process = psutil.Process(engine.pid)
    process.send_signal(signal.SIGSTOP)
    stopping = asyncio.create_task(engine.stop())
    await asyncio.sleep(0.05)
    stopping.cancel()
    async with asyncio.timeout(5):
        while psutil.pid_exists(process.pid):  # noqa: ASYNC110 - it tells nobody
            await asyncio.sleep(0.01)
    assert await engine.stop() == -signal.SIGKILL
