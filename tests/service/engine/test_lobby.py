"""Requests that have no place yet."""

import time

from service.engine.compiler import Compiler
from service.engine.frames import Row, Submit
from service.engine.lobby import Lobby
from service.engine.waiting import WaitingQueue
from tests.service.engine.models import GREEDY

WORDS = 'start: "a" | "b"'


def entered(lobby: Lobby, submit: Submit, lora: int | None = 0) -> None:
    """Let a request in, and see that it is noticed."""
    lobby.enter(submit, lora)
    assert lobby


def test_a_request_queues_at_once() -> None:
    """Where it has no grammar."""
    queue = WaitingQueue()
    lobby = Lobby(None, queue)
    entered(lobby, Submit(0, [1], GREEDY, 1), lora=3)
    assert lobby.is_ready
    assert [(sequence.submit.seq, sequence.lora) for sequence in queue] == [(0, 3)]
    assert list(lobby) == list(queue)


def test_a_request_queues_once_its_grammar_is_there(compiler: Compiler) -> None:
    """Until then a step has nothing to do for it."""
    queue, rows = WaitingQueue(), list[Row]()
    lobby = Lobby(compiler, queue)
    entered(lobby, Submit(0, [1], GREEDY, 1, grammar=WORDS))
    assert not lobby.is_ready
    assert len(list(lobby)) == 1
    until = time.monotonic() + 20
    while not queue and time.monotonic() < until:
        lobby.collect(rows)
        time.sleep(0.005)
    assert [sequence.constraint is not None for sequence in queue] == [True]
    assert (len(list(lobby)), lobby.is_ready, rows) == (1, True, [])


def test_a_request_without_its_lora_is_refused_once() -> None:
    """Each of its choices, at the next step; it is nothing that could be aborted."""
    queue, rows = WaitingQueue(), list[Row]()
    lobby = Lobby(None, queue)
    entered(lobby, Submit(7, [1], GREEDY, 1, choices=2, lora="gone"), lora=None)
    assert (lobby.is_ready, list(lobby)) == (True, [])
    lobby.collect(rows)
    lobby.collect(rows)
    assert [(row.seq, row.choice, row.finish) for row in rows] == [(7, 0, "error"), (7, 1, "error")]
    assert "'gone'" in rows[0].error
    assert not lobby


def test_those_that_leave_are_forgotten(compiler: Compiler) -> None:
    """Whatever they wait for."""
    queue = WaitingQueue()
    lobby = Lobby(compiler, queue)
    entered(lobby, Submit(0, [1], GREEDY, 1, grammar=WORDS))
    entered(lobby, Submit(1, [1], GREEDY, 1))
    entered(lobby, Submit(2, [1], GREEDY, 1))
    lobby.drop({sequence for sequence in lobby if sequence.submit.seq != 1})
    assert [sequence.submit.seq for sequence in lobby] == [1]
    lobby.drop(set(lobby))
    assert not lobby
