"""Work in small turns: those who want the same cores wait for no longer than one.

Linux gives work in the background its turns too, of up to a tick, and leaves on a core those who wait there for one.
"""

import ctypes
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

_TURN_S, _PAUSE_S = 0.001, 0.003
_LOAD = Path("/proc/loadavg")


@contextmanager
def paced(limit_s: float) -> Iterator[None]:
    """Let the process's Python threads pause after each turn while all cores are taken, for at most so many seconds.

    Only on Linux; macOS has cores for the background.
    """
    if sys.platform != "linux" or not _LOAD.exists():
        yield
        return
    over = threading.Event()
    pacer = threading.Thread(target=_pace, args=(over, limit_s), daemon=True)
    before = sys.getswitchinterval()
    sys.setswitchinterval(_TURN_S / 2)
    pacer.start()
    try:
        yield
    finally:
        over.set()
        pacer.join()
        sys.setswitchinterval(before)


def _pace(over: threading.Event, limit_s: float) -> None:
    hold = ctypes.PyDLL(None).usleep  # which keeps the interpreter's lock, so that nobody else has it meanwhile
    until = time.monotonic() + limit_s
    with _LOAD.open("rb", buffering=0) as load:
        while not over.wait(_TURN_S) and time.monotonic() < until:
            if _runnable(load) > (os.cpu_count() or 1):
                hold(round(1e6 * _PAUSE_S))


def _runnable(load: BinaryIO) -> int:
    """Threads that run or could on the whole machine, this one included. See proc_loadavg(5)."""
    load.seek(0)
    return int(load.read(128).split()[3].partition(b"/")[0])
