"""A stream between the engine and a request."""

import asyncio

import pytest

from service.engine.frames import Progress, Row
from service.errors import Unavailable
from service.pool.stream import Item, Stream


def stream() -> tuple[Stream, list[int]]:
    """Make a stream and the list of those that were given up."""
    aborted: list[int] = []
    return Stream(7, lambda given_up: aborted.append(given_up.seq)), aborted


async def test_what_gathers_is_taken_in_one_go() -> None:
    """In its order; the next take waits for more."""
    made, _ = stream()
    items: list[Item] = [Progress(7, 3, 0.0), Row(7, [1]), Row(7, [2])]
    for item in items:
        made.put(item)
    assert await made.take() == items
    taking = asyncio.create_task(made.take())
    await asyncio.sleep(0)
    assert not taking.done()
    made.put(Row(7, [3]))
    assert await taking == [Row(7, [3])]


async def test_an_error_comes_after_what_had_arrived() -> None:
    """And goes on to be raised."""
    made, _ = stream()
    made.put(Row(7, [1]))
    made.fail(Unavailable("gone"))
    assert await made.take() == [Row(7, [1])]
    for _ in range(2):
        with pytest.raises(Unavailable):
            await asyncio.wait_for(made.take(), 1)


async def test_an_error_wakes_the_reader() -> None:
    """It need not wait for a token that never comes."""
    made, _ = stream()
    taking = asyncio.create_task(made.take())
    await asyncio.sleep(0)
    made.fail(Unavailable("gone"))
    with pytest.raises(Unavailable):
        await asyncio.wait_for(taking, 1)


async def test_closing_gives_up_once() -> None:
    """Twice is as good as once."""
    made, aborted = stream()
    made.put(Row(7, [1]))
    made.close()
    made.close()
    assert aborted == [7]


@pytest.mark.parametrize("finish", ["stop", "length", "error"])
async def test_there_is_nothing_to_give_up_after_the_end(finish: str) -> None:
    """The engine has forgotten the sequence already."""
    made, aborted = stream()
    made.put(Row(7, [], finish))
    made.close()
    assert aborted == []
