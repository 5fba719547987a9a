"""Masses add up and are found again; the likeliest tokens are found without a sort."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.engine.nucleus import Masses, likeliest

PEAKED = np.random.default_rng(0).normal(0, 40, 1000).astype(np.float32)


@pytest.mark.parametrize("size", [1, 255, 256, 257, 1000])
def test_each_point_falls_on_a_token_with_mass(size: int) -> None:
    """Both ends, all borders between tokens and their neighbours too, though most tokens have none."""
    row = Masses(1000)
    logits = PEAKED[:size].copy()
    logits[::3] = -np.inf
    logits[-1] = 200
    row.fill(logits, 200, 40)
    borders = row.values.cumsum(dtype=np.float64).tolist()
    points = [0.0, math.nextafter(row.total, 0)]
    points += [near for at in borders for near in (math.nextafter(at, 0), at, math.nextafter(at, math.inf))]
    tokens = [row.at(point) for point in points if 0 <= point < row.total]
    assert len(tokens) > 2
    assert all(0 <= token < size and row.values[token] > 0 for token in tokens)


def test_a_point_on_a_border_belongs_to_the_next_token() -> None:
    """Over impossible tokens too, and over whole blocks of them."""
    logits = np.zeros(2000, np.float32)
    logits[:300] = logits[500:1100] = logits[1500:] = -np.inf
    row = Masses(2000)
    row.fill(logits, 0)
    assert [row.at(point) for point in range(int(row.total))] == [*range(300, 500), *range(1100, 1500)]


def test_a_shorter_row_sees_nothing_of_a_longer_one() -> None:
    """The buffers are the same, what is left in them does not count."""
    row = Masses(1000)
    row.fill(np.zeros(1000, np.float32), 0)
    row.fill(np.zeros(300, np.float32), 0)
    assert row.total == 300
    assert row.above(0.5) == 300
    row.fill(np.zeros(1000, np.float32), 0)
    assert row.total == 1000


def test_masses_are_kept_above_and_from_a_bound() -> None:
    """What is not kept has none, the total follows."""
    row = Masses(4)
    row.fill(np.log(np.array([4, 2, 2, 1], np.float32)), math.log(4))
    assert row.above(0.5) == 1
    row.keep_from(float(row.values[1]))
    assert (row.values > 0).tolist() == [True, True, True, False]
    assert row.total == pytest.approx(2)
    row.keep_above(float(row.values[1]))
    assert row.total == row.values[0] == 1


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 400), st.integers(1, 20), st.sampled_from([0.3, 1, 9]), st.floats(0, 1), st.integers(0, 2**32))
def test_the_likeliest_are_those_of_a_sort(size: int, count: int, scale: float, masked: float, seed: int) -> None:
    """With all that tie with the last, without the impossible, in the order of their ids."""
    rng = np.random.default_rng(seed)
    logits = np.where(rng.random(size) < masked, -np.inf, rng.normal(0, scale, size).round(1)).astype(np.float32)
    floor = np.sort(logits)[max(0, logits.size - count)]
    assert likeliest(logits, count).tolist() == np.flatnonzero((logits >= floor) & (logits > -np.inf)).tolist()


@pytest.mark.parametrize("count", [1, 40, 1000, 20_000, 49_151, 49_152, 50_000])
def test_any_number_of_likeliest_is_found_in_a_large_vocabulary(count: int) -> None:
    """Through the maxima of groups where they are few, among all where they are many."""
    logits = np.random.default_rng(1).permutation(49_152).astype(np.float32)
    assert likeliest(logits, count).tolist() == np.flatnonzero(logits >= 49_152 - count).tolist()
