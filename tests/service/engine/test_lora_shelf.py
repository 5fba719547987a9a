"""Rows of one product with factors of their own."""

import mlx.core as mx
import numpy as np
import pytest

from service.engine.lora_selection import NONE, Selection
from service.engine.lora_shelf import Shelf, shelf_of

WIDTH, OUTPUT = 24, 16
NUMBERS = (5, 6, 9)


def shelf(rank: int, dtype: mx.Dtype = mx.float32) -> Shelf:
    """Give factors of three LoRAs."""
    mx.random.seed(rank)
    made = shelf_of(NUMBERS[0], *factors(rank, dtype))
    for number in NUMBERS[1:]:
        made = made.with_one(number, *factors(rank, dtype))
    return made


def factors(rank: int, dtype: mx.Dtype = mx.float32) -> tuple[mx.array, mx.array]:
    return mx.random.normal((rank, WIDTH)).astype(dtype), mx.random.normal((rank, OUTPUT)).astype(dtype)


def expected(made: Shelf, y: mx.array, x: mx.array, rows: list[int]) -> mx.array:
    """Add what each row's LoRA makes of it alone."""
    given = []
    for row, number in enumerate(rows):
        one = Selection([number] * len(rows))
        given.append(made.add(y, x, one)[row] if number != NONE else y[row])
    return mx.stack(given)


@pytest.mark.parametrize("rank", [1, 4, 10, 11, 40])
@pytest.mark.parametrize("tokens", [1, 7])
@pytest.mark.parametrize("rows", [[5, 6, 9, 5], [NONE, 9, NONE, 6], [8, 5, 5, 9]])
def test_each_row_gets_what_it_gets_alone(rank: int, tokens: int, rows: list[int]) -> None:
    """However few or many the factors are, and whether a row has a LoRA of this shelf or not."""
    made = shelf(rank)
    x, y = mx.random.normal((4, tokens, WIDTH)), mx.random.normal((4, tokens, OUTPUT))
    alone = [number if number in NUMBERS else NONE for number in rows]
    given = made.add(y, x, Selection(rows))
    assert mx.allclose(given, expected(made, y, x, alone), atol=1e-4, rtol=1e-4)


def test_one_row_alone_is_the_product_of_its_factors() -> None:
    """Held against NumPy."""
    a, b = factors(4)
    x, y = mx.random.normal((1, 3, WIDTH)), mx.random.normal((1, 3, OUTPUT))
    given = shelf_of(1, a, b).add(y, x, Selection([1]))
    arrays = [np.array(array) for array in (y, x, a, b)]
    assert np.allclose(np.array(given), arrays[0] + arrays[1] @ arrays[2].T @ arrays[3], atol=1e-4)


@pytest.mark.parametrize("rank", [4, 40])
def test_rows_may_come_one_after_the_other(rank: int) -> None:
    """Layers that are given the tokens of all rows in one line find them too."""
    made, rows = shelf(rank), Selection([6, NONE, 5])
    x, y = mx.random.normal((3, 5, WIDTH)), mx.random.normal((3, 5, OUTPUT))
    flat = made.add(y.reshape(15, OUTPUT), x.reshape(15, WIDTH), rows)
    assert flat.shape == (15, OUTPUT)
    assert mx.allclose(flat.reshape(3, 5, OUTPUT), made.add(y, x, rows), atol=1e-5)


@pytest.mark.parametrize("dtype", [mx.bfloat16, mx.float16])
@pytest.mark.parametrize("tokens", [1, 3])
def test_short_types_work_and_stay(dtype: mx.Dtype, tokens: int) -> None:
    """Also where the device gathers matrices of no such type."""
    made, rows = shelf(40, dtype), [5, NONE, 9]
    x, y = mx.random.normal((3, tokens, WIDTH)).astype(dtype), mx.zeros((3, tokens, OUTPUT), dtype)
    given = made.add(y, x, Selection(rows))
    assert given.dtype == dtype
    assert mx.allclose(given, expected(made, y, x, rows), rtol=0.05, atol=2)


@pytest.mark.parametrize("rank", [4, 40])
@pytest.mark.parametrize("tokens", [1, 3])
def test_a_lora_that_overflows_harms_its_own_row_only(rank: int, tokens: int) -> None:
    """What it makes of the others is left out, not multiplied by nothing."""
    made = shelf(rank).with_one(7, mx.full((rank, WIDTH), 3e38), mx.ones((rank, OUTPUT)))
    x, y = mx.ones((3, tokens, WIDTH)), mx.zeros((3, tokens, OUTPUT))
    given = made.add(y, x, Selection([7, NONE, 5]))
    assert not mx.isfinite(given[0]).all()
    assert mx.isfinite(given[1:]).all()
    without = made.without(7).add(y, x, Selection([NONE, NONE, 5]))
    assert mx.allclose(given[2], without[2], atol=1e-4)


def test_taking_one_off_leaves_the_others() -> None:
    """Their places move together."""
    made = shelf(4)
    x, y = mx.random.normal((2, 1, WIDTH)), mx.zeros((2, 1, OUTPUT))
    fewer = made.without(6)
    assert fewer.numbers == (5, 9)
    assert fewer.nbytes * 3 == made.nbytes * 2
    rows = Selection([9, 5])
    assert mx.allclose(fewer.add(y, x, rows), made.add(y, x, rows), atol=1e-5)
