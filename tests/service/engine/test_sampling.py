"""Draws against the distributions that they must have, and the arithmetic in front of them."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.engine.frames import Sampling
from service.engine.sampling import Sampler

Floats = npt.NDArray[np.float64]
DRAWS = 4000
LOGITS = np.array([2.0, 1.5, 1.5, 0.5, 0.0, -1.0, -1.0, -3.0], np.float32)


def draws(
    logits: npt.NDArray[np.float32], count: int = DRAWS, banned: list[int] | None = None, **how: Any
) -> list[int]:
    """Draw from the same logits many times, with one random stream."""
    sampler = Sampler(Sampling(**({"seed": 1} | how)), [])
    return [sampler.draw(logits.copy(), banned or []) for _ in range(count)]


def softmax(logits: Floats) -> Floats:
    mass: Floats = np.exp(logits - logits.max())
    mass /= mass.sum()
    return mass


def reference(
    logits: npt.NDArray[np.float32], temperature: float = 1, top_k: int = 0, top_p: float = 1, min_p: float = 0
) -> Floats:
    """Compute the distribution by sorting, one filter after the other, keeping those that tie with the last one."""
    chances: Floats = softmax(logits.astype(np.float64) / temperature)
    if 0 < top_k < chances.size:
        chances = np.where(chances >= np.sort(chances)[-top_k], chances, 0)
        chances /= chances.sum()
    if top_p < 1:
        ordered = np.sort(chances)[::-1]
        last = int(np.argmax(ordered.cumsum() >= top_p))
        chances = np.where(chances >= ordered[last], chances, 0)
        chances /= chances.sum()
    chances = np.where(chances >= min_p * chances.max(), chances, 0)
    chances /= chances.sum()
    return chances


def chi_squared(drawn: list[int], chances: Floats) -> tuple[float, int]:
    """Compute the statistic over the tokens that are possible, and its degrees of freedom."""
    counts = np.bincount(drawn, minlength=chances.size)
    possible = chances > 0
    assert counts[~possible].sum() == 0, "a token was drawn that is not possible"
    expected = chances[possible] * len(drawn)
    return float(((counts[possible] - expected) ** 2 / expected).sum()), int(possible.sum()) - 1


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"temperature": 0.5},
        {"temperature": 2},
        {"top_k": 1},
        {"top_k": 2},  # two tokens tie for the second place
        {"top_k": 4},
        {"top_k": 100},
        {"top_p": 0.3},
        {"top_p": 0.6},
        {"top_p": 0.9},
        {"min_p": 0.3},
        {"min_p": 1},
        {"top_k": 5, "top_p": 0.8},
        {"top_p": 0.95, "min_p": 0.1},
        {"temperature": 1.5, "top_k": 6, "top_p": 0.9, "min_p": 0.15},
    ],
    ids=str,
)
def test_draws_have_the_distribution_that_is_asked_for(how: dict[str, Any]) -> None:
    """Each filter alone and together; the bound is beyond the 99.99th percentile for up to 7 degrees of freedom."""
    statistic, freedom = chi_squared(draws(LOGITS, **how), reference(LOGITS, **how))
    assert statistic < [1e-9, 15.2, 18.5, 21.2, 23.6, 25.8, 27.9, 29.9][freedom]


def test_the_distributions_differ() -> None:
    """Else the statistic above would tell nothing: it notices a temperature that is a little off."""
    statistic, _ = chi_squared(draws(LOGITS, temperature=1.2), reference(LOGITS))
    assert statistic > 29.9


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(-6, 6), min_size=1, max_size=30),
    st.integers(0, 32),
    st.floats(0.05, 1),
    st.floats(0, 1),
    st.floats(0.2, 2),
)
def test_nothing_outside_the_filters_is_drawn(
    values: list[int], top_k: int, top_p: float, min_p: float, temperature: float
) -> None:
    """Whatever the logits, with ties or without. A hair's breadth on either side of a bound is left to rounding."""
    logits = np.array(values, np.float32)
    allowed = reference(logits, temperature, top_k, min(1, top_p + 1e-9), max(0, min_p - 1e-9))
    drawn = draws(logits, 30, temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p)
    assert all(allowed[token] > 0 for token in drawn)


def test_the_nucleus_is_exact_in_a_large_vocabulary() -> None:
    """The smallest set of likeliest tokens with the mass, found among many small ones."""
    logits = np.random.default_rng(0).normal(0, 2, 20_000).astype(np.float32)
    chances = reference(logits, top_p=0.1)
    drawn = draws(logits, 3000, top_p=0.1)
    assert all(chances[token] > 0 for token in drawn)
    smallest = np.sort(chances[chances > 0])[0]
    assert chances[drawn].min() < 1.5 * smallest


