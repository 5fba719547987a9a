"""Grammars on their way, and those that are remembered."""

import threading
import time
from pathlib import Path

import pytest

from service.engine import compiler as module
from service.engine.compiler import Compiler
from service.engine.constraint import Constraint
from service.engine.grammar import InvalidGrammar
from tests.service.engine.models import VOCAB
from tests.service.engine.test_guard import HOSTILE


def waited(compiler: Compiler, text: str, longest: float = 60) -> Constraint:
    """Ask until it is there."""
    until = time.monotonic() + longest
    while time.monotonic() < until:
        if (constraint := compiler.constraint(text, frozenset())) is not None:
            return constraint
        time.sleep(0.01)
    raise TimeoutError


def test_asking_never_waits(compiler: Compiler) -> None:
    """The answer is there at once or not yet; one that is remembered is."""
    start = time.monotonic()
    assert compiler.constraint('start: "once" | "twice"', frozenset()) is None
    assert time.monotonic() - start < 0.5
    waited(compiler, 'start: "once" | "twice"')
    assert compiler.constraint('start: "once" | "twice"', frozenset()) is not None


def test_each_row_has_its_own_place(compiler: Compiler) -> None:
    """What one consumes is not consumed by the others."""
    first = waited(compiler, 'start: "ab"')
    second = compiler.constraint('start: "ab"', frozenset())
    assert second is not None
    token = next(token for token in range(VOCAB) if first.mask().allows(token))
    first.consume(token)
    assert second.mask().allows(token)
    assert first.fresh().mask().allows(token)


def test_a_fault_is_remembered(compiler: Compiler) -> None:
    """It is not looked for again."""
    for _ in range(2):
        with pytest.raises(InvalidGrammar, match="unknown name"):
            waited(compiler, "start: nothing")
    with pytest.raises(InvalidGrammar):
        compiler.constraint("start: nothing", frozenset())


def test_the_oldest_are_forgotten(compiler: Compiler, monkeypatch: pytest.MonkeyPatch) -> None:
    """By count, and by memory; the newest stays, however large it is."""
    monkeypatch.setattr(module, "_REMEMBERED", 3)
    for text in "abcd":
        waited(compiler, f'start: "{text}"')
    assert list(compiler._done) == [f'start: "{text}"' for text in "bcd"]
    monkeypatch.setattr(module, "_REMEMBERED_BYTES", 1)
    waited(compiler, 'start: "e"')
    assert list(compiler._done) == ['start: "e"']


def test_one_that_takes_long_does_not_hold_up_others(tokenizer_file: Path, end: int) -> None:
    """They are compiled beside it, and the engine is woken for them."""
    woken = threading.Event()
    compiler = Compiler(tokenizer_file, [end], VOCAB, woken.set)
    try:
        assert compiler.constraint(HOSTILE["intersected lengths"], frozenset()) is None
        waited(compiler, 'start: "a"')
        assert woken.is_set()
        assert compiler.constraint(HOSTILE["intersected lengths"], frozenset()) is None
        with pytest.raises(InvalidGrammar, match="too long"):
            waited(compiler, HOSTILE["intersected lengths"])
    finally:
        compiler.stop()


def test_nobody_waits_for_ever(compiler: Compiler, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the compilers are busy with other things for too long, the request is refused."""
    monkeypatch.setattr(module, "_LONGEST_S", 0.0)
    assert compiler.constraint('start: "never before"', frozenset()) is None
    time.sleep(0.001)
    with pytest.raises(InvalidGrammar, match="in time"):
        compiler.constraint('start: "never before"', frozenset())


def test_what_keeps_processes_from_starting_is_no_fault_of_the_grammar(tmp_path: Path) -> None:
    """And it is tried again, since it may have passed."""
    compiler = Compiler(tmp_path / "missing.json", [], VOCAB)
    try:
        for _ in range(2):
            with pytest.raises(ValueError, match="No such file"):
                waited(compiler, 'start: "a"')
    finally:
        compiler.stop()


def test_the_vocabulary_can_be_read_beforehand(tokenizer_file: Path) -> None:
    """Then the first grammar does not wait for it; what cannot be read is told to the one who needs it."""
    ready, broken = (Compiler(file, [0], VOCAB) for file in (tokenizer_file, tokenizer_file.parent / "none.json"))
    ready.get_ready()
    broken.get_ready()
    assert "_vocabulary_of_the_model" in vars(ready)
    assert "_vocabulary_of_the_model" not in vars(broken)
