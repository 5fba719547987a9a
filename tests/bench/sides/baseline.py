"""The library in a process of its own; see tests.bench.baseline."""

import subprocess
import sys
from pathlib import Path

import msgspec

from service.pool.blas import engine_environment
from tests.bench.commands import Command, Done

THREADS = 1
"""Of the BLAS, on every side."""


class Baseline:
    """A process that runs mlx-lm on a model and waits for commands."""

    def __init__(self, folder: Path) -> None:
        """Start it with the BLAS that the engine gets."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.bench.baseline", str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=engine_environment(THREADS),
            text=True,
        )
        assert self._read() == "ready\n", "the baseline did not start"

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    def run(self, command: Command) -> Done:
        """Have it done."""
        assert self._process.stdin is not None
        self._process.stdin.write(msgspec.json.encode(command).decode() + "\n")
        self._process.stdin.flush()
        return msgspec.json.decode(self._read(), type=Done)

    def stop(self) -> None:
        """End it."""
        self._process.communicate()

    def _read(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()
