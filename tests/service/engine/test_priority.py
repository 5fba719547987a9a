"""Work that yields to others."""

import os
import subprocess
import sys
import threading

import pytest

from service.engine.priority import in_background, lowered

linux = pytest.mark.skipif(sys.platform != "linux", reason="threads have a niceness of their own on Linux only")


def niceness() -> int:
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


@linux
def test_work_in_the_background_is_nicer() -> None:
    """And who waits for it is not."""
    before, seen = niceness(), list[int]()
    in_background(lambda: seen.append(niceness()))
    assert seen[0] > before
    assert niceness() == before


def test_what_goes_wrong_in_the_background_is_told() -> None:
    """To the one who waits."""

    def fail() -> None:
        raise KeyError("x")

    with pytest.raises(KeyError, match="x"):
        in_background(fail)


@linux
def test_what_is_lowered_comes_back() -> None:
    """Also without privileges, where it is not lowered in the first place; threads that came meanwhile too."""
    code = """
import os, threading, time
from service.engine.priority import lowered
if os.geteuid() == 0 and {unprivileged}:
    os.setresuid(65534, 65534, 65534)
def niceness(thread=0):
    return os.getpriority(os.PRIO_PROCESS, thread)
before, stop = niceness(), threading.Event()
with lowered():
    inside = niceness()
    thread = threading.Thread(target=stop.wait)
    thread.start()
print(inside - before, niceness() - before, niceness(thread.native_id) - before)
stop.set()
"""
    for unprivileged in (True, False):
        command = [sys.executable, "-c", code.format(unprivileged=unprivileged)]
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=dict(os.environ))
        inside, after, thread = map(int, done.stdout.split())
        assert (after, thread) == (0, 0)
        assert inside >= 0
        if not unprivileged and os.geteuid() == 0:
            assert inside > 0


def test_lowering_does_not_hide_what_goes_wrong() -> None:
    """It comes out as it is."""
    with pytest.raises(ValueError, match="x"), lowered():
        raise ValueError("x")
