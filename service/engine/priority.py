"""Work that yields to the engines of other models: what goes before the first request.

A process without privileges cannot take back that it has made itself nicer. A thread ends, though, and on Linux each
thread has a niceness of its own: importing is done in one that is nicer than the rest. What only the main thread may
do runs nicer where a thread that is tried first could go back.
"""

import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

_NICER = 10
_DARWIN_THREAD, _DARWIN_PROCESS, _DARWIN_BACKGROUND = 3, 4, 0x1000
"""See setpriority(2) of macOS."""


def in_background(work: Callable[[], None]) -> None:
    """Do some work in a thread that yields to others, and wait for it. Raises what the work raised."""
    errors: list[BaseException] = []

    def run() -> None:
        with suppress(OSError):
            if sys.platform == "darwin":
                os.setpriority(_DARWIN_THREAD, 0, _DARWIN_BACKGROUND)
            else:
                os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _niceness() + _NICER)
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - it is raised again where it is waited for
            errors.append(error)

    _in_thread(run)
    if errors:
        raise errors[0]


@contextmanager
def lowered() -> Iterator[None]:
    """Let all threads of the process yield to others, where that can be taken back."""
    before = _niceness()
    if not _can_go_back(before):
        yield
        return
    _set_all(before + _NICER, background=True)
    try:
        yield
    finally:
        _set_all(before, background=False)


def _niceness() -> int:
    return os.getpriority(os.PRIO_PROCESS, 0)


def _can_go_back(niceness: int) -> bool:
    """Whether a thread could, which has what it is allowed from the process."""
    if sys.platform == "darwin":
        return True
    reached: list[int] = []

    def attempt() -> None:
        thread = threading.get_native_id()
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, thread, niceness + 1)
            os.setpriority(os.PRIO_PROCESS, thread, niceness)
            reached.append(niceness)

    _in_thread(attempt)
    return bool(reached)


def _set_all(niceness: int, *, background: bool) -> None:
    """For all threads that there are; one that starts later begins as the one that starts it."""
    if sys.platform == "darwin":
        with suppress(OSError):
            os.setpriority(_DARWIN_PROCESS, 0, _DARWIN_BACKGROUND if background else 0)
        return
    for thread in os.listdir("/proc/self/task"):  # noqa: PTH208 - names are all that is needed
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, int(thread), niceness)


def _in_thread(work: Callable[[], None]) -> None:
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
