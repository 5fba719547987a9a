"""Work that yields to the engines of other models: what goes before the first request.

On Linux it gets the time that nobody else wants: what is merely nicer still holds others up for the length of a turn.
A process without privileges cannot take that back, but each thread has a class of its own, and a thread ends. What
only the main thread may do yields where a thread that is tried first could go back. All of it has a limit, since work
that yields comes to no end where nobody leaves it any time.
"""

import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

_DARWIN_THREAD, _DARWIN_PROCESS, _DARWIN_BACKGROUND = 3, 4, 0x1000
"""See setpriority(2) of macOS."""
_BACKGROUND = _DARWIN_BACKGROUND if sys.platform == "darwin" else os.SCHED_IDLE


def in_background(work: Callable[[], None], limit_s: float) -> bool:
    """Do some work in a thread that yields to others; whether it is done within `limit_s` seconds.

    Where it is not, it goes on. Raises what the work raised.
    """
    errors: list[BaseException] = []

    def run() -> None:
        with suppress(OSError):
            if sys.platform == "darwin":
                os.setpriority(_DARWIN_THREAD, 0, _BACKGROUND)
            else:
                _set(threading.get_native_id(), _BACKGROUND)
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - it is raised again where it is waited for
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(limit_s)
    if errors:
        raise errors[0]
    return not thread.is_alive()


@contextmanager
def lowered(limit_s: float) -> Iterator[None]:
    """Let all threads of the process yield to others, for at most so many seconds, where that can be taken back."""
    if not _can_go_back():
        yield
        return
    before, over = _class(), threading.Event()

    def end() -> None:
        over.wait(limit_s)
        _set_all(before)

    watch = threading.Thread(target=end, daemon=True)
    watch.start()
    _set_all(_BACKGROUND, but=watch.native_id)
    try:
        yield
    finally:
        over.set()
        watch.join()


def _can_go_back() -> bool:
    """Whether a thread could, which has what it is allowed from the process."""
    if sys.platform == "darwin":
        return True
    before, reached = _class(), list[int]()

    def attempt() -> None:
        with suppress(OSError):
            for each in (_BACKGROUND, before):
                _set(threading.get_native_id(), each)
                reached.append(each)

    thread = threading.Thread(target=attempt)
    thread.start()
    thread.join()
    return len(reached) == 2  # noqa: PLR2004 - there and back


def _class() -> int:
    """That of this thread."""
    return 0 if sys.platform == "darwin" else os.sched_getscheduler(0)


def _set(thread: int, to: int) -> None:
    if sys.platform != "darwin":
        os.sched_setscheduler(thread, to, os.sched_param(0))


def _set_all(to: int, but: int | None = None) -> None:
    """For all threads that there are; one that starts later begins as the one that starts it."""
    if sys.platform == "darwin":
        with suppress(OSError):
            os.setpriority(_DARWIN_PROCESS, 0, to)
        return
    for thread in os.listdir("/proc/self/task"):  # noqa: PTH208 - names are all that is needed
        if int(thread) != but:
            with suppress(OSError):
                _set(int(thread), to)
