"""Who is next."""

import random
from collections import Counter

from service.engine.frames import Sampling, Submit
from service.engine.sequence import Sequence
from service.engine.waiting import WaitingQueue


def waiting(seq: int, caller: str = "", priority: int = 0) -> Sequence:
    """Make a sequence that nobody has looked at."""
    return Sequence(Submit(seq, [1], Sampling(0), 1, caller=caller, priority=priority))


def taken(queue: WaitingQueue) -> Sequence:
    """Take the next one out."""
    sequence = queue.peek()
    assert sequence is not None
    queue.admit(sequence)
    return sequence


def test_one_caller_is_served_in_its_order() -> None:
    """First come, first served."""
    queue = WaitingQueue()
    for seq in range(5):
        queue.push(waiting(seq))
    assert [taken(queue).submit.seq for _ in range(5)] == [0, 1, 2, 3, 4]
    assert queue.peek() is None
    assert not queue


def test_a_higher_priority_goes_first() -> None:
    """However long the others have waited; negative ones come last."""
    queue = WaitingQueue()
    for seq, priority in enumerate([0, -3, 5, 0, 5]):
        queue.push(waiting(seq, priority=priority))
    assert [taken(queue).submit.seq for _ in range(5)] == [2, 4, 0, 3, 1]


def test_callers_share_equally() -> None:
    """Of two that both have much to do, neither gets ahead by more than one request, whatever each request costs."""
    chance = random.Random(0)
    queue = WaitingQueue()
    for seq in range(200):
        queue.push(waiting(seq, caller="greedy" if seq < 150 else "modest"))
    served: Counter[str] = Counter()
    for _ in range(90):
        caller = taken(queue).submit.caller
        cost = chance.randint(1, 100) if caller == "greedy" else 50
        queue.charge(caller, cost)
        served[caller] += cost
        assert abs(served["greedy"] - served["modest"]) <= 100


def test_nobody_saves_up() -> None:
    """A caller that was away starts level with those that wait, and does not shut them out."""
    queue = WaitingQueue()
    for seq in range(20):
        queue.push(waiting(seq, caller="steady"))
    for _ in range(10):
        queue.charge(taken(queue).submit.caller, 100)
    for seq in range(20, 30):
        queue.push(waiting(seq, caller="late"))
    order = []
    for _ in range(10):
        order.append(taken(queue).submit.caller)
        queue.charge(order[-1], 100)
    assert Counter(order) == {"steady": 5, "late": 5}


def test_one_that_was_put_back_is_ahead_of_younger_ones() -> None:
    """It has waited before."""
    queue = WaitingQueue()
    first, second = waiting(0), waiting(1)
    queue.push(second)
    queue.push(first)
    assert taken(queue) is first


def test_all_that_wait_are_told_in_their_order() -> None:
    """By priority, then by age."""
    queue = WaitingQueue()
    for seq, priority in enumerate([0, 1, 0, 2]):
        queue.push(waiting(seq, caller=str(seq), priority=priority))
    assert [sequence.submit.seq for sequence in queue.in_order()] == [3, 1, 0, 2]
    assert len(queue) == 4


def test_many_callers_are_not_remembered_for_ever() -> None:
    """Only those that wait are, once there have been very many."""
    queue = WaitingQueue()
    for seq in range(10_000):
        queue.push(waiting(seq, caller=str(seq)))
        queue.charge(taken(queue).submit.caller, 1)
    assert len(queue._served) < 5_000


def test_who_was_served_without_a_queue_is_not_set_back() -> None:
    """A caller that comes first, by an instant, does not shut out the one that was there for long."""
    queue = WaitingQueue()
    queue.push(waiting(0, caller="steady"))
    queue.charge(taken(queue).submit.caller, 1_000_000)
    for seq in range(1, 21, 2):
        queue.push(waiting(seq, caller="new"))
        queue.push(waiting(seq + 1, caller="steady"))
    order = []
    for _ in range(10):
        order.append(taken(queue).submit.caller)
        queue.charge(order[-1], 1000)
    assert Counter(order) == {"steady": 5, "new": 5}
