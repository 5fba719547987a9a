"""`python -m service.stack [service flags] [-- shim flags]`: the service and a shim over it, as one program to try."""

import asyncio
import re
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Sequence

_READY = re.compile(r"\w+ ready on (?P<address>[^, ]+)")


async def main(flags: Sequence[str]) -> int:
    """Run both until one ends or a signal comes; the exit code of the one that ended by itself, else 0."""
    cut = flags.index("--") if "--" in flags else len(flags)
    stack = Stack()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stack.stop)
    try:
        # The shim comes second, so that it is ready for what the service answers.
        if address := await stack.start("service", flags[:cut]):
            await stack.start("shim", _pointed(flags[cut + 1 :], address))
        return await stack.wait()
    finally:
        await stack.end()


class Stack:
    """Programs that live and end together."""

    def __init__(self) -> None:
        self._running: list[Process] = []
        self._stopping = asyncio.Event()

    async def start(self, module: str, flags: Sequence[str]) -> str:
        """Start a program and pass on what it prints until it is ready; its first address, empty if it ends before.

        After `stop`, nothing starts.
        """
        if self._stopping.is_set():
            return ""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", module, *flags),
            stdout=PIPE,
            # A terminal sends Ctrl-C to its whole process group, and we send on what we get: once is enough.
            start_new_session=True,
        )
        self._running.append(process)
        if self._stopping.is_set():
            process.terminate()
        assert process.stdout is not None  # noqa: S101 - as asked for above
        async for line in process.stdout:
            said = line.decode()
            sys.stdout.write(said)
            sys.stdout.flush()
            if ready := _READY.match(said):
                return ready["address"]
        return ""

    def stop(self) -> None:
        """Ask all to end; a second time, they do so at once."""
        self._stopping.set()
        for process in self._running:
            if process.returncode is None:
                process.terminate()

    async def wait(self) -> int:
        """Wait for the first to end; its exit code."""
        ends = [asyncio.create_task(process.wait()) for process in self._running]
        done, _ = await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        return max(end.result() for end in done)

    async def end(self) -> None:
        """End those that still run, and wait for them."""
        if not self._stopping.is_set():
            self.stop()
        for process in self._running:
            await process.wait()


def _pointed(flags: Sequence[str], address: str) -> Sequence[str]:
    """The shim's flags, with the service's address where they do not say which service it serves."""
    says = any(flag.partition("=")[0] in {"--service", "--config"} for flag in flags)
    return flags if says else [*flags, "--service", address]


if __name__ == "__main__":
    sys.exit(asyncio.run(main(sys.argv[1:])))
