"""Gives memory back to the system that a model has left in this process."""

import ctypes
import gc

_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)


def tidy() -> None:
    """Collect what nobody refers to, and let the C library give it back where it keeps it, as glibc does."""
    gc.collect()
    if _trim is not None:
        _trim(0)
