"""How much memory for keys and values a model gets."""

from service.pool.share import LEAST, kv_share

GIB = 1 << 30


def test_one_that_is_alone_gets_what_is_left() -> None:
    """Beside its weights and its process."""
    assert kv_share(10 * GIB, 3 * GIB, []) == 7 * GIB


def test_several_get_equal_parts() -> None:
    """Together they fill the memory, whatever each of them weighs."""
    parts = [kv_share(12 * GIB, own, [6 * GIB - own + 0]) for own in (GIB, 5 * GIB)]
    assert parts == [3 * GIB, 3 * GIB]


def test_those_that_do_not_fit_together_take_turns() -> None:
    """Each gets a part of its own size, and leaves the rest to another."""
    assert kv_share(10 * GIB, 4 * GIB, [4 * GIB, 4 * GIB]) == GIB
    assert kv_share(10 * GIB, 9 * GIB + GIB // 2, [4 * GIB]) == GIB // 2


def test_there_is_a_least() -> None:
    """So that one that does not fit is refused, and is not loaded to no purpose."""
    assert kv_share(GIB, 2 * GIB, []) == kv_share(GIB, GIB // 8, [2 * GIB]) == LEAST
