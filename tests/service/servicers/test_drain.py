"""The gate for generating calls."""

import asyncio

import pytest

from service.errors import Unavailable
from service.servicers.drain import Drain


async def test_nothing_to_wait_for() -> None:
    """An idle server ends at once."""
    assert await Drain().finish(0.01)


async def test_running_calls_are_waited_for() -> None:
    """Draining is over when the last of them has ended, and not before."""
    drain = Drain()
    with drain.admitted():
        with drain.admitted():
            finishing = asyncio.create_task(drain.finish(10))
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not finishing.done()
    assert await finishing


async def test_no_new_calls_come_in() -> None:
    """They are told to try again later."""
    drain = Drain()
    await drain.finish(0.01)
    with pytest.raises(Unavailable) as raised, drain.admitted():
        pytest.fail("it was let in")
    assert raised.value.retry_after > 0


async def test_time_runs_out() -> None:
    """A call that does not end is not waited for forever."""
    drain = Drain()
    with drain.admitted():
        assert not await drain.finish(0.01)


async def test_those_that_run_are_counted() -> None:
    """Each for as long as it runs."""
    drain = Drain()
    with drain.admitted(), drain.admitted():
        assert drain.running == 2
    assert drain.running == 0


async def test_a_call_that_fails_has_ended() -> None:
    """Whatever ends it, it no longer counts."""
    drain = Drain()
    with pytest.raises(KeyError), drain.admitted():
        raise KeyError
    assert await drain.finish(0.01)
