"""The requests that an engine has not admitted yet."""

from service.pool.queue import Queue


class Clock:
    """Moves on when it is told to."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def queue(*joined: int, turns: int = 2) -> Queue:
    """Make a queue whose sequences have been passed over."""
    made = Queue()
    for seq in joined:
        made.join(seq)
    for _ in range(turns):
        made.turn()
    return made


def test_those_that_were_passed_over_wait() -> None:
    """However many rows seem free: it is memory that they wait for, then."""
    made = queue(1, 2)
    assert [made.waiting(free) for free in (0, 1, 5)] == [2, 2, 2]


def test_those_that_the_engine_may_not_have_seen_take_what_is_free() -> None:
    """They wait only if there are more of them."""
    made = queue(1, 2, 3, turns=1)
    assert [made.waiting(free) for free in (-1, 0, 2, 3, 9)] == [3, 3, 1, 0, 0]


def test_those_that_leave_wait_no_more() -> None:
    """Admitted or gone, once or twice."""
    made = queue(1, 2, 3)
    made.admit(1)
    made.leave(2)
    for _ in range(2):
        made.admit(1)
        made.leave(2)
    assert (made.waiting(0), [seq in made for seq in (1, 2, 3)]) == (1, [False, False, True])


def test_a_place_is_free_when_the_next_one_is_admitted() -> None:
    """As often as of late, between a second and half a minute."""
    clock = Clock()
    made = Queue(clock)
    assert made.retry_after == 1
    for seq in range(4):
        made.join(seq)
        made.admit(seq)
        clock.now += 5
    assert made.retry_after == 5
    clock.now += 1000
    assert made.retry_after == 30
    for seq in range(100, 200):
        made.join(seq)
        made.admit(seq)
    assert made.retry_after == 1
