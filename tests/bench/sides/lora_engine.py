"""An engine with LoRAs in a process of its own; see tests.bench.lora_engine."""

import subprocess
import sys
from pathlib import Path

import msgspec

from service.pool.blas import engine_environment
from tests.bench.commands import Done, LoraBatch
from tests.bench.sides.baseline import THREADS


class LoraEngine:
    """A process that gives its engine's scheduler whole batches."""

    def __init__(self, folder: Path, scratch: Path, count: int) -> None:
        """Start it with `count` LoRAs, which are written to `scratch`."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.bench.lora_engine", str(folder), str(scratch), str(count)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=engine_environment(THREADS),
            text=True,
        )
        assert self._read() == "ready\n", "the engine did not start"

    def seconds(self, prompts: list[list[int]], loras: list[str], tokens: int) -> float:
        """Seconds that a batch takes, in which each prompt gets `tokens` tokens by the LoRA of its name."""
        assert self._process.stdin is not None
        self._process.stdin.write(msgspec.json.encode(LoraBatch(prompts, loras, tokens)).decode() + "\n")
        self._process.stdin.flush()
        done = msgspec.json.decode(self._read(), type=Done)
        assert done.tokens == len(prompts) * tokens
        return done.seconds

    def stop(self) -> None:
        """End it."""
        self._process.communicate()

    def _read(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()
