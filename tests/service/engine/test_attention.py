"""The CPU's attention computes what the library's does."""

from typing import Any

import mlx.core as mx
import pytest
from mlx_lm.models.cache import QuantizedKVCache

from service.engine.attention import library, on_cpu

SHAPES = {
    "one token": (1, 9, 3, 1, 700),
    "rows of one token": (16, 4, 2, 1, 100),
    "few scores": (1, 4, 4, 1, 10),
    "a prompt": (1, 9, 3, 150, 150),
    "a block": (2, 4, 1, 64, 64),
    "a part of a prompt": (1, 6, 2, 70, 900),
}
"""Rows, heads, key heads, tokens, all tokens."""


def arrays(rows: int, heads: int, groups: int, count: int, length: int, values: int = 16) -> list[mx.array]:
    mx.random.seed(count)
    shapes = ((rows, heads, count, 16), (rows, groups, length, 16), (rows, groups, length, values))
    return [mx.random.normal(shape) for shape in shapes]


def masks(rows: int, count: int, length: int) -> dict[str, Any]:
    """All forms in which models have them."""
    seen = mx.random.uniform(shape=(rows, 1, count, length)) > 0.3
    return {
        "none": None,
        "causal": "causal",
        "seen": seen,
        "of all rows": seen[0, 0],
        "added": mx.where(seen, 0.0, -1e9),
        "nothing": mx.zeros((rows, 1, count, length), dtype=mx.bool_),
        "nothing, added": mx.full((rows, 1, count, length), mx.finfo(mx.float32).min),
    }


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("mask", masks(1, 1, 1))
def test_it_is_the_librarys(shape: str, mask: str) -> None:
    """With any mask; a row that may see nothing sees all there is, as padding does."""
    rows, _, _, count, length = SHAPES[shape]
    queries, keys, values = arrays(*SHAPES[shape])
    chosen = masks(rows, count, length)[mask]
    ours = on_cpu(queries, keys, values, None, 0.25, chosen)
    theirs = library(queries, keys, values, None, 0.25, chosen)
    assert ours.shape == theirs.shape
    assert mx.allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def test_values_may_be_of_another_width() -> None:
    """As where keys are compressed."""
    queries, keys, values = arrays(2, 4, 2, 80, 200, values=24)
    ours = on_cpu(queries, keys, values, None, 0.25, "causal")
    assert mx.allclose(ours, library(queries, keys, values, None, 0.25, "causal"), rtol=1e-4, atol=1e-5)


def test_large_scores_do_not_overflow() -> None:
    """The largest is taken off first."""
    queries, keys, values = arrays(1, 9, 3, 1, 700)
    ours = on_cpu(1000 * queries, keys, values, None, 0.25, None)
    assert mx.allclose(ours, library(1000 * queries, keys, values, None, 0.25, None), rtol=1e-4, atol=1e-5)


def test_what_it_does_not_know_is_left_to_the_library() -> None:
    """Sinks, quantised keys and values, and other precisions."""
    queries, keys, values = arrays(1, 9, 3, 1, 700)
    sinks = mx.zeros(9)
    assert mx.array_equal(
        on_cpu(queries, keys, values, None, 0.25, None, sinks), library(queries, keys, values, None, 0.25, None, sinks)
    )
    cache = QuantizedKVCache(group_size=64, bits=8)
    packed = cache.update_and_fetch(*(mx.random.normal((1, 3, 700, 64)) for _ in range(2)))  # type: ignore[no-untyped-call]
    wide = mx.random.normal((1, 9, 1, 64))
    ours, theirs = (  # of a new array each: the library scales what it gets
        attention(wide + 0, packed[0], packed[1], cache, 0.25, None) for attention in (on_cpu, library)
    )
    assert mx.array_equal(ours, theirs)
    queries, keys, values = (array.astype(mx.float16) for array in (queries, keys, values))
    assert mx.array_equal(
        on_cpu(queries, keys, values, None, 0.25, None), library(queries, keys, values, None, 0.25, None)
    )
