"""Tries grammars before the engine compiles them: in a process that may hang, run out of memory or crash.

The time and the memory that a grammar takes cannot be told beforehand, and a thread that compiles one cannot be
stopped: llguidance's limits do not hold for intersections, of which a hundred characters can keep it busy for ever. So
each is compiled in a child process first, which the system ends where it takes too much.

`python -m service.engine.guard TOKENIZER_FILE STOP_IDS` answers what comes on its standard input.
"""

import os
import resource
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

import msgspec
from llguidance import LLMatcher, LLTokenizer

from service.engine import grammar
from service.engine.grammar import InvalidGrammar

_SECONDS = 3.0
"""Processor time for a grammar."""
_WALL_S = 20.0
"""After which a guard that does not answer is given up."""
_BYTES = 1 << 29
"""Memory for a grammar."""
_SPARE = (1 << 29) + (1 << 26)
"""Address space for the stack, and for what Python needs."""
_STEPS = 8
"""Tokens that are tried."""
_STEP_S = 0.05
"""Processor time for the mask of each."""
_LENGTH = struct.Struct("<I")
_DEATHS = {
    signal.SIGPROF: "it takes too long to compile",
    signal.SIGXCPU: "it takes too long to compile",
    signal.SIGSEGV: "its rules refer to each other too deeply",
    signal.SIGBUS: "its rules refer to each other too deeply",
}
_TOO_MUCH = "it takes too much memory to compile"
_TOO_SLOW = "it takes too long to say which tokens may follow"


class Verdict(msgspec.Struct, frozen=True):
    """What came of a trial: why a grammar cannot be used, or "", and the bytes that it takes."""

    reason: str
    size: int = 0


class Guard:
    """The engine's end of a process that tries grammars. It is started when it is first needed."""

    def __init__(self, tokenizer_file: Path, stop_ids: Sequence[int]) -> None:
        self._command = [sys.executable, "-m", __name__, str(tokenizer_file), ",".join(map(str, stop_ids))]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Let the process get ready, if there is none."""
        if self._process is None:
            environment = os.environ | {"TOKENIZERS_PARALLELISM": "false"}
            self._process = subprocess.Popen(  # noqa: S603 - our own module
                self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, start_new_session=True
            )

    def check(self, text: str) -> int:
        """Try a grammar; the bytes that it takes. Raises InvalidGrammar."""
        self.start()
        verdict = self._ask(text)
        if verdict.reason:
            raise InvalidGrammar(verdict.reason)
        return verdict.size

    def stop(self) -> None:
        """End the process, whatever it does; another one is started when it is needed."""
        process, self._process = self._process, None
        if process is None:
            return
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()

    def _ask(self, text: str) -> Verdict:
        process = self._process
        if process is None or process.stdin is None or process.stdout is None:
            return Verdict("it cannot be tried")
        overdue = threading.Timer(_WALL_S, os.killpg, (process.pid, signal.SIGKILL))
        overdue.daemon = True
        overdue.start()
        try:
            _write(process.stdin, text.encode("utf-8", "replace"))
            answer = _read(process.stdout)
        except OSError:
            answer = None
        finally:
            overdue.cancel()
        if answer is None:
            self.stop()
            return Verdict(_DEATHS[signal.SIGPROF])
        return msgspec.msgpack.decode(answer, type=Verdict)


def main() -> None:
    """Answer until the engine is gone."""
    tokenizer_file, stop_ids = sys.argv[1:]
    words = grammar.vocabulary(Path(tokenizer_file), [int(token) for token in stop_ids.split(",") if token])
    while (text := _read(sys.stdin.buffer)) is not None:
        _write(sys.stdout.buffer, msgspec.msgpack.encode(_apart(words, text.decode())))


def _apart(words: LLTokenizer, text: str) -> Verdict:
    """Try a grammar in a child, which has what is loaded here and nobody else's business."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.close(reading)
        _bounded()
        with open(writing, "wb", closefd=True) as pipe:  # noqa: PTH123 - a descriptor
            pipe.write(msgspec.msgpack.encode(_tried(words, text)))
        os._exit(0)
    os.close(writing)
    with open(reading, "rb") as pipe:  # noqa: PTH123 - a descriptor
        answer = pipe.read()
    status = os.waitpid(child, 0)[1]
    if os.WIFSIGNALED(status) or not answer:
        return Verdict(_DEATHS.get(signal.Signals(os.WTERMSIG(status)), _TOO_MUCH))
    return msgspec.msgpack.decode(answer, type=Verdict)


def _bounded() -> None:
    """Have the system end this process where it takes too much; memory only where the system can count it."""
    signal.setitimer(signal.ITIMER_PROF, _SECONDS)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with suppress(OSError, ValueError):
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
        most = pages * resource.getpagesize() + _SPARE + _BYTES
        resource.setrlimit(resource.RLIMIT_AS, (most, most))


def _tried(words: LLTokenizer, text: str) -> Verdict:
    """Do all with a grammar that the engine will do with it."""
    before = _peak()
    verdicts: list[Verdict] = []

    def compile_it() -> None:
        try:
            _walk(grammar.compiled(words, text))
            verdicts.append(Verdict("", _peak() - before))
        except InvalidGrammar as invalid:
            verdicts.append(Verdict(str(invalid)))
        except MemoryError:
            verdicts.append(Verdict(_TOO_MUCH))

    compiling = threading.Thread(target=compile_it)
    grammar.thread(compiling)
    compiling.join()
    return verdicts[0] if verdicts else Verdict(_TOO_MUCH)


def _walk(matcher: LLMatcher) -> None:
    """Take some tokens, as each row will. Raises InvalidGrammar where that is slow or fails."""
    row = matcher.deep_copy()
    for _ in range(_STEPS):
        if row.is_stopped():
            break
        start = time.thread_time()
        mask = row.compute_bitmask()
        if row.is_error():
            break
        if time.thread_time() - start > _STEP_S:
            raise InvalidGrammar(_TOO_SLOW)
        place = next(place for place, byte in enumerate(mask) if byte)
        row.consume_token(8 * place + (mask[place] & -mask[place]).bit_length() - 1)
    if row.is_error():
        raise InvalidGrammar(grammar.explained(row.get_error()))


def _peak() -> int:
    """The most memory that this process has had, in bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _write(pipe: IO[bytes], body: bytes) -> None:
    pipe.write(_LENGTH.pack(len(body)) + body)
    pipe.flush()


def _read(pipe: IO[bytes]) -> bytes | None:
    """The next message; None at the end."""
    head = pipe.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        return None
    length: int = _LENGTH.unpack(head)[0]
    body = pipe.read(length)
    return body if len(body) == length else None


if __name__ == "__main__":
    main()
