"""How often an engine may die."""

from service.pool.deaths import STABLE_S, Deaths


def test_pauses_grow_until_there_is_no_more() -> None:
    """The fifth death in a row is the last."""
    deaths = Deaths()
    pauses = [deaths.add(1.0) for _ in range(5)]
    assert pauses[-1] is None
    growing = [pause for pause in pauses if pause is not None]
    assert growing == sorted(set(growing))
    assert len(growing) == 4


def test_a_stable_engine_makes_up_for_all_before() -> None:
    """Its own death is the first one again."""
    deaths = Deaths()
    first = deaths.add(0.0)
    for _ in range(3):
        deaths.add(0.0)
    assert (deaths.add(STABLE_S), deaths.count) == (first, 1)
