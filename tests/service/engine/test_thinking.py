"""A bound on reasoning, token by token."""

from hypothesis import given
from hypothesis import strategies as st

from service.engine.frames import Thinking
from service.engine.thinking import Budget

OPEN, CLOSE = [90, 91], [92, 93]
BLANKS = [70, 71]
ENDING = [80, 92, 93, 81]


def told(drawn: list[int], budget: int, *, is_open: bool = False, closing: list[int] = CLOSE) -> list[int]:
    """Run a model that would say `drawn`, and give what the row says until that is used up."""
    bound = Budget(Thinking(budget, OPEN, closing, ENDING, is_open, BLANKS))
    said: list[int] = []
    left = list(drawn)
    while left or bound.forced is not None:
        token = left.pop(0) if bound.forced is None else bound.forced
        bound.observe(token)
        said.append(token)
    return said


def test_reasoning_ends_after_its_budget() -> None:
    """The ending takes the place of what the model would have said next."""
    assert told([*OPEN, 1, 2, 3, 4], 2) == [*OPEN, 1, 2, *ENDING, 3, 4]
    assert told([1, 2, 3, 4], 3, is_open=True) == [1, 2, 3, *ENDING, 4]


def test_no_budget_is_no_reasoning() -> None:
    """As soon as it is open, it is ended."""
    assert told([1, 2], 0, is_open=True) == [*ENDING, 1, 2]
    assert told([*OPEN, 1], 0) == [*OPEN, *ENDING, 1]


def test_reasoning_that_ends_by_itself_is_left_alone() -> None:
    """And so is all that comes after it."""
    answer = [1, *CLOSE, *OPEN, 5, 6, 7, 8, 9]
    assert told(answer, 4, is_open=True) == answer


def test_an_output_that_begins_otherwise_has_no_reasoning() -> None:
    """A marker further on is text."""
    for answer in ([5, *OPEN, 1, 2, 3, 4], [OPEN[0], 5, *OPEN, 1, 2, 3]):
        assert told(answer, 1) == answer


def test_blanks_may_come_before_the_opening() -> None:
    """Which is where a reader still takes what follows for reasoning; inside the marker they are text."""
    assert told([70, 71, 70, *OPEN, 1, 2], 1) == [70, 71, 70, *OPEN, 1, *ENDING, 2]
    assert told([70, OPEN[0], 70, *OPEN, 1, 2, 3], 1) == [70, OPEN[0], 70, *OPEN, 1, 2, 3]


def test_what_cannot_come_yet_is_due_after_the_next_token() -> None:
    """As inside a character, which is finished first."""
    bound = Budget(Thinking(1, OPEN, CLOSE, ENDING, is_open=True))
    bound.observe(1)
    assert bound.due == ENDING
    bound.postpone()
    assert bound.forced is None
    bound.observe(2)
    assert bound.due == ENDING


def test_a_closing_that_has_begun_is_finished() -> None:
    """It is not begun a second time."""
    assert told([1, 2, 92, 7, 8], 3, is_open=True) == [1, 2, 92, 93, 7, 8]
    assert told([92, 92, 7], 2, is_open=True, closing=[92, 92, 93]) == [92, 92, 93, 7]


@given(st.lists(st.sampled_from([1, 2, *OPEN, *CLOSE]), max_size=30), st.integers(0, 12), st.booleans())
def test_reasoning_is_never_longer_than_its_budget(drawn: list[int], budget: int, is_open: bool) -> None:
    """Counted from after its opening to before the closing, whatever the model does."""
    said = told(drawn, budget, is_open=is_open)
    if not is_open and said[:2] != OPEN:
        assert said == drawn
        return
    body = said if is_open else said[2:]
    ends = [place for place in range(len(body)) if body[place : place + 2] == CLOSE]
    reasoning = body[: ends[0]] if ends else body
    assert len(reasoning) <= budget + (1 if 80 in reasoning else 0)
