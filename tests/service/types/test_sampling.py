"""How tokens are drawn has bounds."""

import math

import pytest

from service.errors import InvalidField
from service.types import Sampling

BOUNDS = [
    ("temperature", [0, 1e-9, 2], [-1e-9, 2.001]),
    ("top_p", [1e-9, 1], [0, 1.001, -1]),
    ("top_k", [0, 1, 1 << 30], [-1]),
    ("min_p", [0, 1], [-0.001, 1.001]),
    ("repetition_penalty", [1e-9, 2], [0, -1, 2.001]),
    ("frequency_penalty", [-2, 0, 2], [-2.001, 2.001]),
    ("presence_penalty", [-2, 0, 2], [-2.001, 2.001]),
    ("seed", [-(2**63), 0, 2**63 - 1], []),
]
FINITE = [name for name, _, _ in BOUNDS if name not in {"top_k", "seed"}]


@pytest.mark.parametrize(("name", "good", "bad"), BOUNDS)
def test_sampling_has_bounds(name: str, good: list[float], bad: list[float]) -> None:
    """What is on them is inside, but for zero where it would mean nothing."""
    for value in good:
        assert getattr(Sampling(**{name: value}), name) == value  # type: ignore[arg-type]
    for value in bad:
        with pytest.raises(InvalidField) as raised:
            Sampling(**{name: value})  # type: ignore[arg-type]
        assert raised.value.field == name


@pytest.mark.parametrize("name", FINITE)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_numbers_are_finite(name: str, value: float) -> None:
    """NaN is neither above nor below a bound, and is refused all the same."""
    with pytest.raises(InvalidField) as raised:
        Sampling(**{name: value})  # type: ignore[arg-type]
    assert raised.value.field == name


@pytest.mark.parametrize("bias", [100.001, -100.001, math.nan, math.inf])
def test_biases_have_bounds(bias: float) -> None:
    """The token is named."""
    Sampling(logit_bias={1: 100, 2: -100})
    with pytest.raises(InvalidField) as raised:
        Sampling(logit_bias={1: 0, 7: bias})
    assert raised.value.field == "logit_bias[7]"


def test_only_so_many_tokens_are_biased() -> None:
    """More than anyone needs, since each of them is looked at before others go on."""
    Sampling(logit_bias=dict.fromkeys(range(1 << 14), 1.0))
    with pytest.raises(InvalidField) as raised:
        Sampling(logit_bias=dict.fromkeys(range((1 << 14) + 1), 1.0))
    assert raised.value.field == "logit_bias"


@pytest.mark.parametrize("token", [10, -1])
def test_biased_tokens_are_of_the_vocabulary(token: int) -> None:
    """Which is known only once the model is."""
    Sampling(logit_bias={0: 1, 9: 1}).check_tokens(10)
    with pytest.raises(InvalidField) as raised:
        Sampling(logit_bias={9: 1, token: 1}).check_tokens(10)
    assert raised.value.field == f"logit_bias[{token}]"
