"""A stream between the engine and a request."""

import asyncio

import pytest

from service.engine.frames import Progress, Row
from service.errors import Unavailable
from service.pool.stream import Item, Stream


def stream(choices: int = 1) -> tuple[Stream, list[int | None]]:
    """Make a stream and the list of what was given up of it."""
    aborted: list[int | None] = []
    return Stream(7, lambda _, choice: aborted.append(choice), choices=choices), aborted


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
    assert (aborted, made.ended) == ([None], True)


@pytest.mark.parametrize("finish", ["stop", "length", "error", "deadline"])
async def test_there_is_nothing_to_give_up_after_the_end(finish: str) -> None:
    """The engine has forgotten the sequence already."""
    made, aborted = stream()
    made.put(Row(7, [], finish))
    made.close()
    made.drop(0)
    assert aborted == []


async def test_choices_are_given_up_one_by_one() -> None:
    """Each once, unless it has ended; the last one is all that there is."""
    made, aborted = stream(choices=4)
    made.put(Row(7, [1], "length", choice=1))
    for choice in (0, 0, 1, 3):
        made.drop(choice)
    assert (aborted, made.ended, made.choices) == ([0, 3], False, 1)
    made.drop(2)
    assert (aborted, made.ended) == ([0, 3, None], True)


@pytest.mark.parametrize("finish", ["error", "deadline"])
async def test_a_failure_ends_all_choices(finish: str) -> None:
    """The engine says so once, and is told to stop the others."""
    made, aborted = stream(choices=3)
    made.put(Row(7, [], finish, choice=1))
    made.close()
    assert (made.ended, aborted) == (True, [None])


async def test_one_that_gives_up_waiting_does_not_lose_what_comes_then() -> None:
    """The next one to ask gets it."""
    made, _ = stream()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(made.take(), 0.01)
    made.put(Row(7, [1]))
    assert await made.take() == [Row(7, [1])]
