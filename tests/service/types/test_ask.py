"""What both generating calls share has bounds."""

from typing import Any

import pytest

from service.errors import InvalidField
from service.types import Ask, Output, Sampling, Stopping


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


@pytest.mark.parametrize("n", [0, -1, 129])
def test_choices_have_bounds(n: int) -> None:
    """One to many."""
    assert [ask(n=good).n for good in (1, 128)] == [1, 128]
    with pytest.raises(InvalidField) as raised:
        ask(n=n)
    assert raised.value.field == "n"
