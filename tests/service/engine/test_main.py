"""`python -m service.engine` as a process of its own."""

import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from service.engine.frames import (
    Event,
    Heartbeat,
    Hello,
    Load,
    Loaded,
    Loading,
    Refused,
    Row,
    Sampling,
    Shutdown,
    Step,
    Submit,
    Unpacker,
    events,
    pack,
)

WAIT_S = 60
ENDLESS = Submit(1, [1, 2, 3], Sampling(seed=0, temperature=0), 30_000)


class Engine:
    """A running engine and the service's end of its socket."""

    def __init__(self, folder: Path, cache: Path, *flags: str) -> None:
        self.socket, theirs = socket.socketpair()
        self.socket.settimeout(WAIT_S)
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "service.engine", "--fd", str(theirs.fileno()), *flags],
                pass_fds=[theirs.fileno()],
                stderr=subprocess.DEVNULL,
            )
        self._events = self._read()
        load = Load(str(folder), str(cache), max_running=4, reserved_bytes=1 << 30, prefill_chunk=64)
        self.socket.sendall(pack(load))

    def next(self) -> Event | None:
        """Wait for the next event, those of the way to a loaded model left out; None is the end."""
        return next((event for event in self._events if not isinstance(event, Hello | Loading)), None)

    def all(self) -> Iterator[Event]:
        """Wait for each event in turn."""
        return self._events

    def _read(self) -> Iterator[Event]:
        unpacker = Unpacker()
        while data := self.socket.recv(1 << 16):
            for body in unpacker.feed(data):
                yield events.decode(body)


@contextmanager
def started(folder: Path, cache: Path, *flags: str) -> Iterator[Engine]:
    engine = Engine(folder, cache, *flags)
    try:
        yield engine
    finally:
        engine.process.kill()
        engine.process.wait()
        engine.socket.close()


def test_an_idle_engine_beats_and_ends_when_told(tiny_model: Path, tmp_path: Path) -> None:
    """Its first event says what it has loaded; signals are not for it."""
    with started(tiny_model, tmp_path) as engine:
        assert isinstance(engine.next(), Loaded)
        for number in (signal.SIGTERM, signal.SIGINT):
            engine.process.send_signal(number)
            for event in (engine.next(), engine.next()):
                assert isinstance(event, Heartbeat)
                assert event.rss_bytes == pytest.approx(psutil.Process(engine.process.pid).memory_info().rss, rel=0.1)
        engine.socket.sendall(pack(Shutdown()))
        assert engine.process.wait(WAIT_S) == 0


def test_steps_take_the_place_of_heartbeats(tiny_model: Path, tmp_path: Path) -> None:
    """While something runs, each with a token at most; told to end, it ends in the middle of that."""
    with started(tiny_model, tmp_path) as engine:
        engine.next()
        engine.socket.sendall(pack(ENDLESS))
        steps: list[Step] = []
        while len(steps) < 5:
            event = engine.next()
            steps += [event] if isinstance(event, Step) else []
        assert [progress.processed for step in steps for progress in step.progress] == [3]
        assert all(len(row.tokens) == 1 for step in steps for row in step.rows)
        engine.socket.sendall(pack(Shutdown()))
        assert engine.process.wait(WAIT_S) == 0


@pytest.mark.parametrize(("seconds", "starts_over"), [("60", False), ("0.01", True)])
def test_a_start_yields_to_others_for_so_long(
    tiny_model: Path, tmp_path: Path, seconds: str, starts_over: bool
) -> None:
    """Then it starts over and yields no more, since what gets no time would never come to an end."""
    with started(tiny_model, tmp_path, "--background", seconds) as engine:
        assert isinstance(engine.next(), Loaded)
        assert ("--background" not in psutil.Process(engine.process.pid).cmdline()) is starts_over


def test_an_engine_without_a_service_ends(tiny_model: Path, tmp_path: Path) -> None:
    """While it idles, and while it writes."""
    with started(tiny_model, tmp_path) as idle, started(tiny_model, tmp_path) as busy:
        idle.next()
        busy.next()
        busy.socket.sendall(pack(ENDLESS))
        while not isinstance(busy.next(), Step):
            pass
        for engine in (idle, busy):
            engine.socket.close()
            assert engine.process.wait(WAIT_S) == 0


def test_a_folder_that_cannot_be_loaded_is_refused(tmp_path: Path) -> None:
    """In one line, and the process ends as it should."""
    with started(tmp_path / "missing", tmp_path) as engine:
        refused = engine.next()
        assert isinstance(refused, Refused)
        assert refused.reason.strip()
        assert "\n" not in refused.reason
        assert engine.next() is None
        assert engine.process.wait(WAIT_S) == 0


def test_a_bad_sequence_leaves_the_engine_running(tiny_model: Path, tmp_path: Path) -> None:
    """It ends with an error, and the next one with its tokens."""
    with started(tiny_model, tmp_path) as engine:
        engine.next()
        bad = Sampling(seed=0, temperature=0, logit_bias={1 << 40: 1.0})
        engine.socket.sendall(pack(Submit(1, [1, 2], bad, 5)) + pack(Submit(2, [1], Sampling(seed=0), 1)))
        rows: dict[int, Row] = {}
        while len(rows) < 2:
            event = engine.next()
            rows |= {row.seq: row for row in event.rows} if isinstance(event, Step) else {}
        assert (rows[1].finish, rows[2].finish) == ("error", "length")


def test_a_grammar_is_compiled_beside_what_runs(tiny_model: Path, tmp_path: Path) -> None:
    """An engine that has nothing else to do is woken for it, and says meanwhile that it is well."""
    with started(tiny_model, tmp_path) as engine:
        engine.next()
        greedy = Sampling(seed=0, temperature=0)
        engine.socket.sendall(pack(Submit(1, [1, 2], greedy, 50, grammar='start: "yes" | "no"')))
        engine.socket.sendall(pack(Submit(2, [1, 2], greedy, 50, grammar="start: nothing")))
        rows: dict[int, Row] = {}
        while len(rows) < 2:
            event = engine.next()
            assert isinstance(event, Step | Heartbeat)
            if isinstance(event, Step):
                rows |= {row.seq: row for row in event.rows if row.finish}
        assert (rows[1].finish, rows[2].finish) == ("complete", "invalid")
        assert "unknown name" in rows[2].error


def test_an_engine_ends_in_the_middle_of_a_grammar(tiny_model: Path, tmp_path: Path) -> None:
    """However long that would take; nothing of it goes on."""
    with started(tiny_model, tmp_path) as engine:
        engine.next()
        endless = " & ".join(f"/(.{{{length}}})*/" for length in (7, 11, 13, 17, 19, 23, 29))
        engine.socket.sendall(pack(Submit(1, [1, 2], Sampling(seed=0), 5, grammar=f"start: A\nA: {endless}")))
        children: list[psutil.Process] = []
        parent = psutil.Process(engine.process.pid)
        while not children:
            assert isinstance(engine.next(), Step | Heartbeat)
            children = parent.children(recursive=True)
        engine.socket.sendall(pack(Shutdown()))
        assert engine.process.wait(WAIT_S) == 0
        assert psutil.wait_procs(children, timeout=WAIT_S)[1] == []
