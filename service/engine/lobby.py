"""The requests that have no place in memory yet."""

from collections.abc import Collection, Iterator

from service.engine import reports
from service.engine.compiler import Compiler
from service.engine.compiling import Compiling
from service.engine.frames import Row, Submit
from service.engine.sequence import Sequence
from service.engine.waiting import WaitingQueue


class Lobby:
    """Those that wait for their grammars, and then, as all others, in the queue."""

    def __init__(self, compiler: Compiler | None, waiting: WaitingQueue) -> None:
        """Without a `compiler`, requests with a grammar fail."""
        self._compiling = Compiling(compiler)
        self._waiting = waiting
        self._refused: list[Row] = []
        """The ends of those that nothing can be done for."""

    def __bool__(self) -> bool:
        return self.is_ready or bool(self._compiling)

    def __iter__(self) -> Iterator[Sequence]:
        return iter([*self._compiling, *self._waiting])

    @property
    def is_ready(self) -> bool:
        """Whether a step has something to do for them; not while all of them wait for grammars."""
        return bool(self._waiting or self._refused)

    def enter(self, submit: Submit, lora: int | None) -> None:
        """Take a request; `lora` is the number of its LoRA, None where there is none of that name any more."""
        if lora is None:
            error = LookupError(f"there is no LoRA {submit.lora!r}")
            self._refused += [reports.failed(Sequence(submit), error, choice) for choice in range(submit.choices)]
        elif submit.grammar:
            self._compiling.add(Sequence(submit, lora=lora))
        else:
            self._waiting.push(Sequence(submit, lora=lora))

    def collect(self, rows: list[Row]) -> None:
        """Queue those whose grammars are there now; `rows` get the ends of those that are refused."""
        rows.extend(self._refused)
        self._refused.clear()
        for sequence in self._compiling.collect(rows):
            self._waiting.push(sequence)

    def drop(self, gone: Collection[Sequence]) -> None:
        """Forget sequences."""
        self._compiling.drop(gone)
        for sequence in [sequence for sequence in self._waiting if sequence in gone]:
            self._waiting.remove(sequence)
