"""Programs that prepare a model, run to their end beside the service."""

import asyncio
import os
import sys
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass

from service.errors import SetupError

_LINE_BYTES = 1 << 20
"""The longest line that a program may say; what is longer is not heard."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a program ended; `words` is what it wrote on the stream that was listened to."""

    code: int
    words: str

    @property
    def reason(self) -> str:
        """Its last words, or how it ended if it said none or was killed: one line."""
        if self.code < 0:
            return f"it was ended by signal {-self.code}"
        lines = self.words.strip().splitlines()
        errors = [line for line in lines if line.startswith("ERROR: ")] or lines
        return errors[-1].removeprefix("ERROR: ") if errors else f"exit code {self.code}"


async def run_module(
    module: str,
    *arguments: str,
    heard: Callable[[str], None] | None = None,
    environment: Mapping[str, str] | None = None,
) -> Outcome:
    """Run `python -m module` and listen to its standard error, or to its standard output where `heard` gets each line.

    All that it says otherwise is on our standard error too, at once. `environment` is put over our own. It is killed
    if the caller is cancelled. Raises SetupError where the machine has no process to give.
    """
    out, err = (sys.stderr, PIPE) if heard is None else (PIPE, None)
    try:
        child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", module, *arguments),
            stdin=DEVNULL,
            stdout=out,
            stderr=err,
            env={**os.environ, **(environment or {})},
            limit=_LINE_BYTES,
        )
    except OSError as error:
        raise SetupError(f"{module} cannot be started: {error.strerror or error}") from error
    said = child.stdout or child.stderr
    assert said is not None  # noqa: S101 - one of them is a pipe
    words = []
    try:
        async for line in _lines(said):
            words.append(line)
            if heard is None:
                sys.stderr.write(words[-1])
            else:
                heard(words[-1])
        await child.wait()
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    return Outcome(child.returncode or 0, "".join(words))


async def _lines(said: asyncio.StreamReader) -> AsyncIterator[str]:
    while True:
        try:
            line = await said.readline()
        except ValueError:  # it is too long, and what has come of it is gone
            continue
        if not line:
            return
        yield line.decode(errors="replace")