def test_greedy_takes_the_first_of_the_likeliest() -> None:
    """Temperature 0 needs no chance."""
    assert set(draws(np.array([0, 3, 3, 1], np.float32), 20, temperature=0)) == {1}


def test_a_temperature_next_to_zero_is_greedy_too() -> None:
    """It overflows nothing."""
    assert set(draws(LOGITS, 50, temperature=1e-300)) == {0}


def test_a_seed_fixes_the_draws() -> None:
    """The same one the same draws, another one others, negative ones and the largest too."""
    flat = np.zeros(1000, np.float32)
    seeds = [0, 1, -1, 2**63 - 1, -(2**63)]
    drawn = {seed: tuple(draws(flat, 20, seed=seed)) for seed in seeds}
    assert drawn == {seed: tuple(draws(flat, 20, seed=seed)) for seed in seeds}
    assert len(set(drawn.values())) == len(seeds)


def test_banned_tokens_are_never_drawn() -> None:
    """By chance or greedily."""
    assert set(draws(LOGITS, 300, banned=[0, 1])) == {2, 3, 4, 5, 6, 7}
    assert set(draws(LOGITS, 10, banned=[0, 1], temperature=0)) == {2}


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("value", [np.nan, -np.inf, np.inf])
def test_logits_without_a_token_are_an_error(value: float, temperature: float) -> None:
    """A broken model must not look like one that speaks."""
    with pytest.raises(ValueError, match="no token"):
        draws(np.full(4, value, np.float32), 1, temperature=temperature)


def test_one_nan_is_an_error() -> None:
    """It says nothing about which token is the likeliest."""
    with pytest.raises(ValueError, match="no token"):
        draws(np.array([0, np.nan, 5], np.float32), 1, temperature=0)


def test_no_token_is_left() -> None:
    """Every one is banned."""
    with pytest.raises(ValueError, match="no token"):
        draws(np.zeros(2, np.float32), 1, banned=[0, 1])


def adjusted(prompt: list[int], output: list[int], logits: list[float], **how: Any) -> list[float]:
    """Give logits as the draw sees them after a prompt and an output."""
    sampler = Sampler(Sampling(seed=0, temperature=0, **how), prompt)
    for token in output:
        sampler.observe(token)
    values = np.array(logits, np.float32)
    sampler.draw(values, [])
    return [round(float(value), 4) for value in values]


def test_bias_is_added() -> None:
    """To the ids that it names."""
    assert adjusted([], [], [1, 2, 3], logit_bias={0: 5.0, 2: -1.5}) == [6, 2, 1.5]


def test_repetition_counts_prompt_and_output() -> None:
    """Each once, towards less likely on both sides of zero."""
    assert adjusted([0, 0], [1], [4, -4, 4, -4], repetition_penalty=2) == [2, -8, 4, -4]


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("penalty", [5e-324, 1e-300, 1e-30])
def test_a_repetition_penalty_next_to_zero_overflows_nothing(penalty: float, temperature: float) -> None:
    """It makes what has come all but certain, and leaves a token to draw."""
    sampler = Sampler(Sampling(seed=0, temperature=temperature, repetition_penalty=penalty), [1, 2])
    for _ in range(3):
        logits = np.array([3, 2, -2, 0], np.float32)
        assert sampler.draw(logits, []) == 1
        assert np.isfinite(logits).all()
        sampler.observe(1)


def test_frequency_and_presence_count_the_output() -> None:
    """The one as often as a token came, the other once."""
    assert adjusted([2], [0, 0, 1], [5, 5, 5], frequency_penalty=0.5) == [4, 4.5, 5]
    assert adjusted([2], [0, 0, 1], [5, 5, 5], presence_penalty=0.5) == [4.5, 4.5, 5]
    assert adjusted([2], [0, 0, 1], [5, 5, 5], frequency_penalty=-1, presence_penalty=2) == [5, 4, 5]


def test_bias_comes_before_penalties() -> None:
    """A repetition penalty divides what the bias made."""
    assert adjusted([0], [], [1, 0], logit_bias={0: 3.0}, repetition_penalty=2) == [2, 0]


@pytest.mark.parametrize(
    ("how", "argmax"),
    [
        ({"temperature": 0}, True),
        ({"temperature": 0, "top_p": 0.5, "min_p": 0.1, "top_k": 3}, True),
        ({"temperature": 1}, False),
        ({"temperature": 0, "logit_bias": {1: 1.0}}, False),
        ({"temperature": 0, "presence_penalty": 0.1}, False),
        ({"temperature": 0, "frequency_penalty": 0.1}, False),
        ({"temperature": 0, "repetition_penalty": 1.1}, False),
    ],
)
def test_only_what_changes_no_logit_is_argmax(how: dict[str, Any], argmax: bool) -> None:
    """The engine leaves such rows on the device."""
    assert Sampler(Sampling(seed=0, **how), []).is_argmax is argmax
