"""Work that yields to others."""

import os
import subprocess
import sys
import threading
import time

import pytest

from service.engine.priority import in_background, lowered

linux = pytest.mark.skipif(sys.platform != "linux", reason="threads have a class of their own on Linux only")


def policy() -> int:
    return os.sched_getscheduler(threading.get_native_id())


@linux
def test_work_in_the_background_yields() -> None:
    """And who waits for it does not."""
    seen = list[int]()
    assert in_background(lambda: seen.append(policy()), 10)
    assert seen == [os.SCHED_IDLE]
    assert policy() == os.SCHED_OTHER


def test_work_that_takes_too_long_is_waited_for_no_longer() -> None:
    """Whoever waits for it goes on."""
    stop = threading.Event()

    def wait() -> None:
        stop.wait(30)

    began = time.monotonic()
    assert not in_background(wait, 0.05)
    assert time.monotonic() - began < 10
    stop.set()


def test_what_goes_wrong_in_the_background_is_told() -> None:
    """To the one who waits."""

    def fail() -> None:
        raise KeyError("x")

    with pytest.raises(KeyError, match="x"):
        in_background(fail, 10)


LOWER = """
import os, sys, threading, time
from service.engine.priority import lowered
if os.geteuid() == 0 and sys.argv[1] == "unprivileged":
    os.setresuid(65534, 65534, 65534)
limit_s, stay_s = map(float, sys.argv[2:])
stop = threading.Event()
with lowered(limit_s):
    inside = os.sched_getscheduler(0)
    thread = threading.Thread(target=stop.wait)
    thread.start()
    time.sleep(stay_s)
    late = os.sched_getscheduler(0)
print(inside, late, os.sched_getscheduler(0), os.sched_getscheduler(thread.native_id))
stop.set()
"""


def policies(user: str, *, limit_s: float, stay_s: float) -> list[int]:
    """Inside, at its end, afterwards, and of a thread that came meanwhile."""
    command = [sys.executable, "-c", LOWER, user, str(limit_s), str(stay_s)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return list(map(int, done.stdout.split()))


@linux
def test_without_privileges_nothing_is_lowered() -> None:
    """It could not come back."""
    assert policies("unprivileged", limit_s=10, stay_s=0) == [os.SCHED_OTHER] * 4


@linux
@pytest.mark.skipif(sys.platform == "linux" and os.geteuid() != 0, reason="this takes privileges")
def test_what_is_lowered_comes_back() -> None:
    """Threads that came meanwhile too."""
    low, normal = os.SCHED_IDLE, os.SCHED_OTHER
    assert policies("root", limit_s=30, stay_s=0) == [low, low, normal, normal]


@linux
@pytest.mark.skipif(sys.platform == "linux" and os.geteuid() != 0, reason="this takes privileges")
def test_what_is_lowered_comes_back_when_its_time_is_over() -> None:
    """Though the work goes on."""
    assert policies("root", limit_s=0.2, stay_s=1.5) == [os.SCHED_IDLE, *[os.SCHED_OTHER] * 3]


def test_lowering_does_not_hide_what_goes_wrong() -> None:
    """It comes out as it is."""
    with pytest.raises(ValueError, match="x"), lowered(10):
        raise ValueError("x")
