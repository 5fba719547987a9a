"""Log-probabilities that are computed while the device works."""

import numpy as np
import pytest

from service.engine.drawing import Drawn
from service.engine.frames import Row, Submit
from service.engine.scores import Scores
from service.engine.sequence import Sequence
from tests.service.engine.models import GREEDY


def drawn(logits: list[float] | None) -> Drawn:
    """Give token 1, with the logits that it was drawn from where log-probabilities are asked for."""
    sequence = Sequence(Submit(0, [1], GREEDY, 1, logprobs=1))
    return Drawn(sequence, 1, None if logits is None else np.array(logits, dtype=np.float32))


def test_a_row_gets_what_it_asked_for_once() -> None:
    """The log-probability of its token, and the likeliest one."""
    scores, row = Scores(), Row(0, [1])
    scores.owe(row, drawn([0.0, 0.0]))
    assert row.logprobs == []
    scores.add()
    scores.add()
    (logprob,) = row.logprobs
    assert logprob.logprob == pytest.approx(np.log(0.5))
    assert len(logprob.top) == 1


@pytest.mark.parametrize(("tokens", "logits"), [([1], None), ([], [0.0, 0.0])], ids=["not asked", "no token"])
def test_others_get_none(tokens: list[int], logits: list[float] | None) -> None:
    """Those that did not ask, and those that ended without a token."""
    scores, row = Scores(), Row(0, tokens)
    scores.owe(row, drawn(logits))
    scores.add()
    assert row.logprobs == []


def test_what_is_forgotten_is_not_computed() -> None:
    """A row that is told already is not changed."""
    scores, row = Scores(), Row(0, [1])
    scores.owe(row, drawn([0.0, 0.0]))
    scores.forget()
    scores.add()
    assert row.logprobs == []
