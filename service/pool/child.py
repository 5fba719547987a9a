"""Programs that prepare a model, run to their end beside the service."""

import asyncio
import sys
from asyncio.subprocess import DEVNULL, PIPE
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a program ended; `words` is what it wrote on the stream that was listened to."""

    code: int
    words: str

    @property
    def reason(self) -> str:
        """Its last words, or how it ended if it said none: one line."""
        lines = self.words.strip().splitlines()
        errors = [line for line in lines if line.startswith("ERROR: ")] or lines
        return errors[-1].removeprefix("ERROR: ") if errors else f"exit code {self.code}"


async def run_module(module: str, *arguments: str, listen_to_stdout: bool = False) -> Outcome:
    """Run `python -m module` and listen to one of its streams; all that it says is on our standard error too, at once.

    It is killed if the caller is cancelled.
    """
    out, err = (PIPE, None) if listen_to_stdout else (sys.stderr, PIPE)
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", module, *arguments, stdin=DEVNULL, stdout=out, stderr=err
    )
    said = child.stdout or child.stderr
    assert said is not None  # noqa: S101 - one of them is a pipe
    words = []
    try:
        async for line in said:
            words.append(line.decode(errors="replace"))
            if not listen_to_stdout:
                sys.stderr.write(words[-1])
        await child.wait()
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    return Outcome(child.returncode or 0, "".join(words))
