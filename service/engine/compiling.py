"""The sequences whose grammars are being compiled."""

from collections.abc import Collection, Iterator

from service.engine import reports
from service.engine.compiler import Compiler
from service.engine.frames import Row
from service.engine.grammar import InvalidGrammar
from service.engine.sequence import Sequence


class Compiling:
    """Those that wait for their grammars, which the compiler's threads make meanwhile."""

    def __init__(self, compiler: Compiler | None) -> None:
        """Without a `compiler`, sequences with a grammar fail."""
        self._compiler = compiler
        self._sequences: list[Sequence] = []

    def __len__(self) -> int:
        return len(self._sequences)

    def __iter__(self) -> Iterator[Sequence]:
        return iter(self._sequences)

    def add(self, sequence: Sequence) -> None:
        """Let a sequence wait for its grammar."""
        self._sequences.append(sequence)

    def drop(self, gone: Collection[Sequence]) -> None:
        """Forget sequences."""
        self._sequences = [sequence for sequence in self._sequences if sequence not in gone]

    def collect(self, rows: list[Row]) -> list[Sequence]:
        """Those whose grammars are there now; `rows` get the ends of those that can have none."""
        waiting, self._sequences = self._sequences, []
        ready: list[Sequence] = []
        for sequence in waiting:
            submit = sequence.submit
            try:
                if self._compiler is None:
                    raise RuntimeError("this engine has no grammars")  # noqa: TRY301 - as if the compiler said so
                sequence.constraint = self._compiler.constraint(submit.grammar, sequence.stop_ids)
            except InvalidGrammar as error:
                rows.append(Row(submit.seq, [], "invalid", error=str(error)))
            except Exception as error:  # noqa: BLE001 - whatever keeps a process from starting; others need no grammar
                rows.extend(reports.failed(sequence, error, choice) for choice in range(submit.choices))
            else:
                (self._sequences if sequence.constraint is None else ready).append(sequence)
        return ready
