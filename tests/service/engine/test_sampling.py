"""Draws against the distributions that they must have, and the arithmetic in front of them."""

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.engine.frames import Sampling
from service.engine.sampling import Sampler, draw

Floats = npt.NDArray[np.float64]
Logits = npt.NDArray[np.float32]
ROWS = 20
DRAWS = 3000
LOGITS = np.array([2.0, 1.5, 1.5, 0.5, 0.0, -1.0, -1.0, -3.0], np.float32)
NORMAL = np.random.default_rng(0).normal(0, 1, 3000).astype(np.float32)


def fixed(logits: Logits) -> Logits:
    """Forbid to write to it."""
    logits.flags.writeable = False
    return logits


def draws(logits: Logits, count: int = DRAWS, banned: Sequence[int] = (), **how: Any) -> list[int]:
    """Draw from the same logits many times, in rows that have a random stream each."""
    rows = min(ROWS, count)
    samplers = [Sampler(Sampling(**({"seed": 1} | how)), [], choice) for choice in range(rows)]
    tiled = fixed(np.tile(logits, (rows, 1)))
    drawn: list[int] = []
    for _ in range(count // rows):
        for token in draw(samplers, [banned] * rows, tiled):
            assert isinstance(token, int), token
            drawn.append(token)
    return drawn


def softmax(logits: Floats) -> Floats:
    mass: Floats = np.exp(logits - logits.max())
    mass /= mass.sum()
    return mass


def reference(logits: Logits, temperature: float = 1, top_k: int = 0, top_p: float = 1, min_p: float = 0) -> Floats:
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
    """Compute the statistic and its degrees of freedom, with rare tokens put together until 20 are expected."""
    counts = np.bincount(drawn, minlength=chances.size)
    assert counts[chances == 0].sum() == 0, "a token was drawn that is not possible"
    order = np.argsort(-chances, kind="stable")
    expected = (chances * len(drawn))[order]
    bins = np.minimum(expected.cumsum() // 20, expected.sum() // 20 - 1).astype(np.int64)
    wanted = np.bincount(bins, expected)
    found = np.bincount(bins, counts[order])[wanted > 0]
    wanted = wanted[wanted > 0]
    return float(((found - wanted) ** 2 / wanted).sum()), len(wanted) - 1


def bound(freedom: int) -> float:
    """Approximate the 99.997th percentile of chi-squared, after Wilson and Hilferty (1931)."""
    if freedom == 0:
        return 1e-9
    part = 2 / (9 * freedom)
    return float(freedom * (1 - part + 4 * math.sqrt(part)) ** 3)


HOW: list[dict[str, Any]] = [
    {},
    {"temperature": 0.5},
    {"temperature": 2},
    {"top_k": 1},
    {"top_k": 2},  # of LOGITS two tie for the second place
    {"top_k": 4},
    {"top_k": 100},
    {"top_p": 0.02},
    {"top_p": 0.3},
    {"top_p": 0.6},
    {"top_p": 0.9},
    {"min_p": 0.3},
    {"min_p": 1},
    {"top_k": 5, "top_p": 0.8},
    {"top_k": 50, "min_p": 0.2},
    {"top_p": 0.95, "min_p": 0.1},
    {"top_p": 0.3, "min_p": 0.01},
    {"top_p": 0.5, "min_p": 0.08},  # of NORMAL both leave about half
    {"temperature": 1.5, "top_k": 6, "top_p": 0.9, "min_p": 0.15},
]


@pytest.mark.parametrize("how", HOW, ids=str)
@pytest.mark.parametrize(
    "logits",
    [
        LOGITS,
        NORMAL,
        NORMAL * np.float32(8),
        np.round(NORMAL * 2),  # most tie with many others
        np.zeros(300, np.float32),
        np.where(np.arange(700) % 3, -np.inf, NORMAL[:700]).astype(np.float32),
    ],
    ids=["few", "flat", "peaked", "ties", "equal", "masked"],
)
def test_draws_have_the_distribution_that_is_asked_for(logits: Logits, how: dict[str, Any]) -> None:
    """Each filter alone and together, on rows of many kinds."""
    statistic, freedom = chi_squared(draws(logits, **how), reference(logits, **how))
    assert statistic < bound(freedom)


def test_the_distributions_differ() -> None:
    """Else the statistic above would tell nothing: it notices a temperature or a top_p that is a little off."""
    statistic, freedom = chi_squared(draws(LOGITS, temperature=1.2), reference(LOGITS))
    assert statistic > bound(freedom)
    statistic, freedom = chi_squared(draws(NORMAL, top_p=0.85), reference(NORMAL, top_p=0.9))
    assert statistic > bound(freedom)


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
    allowed = reference(logits, temperature, top_k, min(1, top_p + 1e-6), max(0, min_p - 1e-6))
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


def test_equal_logits_are_all_in_any_nucleus() -> None:
    """None is likelier than another, so however small top_p is, none is left out."""
    drawn = draws(np.zeros(49_152, np.float32), 2000, top_p=1e-6, min_p=1)
    assert len(set(drawn)) > 1900
    assert max(drawn) > 48_000
    assert min(drawn) < 1000


def test_a_tiny_top_p_takes_the_likeliest() -> None:
    """After a handful of refused draws, not thousands."""
    assert set(draws(NORMAL, 200, top_p=1e-9)) == {int(NORMAL.argmax())}


def test_a_bound_that_no_float32_holds_is_rounded_everywhere() -> None:
    """A token just below min_p is as good as on it, rather than refused and kept for ever."""
    logits = np.array([0, -1], np.float32)
    mass = float(np.exp(logits)[1])
    assert set(draws(logits, 100, min_p=mass * (1 + 1e-9))) == {0, 1}
    assert set(draws(logits, 100, min_p=mass * (1 + 1e-6))) == {0}


def test_a_draw_takes_one_number_of_the_stream() -> None:
    """It falls on a token in the vocabulary's order; the stream is the seed's."""
    uniforms = np.random.Generator(np.random.Philox(key=7)).random(200)
    expected = softmax(NORMAL.astype(np.float64)).cumsum().searchsorted(uniforms, side="right")
    sampler = Sampler(Sampling(seed=7), [])
    assert [draw([sampler], [[]], NORMAL[None])[0] for _ in uniforms] == expected.tolist()


def test_a_refused_draw_takes_another_number_of_the_stream() -> None:
    """Where top_p leaves a tenth, the draws of a row use several numbers each, but not many."""
    sampler = Sampler(Sampling(seed=7, top_p=0.1), [])
    for _ in range(100):
        draw([sampler], [[]], NORMAL[None])
    uniforms = np.random.Generator(np.random.Philox(key=7)).random(1000).tolist()
    assert 200 < uniforms.index(sampler.random.random()) < 600


def test_greedy_takes_the_first_of_the_likeliest() -> None:
    """Temperature 0 needs no chance."""
    assert set(draws(np.array([0, 3, 3, 1], np.float32), 20, temperature=0)) == {1}


@pytest.mark.parametrize("top_k", [0, 3])
def test_a_temperature_next_to_zero_is_greedy_too(top_k: int) -> None:
    """It overflows nothing."""
    assert set(draws(LOGITS, 60, temperature=1e-300, top_k=top_k)) == {0}


@pytest.mark.parametrize("how", [{}, {"top_p": 0.5}, {"top_k": 2}, {"min_p": 0.5}], ids=str)
def test_the_widest_logits_overflow_nothing(how: dict[str, Any]) -> None:
    """One token holds all the mass."""
    largest = np.finfo(np.float32).max
    logits = np.full(1000, -largest)
    logits[700] = largest
    assert set(draws(logits, 100, **how)) == {700}


def test_a_seed_fixes_the_draws() -> None:
    """The same one the same draws, another one others, negative ones and the largest too."""
    flat = np.zeros(1000, np.float32)
    seeds = [0, 1, -1, 2**63 - 1, -(2**63)]
    drawn = {seed: tuple(draws(flat, 20, seed=seed)) for seed in seeds}
    assert drawn == {seed: tuple(draws(flat, 20, seed=seed)) for seed in seeds}
    assert len(set(drawn.values())) == len(seeds)


@pytest.mark.parametrize("seed", [0, -1, 5])
def test_choices_of_one_seed_differ(seed: int) -> None:
    """Each has a stream of its own, none of them another seed's."""
    streams = [(seed, choice) for choice in range(128)] + [(seed + 1, 0), (seed + 1, 1)]
    firsts = {Sampler(Sampling(seed=at), [], choice).random.random() for at, choice in streams}
    assert len(firsts) == len(streams)


def company() -> tuple[list[Sampler], list[list[int]], Logits]:
    """Give rows of many kinds, at the start of their streams."""
    hows: list[dict[str, Any]] = [
        *HOW,
        {"temperature": 0},
        {"temperature": 0, "repetition_penalty": 1.3},
        {"frequency_penalty": 0.5, "presence_penalty": 0.2, "top_p": 0.9},
        {"logit_bias": {3: 2.0}, "top_k": 20},
        {"temperature": 1e-300},
    ]
    rows = [how | {"seed": seed} for seed, how in enumerate(hows + hows[::-1])]
    samplers = [Sampler(Sampling(**how), [1, 2, 3]) for how in rows]
    banned = [[0, 5, 7] if row % 3 == 0 else [] for row in range(len(rows))]
    scales = np.linspace(0.3, 6, len(rows))[:, None]
    logits = np.random.default_rng(3).normal(0, 1, (len(rows), 5003)) * scales
    return samplers, banned, fixed(logits.astype(np.float32))


def test_a_row_draws_the_same_in_any_company() -> None:
    """Alone, among many, and among them in another order, over several steps."""
    samplers, banned, logits = company()
    together = []
    for _ in range(6):
        together.append(draw(samplers, banned, logits))
        for sampler, token in zip(samplers, together[-1], strict=True):
            assert isinstance(token, int)
            sampler.observe(token)
    alone, backwards = company()[0], company()[0]
    for step in together:
        drawn = draw(backwards[::-1], banned[::-1], logits[::-1])[::-1]
        assert drawn == step
        for row, token in enumerate(step):
            assert draw([alone[row]], [banned[row]], logits[row : row + 1]) == [token]
            assert isinstance(token, int)
            alone[row].observe(token)
            backwards[row].observe(token)


def test_logits_are_only_read() -> None:
    """They are the model's own, and log-probabilities are taken from them afterwards."""
    samplers, banned, logits = company()
    before = logits.copy()
    draw(samplers, banned, logits)
    assert np.array_equal(logits, before)


def test_no_rows_are_no_draws() -> None:
    """An empty step is not an error."""
    assert draw([], [], np.zeros((0, 8), np.float32)) == []


def test_banned_tokens_are_never_drawn() -> None:
    """By chance or greedily."""
    assert set(draws(LOGITS, 300, banned=[0, 1])) == {2, 3, 4, 5, 6, 7}
    assert set(draws(LOGITS, 10, banned=[0, 1], temperature=0)) == {2}


HOT = [{"temperature": 0.0}, {}, {"top_p": 0.5}, {"top_k": 2}, {"min_p": 0.5}, {"repetition_penalty": 2.0}]


@pytest.mark.parametrize("how", HOT, ids=str)
@pytest.mark.parametrize(
    "values",
    [[np.nan] * 4, [-np.inf] * 4, [np.inf] * 4, [0, np.nan, 5, 1], [0, 1, np.inf, -np.inf]],
    ids=str,
)
def test_logits_without_a_token_fail_their_row_alone(values: list[float], how: dict[str, Any]) -> None:
    """A broken model must not look like one that speaks, nor take other rows down."""
    samplers = [Sampler(Sampling(seed=1, **how), [1, 2]) for _ in range(3)]
    logits = np.array([[0, 0, 0, 99], values, [0, 99, 0, 0]], np.float32)
    first, broken, last = draw(samplers, [[]] * 3, logits)
    assert (first, last) == (3, 1)
    assert isinstance(broken, ValueError)
    assert "no token" in str(broken)


def test_no_token_is_left() -> None:
    """Every one is banned."""
    (error,) = draw([Sampler(Sampling(seed=0), [])], [[0, 1]], np.zeros((1, 2), np.float32))
    assert isinstance(error, ValueError)


def test_settings_that_cannot_be_applied_fail_their_row_alone() -> None:
    """An id outside of the vocabulary is one."""
    bad = Sampler(Sampling(seed=0, logit_bias={8: 1.0}), [])
    fine = Sampler(Sampling(seed=0, temperature=0), [])
    first, error, last = draw([fine, bad, fine], [[]] * 3, np.tile(LOGITS, (3, 1)))
    assert (first, last) == (0, 0)
    assert isinstance(error, IndexError)


def adjusted(prompt: list[int], output: list[int], logits: list[float], **how: Any) -> list[float]:
    """Give logits as the draw sees them after a prompt and an output."""
    sampler = Sampler(Sampling(seed=0, temperature=0, **how), prompt)
    for token in output:
        sampler.observe(token)
    values = np.array(logits, np.float32)
    sampler.adjust(values)
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
        assert draw([sampler], [[]], np.array([[3, 2, -2, 0]], np.float32)) == [1]
        sampler.observe(1)


def test_a_penalty_makes_nothing_possible() -> None:
    """What the model rules out stays so."""
    assert adjusted([0], [0], [-np.inf, 1], repetition_penalty=0.5, presence_penalty=-2) == [-np.inf, 1]


def test_frequency_and_presence_count_the_output() -> None:
    """The one as often as a token came, the other once."""
    assert adjusted([2], [0, 0, 1], [5, 5, 5], frequency_penalty=0.5) == [4, 4.5, 5]
    assert adjusted([2], [0, 0, 1], [5, 5, 5], presence_penalty=0.5) == [4.5, 4.5, 5]
    assert adjusted([2], [0, 0, 1], [5, 5, 5], frequency_penalty=-1, presence_penalty=2) == [5, 4, 5]
    assert adjusted([2], [0, 0, 1], [4, 4, 4], presence_penalty=1, repetition_penalty=2) == [1, 1, 2]


def test_bias_comes_before_penalties() -> None:
    """A repetition penalty divides what the bias made."""
    assert adjusted([0], [], [1, 0], logit_bias={0: 3.0}, repetition_penalty=2) == [2, 0]


def penalised(logits: Logits, prompt: list[int], output: list[int], s: Sampling) -> Floats:
    """Apply the penalties token by token."""
    values = logits.astype(np.float64)
    for token in set(prompt + output):
        values[token] *= 1 / s.repetition_penalty if values[token] > 0 else s.repetition_penalty
    for token, count in Counter(output).items():
        values[token] -= s.frequency_penalty * count + s.presence_penalty
    return values


def test_penalties_count_all_of_a_long_output() -> None:
    """Fifty greedy tokens, most of which come several times."""
    how = Sampling(seed=0, temperature=0, frequency_penalty=0.3, presence_penalty=0.2, repetition_penalty=1.05)
    prompt, output = [1, 2, 3, 2], list[int]()
    logits = NORMAL[:40] * np.float32(2)
    sampler = Sampler(how, prompt)
    for _ in range(50):
        (token,) = draw([sampler], [[]], logits[None])
        assert token == penalised(logits, prompt, output, how).argmax()
        assert isinstance(token, int)
        sampler.observe(token)
        output.append(token)
    assert 10 < len(set(output)) < 20


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
