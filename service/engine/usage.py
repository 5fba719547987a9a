"""How much memory this process takes, as the system counts it."""

import ctypes
import os
import sys

import mlx.core as mx

_PAGE = os.sysconf("SC_PAGE_SIZE")
_FOOTPRINT = 16 + 7 * 8
"""Where `ri_phys_footprint` lies in the `rusage_info_v0` of macOS: after a UUID and seven counters."""
_INFO_BYTES = 1 << 9

_library = ctypes.CDLL(None)


def rss_bytes() -> int:
    """Bytes that the process takes; on a GPU with memory of its own, those that MLX holds there are added.

    On macOS it is the footprint that Activity Monitor shows, since what the GPU shares with the CPU is in no resident
    set.
    """
    if sys.platform == "darwin":
        return _footprint()
    with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123 - twice a second, beside the steps
        resident = int(file.read().split()[1]) * _PAGE
    if mx.default_device() == mx.gpu:
        resident += mx.get_active_memory() + mx.get_cache_memory()
    return resident


def _footprint() -> int:
    info = ctypes.create_string_buffer(_INFO_BYTES)
    if _library.proc_pid_rusage(os.getpid(), 0, info) != 0:
        return mx.get_active_memory() + mx.get_cache_memory()
    return int.from_bytes(info.raw[_FOOTPRINT : _FOOTPRINT + 8], sys.byteorder)
