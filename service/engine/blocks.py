"""Blocks of weights that OpenBLAS multiplies where they lie.

A product of few rows reads each weight once and does little with it, and yet OpenBLAS copies all weights into another
order first. Up to a size it does not, on processors with AVX-512, and then it takes about half the time: so weights are
multiplied in blocks of their rows, as a batch of products with an input of shape (width, rows) that lies in that order.
"""

import ctypes
from functools import cache

_LARGEST = 1_000_000
"""Multiplications up to which OpenBLAS does not copy: `sgemm_small_matrix_permit` of these processors."""
_CORES = {"SkylakeX", "Cooperlake", "SapphireRapids"}
"""The processors for which OpenBLAS has such products, as it names them; AMD's of the kind go by the same names."""
_SHORTEST, _LONGEST = 16, 192
"""Rows of a block of weights: fewer are not worth a call, more gain nothing."""


def block_of(outputs: int, width: int, rows: int) -> int:
    """Rows of a block of float32 weights of shape (outputs, width), where the input has so many rows.

    They divide `outputs`. 0 where blocks do not pay.
    """
    return _divisor(outputs, min(_LONGEST, _LARGEST // (width * rows))) if rows and are_fast() else 0


@cache
def are_fast() -> bool:
    """Whether there is an OpenBLAS in this process that can do without the copy.

    It is what MLX calls. NumPy brings one of its own, which is newer and chooses by the same processor.
    """
    try:
        core = ctypes.CDLL(None).openblas_get_corename
    except AttributeError:
        return False
    core.restype = ctypes.c_char_p
    return core().decode() in _CORES


@cache
def _divisor(number: int, limit: int) -> int:
    """The largest up to a limit, unless a block would be too short."""
    return next((each for each in range(limit, _SHORTEST - 1, -1) if number % each == 0), 0)
