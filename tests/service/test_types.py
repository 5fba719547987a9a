"""A value that exists is inside its bounds."""

import math
from typing import Any

import pytest

from service.errors import InvalidField
from service.types import Ask, Cache, Output, Sampling, Stopping

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


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"max_tokens": -1}, "max_tokens"),
        ({"min_tokens": -1}, "min_tokens"),
        ({"max_tokens": 3, "min_tokens": 4}, "min_tokens"),
        ({"stop": ["x"] * 17}, "stop"),
        ({"stop": ["x", ""]}, "stop[1]"),
        ({"stop": ["x" * 257]}, "stop[0]"),
        ({"stop_token_ids": [1] * 1025}, "stop_token_ids"),
    ],
)
def test_stopping_has_bounds(fields: dict[str, Any], path: str) -> None:
    """Counts, lengths and what must not be empty."""
    Stopping(max_tokens=3, min_tokens=3, stop=["é" * 256] * 16, stop_token_ids=[1] * 1024)
    with pytest.raises(InvalidField) as raised:
        Stopping(**fields)
    assert raised.value.field == path


def test_token_ids_are_of_the_vocabulary() -> None:
    """Which is known only once the model is."""
    Sampling(logit_bias={0: 1, 9: 1}).check_tokens(10)
    Stopping(stop_token_ids=[0, 9]).check_tokens(10)
    for check, path in (
        (Sampling(logit_bias={10: 1}).check_tokens, "logit_bias[10]"),
        (Sampling(logit_bias={-1: 1}).check_tokens, "logit_bias[-1]"),
        (Stopping(stop_token_ids=[9, 10]).check_tokens, "stop_token_ids[1]"),
    ):
        with pytest.raises(InvalidField) as raised:
            check(10)
        assert raised.value.field == path


def ask(request_id: str = "r", *, max_tokens: int | None = None, n: int = 1, **output: Any) -> Ask:
    return Ask("m", request_id, Sampling(), Stopping(max_tokens=max_tokens), Output(**output), n=n)


@pytest.mark.parametrize("request_id", ["x" * 129, "a\nb", "a\x00", "\u200b"])
def test_request_ids_fit_into_a_log(request_id: str) -> None:
    """Short, and with nothing that breaks a line or hides."""
    ask("Größe 1 " + "x" * 120)
    with pytest.raises(InvalidField) as raised:
        ask(request_id)
    assert raised.value.field == "request_id"


def test_no_tokens_need_a_reason() -> None:
    """An echo, or the log-probabilities of the prompt, make an answer of none."""
    assert ask(max_tokens=0, echo=True).stopping.max_tokens == 0
    assert ask(max_tokens=0, prompt_logprobs=0).stopping.max_tokens == 0
    with pytest.raises(InvalidField) as raised:
        ask(max_tokens=0)
    assert raised.value.field == "stopping.max_tokens"


@pytest.mark.parametrize("name", ["top_logprobs", "prompt_logprobs"])
def test_alternatives_have_bounds(name: str) -> None:
    """None to twenty."""
    for count in (0, 20):
        assert getattr(Output(logprobs=True, **{name: count}), name) == count  # type: ignore[arg-type]
    for count in (-1, 21):
        with pytest.raises(InvalidField) as raised:
            Output(logprobs=True, **{name: count})  # type: ignore[arg-type]
        assert raised.value.field == name


def test_alternatives_need_the_log_probability_itself() -> None:
    """None of them is what is meant without it."""
    assert Output(top_logprobs=0).top_logprobs == 0
    with pytest.raises(InvalidField) as raised:
        Output(top_logprobs=1)
    assert raised.value.field == "top_logprobs"


def test_a_salt_has_bounds() -> None:
    """In characters, whatever they are."""
    assert len(Cache("é" * 256).salt) == 256
    with pytest.raises(InvalidField) as raised:
        Cache("x" * 257)
    assert raised.value.field == "salt"


@pytest.mark.parametrize("n", [0, -1, 129])
def test_choices_have_bounds(n: int) -> None:
    """One to many."""
    assert [ask(n=good).n for good in (1, 128)] == [1, 128]
    with pytest.raises(InvalidField) as raised:
        ask(n=n)
    assert raised.value.field == "n"
