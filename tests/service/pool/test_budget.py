"""The books of the memory."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.pool.budget import Budget


def test_what_is_there_can_be_reserved() -> None:
    """And no more, until some of it is given back."""
    budget = Budget(10)
    assert budget.reserve("a", 6)
    assert not budget.reserve("b", 5)
    assert (dict(budget.reserved), budget.free) == ({"a": 6}, 4)
    assert budget.release("a") == 6
    assert budget.reserve("b", 5)


def test_a_reservation_can_change() -> None:
    """One's own is not in the way; what does not fit changes nothing."""
    budget = Budget(10)
    budget.reserve("a", 6)
    assert budget.reserve("a", 10)
    assert not budget.reserve("a", 11)
    assert budget.reserve("a", 3)
    assert (budget.reserved["a"], budget.free) == (3, 7)


def test_giving_back_twice_does_nothing() -> None:
    """Nor does giving back what nobody has."""
    budget = Budget(10)
    budget.reserve("a", 6)
    assert [budget.release("a"), budget.release("a"), budget.release("b")] == [6, 0, 0]
    assert budget.free == 10


def test_nobody_reserves_less_than_nothing() -> None:
    """It would make room that is not there."""
    with pytest.raises(ValueError, match="-1"):
        Budget(10).reserve("a", -1)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.none() | st.integers(0, 12)), max_size=30))
def test_the_total_is_never_passed(orders: list[tuple[str, int | None]]) -> None:
    """Whatever is reserved, changed and given back."""
    budget, held = Budget(10), dict[str, int]()
    for name, amount in orders:
        if amount is None:
            assert budget.release(name) == held.pop(name, 0)
        elif budget.reserve(name, amount):
            held[name] = amount
        else:
            assert sum(held.values()) - held.get(name, 0) + amount > 10
        assert dict(budget.reserved) == held
        assert sum(held.values()) + budget.free == 10
        assert budget.free >= 0
