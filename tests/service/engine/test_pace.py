"""Work in small turns."""

import ctypes
import sys
import threading
import time
from typing import BinaryIO

import pytest

from service.engine import pace
from service.engine.pace import paced

linux = pytest.mark.skipif(sys.platform != "linux", reason="macOS has cores for work in the background")


@pytest.fixture(params=[False, True], ids=["free", "crowded"])
def crowded(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether all cores are taken by others."""

    def runnable(load: BinaryIO) -> int:
        return 1000 if request.param else 1

    monkeypatch.setattr(pace, "_runnable", runnable)
    return bool(request.param)


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """When there were any."""
    library, times = ctypes.PyDLL(None), list[float]()

    class Library:
        def usleep(self, duration: int) -> None:
            times.append(time.monotonic())
            library.usleep(duration)

    monkeypatch.setattr(ctypes, "PyDLL", lambda _: Library())
    return times


def work(seconds: float) -> float:
    """Work for so long by the clock; for how many seconds there was a processor for it."""
    began, until = time.thread_time(), time.monotonic() + seconds
    while time.monotonic() < until:
        pass
    return time.thread_time() - began


@linux
def test_who_is_paced_leaves_the_cores_to_those_who_want_them(crowded: bool, pauses: list[float]) -> None:
    """Most of the time; and to nobody where there is a core for each."""
    with paced(60):
        worked = work(0.4)
    assert bool(pauses) is crowded
    if crowded:
        assert worked < 0.25


@linux
@pytest.mark.parametrize("crowded", [True], indirect=True)
@pytest.mark.usefixtures("crowded")
def test_it_has_a_limit(pauses: list[float]) -> None:
    """What is never left any time would never come to an end."""
    began = time.monotonic()
    with paced(0.1):
        work(1)
    assert 0 < max(pauses) - began < 0.6


@linux
@pytest.mark.usefixtures("crowded")
def test_nothing_of_it_stays() -> None:
    """Neither a thread, nor that others get their turn sooner, also where the work fails."""
    before = (sys.getswitchinterval(), threading.active_count())
    inside: list[float] = []

    def fail() -> None:
        with paced(60):
            inside.append(sys.getswitchinterval())
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert inside[0] < before[0]
    assert (sys.getswitchinterval(), threading.active_count()) == before


@linux
def test_the_machine_says_who_wants_to_run() -> None:
    """This thread does at least."""
    with pace._LOAD.open("rb", buffering=0) as load:
        assert all(pace._runnable(load) >= 1 for _ in range(3))


def test_elsewhere_nothing_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    """The system sees to it."""
    monkeypatch.setattr(sys, "platform", "darwin")
    before = threading.active_count()
    with paced(60):
        assert threading.active_count() == before
