"""What processes and all of their children have used."""

from collections.abc import Iterable

import psutil


def cpu_seconds(pids: Iterable[int]) -> float:
    """User and system time so far."""
    times = [process.cpu_times() for process in _trees(pids)]
    return sum(time.user + time.system for time in times)


def private_bytes(pids: Iterable[int]) -> int:
    """Memory that no other process shares (USS)."""
    return sum(process.memory_full_info().uss for process in _trees(pids))


def _trees(pids: Iterable[int]) -> list[psutil.Process]:
    roots = [psutil.Process(pid) for pid in pids]
    return [process for root in roots for process in (root, *root.children(recursive=True))]
