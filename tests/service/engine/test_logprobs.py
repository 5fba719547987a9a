"""Log-probabilities against a plain log-softmax."""

import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.engine.frames import Logprob
from service.engine.logprobs import token_logprobs

Logits = npt.NDArray[np.float32]


def reference(logits: Logits, token: int, top: int) -> Logprob:
    """Sort all of a row's log-softmax."""
    values = logits.astype(np.float64)
    values -= values.max()
    values -= np.log(np.exp(values).sum())
    order = sorted(range(values.size), key=lambda at: (-values[at], at))[:top]
    return Logprob(float(values[token]), [(at, float(values[at])) for at in order])


def agree(one: Logprob, other: Logprob) -> bool:
    """Whether the tokens are the same and the values close."""
    values = [one.logprob, *(value for _, value in one.top)]
    others = [other.logprob, *(value for _, value in other.top)]
    return [at for at, _ in one.top] == [at for at, _ in other.top] and values == pytest.approx(others, abs=1e-5)


@pytest.mark.parametrize("scale", [0.01, 1, 30])
def test_values_and_alternatives_are_those_of_a_log_softmax(scale: float) -> None:
    """In a large vocabulary, flat or peaked, each row with its own number of alternatives."""
    rng = np.random.default_rng(0)
    logits = (rng.normal(0, scale, (6, 20_001)) + 50).astype(np.float32)
    tokens, top = rng.integers(0, 20_001, 6).tolist(), [0, 1, 5, 20, 0, 128]
    found = token_logprobs(logits, tokens, top)
    expected = [reference(*row) for row in zip(logits, tokens, top, strict=True)]
    assert all(agree(*pair) for pair in zip(found, expected, strict=True))
    assert [len(entry.top) for entry in found] == top


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(-3, 3), min_size=1, max_size=40), st.integers(0, 45), st.data())
def test_ties_come_by_their_ids(values: list[int], top: int, data: st.DataObject) -> None:
    """With few different logits nearly all alternatives tie; there may be fewer of them than asked for."""
    logits = np.array([values], np.float32)
    token = data.draw(st.integers(0, len(values) - 1))
    (found,) = token_logprobs(logits, [token], [top])
    assert agree(found, reference(logits[0], token, top))


def test_a_row_has_the_same_values_in_any_company() -> None:
    """To the last bit, alone or among others."""
    logits = np.random.default_rng(1).normal(0, 3, (32, 3001)).astype(np.float32)
    together = token_logprobs(logits, range(32), [5] * 32)
    assert together == [token_logprobs(logits[at : at + 1], [at], [5])[0] for at in range(32)]


def test_logits_are_only_read() -> None:
    """They are the model's own."""
    logits = np.random.default_rng(1).normal(0, 3, (2, 500)).astype(np.float32)
    before = logits.copy()
    logits.flags.writeable = False
    token_logprobs(logits, [1, 2], [3, 3])
    assert np.array_equal(logits, before)


def test_the_values_are_those_of_the_token() -> None:
    """The likeliest's own is the first alternative's."""
    (found,) = token_logprobs(np.log(np.array([[1, 2, 5]], np.float32)), [2], [2])
    assert agree(found, Logprob(math.log(5 / 8), [(2, math.log(5 / 8)), (1, math.log(2 / 8))]))
    assert found.logprob == found.top[0][1]


def test_impossible_tokens_are_no_alternatives() -> None:
    """One that was taken all the same has the log of zero."""
    (found,) = token_logprobs(np.array([[0, -np.inf, 0, -np.inf]], np.float32), [1], [4])
    assert agree(found, Logprob(-math.inf, [(0, math.log(0.5)), (2, math.log(0.5))]))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_broken_row_has_no_values_and_harms_no_other(value: float) -> None:
    """It says so, rather than looking like one that speaks."""
    logits = np.zeros((3, 4), np.float32)
    logits[1] = value
    first, broken, last = token_logprobs(logits, [0, 0, 0], [1, 1, 1])
    assert math.isnan(broken.logprob)
    assert not broken.top
    assert first == last
    assert agree(first, Logprob(math.log(1 / 4), [(0, math.log(1 / 4))]))


def test_no_rows_are_no_values() -> None:
    """An empty step is not an error."""
    assert token_logprobs(np.zeros((0, 8), np.float32), [], []) == []
