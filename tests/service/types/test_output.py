"""What is returned beside the text has bounds."""

import pytest

from service.errors import InvalidField
from service.types import Output


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
